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
	// fits reports whether there is such a fault of a backend.
	fits func(front.Protocol) bool
	// do does it, lets it last and undoes it. c is the connector whose backend it is
	// about, where it is about one.
	do func(ctx context.Context, r *round, c *connector, last time.Duration, rng *rand.Rand) error
}

func every(front.Protocol) bool    { return true }
func served(p front.Protocol) bool { return p.Serve != nil }
func elastic(p front.Protocol) bool {
	return p.Name == front.Elasticsearch.Name || p.Name == front.Rehydrate.Name
}

// kept: its topics have to stay. A case whose topic is made again is at its end.
func kept(p front.Protocol) bool { return p.Name == front.Rehydrate.Name }
func hec(p front.Protocol) bool  { return p.Name == front.Splunk.Name || acks(p) }
func acks(p front.Protocol) bool { return p.Rules.AckTimeout > 0 }

const (
	msec = time.Millisecond
	sec  = time.Second
)

var (
	killKind = &kind{"weir kill -9", "weir", 200 * msec, 2 * sec, every, weirKill}
	termKind = &kind{"weir SIGTERM", "weir", 200 * msec, 3 * sec, every, weirTerm}
	rollKind = &kind{"weir members rolled", "weir", 0, 0, every, weirRoll}
)

// kinds are all faults that there are. The order is part of what a seed means.
var kinds = []*kind{
	killKind,
	termKind,
	rollKind,
	{"broker kill -9", "broker", 0, 2 * sec, every, brokerDown(true)},
	{"broker restart", "broker", 0, 1 * sec, every, brokerDown(false)},
	{"partitions added", "topic", 0, 0, every, partitionsAdded},
	{"topic remade", "topic", 0, 0, func(p front.Protocol) bool { return !kept(p) }, topicRemade},
	{"dead letters refused", "letters", 1 * sec, 5 * sec, served, lettersRefused},
	{"sink kill -9", "front", 100 * msec, 4 * sec, served, frontKill},
	{"sink frozen", "front", 1 * sec, 5 * sec, served, frontFreeze},
	{"sink link cut", "sink link", 100 * msec, 4 * sec, served, sinkLink(proxy.Mode{Cut: true})},
	{"sink link silent", "sink link", 500 * msec, 5 * sec, served, sinkLink(proxy.Mode{Silent: true})},
	{"sink link slow", "sink link", 2 * sec, 6 * sec, served, sinkLink(proxy.Mode{Delay: 20 * msec, BytesPerSecond: 300_000})},
	{"kafka link cut", "kafka link", 100 * msec, 4 * sec, every, kafkaLink(proxy.Mode{Cut: true})},
	{"kafka link silent", "kafka link", 500 * msec, 5 * sec, every, kafkaLink(proxy.Mode{Silent: true})},
	{"kafka link slow", "kafka link", 2 * sec, 6 * sec, every, kafkaLink(proxy.Mode{Delay: 10 * msec, BytesPerSecond: 500_000})},
	{"sink slow", "mood", 1 * sec, 5 * sec, served, feel(mood{share: 1, plan: front.Plan{Wait: 300 * msec}})},
	{"sink very slow", "mood", 1 * sec, 5 * sec, served, feel(mood{share: 0.5, plan: front.Plan{Wait: 1500 * msec}})},
	{"429", "mood", 1 * sec, 4 * sec, served, feel(mood{share: 0.7, plan: front.Plan{Before: front.Busy}})},
	{"503", "mood", 1 * sec, 4 * sec, served, feel(mood{share: 0.7, plan: front.Plan{Before: front.Unavailable}})},
	{"429 per item", "mood", 1 * sec, 4 * sec, elastic, feel(mood{share: 0.3, item: account.Busy})},
	{"items refused for a while", "mood", 1 * sec, 4 * sec, elastic, feel(mood{share: 0.2, item: account.Failed})},
	{"500 before storing", "mood", 1 * sec, 4 * sec, served, feel(mood{share: 0.6, plan: front.Plan{Before: front.Error}})},
	{"500 after storing", "mood", 1 * sec, 4 * sec, served, feel(mood{share: 0.6, plan: front.Plan{After: front.Error}})},
	{"reset before storing", "mood", 1 * sec, 4 * sec, served, feel(mood{share: 0.6, plan: front.Plan{Before: front.Reset}})},
	{"reset after storing", "mood", 1 * sec, 4 * sec, served, feel(mood{share: 0.6, plan: front.Plan{After: front.Reset}})},
	{"half an answer", "mood", 1 * sec, 4 * sec, served, feel(mood{share: 0.6, plan: front.Plan{After: front.Half}})},
	{"wrong number of items", "mood", 1 * sec, 4 * sec, elastic, feel(mood{share: 0.6, plan: front.Plan{After: front.Short}})},
	{"html before storing", "mood", 1 * sec, 4 * sec, served, feel(mood{share: 0.6, plan: front.Plan{Before: front.HTML}})},
	{"html after storing", "mood", 1 * sec, 4 * sec, served, feel(mood{share: 0.6, plan: front.Plan{After: front.HTML}})},
	{"no answer before storing", "mood", 1 * sec, 5 * sec, served, feel(mood{share: 0.5, plan: front.Plan{Before: front.Never}})},
	{"no answer after storing", "mood", 1 * sec, 5 * sec, served, feel(mood{share: 0.5, plan: front.Plan{After: front.Never}})},
	{"queue nearly full", "mood", 1 * sec, 4 * sec, hec, feel(mood{share: 0.6, plan: front.Plan{After: front.NearlyFull}})},
	{"accepted and lost", "mood", 1 * sec, 4 * sec, acks, feel(mood{share: 0.5, plan: front.Plan{Lose: true}})},
	{"accepted without an id", "mood", 1 * sec, 4 * sec, acks, feel(mood{share: 0.4, plan: front.Plan{After: front.NoID}})},
	{"too many acks pending", "mood", 1 * sec, 4 * sec, acks, feel(mood{share: 0.6, plan: front.Plan{Before: front.AcksFull}})},
	{"indexed late", "mood", 1 * sec, 4 * sec, acks, feel(mood{share: 0.7, plan: front.Plan{Late: 12 * sec}})},
	{"acks false", "acks", 3 * sec, 14 * sec, acks, feel(mood{acks: true, share: 1, plan: front.Plan{After: front.False}})},
	{"acks lost on their way", "acks", 1 * sec, 5 * sec, acks, feel(mood{acks: true, share: 0.6, plan: front.Plan{After: front.Reset}})},
	{"half an answer about acks", "acks", 1 * sec, 5 * sec, acks, feel(mood{acks: true, share: 0.6, plan: front.Plan{After: front.Half}})},
	{"an ack missing", "acks", 1 * sec, 5 * sec, acks, feel(mood{acks: true, share: 0.6, plan: front.Plan{After: front.Short}})},
	{"html about acks", "acks", 1 * sec, 5 * sec, acks, feel(mood{acks: true, share: 0.6, plan: front.Plan{Before: front.HTML}})},
	{"500 about acks", "acks", 1 * sec, 5 * sec, acks, feel(mood{acks: true, share: 0.6, plan: front.Plan{Before: front.Error}})},
	{"403 about acks", "acks", 1 * sec, 5 * sec, acks, feel(mood{acks: true, share: 0.6, plan: front.Plan{Before: front.Forbidden}})},
}

