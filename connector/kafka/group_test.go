package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/rcrowley/go-metrics"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"go.uber.org/goleak"

	"weir/buffer"
	"weir/connector"
)

// place is where a record was read: the topic's id belongs to it.
type place struct {
	id        string
	topic     string
	partition int32
	offset    int64
}

// catch is a destination that takes everything at once, and knows what it took.
type catch struct {
	mu      sync.Mutex
	values  map[place]string
	repeats int
	running map[string]int // lanes by topic and partition
	overlap bool
	ends    map[string]int64 // committed
}

func newCatch() *catch {
	return &catch{values: map[place]string{}, running: map[string]int{}, ends: map[string]int64{}}
}

func (c *catch) lane(ctx context.Context, origin *buffer.Origin, src connector.Source) error {
	name := fmt.Sprintf("%s/%d", origin.Topic, origin.Partition)
	c.mu.Lock()
	c.running[name]++
	c.overlap = c.overlap || c.running[name] > 1
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.running[name]--
	}()
	last := src.Start()
	for {
		run, err := src.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		c.mu.Lock()
		for _, r := range run.Records {
			if r.Offset < last || r.Offset >= run.Next {
				c.mu.Unlock()
				return fmt.Errorf("offset %d outside of [%d, %d)", r.Offset, last, run.Next)
			}
			last = r.Offset + 1
			at := place{origin.TopicID, origin.Topic, origin.Partition, r.Offset}
			if _, ok := c.values[at]; ok {
				c.repeats++
			}
			c.values[at] = string(r.Value)
		}
		last = run.Next
		c.ends[name] = run.Next
		c.mu.Unlock()
		src.Commit(connector.Progress{Next: run.Next})
	}
}

func (c *catch) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.values)
}

func (c *catch) has(n int) func() bool { return func() bool { return c.count() >= n } }

// distinct are the values caught, sorted, each once.
func (c *catch) distinct() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Compact(slices.Sorted(maps.Values(c.values)))
}

func (c *catch) ids() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := map[string]bool{}
	for at := range c.values {
		ids[at.id] = true
	}
	return len(ids)
}

var quick = intervals{watch: 50 * time.Millisecond, discover: 100 * time.Millisecond, retry: 20 * time.Millisecond, retryMax: 200 * time.Millisecond, leave: 5 * time.Second, heartbeat: 100 * time.Millisecond}

// join runs a member until stop is called, which waits for it.
func join(t *testing.T, cfg GroupConfig) (g *Group, stop func(), log *testLog) {
	t.Helper()
	log, cfg.Log = newTestLog(t)
	cfg.every = quick
	if cfg.Group == "" {
		cfg.Group = "g"
	}
	if cfg.FetchBytes == 0 {
		cfg.FetchBytes = 8 << 20
	}
	g = NewGroup(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(60 * time.Second):
			t.Error("Run does not return")
		}
	})
	t.Cleanup(stop)
	return g, stop, log
}

func partitions(g *Group) int { return len(g.Status().Partitions) }

// committedAt is what a group committed, -1 when nothing.
func committedAt(t *testing.T, o Options, group, topic string, partition int32) (int64, string) {
	t.Helper()
	c := newCluster(t.Context(), o)
	defer c.Close()
	offset, metadata, err := c.committed(t.Context(), group, topic, partition)
	if err != nil {
		t.Fatal(err)
	}
	return offset, metadata
}

