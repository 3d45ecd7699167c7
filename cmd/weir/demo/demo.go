// Package demo shows weir at work with nothing installed: a Kafka inside this
// process, a generator of security events, and a stand-in SIEM that is slow and
// moody on purpose. The bridge between them is the caller's, and is the real
// one. At the end every event is looked for at both ends.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"weir/connector"
)

// ErrInterrupted says that the demo was told twice to stop, and did so without
// draining and without a count.
var ErrInterrupted = errors.New("demo: interrupted, nothing was counted")

// Options say how a demo runs.
type Options struct {
	// For is how long events are generated. 0: until ctx is done or the process
	// is interrupted when Out is a terminal, else 20 seconds.
	For time.Duration
	// Out is drawn on if it is a terminal and printed on if not. nil: os.Stdout.
	Out io.Writer
	// Seed makes the same events each time, but for their times.
	Seed uint64
	// Rate is the events a second outside bursts. 0: 2500.
	Rate float64
	// Bridge starts the bridge. It stops at once when ctx is done, which happens
	// after Stop returned or on the way out of a failed or interrupted demo.
	Bridge func(ctx context.Context, env Env) (Bridge, error)

	signals chan os.Signal // nil: those of the process
}

// Env is where a bridge finds what it connects.
type Env struct {
	Brokers    []string
	Topic      string
	Partitions int    // of Topic
	DeadLetter string // a topic
	SIEM       string // base URL of an Elasticsearch
	// Logger takes what the bridge would log: warnings and errors are shown.
	Logger *slog.Logger
}

// Bridge is a running bridge. Its methods are safe for concurrent use.
type Bridge interface {
	// Stats is a snapshot. It may be asked for after Stop too.
	Stats() connector.Stats
	// Stop drains what is in flight and commits it.
	Stop(ctx context.Context) error
	// MetricsURL is where the bridge's metrics can be looked at.
	MetricsURL() string
}

const (
	usualRun   = 20 * time.Second // without a terminal
	frameTime  = 150 * time.Millisecond
	joinTime   = 15 * time.Second // for the bridge to take its partitions
	catchUp    = 30 * time.Second // for the rest after the last event
	stopTime   = 30 * time.Second
	trimPeriod = 2 * time.Second
	backlog    = 6 // seconds of the usual rate that wait in the log at the start
)

// demo is one run.
type demo struct {
	broker *broker
	siem   *siem
	gen    *generator
	bridge Bridge
	script script
	start  time.Time
	ending atomic.Bool // the generator has stopped
	warned warnings

	mu        sync.Mutex
	committed [partitions]int64 // as last seen, everything below is settled
}

// Run runs a demo and writes the count at its end. The first interrupt, or the
// end of ctx, ends it in good order; a second interrupt ends it at once.
//
// Errors: an event was lost, counted twice or not delivered in time; the
// bridge's own; ErrInterrupted.
func Run(ctx context.Context, opt Options) error {
	if opt.Out == nil {
		opt.Out = os.Stdout
	}
	if f, ok := opt.Out.(*os.File); opt.For == 0 && (!ok || !drawable(f)) {
		opt.For = usualRun
	}
	if opt.Rate == 0 {
		opt.Rate = usualRate
	}
	if opt.signals == nil {
		opt.signals = make(chan os.Signal, 2)
		signal.Notify(opt.signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
		defer signal.Stop(opt.signals)
	}
	// soft ends the generator, hard ends everything.
	hard, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	soft, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		for _, f := range []func(){stop, kill} {
			select {
			case <-opt.signals:
				f()
			case <-hard.Done():
				return
			}
		}
	}()

	d := &demo{script: newScript(opt.For)}
	var err error
	if d.broker, err = startBroker(); err != nil {
		return err
	}
	defer d.broker.close()
	if d.siem, err = startSIEM(); err != nil {
		return err
	}
	defer d.siem.close()
	if d.gen, err = newGenerator(d.broker.addrs(), topic, opt.Seed, opt.Rate); err != nil {
		return err
	}
	defer d.gen.close()
	// A log that is not empty gives the bridge something to open its window for.
	if err := d.gen.fill(hard, int(backlog*opt.Rate)); err != nil {
		return err
	}
	d.bridge, err = opt.Bridge(hard, Env{
		Brokers: d.broker.addrs(), Topic: topic, Partitions: partitions, DeadLetter: deadLetter, SIEM: d.siem.url,
		Logger: d.warned.logger(),
	})
	if err != nil {
		return fmt.Errorf("demo: starting the bridge: %w", err)
	}
	defer kill() // the bridge goes before what it connects
	if _, err := fmt.Fprintln(opt.Out, "weir demo: waiting for the bridge; metrics at", plain(d.bridge.MetricsURL())); err != nil {
		return err
	}
	d.join(soft)
	return d.run(hard, soft, opt)
}

// join waits until the bridge has taken its partitions, so that the first
// mood is seen from its beginning.
func (d *demo) join(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	_ = wait(ctx, func() bool {
		live := 0
		for _, l := range d.bridge.Stats().Lanes {
			if l.Live {
				live++
			}
		}
		return live >= partitions
	})
}

