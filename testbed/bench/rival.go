package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"weir/testbed/bridge"
)

// rivalIdle is how long a rival may send nothing before it counts as done with
// what it will ever send.
const rivalIdle = 20 * time.Second

// runRival measures another program on the same topic and endpoint. The command
// is given to sh; {brokers} {topic} {url} {host} {port} {group} {dir} stand for
// what it needs, which it finds in its environment, too, as BENCH_BROKERS and so
// on. It is ended with SIGTERM when the endpoint has every event, or nothing came
// for a while. What it used is that of its process group.
func (r *runner) runRival(ctx context.Context, c benchCase, i int) (Result, error) {
	res, topic, sink, err := r.begin(ctx, c)
	if err != nil {
		return res, err
	}
	defer sink.stop()
	res.Command = c.rival
	at, err := url.Parse(sink.url)
	if err != nil {
		return res, err
	}
	dir, err := os.MkdirTemp(r.dir, "rival-")
	if err != nil {
		return res, err
	}
	env := bridge.Environ()
	command := c.rival
	for name, value := range map[string]string{
		"brokers": r.kafka, "topic": topic, "url": sink.url, "host": at.Hostname(), "port": at.Port(),
		"group": fmt.Sprintf("bench-rival-%d", time.Now().UnixNano()), "dir": dir,
	} {
		command = strings.ReplaceAll(command, "{"+name+"}", value)
		env = append(env, "BENCH_"+strings.ToUpper(name)+"="+value)
	}
	log, err := os.Create(filepath.Join(r.dir, fmt.Sprintf("%s-%d.log", strings.ReplaceAll(c.Name, "%", ""), i)))
	if err != nil {
		return res, err
	}
	defer log.Close()
	cmd := exec.Command("sh", "-c", command)
	cmd.Dir = r.root // so that files of the project can be named
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return res, err
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is its own matter
		close(done)
	}()
	group := -cmd.Process.Pid
	defer func() {
		_ = syscall.Kill(group, syscall.SIGKILL)
		<-done
	}()

	var used usage
	if err := r.finishRival(ctx, sink, cmd.Process.Pid, done, int64(c.Load.Events), &used); err != nil {
		said, _ := os.ReadFile(log.Name())
		return res, fmt.Errorf("%w\n%s", err, said)
	}
	t, err := sink.tally(ctx)
	if err != nil {
		return res, err
	}
	res.count(t, c.backend)
	res.CPUPerMillion = used.CPU.Seconds() / float64(c.Load.Events) * 1e6
	res.UserSeconds, res.SystemSeconds = 0, 0
	res.PeakRSS = used.PeakRSS
	return res, nil
}

// finishRival waits until the rival has nothing more to send and ends it.
func (r *runner) finishRival(ctx context.Context, s *sinkProcess, pid int, done <-chan struct{}, events int64, used *usage) error {
	look := func() {
		u := groupUsage(pid)
		used.CPU, used.PeakRSS = max(used.CPU, u.CPU), max(used.PeakRSS, u.PeakRSS)
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	last, moved := int64(-1), time.Now()
	var complete time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-done:
			return errors.New("the rival ended by itself")
		case <-tick.C:
		}
		look()
		t, err := s.tally(ctx)
		if err != nil {
			return err
		}
		if t.Documents+t.Refused != last {
			last, moved = t.Documents+t.Refused, time.Now()
		}
		if t.Distinct >= events && complete.IsZero() {
			complete = time.Now()
		}
		// A little longer than complete, for what comes a second time.
		if !complete.IsZero() && time.Since(complete) > 3*time.Second || time.Since(moved) > rivalIdle {
			break
		}
	}
	if err := syscall.Kill(-pid, syscall.SIGTERM); err != nil {
		return err
	}
	for stop := time.After(20 * time.Second); ; {
		select {
		case <-done:
			return nil
		case <-stop:
			return nil // killed by the caller
		case <-tick.C:
			look()
		}
	}
}