// setCommitted does what Kafka's tools do for a group without members.
func setCommitted(t *testing.T, o Options, group, topic string, partition int32, offset int64, metadata string) {
	t.Helper()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group = group
	rt, rp := kmsg.NewOffsetCommitRequestTopic(), kmsg.NewOffsetCommitRequestTopicPartition()
	rt.Topic, rp.Partition, rp.Offset = topic, partition, offset
	if metadata != "" {
		rp.Metadata = &metadata
	}
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(t.Context(), client(t, o, kgo.MaxVersions(kversion.V3_0_0()))) // before commits named topics by id
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestMembersComeAndGoWithoutLossOrRepetition(t *testing.T) {
	const total, parts = 6000, 6
	_, o := fakeCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(parts, "t"))
	cl := client(t, o)
	c := newCatch()
	cfg := GroupConfig{Options: o, Topics: []string{"t"}, Lane: c.lane}
	sent := 0
	send := func(n int) {
		for p := range int32(parts) {
			write(t, cl, numbered("t", p, sent, n)...)
		}
		sent += n
	}
	send(200)
	first, stopFirst, _ := join(t, cfg)
	eventually(t, "the first member has all partitions", func() bool { return partitions(first) == parts })
	send(200)
	second, stopSecond, _ := join(t, cfg)
	eventually(t, "two members share", func() bool { return partitions(first) == 3 && partitions(second) == 3 })
	send(200)
	third, stopThird, _ := join(t, cfg)
	eventually(t, "three members share", func() bool {
		return partitions(first) == 2 && partitions(second) == 2 && partitions(third) == 2
	})
	send(200)
	stopFirst()
	eventually(t, "two members share again", func() bool { return partitions(second) == 3 && partitions(third) == 3 })
	send(200)
	stopThird()
	eventually(t, "one member has all", func() bool { return partitions(second) == parts })
	eventually(t, "all are read", c.has(total))
	stopSecond()
	if got := len(c.distinct()); got != total/parts || c.count() != total {
		t.Errorf("%d records of %d values, want %d of %d", c.count(), got, total, total/parts)
	}
	if c.repeats != 0 {
		t.Errorf("%d records were read twice", c.repeats)
	}
	if c.overlap {
		t.Error("two lanes ran for one partition at a time")
	}
	for p := range int32(parts) {
		if offset, _ := committedAt(t, o, "g", "t", p); offset != total/parts {
			t.Errorf("partition %d is committed up to %d", p, offset)
		}
	}
}

// A partition may move only after its lane has returned, however long that takes.
func TestAPartitionMovesOnlyAfterItsLaneReturned(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(2, "t"))
	write(t, client(t, o), numbered("t", 0, 0, 10)...)
	write(t, client(t, o), numbered("t", 1, 0, 10)...)
	c := newCatch()
	release := make(chan struct{})
	revoked := make(chan string, 2)
	slow := func(ctx context.Context, origin *buffer.Origin, src connector.Source) error {
		err := c.lane(ctx, origin, src)
		name := fmt.Sprintf("%s/%d", origin.Topic, origin.Partition)
		c.mu.Lock()
		c.running[name]++
		c.mu.Unlock()
		revoked <- name
		<-release
		c.mu.Lock()
		c.running[name]--
		c.mu.Unlock()
		return err
	}
	_, stop, _ := join(t, GroupConfig{Options: o, Topics: []string{"t"}, Lane: slow})
	eventually(t, "all are read", c.has(20))
	second, _, _ := join(t, GroupConfig{Options: o, Topics: []string{"t"}, Lane: c.lane})
	<-revoked
	if n := partitions(second); n != 0 {
		t.Errorf("the second member has %d partitions while the lane still runs", n)
	}
	close(release)
	eventually(t, "the partition has moved", func() bool { return partitions(second) == 1 })
	stop()
	eventually(t, "the other one too", func() bool { return partitions(second) == 2 })
	if c.repeats != 0 || c.overlap {
		t.Errorf("%d records read twice, overlap %v", c.repeats, c.overlap)
	}
}

func TestARestartGoesOnWhereItStopped(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(1, "t"))
	cl := client(t, o)
	c := newCatch()
	for i := range 3 {
		write(t, cl, numbered("t", 0, 100*i, 100)...)
		_, stop, _ := join(t, GroupConfig{Options: o, Topics: []string{"t"}, Lane: c.lane})
		eventually(t, "all are read", c.has(100*(i+1)))
		stop()
	}
	if c.repeats != 0 {
		t.Errorf("%d records were read twice", c.repeats)
	}
	offset, metadata := committedAt(t, o, "g", "t", 0)
	if offset != 300 || !parseMark(metadata).ours {
		t.Errorf("committed %d with %q", offset, metadata)
	}
}

