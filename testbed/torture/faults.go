package main

import (
	"context"
	"fmt"
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
	do deed
}

// deed does something to a round and says how much it met: processes ended, topics
// changed, pieces on a link, requests treated badly. What met nothing was not done.
type deed func(ctx context.Context, r *round, c *connector, last time.Duration, rng *rand.Rand) (met int64, err error)

// meetWithin is how long a fault waits for something that it meets: longer than a
// weir that was killed is missed by its group.
const meetWithin = 40 * sec

// lasting waits until a fault has met something and then for as long as it lasts, and
// returns how much it met.
func lasting(ctx context.Context, r *round, last time.Duration, met func() int64) int64 {
	for began := time.Now(); met() == 0 && time.Since(began) < meetWithin && !r.replay.over() && sleep(ctx, 10*msec); {
	}
	sleep(ctx, last)
	return met()
}

// since counts what count counts from now on.
func since(count func() int64) func() int64 {
	from := count()
	return func() int64 { return count() - from }
}

func every(front.Protocol) bool    { return true }
func served(p front.Protocol) bool { return p.Serve != nil }
func elastic(p front.Protocol) bool {
	return p.Name == front.Elasticsearch.Name || p.Name == front.OpenSearch.Name || p.Name == front.Rehydrate.Name
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
	begin func(c *connector) (met func() int64, over func() error, err error)
}

// aways are all that there are. The order is part of what a seed means.
var aways = []*away{
	{"dead", func(c *connector) (func() int64, func() error, error) {
		met := since(c.judge.proxy.Met)
		c.judge.killFront()
		return met, c.judge.startFront, nil
	}},
	{"frozen", func(c *connector) (func() int64, func() error, error) {
		over := c.account.Trouble()
		return since(c.judge.proxy.Met), func() error {
			defer over()
			return c.judge.freeze(false)
		}, c.judge.freeze(true)
	}},
	{"silent", func(c *connector) (func() int64, func() error, error) {
		over := c.account.Trouble()
		c.judge.proxy.Set(proxy.Mode{Silent: true})
		return since(c.judge.proxy.Met), func() error {
			defer over()
			c.judge.proxy.Set(proxy.Mode{})
			return nil
		}, nil
	}},
	{"refuses everything", always(front.Plan{Before: front.Busy})},
	{"answers nothing", always(front.Plan{Before: front.Never})},
	{"slow", always(front.Plan{Wait: 1500 * msec})},
}

func always(p front.Plan) func(*connector) (func() int64, func() error, error) {
	return func(c *connector) (func() int64, func() error, error) {
		met, over := c.judge.feel(mood{share: 1, plan: p})
		return met, func() error {
			over()
			return nil
		}, nil
	}
}

func weirKill(ctx context.Context, r *round, _ *connector, last time.Duration, rng *rand.Rand) (int64, error) {
	return weirEnd(ctx, r, last, rng, r.members.kill)
}

func weirTerm(ctx context.Context, r *round, _ *connector, last time.Duration, rng *rand.Rand) (int64, error) {
	return weirEnd(ctx, r, last, rng, r.members.stop)
}

func weirEnd(ctx context.Context, r *round, last time.Duration, rng *rand.Rand, end func(place int) bool) (int64, error) {
	i, ok := r.members.one(rng)
	if !ok || !end(i) {
		return 0, nil
	}
	sleep(ctx, last)
	return 1, r.members.start(i)
}

// weirRoll goes to another number of members and then to yet another one.
func weirRoll(ctx context.Context, r *round, _ *connector, _ time.Duration, rng *rand.Rand) (int64, error) {
	n := 1 + rng.IntN(maxMembers)
	first, err := r.members.roll(ctx, n)
	if err != nil {
		return first, err
	}
	second, err := r.members.roll(ctx, 1+(n+rng.IntN(maxMembers-1))%maxMembers)
	return first + second, err
}

