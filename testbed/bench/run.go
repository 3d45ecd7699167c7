package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"weir/testbed/bridge"
	"weir/testbed/broker"
)

// runner has what every run needs.
type runner struct {
	settings
	setup                          Setup
	root, bin, dir, kafka, elastic string
	client                         *broker.Client
	made                           map[string]bool // topics to delete at the end
}

// run measures one run of one case.
func (r *runner) run(ctx context.Context, c benchCase, i int) (Result, error) {
	switch {
	case c.rate > 0:
		return r.runLatency(ctx, c, i)
	case c.elastic:
		return r.runElastic(ctx, c, i)
	case c.replay:
		return r.runReplay(ctx, c, i)
	case c.naive:
		return r.runNaive(ctx, c)
	case c.bare:
		return r.runBare(ctx, c)
	case c.rival != "":
		return r.runRival(ctx, c, i)
	default:
		return r.runBacklog(ctx, c, i)
	}
}

// topic is the case's topic, filled.
func (r *runner) topic(ctx context.Context, c benchCase) (string, error) {
	r.made[c.Load.topic()] = true
	return produce(ctx, r.client, c.Load)
}

// begin is what most runs begin with: a result to fill in, the case's topic, filled,
// and an endpoint, for the caller to stop.
func (r *runner) begin(ctx context.Context, c benchCase) (Result, string, *sinkProcess, error) {
	res := Result{Case: c.Name, Group: c.Group, Load: c.Load}
	topic, err := r.topic(ctx, c)
	if err != nil {
		return res, "", nil, err
	}
	sink, err := startSink(c.backend, c.Load.Events)
	return res, topic, sink, err
}

// start starts weir for one run.
func (r *runner) start(c benchCase, topic, url string, i int) (*bridge.Process, *bridge.Config, error) {
	cfg := bridge.NewConfig(r.kafka, topic, url)
	name := fmt.Sprintf("%s-%d-%d", strings.NewReplacer("%", "", "/", "").Replace(c.Name), i, time.Now().UnixMilli())
	cfg.Connector["name"] = "bench-" + name // a group of its own reads from the start
	cfg.File["memory"] = r.memory
	delete(cfg.Connector, "retry") // the defaults are measured
	if c.setup != nil {
		c.setup(cfg)
	}
	if c.sink != nil {
		cfg.Connector["sink"] = bridge.Fill(c.sink, endpointURL, url)
	}
	p, err := bridge.Start(r.bin, r.dir, name, cfg)
	return p, cfg, err
}

// end terminates weir in order and notes what it used.
func end(ctx context.Context, p *bridge.Process, res *Result) error {
	var err error
	if res.PeakRSS, err = p.PeakRSS(); err != nil {
		return err
	}
	limit, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	code, err := p.Terminate(limit)
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("weir ended with %d\n%s", code, p.Log())
	}
	user, system := p.CPU()
	res.UserSeconds, res.SystemSeconds = user.Seconds(), system.Seconds()
	res.CPUPerMillion = (user + system).Seconds() / float64(res.Load.Events) * 1e6
	return nil
}

// runBacklog measures weir from its start to the last commit, with everything
// in the topic before.
func (r *runner) runBacklog(ctx context.Context, c benchCase, i int) (Result, error) {
	res, topic, sink, err := r.begin(ctx, c)
	if err != nil {
		return res, err
	}
	defer sink.stop()
	p, cfg, err := r.start(c, topic, sink.url, i)
	if err != nil {
		return res, err
	}
	defer p.Kill()
	if c.idle {
		if err := r.idle(ctx, p, sink, cfg.Group(), topic, &res); err != nil {
			return res, err
		}
	}
	if err := r.conclude(ctx, p, sink, cfg.Group(), topic, &res); err != nil {
		return res, err
	}
	// After the end: what came late would be counted, too.
	t, err := sink.tally(ctx)
	if err != nil {
		return res, err
	}
	res.count(t, c.backend)
	return res, nil
}

// idle measures weir while there is nothing to do, once it has delivered what was
// in the topic.
func (r *runner) idle(ctx context.Context, p *bridge.Process, s *sinkProcess, group, topic string, res *Result) error {
	if err := r.finish(ctx, p, s, group, topic, int64(res.Load.Events)); err != nil {
		return fmt.Errorf("%w\n%s", err, p.Log())
	}
	before, err := processUsage(p.PID())
	began := time.Now()
	select {
	case <-time.After(r.latencyFor):
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err2 := processUsage(p.PID())
	if err := errors.Join(err, err2); err != nil {
		return fmt.Errorf("%w\n%s", err, p.Log())
	}
	res.CPUShare, res.RSS = (after.CPU-before.CPU).Seconds()/time.Since(began).Seconds(), after.RSS
	return nil
}

// conclude waits until everything has arrived, and ends weir.
func (r *runner) conclude(ctx context.Context, p *bridge.Process, s *sinkProcess, group, topic string, res *Result) error {
	if err := r.finish(ctx, p, s, group, topic, int64(res.Load.Events)); err != nil {
		return fmt.Errorf("%w\n%s", err, p.Log())
	}
	return end(ctx, p, res)
}

// finish waits until everything is committed and the endpoint saw it. What is
// committed but was never seen is lost, and reported, not waited for.
func (r *runner) finish(ctx context.Context, p *bridge.Process, s *sinkProcess, group, topic string, events int64) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	last, moved := int64(-1), time.Now()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.Exited():
			return errors.New("weir ended before it was done")
		case <-tick.C:
		}
		t, err := s.tally(ctx)
		if err != nil {
			return err
		}
		if t.Documents != last {
			last, moved = t.Documents, time.Now()
		}
		if time.Since(moved) > time.Minute {
			return fmt.Errorf("no progress for a minute: %d of %d events", t.Distinct, events)
		}
		// The group is asked only near the end: the broker has better things to do.
		if t.Distinct < events && time.Since(moved) < time.Second {
			continue
		}
		sum, err := r.committed(ctx, group, topic)
		if err != nil {
			return err
		}
		if sum == events {
			return nil
		}
	}
}

// committed is how many records lie below the group's offsets.
func (r *runner) committed(ctx context.Context, group, topic string) (int64, error) {
	offsets, err := r.client.Committed(ctx, group, topic)
	var sum int64
	for _, next := range offsets {
		sum += next
	}
	return sum, err
}

// sinkProcess is the endpoint in a process of its own: this program again.
type sinkProcess struct {
	url   string
	cmd   *exec.Cmd
	stdin io.Closer
}

func startSink(b backend, events int) (*sinkProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "sink", fmt.Sprint("-slots=", b.Slots), fmt.Sprint("-per-document=", b.PerDocument),
		"-fault="+b.Fault, fmt.Sprint("-share=", b.Share), fmt.Sprint("-acks=", b.Acks), fmt.Sprint("-events=", events))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &sinkProcess{cmd: cmd, stdin: stdin}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("the endpoint did not start: %w", err)
	}
	s.url = strings.TrimSpace(line)
	return s, nil
}

func (s *sinkProcess) stop() {
	_ = s.stdin.Close()
	_ = s.cmd.Wait()
}

func (s *sinkProcess) tally(ctx context.Context) (tally, error) { return s.ask(ctx, "/tally") }

// latency is the tally with the latencies.
func (s *sinkProcess) latency(ctx context.Context) (tally, error) {
	return s.ask(ctx, "/tally?latency")
}

func (s *sinkProcess) ask(ctx context.Context, path string) (tally, error) {
	var t tally
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		return t, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return t, err
	}
	defer res.Body.Close()
	return t, json.NewDecoder(res.Body).Decode(&t)
}