// What is committed has to be what was settled, and soon: a crash must not lose
// the one nor repeat much.
func TestCommitsFollowTheLane(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(1, "t"))
	write(t, client(t, o), numbered("t", 0, 0, 100)...)
	upTo := make(chan int64)
	lane := func(ctx context.Context, _ *buffer.Origin, src connector.Source) error {
		for {
			select {
			case next := <-upTo:
				src.Commit(connector.Progress{Next: next})
			case <-ctx.Done():
				return nil
			}
		}
	}
	_, stop, _ := join(t, GroupConfig{Options: o, Topics: []string{"t"}, Lane: lane})
	for _, next := range []int64{7, 50} {
		upTo <- next
		eventually(t, "it is committed", func() bool {
			offset, _ := committedAt(t, o, "g", "t", 0)
			return offset == next
		})
	}
	upTo <- 60
	stop() // the last commit is not forgotten
	if offset, _ := committedAt(t, o, "g", "t", 0); offset != 60 {
		t.Errorf("committed %d, want 60", offset)
	}
}

func TestWhereAGroupWithoutOffsetsBegins(t *testing.T) {
	day := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		start string
		want  int64
	}{
		{"earliest", 0},
		{"latest", 10},
		{"2026-01-02T00:00:00Z", 0},
		{"2026-01-02T04:30:00Z", 5},
		{"2026-01-02T05:00:00Z", 5},
		{"2026-01-03T00:00:00Z", 10}, // no record that late
	} {
		t.Run(tt.start, func(t *testing.T) {
			_, o := fakeCluster(t, kfake.SeedTopics(1, "t"))
			cl := client(t, o)
			for i, r := range numbered("t", 0, 0, 10) {
				r.Timestamp = day.Add(time.Duration(i) * time.Hour)
				write(t, cl, r)
			}
			start, err := ParseStart(tt.start)
			if err != nil {
				t.Fatal(err)
			}
			began := make(chan int64, 1)
			lane := func(ctx context.Context, _ *buffer.Origin, src connector.Source) error {
				began <- src.Start()
				<-ctx.Done()
				return nil
			}
			_, stop, _ := join(t, GroupConfig{Options: o, Topics: []string{"t"}, Start: start, Lane: lane})
			if got := <-began; got != tt.want {
				t.Errorf("began at %d, want %d", got, tt.want)
			}
			// It is committed before the lane runs: a crash now must not move it.
			if offset, _ := committedAt(t, o, "g", "t", 0); offset != tt.want {
				t.Errorf("committed %d, want %d", offset, tt.want)
			}
			stop()
		})
	}
}

func TestStartIsChecked(t *testing.T) {
	for _, s := range []string{"newest", "2026-01-02", "12", "Earliest"} {
		if start, err := ParseStart(s); err == nil {
			t.Errorf("%q was read as %v", s, start)
		}
	}
}

func TestATopicMadeAgainIsReadFromItsStart(t *testing.T) {
	for _, start := range []Start{{}, {Latest: true}} {
		t.Run(start.String(), func(t *testing.T) {
			fake, o := fakeCluster(t, kfake.SeedTopics(1, "t"))
			cl := client(t, o)
			c := newCatch()
			g, stop, _ := join(t, GroupConfig{Options: o, Topics: []string{"t"}, Start: start, Lane: c.lane})
			eventually(t, "it has the partition", func() bool { return partitions(g) == 1 })
			eventually(t, "it reads", func() bool { return g.Status().Partitions != nil && running(c, "t/0") })
			write(t, cl, numbered("t", 0, 0, 50)...)
			eventually(t, "the old topic is read", c.has(50))
			if err := fake.DeleteTopic("t"); err != nil {
				t.Fatal(err)
			}
			if err := fake.CreateTopic("t", 1, nil); err != nil {
				t.Fatal(err)
			}
			fresh := client(t, o)
			write(t, fresh, numbered("t", 0, 1000, 20)...)
			eventually(t, "the new topic is read", func() bool { return slices.Contains(c.distinct(), "1019") })
			stop()
			if got := len(c.distinct()); got != 70 {
				t.Errorf("%d values, want 70", got)
			}
			if c.ids() != 2 {
				t.Errorf("%d topic ids, want 2", c.ids())
			}
			if offset, _ := committedAt(t, o, "g", "t", 0); offset != 20 {
				t.Errorf("committed %d, want 20", offset)
			}
		})
	}
}

func running(c *catch, name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running[name] > 0
}

