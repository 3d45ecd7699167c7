package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"weir/connector/replay"
	"weir/testbed/bridge"
)

// Cases of the group replays that others are measured by.
const (
	liveCase         = "live"
	replayCase       = "replay"
	livePacedCase    = "live-paced"
	replayPacedCase  = "replay-paced"
	liveRealCase     = "live-real"
	replayRealCase   = "replay-real"
	saramaTieredCase = "sarama-tiered"
	replayTieredCase = "replay-tiered"
)

// replays are the cases of weir rehydrate: each beside what it is measured by. A
// replay takes evidence of all it reads; the live connector, which delivers the
// same topic to the same endpoint, takes none.
func (s settings) replays() []benchCase {
	paced, tiered, others := s.load, s.load, s.load
	others.Real, others.Events = true, s.load.Events/4
	paced.Events, tiered.Events, tiered.Tiered = s.capacityEvents, s.tieredEvents, true
	return []benchCase{
		{Name: liveCase, Group: replays, Load: s.load},
		{Name: replayCase, Group: replays, Load: s.load, replay: true},
		{Name: liveRealCase, Group: replays, Load: others},
		{Name: replayRealCase, Group: replays, Load: others, replay: true},
		{Name: livePacedCase, Group: replays, Load: paced, backend: s.backend},
		{Name: replayPacedCase, Group: replays, Load: paced, backend: s.backend, replay: true},
		{Name: saramaTieredCase, Group: replays, Load: tiered, bare: true},
		{Name: replayTieredCase, Group: replays, Load: tiered, replay: true},
	}
}

// plan makes the plan of a case of its own over all of the topic.
func (r *runner) plan(ctx context.Context, name, config, topic string) (string, error) {
	file := filepath.Join(r.dir, name+".plan.json")
	now := time.Now().UTC()
	return file, r.command(ctx, "rehydrate", "plan", "-c", config, "--topics", topic, "--case", name, "-o", file,
		"--from", now.Add(-30*24*time.Hour).Format(time.RFC3339), "--to", now.Format(time.RFC3339Nano))
}

// command runs weir and wants it to go well.
func (r *runner) command(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, r.bin, args...)
	cmd.Env = bridge.Environ()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("weir %v: %w\n%s", args, err, out)
	}
	return nil
}

// runReplay measures one worker that delivers all of the topic. Of a tiered one
// only the first and the last record of each partition go to the endpoint, whose
// clock says how long what is between them took to be read.
func (r *runner) runReplay(ctx context.Context, c benchCase, i int) (Result, error) {
	res, topic, sink, err := r.begin(ctx, c)
	if err != nil {
		return res, err
	}
	defer sink.stop()
	cfg := bridge.NewConfig(r.kafka, topic, sink.url)
	name := fmt.Sprintf("bench-%s-%d-%d", c.Name, i, time.Now().UnixMilli())
	cfg.Connector["name"] = name
	cfg.File["memory"] = r.memory
	delete(cfg.Connector, "retry")
	if c.Load.Tiered {
		// The first record would wait for others, and the last one does not.
		bridge.Set(cfg.Connector, "batch.linger", "1ms")
	}
	config := filepath.Join(r.dir, name+".yaml")
	if err := cfg.Write(config); err != nil {
		return res, err
	}
	plan, err := r.plan(ctx, name, config, topic)
	if err != nil {
		return res, err
	}
	args := []string{"rehydrate", "run", "-c", config, "--plan", plan, "--connector", name}
	if c.Load.Tiered {
		if err := r.waitRemote(ctx, name, config, topic); err != nil {
			return res, err
		}
		args = append(args, "--filter", fmt.Sprintf("offset == 0 or offset == %d", c.Load.Events/c.Load.Partitions-1))
	}
	if err := r.measured(ctx, &res, exec.CommandContext(ctx, r.bin, args...)); err != nil {
		return res, err
	}
	t, err := sink.tally(ctx)
	if err != nil {
		return res, err
	}
	res.count(t, c.backend)
	if c.Load.Tiered {
		if want := int64(2 * c.Load.Partitions); t.Distinct != want {
			return res, fmt.Errorf("%d records were delivered, and %d are the first and last", t.Distinct, want)
		}
		res.Missing, res.PerSecond = 0, float64(c.Load.Events)/res.Seconds
	}
	return res, r.command(ctx, "rehydrate", "cancel", "-c", config, "--plan", plan, "--yes")
}

// measured runs a command to its end, and notes what it used.
func (r *runner) measured(ctx context.Context, res *Result, cmd *exec.Cmd) error {
	var out bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = bridge.Environ(), &out, &out
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				return fmt.Errorf("%v: %w\n%s", cmd.Args, err, out.Bytes())
			}
			user, system := cmd.ProcessState.UserTime(), cmd.ProcessState.SystemTime()
			res.UserSeconds, res.SystemSeconds = user.Seconds(), system.Seconds()
			res.CPUPerMillion = (user + system).Seconds() / float64(res.Load.Events) * 1e6
			return nil
		case <-tick.C:
			if u, err := processUsage(cmd.Process.Pid); err == nil { // else it has just ended
				res.PeakRSS = max(res.PeakRSS, u.PeakRSS)
			}
		}
	}
}

// mostlyRemote is how much of a tiered topic has to be in the remote tier only.
const mostlyRemote = 0.8

