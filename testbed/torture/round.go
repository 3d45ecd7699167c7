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
	judge *judge
	// target is how weir reaches the judge.
	target front.Target
	dir    string // of the logs
	work   string // of what is thrown away at the end
}

// round is one round: topics, a group and an account of its own.
type round struct {
	bed     *bed
	plan    *plan
	name    string // of the group, and what topics begin with
	dir     string
	account *account.Account
	admin   *broker.Client
	topics  []*topic
	members *members
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

func (r *round) letters() string { return r.name + ".dlq" }

// config is the members' weir.yaml.
func (r *round) config() *bridge.Config {
	names := make([]string, len(r.topics))
	for i, t := range r.topics {
		names[i] = t.name
	}
	target := r.bed.target
	target.Gzip = r.plan.gzip
	connector := bridge.M{
		"name":        "torture",
		"topics":      names,
		"group":       r.name,
		"ordered":     r.plan.ordered,
		"drain":       drain.String(),
		"batch":       bridge.M{"records": r.plan.records, "linger": r.plan.linger.String()},
		"in_flight":   bridge.M{"max": r.plan.inFlight},
		"retry":       bridge.M{"initial": "50ms", "max": "1s"},
		"dead_letter": bridge.M{"topic": r.letters()},
		"sink":        r.bed.judge.protocol.Sink(target),
	}
	return &bridge.Config{
		File: bridge.M{
			"kafka":      bridge.M{"brokers": []string{r.bed.kafka.proxy.Addr()}},
			"memory":     fmt.Sprintf("%dMiB", r.plan.memory),
			"log":        bridge.M{"level": "info"},
			"connectors": []bridge.M{connector},
		},
		Connector: connector,
	}
}

// result is what a round came to.
type result struct {
	plan   *plan
	dir    string // of its logs
	took   time.Duration
	counts account.Counts
	faults []string // violations in words
	peak   int64    // resident memory of any weir process, in bytes
	err    error    // the harness itself failed
}

// run runs one round to its verdict. torment is what is done to it.
func (b *bed) run(ctx context.Context, p *plan, torment func(context.Context, *round) error) (res result) {
	began := time.Now()
	res.plan = p
	r := &round{bed: b, plan: p, name: fmt.Sprintf("torture-%d-%d-%d", p.seed, p.round, began.UnixMilli()%1e6)}
	r.dir = filepath.Join(b.dir, r.name)
	res.dir = r.dir
	r.account = account.New(r.name, p.ordered)
	r.members = &members{r: r}
	res.err = r.play(ctx, torment)
	res.counts, res.faults = r.account.Close()
	res.peak, res.took = r.members.peak, time.Since(began)
	r.note(res)
	return res
}

// note leaves the plan and what was found beside the logs.
func (r *round) note(res result) {
	text := r.plan.String()
	for _, f := range res.faults {
		text += f + "\n"
	}
	if res.err != nil {
		text += res.err.Error() + "\n"
	}
	text += fmt.Sprintf("%+v\n", res.counts)
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
	if err := (admin{r.admin}).make(ctx, r.letters(), letterPartitions); err != nil {
		return err
	}
	for i := range r.plan.topics {
		t := &topic{name: fmt.Sprintf("%s.t%d", r.name, i), round: r}
		if err := t.open(ctx, r.plan.partitions); err != nil {
			return err
		}
		r.topics = append(r.topics, t)
	}
	defer r.clean()
	r.bed.judge.begin(r.account)
	defer r.bed.judge.begin(nil)
	defer r.members.endAll(true)

	watching, stop := context.WithCancel(ctx)
	defer stop()
	var watches sync.WaitGroup
	defer watches.Wait()
	defer stop()
	watches.Go(func() { r.watchCommits(watching) })
	watches.Go(func() { r.members.watch(watching) })
	if err := r.watchLetters(watching); err != nil {
		return err
	}

	producing, enough := context.WithCancel(ctx)
	defer enough()
	var producer sync.WaitGroup
	producer.Go(func() { r.produce(producing) })
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
	if len(r.members.running()) == 0 {
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
	r.settle(ctx)
	r.members.endAll(false)
	// What was committed at the end counts as well.
	r.readCommits(ctx, map[string]int{})
	return nil
}

// torment does all the faults of r's plan, each in its time.
func torment(ctx context.Context, r *round) error {
	ctx, cancel := context.WithTimeout(ctx, faultsWithin)
	defer cancel()
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
			if err := f.kind.do(ctx, r, f.last, rand.New(rand.NewPCG(f.seed, 0))); err != nil {
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
	for !r.account.Flows() {
		if !sleep(ctx, 20*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
	return nil
}

// settle waits until everything that was produced is delivered and committed.
func (r *round) settle(ctx context.Context) {
	began := time.Now()
	moved, last := began, ""
	for {
		why := r.account.Wait()
		if why == "" || ctx.Err() != nil {
			return
		}
		if why != last {
			moved, last = time.Now(), why
		}
		if time.Since(moved) > settleWithin || time.Since(began) > brokenWithin && r.account.Counts().Violations > 0 {
			r.account.Violation("not all delivered and committed %s after the last fault, and nothing moved for %s: %s",
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
	_ = r.admin.DeleteTopic(ctx, r.letters())
}