// The group's offset may outlive the topic, and the new topic may be longer than
// the old one: the offset would then be valid and skip what is below.
func TestAnOffsetOfAnEarlierTopicIsNotUsed(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(1, "t"))
	write(t, client(t, o), numbered("t", 0, 0, 100)...)
	setCommitted(t, o, "g", "t", 0, 60, "weir1 AAAAAAAAAAAAAAAAAAAAAA")
	c := newCatch()
	_, stop, log := join(t, GroupConfig{Options: o, Topics: []string{"t"}, Lane: c.lane})
	eventually(t, "all are read", c.has(100))
	stop()
	if !log.has("deleted and made again") {
		t.Error("nothing was said")
	}
}

// Operators move offsets with Kafka's tools, which know nothing of our marks.
func TestAnOffsetSetByToolsIsTakenAsItIs(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(1, "t"))
	write(t, client(t, o), numbered("t", 0, 0, 100)...)
	setCommitted(t, o, "g", "t", 0, 60, "")
	c := newCatch()
	_, stop, _ := join(t, GroupConfig{Options: o, Topics: []string{"t"}, Lane: c.lane})
	eventually(t, "the rest is read", func() bool { return slices.Contains(c.distinct(), "99") })
	stop()
	if c.count() != 40 {
		t.Errorf("%d records, want 40", c.count())
	}
}

func TestRecordsTakenByRetentionAreToldOf(t *testing.T) {
	fake, o := fakeCluster(t, kfake.SeedTopics(1, "t"))
	write(t, client(t, o), numbered("t", 0, 0, 100)...)
	setCommitted(t, o, "g", "t", 0, 10, "")
	if err := fake.DeleteRecords("t", 0, 30); err != nil {
		t.Fatal(err)
	}
	c := newCatch()
	g, stop, log := join(t, GroupConfig{Options: o, Topics: []string{"t"}, Lane: c.lane})
	eventually(t, "the rest is read", c.has(70))
	if lost := g.Status().Lost; len(lost) != 1 || lost[0] != (LostRecords{"t", 0, 20}) {
		t.Errorf("lost: %v", lost)
	}
	stop()
	if !log.has("retention removed records") || !log.has("offsets=20") {
		t.Error("nothing was said")
	}
	if offset, _ := committedAt(t, o, "g", "t", 0); offset != 100 {
		t.Errorf("committed %d", offset)
	}
}

// A log that is shorter than what was read has lost records. The new ones get
// their offsets, and going on would skip those.
func TestATruncatedLogStopsItsPartitionUntilTheOffsetIsSet(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(2, "t"))
	cl := client(t, o)
	write(t, cl, numbered("t", 0, 0, 50)...)
	write(t, cl, numbered("t", 1, 100, 50)...)
	setCommitted(t, o, "g", "t", 0, 60, "")
	c := newCatch()
	cfg := GroupConfig{Options: o, Topics: []string{"t"}, Lane: c.lane}
	told := func(g *Group) func() bool {
		return func() bool {
			for _, p := range g.Status().Partitions {
				if p.Partition == 0 && p.Err != nil && strings.Contains(p.Err.Error(), "cut off below offset 60") {
					return true
				}
			}
			return false
		}
	}
	g, stop, log := join(t, cfg)
	eventually(t, "the status tells", told(g))
	eventually(t, "the other partition is read", c.has(50))
	write(t, cl, numbered("t", 0, 50, 30)...) // the log grows past the offset
	eventually(t, "the mark is committed", func() bool {
		offset, metadata := committedAt(t, o, "g", "t", 0)
		return offset == 60 && parseMark(metadata).truncated
	})
	stop()
	if n := log.count("a partition stands still"); n != 1 {
		t.Errorf("said %d times", n)
	}
	// After a restart nothing but the mark tells.
	g, stop, _ = join(t, cfg)
	eventually(t, "the status tells again", told(g))
	stop()
	if c.count() != 50 {
		t.Errorf("%d records were read", c.count())
	}
	setCommitted(t, o, "g", "t", 0, 45, "")
	_, stop, _ = join(t, cfg)
	eventually(t, "it goes on", c.has(50+35))
	stop()
}