// brokerDown ends the broker and starts it again, which changes the leader epochs of
// all partitions.
func brokerDown(kill bool) deed {
	return func(ctx context.Context, r *round, _ *connector, last time.Duration, _ *rand.Rand) (int64, error) {
		topic := r.topics[0]
		before, _ := admin{r.admin}.leaderEpoch(ctx, topic.name) // none: it is being made anew
		defer r.trouble()()
		if err := r.bed.kafka.down(kill); err != nil {
			return 0, err
		}
		sleep(ctx, last)
		// Whatever becomes of the round, the next one needs it.
		if err := r.bed.kafka.up(context.WithoutCancel(ctx)); err != nil {
			return 0, err
		}
		var after int32
		err := persist(ctx, func() (err error) {
			after, err = admin{r.admin}.leaderEpoch(ctx, topic.name)
			return err
		})
		if err == nil && after == before {
			err = fmt.Errorf("the leader epoch of %s is %d, as it was before", topic.name, after)
		}
		return 1, err
	}
}

func partitionsAdded(ctx context.Context, r *round, _ *connector, _ time.Duration, rng *rand.Rand) (int64, error) {
	n := 1 + rng.Int32N(2)
	return int64(n), r.topics[rng.IntN(len(r.topics))].grow(ctx, n)
}

func topicRemade(ctx context.Context, r *round, _ *connector, _ time.Duration, rng *rand.Rand) (int64, error) {
	r.disrupted(false)
	return 1, r.topics[rng.IntN(len(r.topics))].remake(ctx)
}

// lettersRefused makes the dead-letter topic too small for any record. It meets what
// the backend refuses meanwhile.
func lettersRefused(ctx context.Context, r *round, c *connector, last time.Duration, _ *rand.Rand) (int64, error) {
	set := func(ctx context.Context, v string) error {
		return persist(ctx, func() error { return r.admin.SetTopicConfig(ctx, c.letters, "max.message.bytes", v) })
	}
	if err := set(ctx, "1"); err != nil {
		return 0, err
	}
	met := lasting(ctx, r, last, since(func() int64 { return c.account.Counts().Refused }))
	return met, set(ctx, "1048588")
}

func frontKill(ctx context.Context, r *round, c *connector, last time.Duration, _ *rand.Rand) (int64, error) {
	met := since(c.judge.proxy.Met)
	c.judge.killFront()
	return lasting(ctx, r, last, met), c.judge.startFront()
}

func frontFreeze(ctx context.Context, r *round, c *connector, last time.Duration, _ *rand.Rand) (int64, error) {
	defer c.account.Trouble()()
	met := since(c.judge.proxy.Met)
	if err := c.judge.freeze(true); err != nil {
		return 0, err
	}
	return lasting(ctx, r, last, met), c.judge.freeze(false)
}

func sinkLink(m proxy.Mode) deed {
	return func(ctx context.Context, r *round, c *connector, last time.Duration, _ *rand.Rand) (int64, error) {
		return link(ctx, r, c.judge.proxy, m, last, c.account.Trouble), nil
	}
}

func kafkaLink(m proxy.Mode) deed {
	return func(ctx context.Context, r *round, _ *connector, last time.Duration, _ *rand.Rand) (int64, error) {
		return link(ctx, r, r.bed.kafka.proxy, m, last, r.trouble), nil
	}
}

func link(ctx context.Context, r *round, p *proxy.Proxy, m proxy.Mode, last time.Duration, trouble func() func()) int64 {
	defer trouble()()
	met := since(p.Met)
	p.Set(m)
	defer p.Set(proxy.Mode{})
	return lasting(ctx, r, last, met)
}

func feel(m mood) deed {
	return func(ctx context.Context, r *round, c *connector, last time.Duration, _ *rand.Rand) (int64, error) {
		met, over := c.judge.feel(m)
		defer over()
		return lasting(ctx, r, last, met), nil
	}
}