// away is a way in which one backend of several is in trouble for as long as it
// takes to see that the others are not.
type away struct {
	name  string
	begin func(r *round, c *connector) (over func() error, err error)
}

// aways are all that there are. The order is part of what a seed means.
var aways = []*away{
	{"dead", func(_ *round, c *connector) (func() error, error) {
		c.judge.killFront()
		return c.judge.startFront, nil
	}},
	{"frozen", func(_ *round, c *connector) (func() error, error) {
		over := c.account.Trouble()
		return func() error {
			defer over()
			return c.judge.freeze(false)
		}, c.judge.freeze(true)
	}},
	{"silent", func(_ *round, c *connector) (func() error, error) {
		over := c.account.Trouble()
		c.judge.proxy.Set(proxy.Mode{Silent: true})
		return func() error {
			defer over()
			c.judge.proxy.Set(proxy.Mode{})
			return nil
		}, nil
	}},
	{"refuses everything", always(front.Plan{Before: front.Busy})},
	{"answers nothing", always(front.Plan{Before: front.Never})},
	{"slow", always(front.Plan{Wait: 1500 * msec})},
}

func always(p front.Plan) func(*round, *connector) (func() error, error) {
	return func(_ *round, c *connector) (func() error, error) {
		over := c.judge.feel(mood{share: 1, plan: p})
		return func() error {
			over()
			return nil
		}, nil
	}
}