func TestATopicThatDoesNotExistYetIsWaitedFor(t *testing.T) {
	fake, o := fakeCluster(t, kfake.SeedTopics(1, "there"))
	write(t, client(t, o), numbered("there", 0, 0, 10)...)
	c := newCatch()
	g, stop, log := join(t, GroupConfig{Options: o, Topics: []string{"late", "there"}, Lane: c.lane})
	eventually(t, "the topic that is there is read", c.has(10))
	if s := g.Status(); len(s.Missing) != 1 || s.Missing[0].Topic != "late" || !errors.Is(s.Missing[0].Err, sarama.ErrUnknownTopicOrPartition) {
		t.Errorf("missing: %v", s.Missing)
	}
	if fake.TopicInfo("late") != nil {
		t.Error("asking for the topic made it")
	}
	if err := fake.CreateTopic("late", 2, nil); err != nil {
		t.Fatal(err)
	}
	write(t, client(t, o), numbered("late", 1, 100, 10)...)
	eventually(t, "the late topic is read", c.has(20))
	eventually(t, "none is missing", func() bool { return len(g.Status().Missing) == 0 })
	stop()
	if n := log.count("does not exist"); n != 1 {
		t.Errorf("said %d times", n)
	}
	if c.repeats != 0 {
		t.Errorf("%d records were read twice", c.repeats)
	}
}

func TestWithoutAnyTopicTheStateSaysWaiting(t *testing.T) {
	_, o := fakeCluster(t)
	g, stop, _ := join(t, GroupConfig{Options: o, Topics: []string{"late"}, Lane: newCatch().lane})
	eventually(t, "it waits", func() bool { return g.Status().State == StateWaiting })
	stop()
}

func TestADeletedTopicIsWaitedFor(t *testing.T) {
	fake, o := fakeCluster(t, kfake.SeedTopics(1, "a", "b"))
	write(t, client(t, o), numbered("a", 0, 0, 10)...)
	c := newCatch()
	g, stop, _ := join(t, GroupConfig{Options: o, Topics: []string{"a", "b"}, Lane: c.lane})
	eventually(t, "it is read", c.has(10))
	if err := fake.DeleteTopic("b"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the deleted one is missing and the other is read", func() bool {
		s := g.Status()
		return len(s.Missing) == 1 && s.Missing[0].Topic == "b" && len(s.Partitions) == 1 && s.Partitions[0].Err == nil
	})
	write(t, client(t, o), numbered("a", 0, 10, 10)...)
	eventually(t, "the other goes on", c.has(20))
	stop()
}

func TestAPatternFindsTopicsThatComeLater(t *testing.T) {
	fake, o := fakeCluster(t, kfake.SeedTopics(1, "edr.a", "other"))
	write(t, client(t, o), numbered("edr.a", 0, 0, 10)...)
	write(t, client(t, o), numbered("other", 0, 500, 10)...)
	c := newCatch()
	_, stop, _ := join(t, GroupConfig{Options: o, Pattern: regexp.MustCompile(`^edr\.|^__`), Lane: c.lane})
	eventually(t, "the first is read", c.has(10))
	if err := fake.CreateTopic("edr.b", 1, nil); err != nil {
		t.Fatal(err)
	}
	write(t, client(t, o), numbered("edr.b", 0, 100, 10)...)
	eventually(t, "the second is read", c.has(20))
	stop()
	if slices.Contains(c.distinct(), "500") {
		t.Error("a topic was read that does not match")
	}
}

func TestPartitionsThatAreAddedAreRead(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(1, "t"))
	cl := client(t, o)
	write(t, cl, numbered("t", 0, 0, 10)...)
	c := newCatch()
	_, stop, _ := join(t, GroupConfig{Options: o, Topics: []string{"t"}, Lane: c.lane})
	eventually(t, "the first partition is read", c.has(10))
	req := kmsg.NewPtrCreatePartitionsRequest()
	rt := kmsg.NewCreatePartitionsRequestTopic()
	rt.Topic, rt.Count = "t", 3
	req.Topics = append(req.Topics, rt)
	if _, err := req.RequestWith(t.Context(), cl); err != nil {
		t.Fatal(err)
	}
	write(t, client(t, o), numbered("t", 2, 100, 10)...)
	eventually(t, "the new partition is read", c.has(20))
	stop()
}