// waitRemote waits until most of the topic is in the remote tier only, by weir's
// own plan.
func (r *runner) waitRemote(ctx context.Context, name, config, topic string) error {
	for limit := time.Now().Add(3 * time.Minute); ; {
		file, err := r.plan(ctx, fmt.Sprintf("%s.%d", name, time.Now().UnixNano()), config, topic)
		if err != nil {
			return err
		}
		p, _, err := replay.ReadPlan(file)
		if err != nil {
			return err
		}
		var remote, all int64
		for _, one := range p.Topics[0].Partitions {
			all += one.Offsets()
			if one.Remote != nil {
				remote += *one.Remote
			}
		}
		if float64(remote) >= mostlyRemote*float64(all) {
			fmt.Fprintf(os.Stderr, "%s: %.0f %% in the remote tier only\n", topic, 100*float64(remote)/float64(all))
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("of %d offsets of %s only %d are in the remote tier only", all, topic, remote)
		}
		select {
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// runBare measures a bare sarama consumer, in a process of its own: this program
// again.
func (r *runner) runBare(ctx context.Context, c benchCase) (Result, error) {
	res := Result{Case: c.Name, Group: c.Group, Load: c.Load}
	topic, err := r.topic(ctx, c)
	if err != nil {
		return res, err
	}
	cfg := bridge.NewConfig(r.kafka, topic, "http://127.0.0.1:9")
	name := fmt.Sprintf("bench-%s-%d", c.Name, time.Now().UnixMilli())
	config := filepath.Join(r.dir, name+".yaml")
	if err := cfg.Write(config); err != nil {
		return res, err
	}
	if err := r.waitRemote(ctx, name, config, topic); err != nil {
		return res, err
	}
	self, err := os.Executable()
	if err != nil {
		return res, err
	}
	answer := filepath.Join(r.dir, name+".json")
	cmd := exec.CommandContext(ctx, self, "read", "-broker="+r.kafka, "-topic="+topic,
		fmt.Sprint("-partitions=", c.Load.Partitions), fmt.Sprint("-each=", c.Load.Events/c.Load.Partitions), "-to="+answer)
	if err := r.measured(ctx, &res, cmd); err != nil {
		return res, err
	}
	text, err := os.ReadFile(answer)
	if err != nil {
		return res, err
	}
	if err := json.Unmarshal(text, &res.Seconds); err != nil {
		return res, err
	}
	res.PerSecond = float64(c.Load.Events) / res.Seconds
	return res, nil
}

// readCommand is the bare consumer. It writes how many seconds were between the
// first and the last record.
func readCommand(args []string) error {
	flags := flag.NewFlagSet("read", flag.ContinueOnError)
	broker, topic, to := flags.String("broker", "", ""), flags.String("topic", "", ""), flags.String("to", "", "")
	partitions, each := flags.Int("partitions", 1, ""), flags.Int64("each", 0, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	cfg := sarama.NewConfig()
	cfg.Version = sarama.V3_6_0_0
	cfg.Consumer.Return.Errors = false
	cfg.Consumer.Fetch.Default = 16 << 20 // as weir asks for, see KIP-405
	consumer, err := sarama.NewConsumer([]string{*broker}, cfg)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var first, last time.Time
	var wg sync.WaitGroup
	var faults []error
	for p := range *partitions {
		part, err := consumer.ConsumePartition(*topic, int32(p), 0)
		if err != nil {
			return errors.Join(err, consumer.Close())
		}
		wg.Go(func() {
			n := int64(0)
			var began time.Time
			for m := range part.Messages() {
				if n == 0 {
					began = time.Now()
				}
				if n++; m.Offset >= *each-1 {
					break
				}
			}
			ended := time.Now()
			mu.Lock()
			defer mu.Unlock()
			if n != *each {
				faults = append(faults, fmt.Errorf("partition %d: %d records", p, n))
			}
			if first.IsZero() || began.Before(first) {
				first = began
			}
			if ended.After(last) {
				last = ended
			}
		})
	}
	wg.Wait()
	// Not closed: the partitions' leftovers would be waited for.
	return errors.Join(errors.Join(faults...), os.WriteFile(*to, fmt.Append(nil, last.Sub(first).Seconds()), 0o644))
}

// ratios are what the replay cases say of each other.
func (r Report) ratios() []string {
	of := func(name string, f func(Result) float64) float64 { return r.figure(replays, name, f) }
	var lines []string
	for _, pair := range [][2]string{{replayCase, liveCase}, {replayRealCase, liveRealCase}} {
		if a, b := of(pair[0], cpu), of(pair[1], cpu); a > 0 && b > 0 {
			lines = append(lines, fmt.Sprintf("Processor time of a replay with evidence (%s), by that of the live connector (%s): %+.0f %%.", pair[0], pair[1], 100*(a/b-1)))
		}
	}
	if a := of(replayPacedCase, used); a > 0 {
		lines = append(lines, fmt.Sprintf("Of what the paced endpoint can take a replay uses %.1f %%, the live connector %.1f %%.", a, of(livePacedCase, used)))
	}
	if a, b := of(replayTieredCase, perSecond), of(saramaTieredCase, perSecond); a > 0 && b > 0 {
		lines = append(lines, fmt.Sprintf("Reading from the remote tier, a replay reaches %.0f %% of the speed of a bare sarama consumer.", 100*a/b))
	}
	return lines
}
