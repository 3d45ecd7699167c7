package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"weir/config"
	"weir/connector"
)

// lanes runs laneTroubles and gives the texts.
func lanes(now time.Time, s connector.Stats) (texts []string) {
	(&bridge{}).laneTroubles(s, now, func(_, format string, args ...any) { texts = append(texts, fmt.Sprintf(format, args...)) })
	return texts
}

func TestPartitionThatDoesNotMoveWhileItsLogDoesIsTrouble(t *testing.T) {
	now := time.Now()
	stuck := connector.LaneStats{Topic: "t", Partition: 7, Live: true, Committed: 5, End: 9, Moved: now.Add(-2 * time.Minute)}
	got := lanes(now, connector.Stats{Lanes: []connector.LaneStats{stuck}})
	if len(got) != 1 || !strings.Contains(got[0], "t/7 is stuck at offset 5 for 2m0s while its log ends at 9") {
		t.Errorf("%q", got)
	}
	for what, l := range map[string]connector.LaneStats{
		"no lag":             {Live: true, Committed: 9, End: 9, Moved: now.Add(-time.Hour)},
		"moved lately":       {Live: true, Committed: 5, End: 9, Moved: now.Add(-10 * time.Second)},
		"not ours any more":  {Committed: 5, End: 9, Moved: now.Add(-time.Hour)},
		"the end is unknown": {Live: true, Committed: 5, End: -1, Moved: now.Add(-time.Hour)},
	} {
		if got := lanes(now, connector.Stats{Lanes: []connector.LaneStats{l}}); len(got) != 0 {
			t.Errorf("%s: %q", what, got)
		}
	}
	// While the sink is down that is the trouble, and one line is enough.
	if got := lanes(now, connector.Stats{Down: errors.New("refused"), Lanes: []connector.LaneStats{stuck}}); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

func TestPartitionsThatStandStillForOneReasonAreOneLine(t *testing.T) {
	now := time.Now()
	refused := errors.New("the dead-letter destination does not take a rejected record")
	var s connector.Stats
	for p := range int32(48) {
		s.Lanes = append(s.Lanes, connector.LaneStats{Topic: "t", Partition: p, Live: true, Committed: int64(p), Blocked: refused, BlockedSince: now.Add(-time.Minute)})
	}
	s.Lanes = append(s.Lanes, connector.LaneStats{Topic: "u", Live: true, Blocked: errors.New("status 403"), BlockedSince: now})
	got := lanes(now, s)
	if len(got) != 2 || !strings.Contains(strings.Join(got, "\n"), "t/0 (and 47 more partitions) stands still at offset 0 since 1m0s: the dead-letter") {
		t.Errorf("%q", got)
	}
}

// Who has not joined is not ready, and the reason is not kept back for the time
// that a change of a leader may take.
func TestWhyTheGroupIsNotJoinedIsToldAtOnce(t *testing.T) {
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "a"), kfake.EnableSASL(), kfake.EnableACLs(),
		kfake.User("SCRAM-SHA-256", "weir", "secret", kfake.ACL{
			Resource: kmsg.ACLResourceTypeTopic, Name: "a", Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: kmsg.ACLOperationRead, Allow: true,
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	cfg := config.Default()
	cfg.Kafka.Brokers = fake.ListenAddrs()
	cfg.Kafka.SASL = config.SASL{Mechanism: "SCRAM-SHA-256", Username: "weir", Password: config.NewSecret("secret")}
	c, e := config.DefaultConnector(), config.DefaultElasticsearch()
	c.Name, c.Group, c.Topics = "idle", "weir.idle", []string{"a"}
	e.URLs, e.Index = []string{"http://127.0.0.1:1"}, "a"
	c.Sink.Elasticsearch = &e
	cfg.Connectors = []config.Connector{c}
	b, err := newBridge(&cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	began := time.Now()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.run(ctx) }()
	const want = `user "weir" lacks the READ right on the consumer group`
	var got []trouble
	for deadline := time.Now().Add(time.Minute); !strings.Contains(fmt.Sprint(got), want); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("not told within a minute: %v", got)
			break
		}
		got = b.troubles(began) // no time has passed
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
