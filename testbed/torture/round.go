package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"weir/testbed/bridge"
	"weir/testbed/broker"
	"weir/testbed/torture/account"
	"weir/testbed/torture/front"
)

// bed is what all rounds share.
type bed struct {
	bin   string
	kafka *kafka
	ports ports
	// target is how weir reaches the backends, but for where they are.
	target front.Target
	// allow says whose requests the backends take; nil: everybody's.
	allow func(credentials string) bool
	dir   string // of the logs
	work  string // of what is thrown away at the end
}

// round is one round: topics and connectors of its own.
type round struct {
	bed        *bed
	plan       *plan
	name       string // what groups and topics begin with
	dir        string
	connectors []*connector
	admin      *broker.Client
	topics     []*topic
	members    *members
	replay     *replay // nil: weir is a bridge
	// What the faults of the plan have met, and the one that came first.
	met      []int64
	aloneMet int64
}

const (
	letterPartitions = 3
	// flowWithin, faultsWithin and flushWithin end a round in which the harness itself
	// hangs. No verdict comes of them, so they are longer than any machine takes.
	flowWithin   = 5 * time.Minute
	faultsWithin = 10 * time.Minute
	flushWithin  = 5 * time.Minute
	// settleWithin is how long nothing more may be delivered or committed while
	// something is left, once the faults are over: a member that was killed leaves the
	// group after 20 s, partitions that were added are looked for every 30 s, a broker
	// that was away is asked again after 30 s at most.
	settleWithin = 2 * time.Minute
	// brokenWithin is how long a round is waited for that has failed already.
	brokenWithin = 45 * time.Second
)

// config is the weir.yaml of the process-th process, which is started at place.
func (r *round) config(place, process int) *bridge.Config {
	var connectors []bridge.M
	for _, c := range r.connectors {
		connectors = append(connectors, c.config(place, process))
	}
	return &bridge.Config{
		File: bridge.M{
			"kafka":      bridge.M{"brokers": []string{r.bed.kafka.proxy.Addr()}},
			"memory":     fmt.Sprintf("%dMiB", r.plan.memory),
			"log":        bridge.M{"level": "info"},
			"connectors": connectors,
		},
	}
}

// disrupted tells all accounts that a member ends or partitions move.
func (r *round) disrupted(killed bool) {
	for _, c := range r.connectors {
		c.account.Disrupted(killed)
	}
}

// trouble tells all accounts that answers or commits may be lost from now on.
func (r *round) trouble() (over func()) {
	var overs []func()
	for _, c := range r.connectors {
		overs = append(overs, c.account.Trouble())
	}
	return func() {
		for _, f := range overs {
			f()
		}
	}
}

// violation notes what is no single connector's.
func (r *round) violation(format string, args ...any) {
	r.connectors[0].account.Violation(format, args...)
}

// violations is how many were found so far.
func (r *round) violations() (n int64) {
	for _, c := range r.connectors {
		n += c.account.Counts().Violations
	}
	return n
}

// result is what a round came to.
type result struct {
	plan  *plan
	dir   string // of its logs
	took  time.Duration
	parts []part // by connector
	peak  int64  // resident memory of any weir process, in bytes
	err   error  // the harness itself failed
	// met is what each fault of the plan has met; 0: it hit nothing.
	met      []int64
	aloneMet int64
}

// part is what a round came to for one connector.
type part struct {
	protocol front.Protocol
	counts   account.Counts
	faults   []string // violations in words
}

