package kafka

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"weir/sinks/sinktest"
)

// holdings counts what a topic of one partition holds of the conformance suite's
// records. It reads with another library than the one that writes.
type holdings struct {
	t       *testing.T
	cluster *cluster
	topic   string

	mu     sync.Mutex
	client *kgo.Client
	next   int64
	counts map[int]int
}

func newHoldings(t *testing.T, o Options, topic string) *holdings {
	cl, err := kgo.NewClient(kgo.SeedBrokers(o.Brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	c := newCluster(t.Context(), o)
	t.Cleanup(func() { cl.Close(); c.Close() })
	return &holdings{t: t, cluster: c, topic: topic, client: cl, counts: map[int]int{}}
}

// stored reads on to where the topic ends now.
func (h *holdings) stored() map[int]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var end int64
	for err := error(sarama.ErrOutOfBrokers); err != nil; { // a link may lose any answer
		if end, err = h.cluster.offsetAt(ctx, h.topic, 0, sarama.OffsetNewest, sarama.ReadUncommitted); ctx.Err() != nil {
			h.t.Errorf("asking for the end of %s: %v", h.topic, err)
			return nil
		}
	}
	for h.next < end {
		f := h.client.PollFetches(ctx)
		if ctx.Err() != nil {
			h.t.Errorf("%s could be read up to %d of %d", h.topic, h.next, end)
			return nil
		}
		for _, r := range f.Records() {
			for n, times := range sinktest.Numbers(r.Value) {
				h.counts[n] += times
			}
			h.next = r.Offset + 1
		}
	}
	counts := make(map[int]int, len(h.counts))
	for n, times := range h.counts {
		counts[n] = times
	}
	return counts
}

// Beside what the suite does to every sink, brokers refuse batches, say that they
// have them when nobody knows, and are cut off in the middle of an answer.
func TestConformance(t *testing.T) {
	for _, track := range []bool{false, true} {
		t.Run(map[bool]string{false: "bare", true: "tracked"}[track], func(t *testing.T) {
			sinktest.Conform(t, sinktest.Subject{Open: func(t *testing.T) sinktest.Place {
				var cut atomic.Int32 // answers that are let through before the one that is lost, 0: none is lost
				l := &link{lose: func() bool { return cut.Load() > 0 && cut.Add(-1) == 0 }}
				c, o := fakeCluster(t, kfake.SeedTopics(1, "archive"), kfake.ListenFn(l.listen))
				var mu sync.Mutex
				poisoned := map[int]bool{}
				c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
					c.KeepControl()
					mu.Lock()
					defer mu.Unlock()
					if len(poisoned) == 0 {
						return nil, nil, false
					}
					return refuseRecords(kerr.InvalidRecord.Code, true, func(r kmsg.Record) bool {
						for n := range sinktest.Numbers(r.Value) {
							if poisoned[n] {
								return true
							}
						}
						return false
					})(req)
				})
				h := newHoldings(t, o, "archive")
				d := newDestination(t, DestinationConfig{Options: o, Topic: "archive", Track: track})
				faults := []*kerr.Error{
					kerr.NotLeaderForPartition, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut, kerr.KafkaStorageError, kerr.UnknownServerError,
				}
				return sinktest.Place{
					Sink: d, Stored: h.stored,
					Poison: func(n int) {
						mu.Lock()
						defer mu.Unlock()
						poisoned[n] = true
					},
					Break: func(rng *rand.Rand) {
						if i := rng.IntN(len(faults) + 2); i < len(faults) {
							c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "archive", Err: faults[i]})
						} else {
							cut.Store(1 + rng.Int32N(3))
						}
					},
				}
			}})
		})
	}
}
