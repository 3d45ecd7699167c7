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

// benchCase is one way to run the bridge.
type benchCase struct {
	Name     string
	setup    func(*bridge.Config)
	capacity bool // against a backend that has one
}

var cases = []benchCase{
	{Name: "plain"},
	{Name: "gzip", setup: func(c *bridge.Config) { c.Sink["compression"] = "gzip" }},
	{Name: "capacity", capacity: true},
}

func caseNames() []string {
	var names []string
	for _, c := range cases {
		names = append(names, c.Name)
	}
	return names
}

func caseNamed(name string) (benchCase, bool) {
	for _, c := range cases {
		if c.Name == name {
			return c, true
		}
	}
	return benchCase{}, false
}

// runner has what every run needs.
type runner struct {
	settings
	bin, dir, kafka string
	client          *broker.Client
}

// run measures one run of weir from its start to the last commit.
func (r *runner) run(ctx context.Context, c benchCase, l load, topic string, i int) (Result, error) {
	res := Result{Case: c.Name, Load: l}
	var b backend
	if c.capacity {
		b = r.backend
	}
	sink, err := startSink(b)
	if err != nil {
		return res, err
	}
	defer sink.stop()

	cfg := bridge.NewConfig(r.kafka, topic, sink.url)
	name := fmt.Sprintf("%s-%d-%d", c.Name, i, time.Now().UnixMilli())
	cfg.Connector["name"] = "bench-" + name // a group of its own reads from the start
	cfg.File["memory"] = r.memory
	delete(cfg.Connector, "retry") // the defaults are measured
	if c.setup != nil {
		c.setup(cfg)
	}
	p, err := bridge.Start(r.bin, r.dir, name, cfg)
	if err != nil {
		return res, err
	}
	defer p.Kill()
	if err := r.finish(ctx, p, sink, cfg.Group(), topic, int64(l.Events)); err != nil {
		return res, fmt.Errorf("%w\n%s", err, p.Log())
	}
	if res.PeakRSS, err = p.PeakRSS(); err != nil {
		return res, err
	}
	t, err := sink.tally(ctx)
	if err != nil {
		return res, err
	}
	limit, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	code, err := p.Terminate(limit)
	if err != nil {
		return res, err
	}
	if code != 0 {
		return res, fmt.Errorf("weir ended with %d\n%s", code, p.Log())
	}
	user, system := p.CPU()
	elapsed := time.Duration(t.Last - t.First)
	res.UserSeconds, res.SystemSeconds = user.Seconds(), system.Seconds()
	res.CPUPerMillion = (user + system).Seconds() / float64(l.Events) * 1e6
	res.Seconds = elapsed.Seconds()
	res.PerSecond = float64(l.Events) / elapsed.Seconds()
	res.Missing = max(0, int64(l.Events)-t.Documents)
	res.Twice = max(0, t.Documents-int64(l.Events))
	res.Requests, res.Refused, res.BodyBytes = t.Requests, t.Refused, t.Bytes
	if c.capacity {
		res.CapacityUsed = t.Busy.Seconds() / (elapsed.Seconds() * float64(b.Slots))
		res.RefusedShare = float64(t.Refused) / float64(t.Refused+t.Requests)
	}
	return res, nil
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
			return fmt.Errorf("no progress for a minute: %d of %d events", t.Documents, events)
		}
		// The group is asked only near the end: the broker has better things to do.
		if t.Documents < events && time.Since(moved) < time.Second {
			continue
		}
		committed, err := r.client.Committed(ctx, group, topic)
		if err != nil {
			return err
		}
		var sum int64
		for _, next := range committed {
			sum += next
		}
		if sum == events {
			return nil
		}
	}
}

// sinkProcess is the endpoint in a process of its own: this program again.
type sinkProcess struct {
	url   string
	cmd   *exec.Cmd
	stdin io.Closer
}

func startSink(b backend) (*sinkProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "sink", fmt.Sprint("-slots=", b.Slots), fmt.Sprint("-per-document=", b.PerDocument))
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

func (s *sinkProcess) tally(ctx context.Context) (tally, error) {
	var t tally
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/tally", nil)
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