// A lane's error concerns its partition alone.
func TestALaneThatFailsIsBegunAgain(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(2, "t"))
	cl := client(t, o)
	write(t, cl, numbered("t", 0, 0, 100)...)
	write(t, cl, numbered("t", 1, 100, 100)...)
	c := newCatch()
	var mu sync.Mutex
	failures, other := 0, 0
	lane := func(ctx context.Context, origin *buffer.Origin, src connector.Source) error {
		mu.Lock()
		if origin.Partition == 1 {
			other++
		}
		fail := origin.Partition == 0 && failures < 3
		if fail {
			failures++
		}
		mu.Unlock()
		if fail {
			src.Commit(connector.Progress{Next: src.Start() + 10})
			return errors.New("it is broken")
		}
		return c.lane(ctx, origin, src)
	}
	g, stop, log := join(t, GroupConfig{Options: o, Topics: []string{"t"}, Lane: lane})
	eventually(t, "both are read", c.has(170)) // 30 were settled by the broken lane
	eventually(t, "the status is well again", func() bool { return g.Status().Partitions[0].Err == nil })
	stop()
	if other != 1 {
		t.Errorf("the other lane was begun %d times", other)
	}
	if !log.has("it is broken") || c.count() != 170 {
		t.Errorf("%d records", c.count())
	}
}

func TestABrokerThatComesLaterIsWaitedFor(t *testing.T) {
	o := Options{Brokers: []string{"127.0.0.1:1"}, ClientID: "weir-test"}
	g, stop, log := join(t, GroupConfig{Options: o, Topics: []string{"t"}, Lane: newCatch().lane})
	eventually(t, "the status tells", func() bool {
		s := g.Status()
		return s.State == StateConnecting && len(s.Faults) > 0
	})
	eventually(t, "it was tried a few times", func() bool { return g.Status().Faults[0].Since.Before(time.Now().Add(-300 * time.Millisecond)) })
	stop()
	if n := log.count("fails, trying again"); n != 1 {
		t.Errorf("said %d times", n)
	}
}

func TestAWrongPasswordIsToldAndTriedAgain(t *testing.T) {
	_, o := fakeCluster(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "weir", "right"), kfake.SeedTopics(1, "t"))
	password := make(chan string, 1)
	password <- "wrong"
	o.SASL = &SASL{Mechanism: "PLAIN", Username: "weir", Password: func() (string, error) {
		p := <-password
		password <- p
		return p, nil
	}}
	g, stop, log := join(t, GroupConfig{Options: o, Topics: []string{"t"}, Lane: newCatch().lane})
	eventually(t, "the status tells", func() bool {
		s := g.Status()
		return len(s.Faults) > 0 && strings.Contains(s.Faults[0].Err.Error(), "password")
	})
	<-password
	password <- "right"
	eventually(t, "it joins once the password is right", func() bool { return g.Status().State == StateJoined })
	stop()
	if log.has("wrong\"") || log.has("=right") {
		t.Error("the password is in the log")
	}
}

// sarama asks for the coordinator again and again for a quarter of a minute before
// it says that we may not: the status is to name the cause at the first answer.
func TestMissingRightOnTheGroupIsToldAtTheFirstAnswer(t *testing.T) {
	fake, weir, _ := guarded(t, acl(kmsg.ACLResourceTypeTopic, "edr", kmsg.ACLOperationRead))
	told := make(chan struct{})
	defer close(told)
	first := true
	fake.ControlKey(int16(kmsg.FindCoordinator), func(kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		if !first {
			<-told // no second answer before
		}
		first = false
		return nil, nil, false
	})
	g, _, _ := join(t, GroupConfig{Options: weir, Topics: []string{"edr"}, Lane: newCatch().lane})
	eventually(t, "the status names the right", func() bool {
		faults := g.Status().Faults
		return len(faults) > 0 && strings.Contains(faults[0].Err.Error(), `user "weir" lacks the READ right on the consumer group`)
	})
}

// The coordinator and the leaders go away for a moment.
func TestDroppedConnectionsLoseNothing(t *testing.T) {
	fake, o := fakeCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(4, "t"))
	cl := client(t, o)
	c := newCatch()
	g, stop, _ := join(t, GroupConfig{Options: o, Topics: []string{"t"}, Lane: c.lane})
	eventually(t, "it has the partitions", func() bool { return partitions(g) == 4 })
	for round := range 3 {
		for _, key := range []kmsg.Key{kmsg.Fetch, kmsg.OffsetCommit, kmsg.Heartbeat, kmsg.Metadata} {
			fake.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
				return nil, errors.New("dropped"), true
			})
		}
		for p := range int32(4) {
			write(t, cl, numbered("t", p, 100*round, 100)...)
		}
		eventually(t, "all are read", c.has(400*(round+1)))
	}
	stop()
	for p := range int32(4) {
		if offset, _ := committedAt(t, o, "g", "t", p); offset != 300 {
			t.Errorf("partition %d is committed up to %d", p, offset)
		}
	}
}

