package main

import (
	"context"
	"math/rand/v2"
	"time"

	"weir/testbed/torture/account"
	"weir/testbed/torture/front"
	"weir/testbed/torture/proxy"
)

// kind is a kind of fault.
type kind struct {
	name string
	// what is done to; two faults of the same do not overlap.
	what string
	// least and most bound how long it lasts.
	least, most time.Duration
	// do does it, lets it last and undoes it.
	do func(ctx context.Context, r *round, last time.Duration, rng *rand.Rand) error
}

const (
	msec = time.Millisecond
	sec  = time.Second
)

// kinds are all faults that there are. The order is part of what a seed means.
var kinds = []*kind{
	{"weir kill -9", "weir", 200 * msec, 2 * sec, weirKill},
	{"weir SIGTERM", "weir", 200 * msec, 3 * sec, weirTerm},
	{"weir members rolled", "weir", 0, 0, weirRoll},
	{"broker kill -9", "broker", 0, 2 * sec, brokerDown(true)},
	{"broker restart", "broker", 0, 1 * sec, brokerDown(false)},
	{"partitions added", "topic", 0, 0, partitionsAdded},
	{"topic remade", "topic", 0, 0, topicRemade},
	{"dead letters refused", "letters", 1 * sec, 5 * sec, lettersRefused},
	{"sink kill -9", "front", 100 * msec, 4 * sec, frontKill},
	{"sink frozen", "front", 1 * sec, 5 * sec, frontFreeze},
	{"sink link cut", "sink link", 100 * msec, 4 * sec, sinkLink(proxy.Mode{Cut: true})},
	{"sink link silent", "sink link", 500 * msec, 5 * sec, sinkLink(proxy.Mode{Silent: true})},
	{"sink link slow", "sink link", 2 * sec, 6 * sec, sinkLink(proxy.Mode{Delay: 20 * msec, BytesPerSecond: 300_000})},
	{"kafka link cut", "kafka link", 100 * msec, 4 * sec, kafkaLink(proxy.Mode{Cut: true})},
	{"kafka link silent", "kafka link", 500 * msec, 5 * sec, kafkaLink(proxy.Mode{Silent: true})},
	{"kafka link slow", "kafka link", 2 * sec, 6 * sec, kafkaLink(proxy.Mode{Delay: 10 * msec, BytesPerSecond: 500_000})},
	{"sink slow", "mood", 1 * sec, 5 * sec, feel(mood{share: 1, plan: front.Plan{Wait: 300 * msec}})},
	{"sink very slow", "mood", 1 * sec, 5 * sec, feel(mood{share: 0.5, plan: front.Plan{Wait: 1500 * msec}})},
	{"429", "mood", 1 * sec, 4 * sec, feel(mood{share: 0.7, plan: front.Plan{Before: front.Busy}})},
	{"429 per item", "mood", 1 * sec, 4 * sec, feel(mood{share: 0.3, item: account.Busy})},
	{"items refused for a while", "mood", 1 * sec, 4 * sec, feel(mood{share: 0.2, item: account.Failed})},
	{"500 before storing", "mood", 1 * sec, 4 * sec, feel(mood{share: 0.6, plan: front.Plan{Before: front.Error}})},
	{"500 after storing", "mood", 1 * sec, 4 * sec, feel(mood{share: 0.6, plan: front.Plan{After: front.Error}})},
	{"reset before storing", "mood", 1 * sec, 4 * sec, feel(mood{share: 0.6, plan: front.Plan{Before: front.Reset}})},
	{"reset after storing", "mood", 1 * sec, 4 * sec, feel(mood{share: 0.6, plan: front.Plan{After: front.Reset}})},
	{"half an answer", "mood", 1 * sec, 4 * sec, feel(mood{share: 0.6, plan: front.Plan{After: front.Half}})},
	{"wrong number of items", "mood", 1 * sec, 4 * sec, feel(mood{share: 0.6, plan: front.Plan{After: front.Short}})},
	{"html before storing", "mood", 1 * sec, 4 * sec, feel(mood{share: 0.6, plan: front.Plan{Before: front.HTML}})},
	{"html after storing", "mood", 1 * sec, 4 * sec, feel(mood{share: 0.6, plan: front.Plan{After: front.HTML}})},
	{"no answer before storing", "mood", 1 * sec, 5 * sec, feel(mood{share: 0.5, plan: front.Plan{Before: front.Never}})},
	{"no answer after storing", "mood", 1 * sec, 5 * sec, feel(mood{share: 0.5, plan: front.Plan{After: front.Never}})},
}