// run shows the demo while it goes on, and then the count.
func (d *demo) run(hard, soft context.Context, opt Options) error {
	view := newViewer(opt.Out, d.bridge.MetricsURL())
	defer view.close() // a panic in here passes it too
	d.start = time.Now()
	if opt.For > 0 {
		var cancel context.CancelFunc
		soft, cancel = context.WithTimeout(soft, opt.For)
		defer cancel()
	}
	var account Account
	done, broken := make(chan error, 1), make(chan error, 1)
	guarded := func(f func()) {
		go func() {
			defer func() {
				if p := recover(); p != nil {
					view.close() // or the panic would be told to a screen that is gone
					panic(p)
				}
			}()
			f()
		}()
	}
	guarded(func() {
		var err error
		account, err = d.perform(hard, soft)
		done <- err
	})
	guarded(func() {
		if err := d.trim(hard); err != nil {
			broken <- err
		}
	})

	s := newStory(opt.For)
	tick := time.NewTicker(frameTime)
	defer tick.Stop()
	for {
		d.look(s)
		view.show(s)
		select {
		case <-hard.Done():
			return ErrInterrupted
		case err := <-broken:
			return err
		case err := <-done:
			if hard.Err() != nil {
				return ErrInterrupted
			}
			d.look(s)
			view.show(s)
			view.close()
			if err != nil {
				return err
			}
			return d.report(opt.Out, s, account)
		case <-tick.C:
		}
	}
}

// look sets the SIEM's mood and tells the story how things are.
func (d *demo) look(s *story) {
	elapsed := time.Since(d.start)
	m, b := d.script.mood(elapsed), d.script.burst(elapsed)
	if d.ending.Load() {
		m, b = calm, nil
	}
	d.siem.set(m)
	st := d.bridge.Stats()
	d.settled(st)
	// The lag that is shown is measured at the broker: a bridge that has paused
	// its reading may hear of the log's end late.
	st.Lanes = slices.Clone(st.Lanes)
	end := d.gen.ends()
	for i := range st.Lanes {
		l := &st.Lanes[i]
		l.End = max(l.End, end[l.Partition])
	}
	s.observe(time.Now(), Snapshot{Elapsed: elapsed, Produced: d.gen.produced.len(), Bridge: st, mood: m, burst: b})
	for _, w := range d.warned.take() {
		s.note(w)
	}
}

// settled remembers how far each partition is settled.
func (d *demo) settled(st connector.Stats) [partitions]int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range st.Lanes {
		if l.Live && l.Topic == topic && l.Partition >= 0 && l.Partition < partitions {
			d.committed[l.Partition] = max(d.committed[l.Partition], l.Committed)
		}
	}
	return d.committed
}

// perform generates events until soft is done, lets the bridge bring the rest,
// stops it and counts.
func (d *demo) perform(ctx, soft context.Context) (Account, error) {
	err := d.gen.run(ctx, soft, d.script, func() time.Duration { return time.Since(d.start) })
	d.ending.Store(true)
	if err != nil {
		return Account{}, err
	}
	end := d.gen.ends()
	rest, cancel := context.WithTimeout(ctx, catchUp)
	defer cancel()
	// What is not settled in time is found when the events are counted.
	_ = wait(rest, func() bool {
		at := d.settled(d.bridge.Stats())
		for p := range end {
			if at[p] < end[p] {
				return false
			}
		}
		return true
	})
	stopping, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	if err := d.bridge.Stop(stopping); err != nil {
		return Account{}, fmt.Errorf("demo: stopping the bridge: %w", err)
	}
	return d.count(ctx)
}

// count looks for every event at both ends.
func (d *demo) count(ctx context.Context) (Account, error) {
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	into := func(set *numbers) func([]byte) {
		return func(value []byte) {
			if n, ok := markOf(value); ok {
				set.add(n)
			}
		}
	}
	var dead, open numbers
	if err := d.broker.read(ctx, deadLetter, 0, 0, into(&dead)); err != nil {
		return Account{}, err
	}
	for p, from := range d.settled(d.bridge.Stats()) {
		if err := d.broker.read(ctx, topic, int32(p), from, into(&open)); err != nil {
			return Account{}, err
		}
	}
	a := settle(d.gen.produced.snapshot(), d.siem.stored.snapshot(), dead.snapshot(), open.snapshot())
	_, counts := d.siem.state()
	a.Refused, a.StoredTwice = counts.Refused, counts.Twice
	return a, nil
}

// report writes what it came to.
func (d *demo) report(out io.Writer, s *story, a Account) error {
	_, counts := d.siem.state()
	_, err := fmt.Fprintf(out, "\nweir demo ran for %s. At most %s events waited in Kafka.\nThe SIEM turned away %s requests.\n",
		clock(s.Elapsed), thousands(s.peak), thousands(counts.Turned))
	return errors.Join(err, a.print(out, deadLetter), a.check())
}

// trim deletes what is settled, since the in-process Kafka keeps it in memory.
// It stays one period behind, so that what was settled is committed by then.
func (d *demo) trim(ctx context.Context) error {
	tick := time.NewTicker(trimPeriod)
	defer tick.Stop()
	at := d.settled(connector.Stats{})
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		below := map[int32]int64{}
		for p, offset := range at {
			if offset > 0 {
				below[int32(p)] = offset
			}
		}
		if err := d.broker.trim(ctx, below); err != nil && ctx.Err() == nil {
			return err
		}
		at = d.settled(connector.Stats{})
	}
}

// wait asks again and again until it is so or ctx is done.
func wait(ctx context.Context, so func() bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// warnings collects the bridge's warnings until they are shown.
type warnings struct {
	mu    sync.Mutex
	lines []string
}

// logger writes into w.
func (w *warnings) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{
		Level: slog.LevelWarn,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			// The viewer has the time, and there is one connector.
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == "connector") {
				return slog.Attr{}
			}
			return a
		},
	}))
}

// Write takes one log line. Those beyond what can be shown are dropped.
func (w *warnings) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.lines) < maxEntries {
		w.lines = append(w.lines, strings.TrimPrefix(strings.TrimSpace(string(p)), "msg="))
	}
	return len(p), nil
}

func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := w.lines
	w.lines = nil
	return lines
}