// sarama's own reading of a paused claim must neither ask for anything nor fail
// over and over.
func TestSaramasOwnReadingStaysStill(t *testing.T) {
	fake, o := fakeCluster(t, kfake.SeedTopics(1, "t"))
	write(t, client(t, o), numbered("t", 0, 0, 10)...)
	setCommitted(t, o, "g", "t", 0, 99, "") // out of range
	var mu sync.Mutex
	tiny := 0
	fake.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		if req.(*kmsg.FetchRequest).MaxBytes == 1 {
			tiny++
		}
		return nil, nil, false
	})
	g, stop, log := join(t, GroupConfig{Options: o, Topics: []string{"t"}, Lane: newCatch().lane})
	eventually(t, "our own reading found out", func() bool {
		s := g.Status()
		return len(s.Partitions) == 1 && s.Partitions[0].Err != nil
	})
	eventually(t, "time has passed", func() bool { return g.Status().Partitions[0].Since.Before(time.Now().Add(-time.Second)) })
	if s := g.Status(); s.State != StateJoined || s.Rebalances != 1 || len(s.Faults) != 0 {
		t.Errorf("%+v", s)
	}
	stop()
	mu.Lock()
	defer mu.Unlock()
	if tiny > 1 {
		t.Errorf("sarama asked %d times", tiny)
	}
	if log.has("the session with the group ended") {
		t.Error("the session ended")
	}
}

func TestRunLeavesNothingBehind(t *testing.T) {
	old := metrics.UseNilMetrics
	metrics.UseNilMetrics = true
	t.Cleanup(func() { metrics.UseNilMetrics = old })
	_, o := fakeCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(4, "t"))
	cl := client(t, o)
	for p := range int32(4) {
		write(t, cl, numbered("t", p, 0, 100)...)
	}
	before := goleak.IgnoreCurrent()
	c := newCatch()
	_, stop, _ := join(t, GroupConfig{Options: o, Topics: []string{"t"}, Lane: c.lane})
	eventually(t, "all are read", c.has(400))
	stop()
	info, _ := committedAt(t, o, "g", "t", 0)
	if info != 100 {
		t.Errorf("committed %d", info)
	}
	goleak.VerifyNone(t, before,
		goleak.IgnoreAnyFunction("github.com/twmb/franz-go/pkg/kfake.(*clientConn).read"),
		goleak.IgnoreAnyFunction("github.com/twmb/franz-go/pkg/kfake.(*clientConn).write"),
		goleak.IgnoreAnyFunction("github.com/twmb/franz-go/pkg/kfake.(*clientConn).read.func1"))
}

func TestTheGroupIsLeft(t *testing.T) {
	fake, o := fakeCluster(t, kfake.SeedTopics(1, "t"))
	g, stop, _ := join(t, GroupConfig{Options: o, Topics: []string{"t"}, Lane: newCatch().lane})
	eventually(t, "it has the partition", func() bool { return partitions(g) == 1 })
	stop()
	if info := fake.GroupInfo("g"); info != nil && len(info.Members) != 0 {
		t.Errorf("%d members are left", len(info.Members))
	}
	if n := partitions(g); n != 0 {
		t.Errorf("the status has %d partitions", n)
	}
}

// Brokers that are gone when we end must not hold us for long.
func TestRunReturnsWithoutBrokers(t *testing.T) {
	fake, o := fakeCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(2, "t"))
	c := newCatch()
	g, stop, _ := join(t, GroupConfig{Options: o, Topics: []string{"t"}, Lane: c.lane})
	eventually(t, "it reads", func() bool { return running(c, "t/0") && running(c, "t/1") })
	fake.Close()
	eventually(t, "the status tells", func() bool { return len(g.Status().Faults) > 0 })
	stop()
	if running(c, "t/0") || running(c, "t/1") {
		t.Error("a lane still runs")
	}
}