// run runs one round to its verdict. torment is what is done to it.
func (b *bed) run(ctx context.Context, p *plan, torment func(context.Context, *round) error) (res result) {
	began := time.Now()
	res.plan = p
	r := &round{bed: b, plan: p, name: fmt.Sprintf("torture-%d-%d-%d", p.seed, p.round, began.UnixMilli()%1e6)}
	r.dir = filepath.Join(b.dir, r.name)
	res.dir = r.dir
	for _, protocol := range p.backend.protocols {
		r.connectors = append(r.connectors, newConnector(r, protocol))
	}
	r.members, r.met = &members{r: r}, make([]int64, len(p.faults))
	if p.replay != nil {
		r.replay = newReplay(r)
	}
	res.err = r.play(ctx, torment)
	for _, c := range r.connectors {
		counts, faults := c.account.Close()
		res.parts = append(res.parts, part{c.protocol, counts, faults})
	}
	res.peak, res.took, res.met, res.aloneMet = r.members.peak, time.Since(began), r.met, r.aloneMet
	r.note(res)
	return res
}

// note leaves the plan and what was found beside the logs.
func (r *round) note(res result) {
	text := r.plan.String()
	for _, p := range res.parts {
		text += fmt.Sprintf("%s: %+v\n", p.protocol.Name, p.counts)
		for _, f := range p.faults {
			text += f + "\n"
		}
	}
	if res.err != nil {
		text += res.err.Error() + "\n"
	}
	_ = os.WriteFile(filepath.Join(r.dir, "round.txt"), []byte(text), 0o600)
}

func (r *round) play(ctx context.Context, torment func(context.Context, *round) error) error {
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return err
	}
	var err error
	if r.admin, err = broker.Dial(r.bed.kafka.addr); err != nil {
		return err
	}
	defer r.admin.Close()
	for _, c := range r.connectors {
		if c.letters == "" {
			continue
		}
		if err := (admin{r.admin}).make(ctx, c.letters, letterPartitions); err != nil {
			return err
		}
	}
	for i := range r.plan.topics {
		t := &topic{name: fmt.Sprintf("%s.t%d", r.name, i), round: r}
		if err := t.open(ctx, r.plan.partitions); err != nil {
			return err
		}
		r.topics = append(r.topics, t)
	}
	defer r.clean()
	for i, c := range r.connectors {
		if c.protocol.Serve == nil {
			continue
		}
		if c.judge, err = startJudge(c.protocol, c.account, r.bed.work, r.bed.ports, i, r.plan.seed+uint64(r.plan.round)<<32); err != nil {
			return err
		}
		c.judge.allow = r.bed.allow
		defer c.judge.close()
	}
	defer r.members.endAll(true)

	watching, stop := context.WithCancel(ctx)
	defer stop()
	var watches sync.WaitGroup
	defer watches.Wait()
	defer stop()
	watches.Go(func() { r.members.watch(watching) })
	for _, c := range r.connectors {
		watches.Go(func() { c.watchCommits(watching) })
		if c.judge == nil {
			watches.Go(func() { c.watchFolders(watching) })
		}
		if c.letters == "" {
			continue
		}
		if err := c.watchLetters(watching); err != nil {
			return err
		}
	}

	producing, enough := context.WithCancel(ctx)
	defer enough()
	var producer sync.WaitGroup
	if r.replay == nil {
		producer.Go(func() { r.produce(producing) })
	} else {
		if err := r.replay.prepare(ctx); err != nil {
			return err
		}
		defer r.replay.end()
	}
	defer producer.Wait()
	defer enough()

	for i := range r.plan.members {
		if err := r.members.start(i); err != nil {
			return err
		}
	}
	if err := r.flow(ctx); err != nil {
		return err
	}
	if err := torment(ctx, r); err != nil {
		return err
	}
	if r.replay != nil {
		if err := r.replay.finish(ctx); err != nil {
			return err
		}
	} else if len(r.members.running()) == 0 {
		if err := r.members.start(0); err != nil {
			return err
		}
	}
	sleep(ctx, time.Second) // what comes after the last fault counts as well
	enough()
	producer.Wait()
	flush, cancel := context.WithTimeout(ctx, flushWithin)
	defer cancel()
	for _, t := range r.topics {
		if err := t.stop(flush); err != nil {
			return fmt.Errorf("the producer of %s: %w", t.name, err)
		}
	}
	if r.replay == nil {
		r.settle(ctx)
	}
	r.members.endAll(false)
	// What was committed at the end counts as well.
	stop()
	watches.Wait()
	for _, c := range r.connectors {
		c.readCommits(ctx, map[string]int{})
		if c.judge == nil {
			c.readFolders(ctx)
		}
	}
	if r.replay != nil {
		return r.replay.judge(ctx)
	}
	return nil
}