func weirKill(ctx context.Context, r *round, last time.Duration, rng *rand.Rand) error {
	i, ok := r.members.one(rng)
	if !ok {
		return nil
	}
	r.members.kill(i)
	sleep(ctx, last)
	return r.members.start(i)
}

func weirTerm(ctx context.Context, r *round, last time.Duration, rng *rand.Rand) error {
	i, ok := r.members.one(rng)
	if !ok {
		return nil
	}
	r.members.stop(i)
	sleep(ctx, last)
	return r.members.start(i)
}

// weirRoll goes to another number of members and then to yet another one.
func weirRoll(ctx context.Context, r *round, _ time.Duration, rng *rand.Rand) error {
	n := 1 + rng.IntN(maxMembers)
	if err := r.members.roll(ctx, n); err != nil {
		return err
	}
	return r.members.roll(ctx, 1+(n+rng.IntN(maxMembers-1))%maxMembers)
}

func brokerDown(kill bool) func(context.Context, *round, time.Duration, *rand.Rand) error {
	return func(ctx context.Context, r *round, last time.Duration, _ *rand.Rand) error {
		defer r.account.Trouble()()
		if err := r.bed.kafka.down(kill); err != nil {
			return err
		}
		sleep(ctx, last)
		// Whatever becomes of the round, the next one needs it.
		return r.bed.kafka.up(context.WithoutCancel(ctx))
	}
}

func partitionsAdded(ctx context.Context, r *round, _ time.Duration, rng *rand.Rand) error {
	return r.topics[rng.IntN(len(r.topics))].grow(ctx, 1+rng.Int32N(2))
}

func topicRemade(ctx context.Context, r *round, _ time.Duration, rng *rand.Rand) error {
	r.account.Disrupted(false)
	return r.topics[rng.IntN(len(r.topics))].remake(ctx)
}

// lettersRefused makes the dead-letter topic too small for any record.
func lettersRefused(ctx context.Context, r *round, last time.Duration, _ *rand.Rand) error {
	set := func(ctx context.Context, v string) error {
		return persist(ctx, func() error { return r.admin.SetTopicConfig(ctx, r.letters(), "max.message.bytes", v) })
	}
	if err := set(ctx, "1"); err != nil {
		return err
	}
	sleep(ctx, last)
	return set(ctx, "1048588")
}

func frontKill(ctx context.Context, r *round, last time.Duration, _ *rand.Rand) error {
	r.bed.judge.killFront()
	sleep(ctx, last)
	return r.bed.judge.startFront()
}

func frontFreeze(ctx context.Context, r *round, last time.Duration, _ *rand.Rand) error {
	defer r.account.Trouble()()
	if err := r.bed.judge.freeze(true); err != nil {
		return err
	}
	sleep(ctx, last)
	return r.bed.judge.freeze(false)
}

func sinkLink(m proxy.Mode) func(context.Context, *round, time.Duration, *rand.Rand) error {
	return func(ctx context.Context, r *round, last time.Duration, _ *rand.Rand) error {
		return link(ctx, r, r.bed.judge.proxy, m, last)
	}
}

func kafkaLink(m proxy.Mode) func(context.Context, *round, time.Duration, *rand.Rand) error {
	return func(ctx context.Context, r *round, last time.Duration, _ *rand.Rand) error {
		return link(ctx, r, r.bed.kafka.proxy, m, last)
	}
}

func link(ctx context.Context, r *round, p *proxy.Proxy, m proxy.Mode, last time.Duration) error {
	defer r.account.Trouble()()
	p.Set(m)
	defer p.Set(proxy.Mode{})
	sleep(ctx, last)
	return nil
}

func feel(m mood) func(context.Context, *round, time.Duration, *rand.Rand) error {
	return func(ctx context.Context, r *round, last time.Duration, _ *rand.Rand) error {
		defer r.bed.judge.feel(m)()
		sleep(ctx, last)
		return nil
	}
}