func weirKill(ctx context.Context, r *round, _ *connector, last time.Duration, rng *rand.Rand) error {
	i, ok := r.members.one(rng)
	if !ok {
		return nil
	}
	r.members.kill(i)
	sleep(ctx, last)
	return r.members.start(i)
}

func weirTerm(ctx context.Context, r *round, _ *connector, last time.Duration, rng *rand.Rand) error {
	i, ok := r.members.one(rng)
	if !ok {
		return nil
	}
	r.members.stop(i)
	sleep(ctx, last)
	return r.members.start(i)
}

// weirRoll goes to another number of members and then to yet another one.
func weirRoll(ctx context.Context, r *round, _ *connector, _ time.Duration, rng *rand.Rand) error {
	n := 1 + rng.IntN(maxMembers)
	if err := r.members.roll(ctx, n); err != nil {
		return err
	}
	return r.members.roll(ctx, 1+(n+rng.IntN(maxMembers-1))%maxMembers)
}

func brokerDown(kill bool) func(context.Context, *round, *connector, time.Duration, *rand.Rand) error {
	return func(ctx context.Context, r *round, _ *connector, last time.Duration, _ *rand.Rand) error {
		defer r.trouble()()
		if err := r.bed.kafka.down(kill); err != nil {
			return err
		}
		sleep(ctx, last)
		// Whatever becomes of the round, the next one needs it.
		return r.bed.kafka.up(context.WithoutCancel(ctx))
	}
}

func partitionsAdded(ctx context.Context, r *round, _ *connector, _ time.Duration, rng *rand.Rand) error {
	return r.topics[rng.IntN(len(r.topics))].grow(ctx, 1+rng.Int32N(2))
}

func topicRemade(ctx context.Context, r *round, _ *connector, _ time.Duration, rng *rand.Rand) error {
	r.disrupted(false)
	return r.topics[rng.IntN(len(r.topics))].remake(ctx)
}

// lettersRefused makes the dead-letter topic too small for any record.
func lettersRefused(ctx context.Context, r *round, c *connector, last time.Duration, _ *rand.Rand) error {
	set := func(ctx context.Context, v string) error {
		return persist(ctx, func() error { return r.admin.SetTopicConfig(ctx, c.letters, "max.message.bytes", v) })
	}
	if err := set(ctx, "1"); err != nil {
		return err
	}
	sleep(ctx, last)
	return set(ctx, "1048588")
}

func frontKill(ctx context.Context, _ *round, c *connector, last time.Duration, _ *rand.Rand) error {
	c.judge.killFront()
	sleep(ctx, last)
	return c.judge.startFront()
}

func frontFreeze(ctx context.Context, _ *round, c *connector, last time.Duration, _ *rand.Rand) error {
	defer c.account.Trouble()()
	if err := c.judge.freeze(true); err != nil {
		return err
	}
	sleep(ctx, last)
	return c.judge.freeze(false)
}

func sinkLink(m proxy.Mode) func(context.Context, *round, *connector, time.Duration, *rand.Rand) error {
	return func(ctx context.Context, _ *round, c *connector, last time.Duration, _ *rand.Rand) error {
		link(ctx, c.judge.proxy, m, last, c.account.Trouble)
		return nil
	}
}

func kafkaLink(m proxy.Mode) func(context.Context, *round, *connector, time.Duration, *rand.Rand) error {
	return func(ctx context.Context, r *round, _ *connector, last time.Duration, _ *rand.Rand) error {
		link(ctx, r.bed.kafka.proxy, m, last, r.trouble)
		return nil
	}
}

func link(ctx context.Context, p *proxy.Proxy, m proxy.Mode, last time.Duration, trouble func() func()) {
	defer trouble()()
	p.Set(m)
	defer p.Set(proxy.Mode{})
	sleep(ctx, last)
}

func feel(m mood) func(context.Context, *round, *connector, time.Duration, *rand.Rand) error {
	return func(ctx context.Context, _ *round, c *connector, last time.Duration, _ *rand.Rand) error {
		defer c.judge.feel(m)()
		sleep(ctx, last)
		return nil
	}
}