// torment does all the faults of r's plan, each in its time.
func torment(ctx context.Context, r *round) error {
	ctx, cancel := context.WithTimeout(ctx, faultsWithin)
	defer cancel()
	target := r.connectors[r.plan.victim]
	if f := r.plan.alone; f != nil {
		for i, c := range r.connectors {
			if i == r.plan.victim {
				continue
			}
			met, over, err := f.begin(target)
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			c.keepsUp(ctx, target.protocol.Name+": "+f.name)
			r.aloneMet += met()
			if err := over(); err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
		}
	}
	locks := map[string]*sync.Mutex{}
	for _, f := range r.plan.faults {
		locks[f.kind.what] = &sync.Mutex{}
	}
	began := time.Now()
	errs := make([]error, len(r.plan.faults))
	var wg sync.WaitGroup
	for i, f := range r.plan.faults {
		wg.Go(func() {
			if !sleep(ctx, time.Until(began.Add(f.at))) {
				return
			}
			lock := locks[f.kind.what]
			lock.Lock()
			defer lock.Unlock()
			if r.replay.over() {
				return
			}
			var err error
			if r.met[i], err = f.kind.do(ctx, r, target, f.last, rand.New(rand.NewPCG(f.seed, 0))); err != nil {
				errs[i] = fmt.Errorf("%s: %w", f.kind.name, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// flow waits until the first events are delivered and committed: what is done to a
// bridge that does not run yet proves little.
func (r *round) flow(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, flowWithin, fmt.Errorf("nothing was delivered within %s of the start", flowWithin))
	defer cancel()
	for _, c := range r.connectors {
		for !c.account.Flows() {
			if !sleep(ctx, 20*time.Millisecond) {
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// settle waits until everything that was produced is delivered and committed.
func (r *round) settle(ctx context.Context) {
	began := time.Now()
	moved, last := began, ""
	for {
		why := ""
		for _, c := range r.connectors {
			if w := c.account.Wait(); w != "" {
				why += c.protocol.Name + ": " + w + " "
			}
		}
		if why == "" || ctx.Err() != nil {
			return
		}
		if why != last {
			moved, last = time.Now(), why
		}
		if time.Since(moved) > settleWithin || time.Since(began) > brokenWithin && r.violations() > 0 {
			r.violation("not all delivered and committed %s after the last fault, and nothing moved for %s: %s",
				time.Since(began).Round(time.Second), time.Since(moved).Round(time.Second), why)
			return
		}
		sleep(ctx, 50*time.Millisecond)
	}
}

// produce sends events, the preload at once and then at a steady rate.
func (r *round) produce(ctx context.Context) {
	for _, t := range r.topics {
		t.produce(context.WithoutCancel(ctx), r.plan.preload/len(r.topics))
	}
	const every = 20 * time.Millisecond
	began, sent := time.Now(), 0
	for i := 0; sleep(ctx, every); i++ {
		due := int(time.Since(began).Seconds() * float64(r.plan.rate))
		r.topics[i%len(r.topics)].produce(context.WithoutCancel(ctx), due-sent)
		sent = due
	}
}

// clean deletes what the round has made on the broker.
func (r *round) clean() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, t := range r.topics {
		_ = r.admin.DeleteTopic(ctx, t.name)
	}
	for _, c := range r.connectors {
		if c.letters != "" {
			_ = r.admin.DeleteTopic(ctx, c.letters)
		}
	}
}
