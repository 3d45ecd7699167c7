package kafka

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"weir/buffer"
	"weir/sinks"
)

// journal notes the batches that reach the brokers, whatever is answered.
type journal struct {
	mu      sync.Mutex
	batches []sentBatch
}

type sentBatch struct {
	partition int32
	producer  int64
	epoch     int16
	sequence  int32
	records   int32
	bytes     string
}

func keepJournal(c *kfake.Cluster) *journal {
	j := &journal{}
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		j.mu.Lock()
		defer j.mu.Unlock()
		for _, t := range req.(*kmsg.ProduceRequest).Topics {
			for _, p := range t.Partitions {
				var b kmsg.RecordBatch
				if err := b.ReadFrom(p.Records); err != nil {
					panic(err)
				}
				j.batches = append(j.batches, sentBatch{p.Partition, b.ProducerID, b.ProducerEpoch, b.FirstSequence, b.NumRecords, string(p.Records)})
			}
		}
		return nil, nil, false
	})
	return j
}

func (j *journal) all() []sentBatch {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]sentBatch(nil), j.batches...)
}

// link is what the brokers' connections go through. It loses answers.
type link struct {
	// lose says whether to hang up in place of the next thing that a broker writes.
	lose func() bool
}

func (l *link) listen(network, addr string) (net.Listener, error) {
	inner, err := net.Listen(network, addr)
	return linkListener{inner, l}, err
}

type linkListener struct {
	net.Listener
	link *link
}

func (l linkListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return linkConn{c, l.link}, err
}

type linkConn struct {
	net.Conn
	link *link
}

func (c linkConn) Write(b []byte) (int, error) {
	if c.link.lose() {
		_ = c.Close()
		return 0, net.ErrClosed
	}
	return c.Conn.Write(b)
}

func produceFault(err *kerr.Error) kfake.Fault {
	return kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "dlq", Err: err}
}

// The heart of it: a batch that was stored although its answer never came must
// not be stored once more, and the ones behind it must go on.
func TestBatchWhoseAnswerIsLostIsStoredOnce(t *testing.T) {
	for name, lose := range map[string]func(*kfake.Cluster, *atomic.Bool){
		"connection cut after the batch was stored": func(_ *kfake.Cluster, cut *atomic.Bool) { cut.Store(true) },
		"replicas too slow":                         func(c *kfake.Cluster, _ *atomic.Bool) { c.Fault(produceFault(kerr.RequestTimedOut)) },
		"replicas lost after append":                func(c *kfake.Cluster, _ *atomic.Bool) { c.Fault(produceFault(kerr.NotEnoughReplicasAfterAppend)) },
		"twice in a row": func(c *kfake.Cluster, _ *atomic.Bool) {
			c.Fault(produceFault(kerr.RequestTimedOut), produceFault(kerr.RequestTimedOut))
		},
		"then said to be too large": func(c *kfake.Cluster, _ *atomic.Bool) {
			c.Fault(produceFault(kerr.RequestTimedOut), produceFault(kerr.MessageTooLarge))
		},
		"then refused for lack of replicas": func(c *kfake.Cluster, _ *atomic.Bool) {
			c.Fault(produceFault(kerr.RequestTimedOut), produceFault(kerr.NotEnoughReplicas))
		},
	} {
		t.Run(name, func(t *testing.T) {
			var cut atomic.Bool
			l := &link{lose: func() bool { return cut.CompareAndSwap(true, false) }}
			c, o := fakeCluster(t, kfake.SeedTopics(1, "dlq"), kfake.ListenFn(l.listen))
			j := keepJournal(c)
			s := newTestSink(t, o, "dlq")
			allAcked(t, deliver(t, s, letters(5, 10)))
			lose(c, &cut)
			allAcked(t, deliver(t, s, letters(10, 10)))
			allAcked(t, deliver(t, s, letters(3, 10)))
			stored(t, o, "dlq", 18)

			sent := j.all()
			if len(sent) < 4 {
				t.Fatalf("%d batches were sent: nothing was lost", len(sent))
			}
			for _, again := range sent[2 : len(sent)-1] {
				if again != sent[1] {
					t.Errorf("sent again as %d/%d seq %d with %d records, first as %d/%d seq %d with %d", again.producer, again.epoch, again.sequence,
						again.records, sent[1].producer, sent[1].epoch, sent[1].sequence, sent[1].records)
				}
			}
			if end := sent[len(sent)-1]; end.producer != sent[0].producer || end.sequence != 15 {
				t.Errorf("the batch behind it has sequence %d of producer %d, want 15 of %d", end.sequence, end.producer, sent[0].producer)
			}
		})
	}
}

// What a broker may say before or after it stored a batch must not end in a
// guess.
func TestBatchThatMayBeStoredIsSentAgainAsItWas(t *testing.T) {
	for _, fault := range []*kerr.Error{
		kerr.NotLeaderForPartition, kerr.LeaderNotAvailable, kerr.UnknownTopicOrPartition, kerr.KafkaStorageError, kerr.UnknownServerError,
		kerr.NetworkException, kerr.FencedLeaderEpoch, kerr.UnknownLeaderEpoch, kerr.BrokerNotAvailable,
	} {
		t.Run(fault.Message, func(t *testing.T) {
			c, o := fakeCluster(t, kfake.SeedTopics(1, "dlq"))
			j := keepJournal(c)
			s := newTestSink(t, o, "dlq")
			c.Fault(produceFault(fault))
			allAcked(t, deliver(t, s, letters(10, 10)))
			stored(t, o, "dlq", 10)
			if sent := j.all(); len(sent) != 2 || sent[0] != sent[1] || sent[0].producer < 0 {
				t.Errorf("batches sent: %+v", sent)
			}
		})
	}
}

func TestDuplicateIsAnAckOnlyForWhatWasSentBefore(t *testing.T) {
	c, o := fakeCluster(t, kfake.SeedTopics(1, "dlq"))
	s := newTestSink(t, o, "dlq")
	c.Fault(produceFault(kerr.RequestTimedOut), produceFault(kerr.DuplicateSequenceNumber))
	for _, out := range deliver(t, s, letters(10, 10)) {
		if out.Verdict != sinks.Ack || out.Note != sinks.Duplicate {
			t.Fatalf("sent twice and stored: %+v", out)
		}
	}
	stored(t, o, "dlq", 10)

	c.Fault(produceFault(kerr.DuplicateSequenceNumber))
	for _, out := range deliver(t, s, letters(10, 10)) {
		if out.Verdict != sinks.Retry {
			t.Fatalf("acknowledged because of somebody else's batch: %+v", out)
		}
	}
	stored(t, o, "dlq", 10)
}

// A sequence that may be taken must never be given to another batch: the broker
// would take that one for the first, and lose it.
func TestProducerIDIsGivenUpWhenItsCountIsUnknown(t *testing.T) {
	for name, x := range map[string]struct {
		fault  *kerr.Error
		stored int // of the first batch
	}{
		"stored, nobody said so": {kerr.RequestTimedOut, 10},
		"not stored, or is it":   {kerr.NotLeaderForPartition, 0},
		"out of order":           {kerr.OutOfOrderSequenceNumber, 0},
		"unknown producer":       {kerr.UnknownProducerID, 0},
		"epoch":                  {kerr.InvalidProducerEpoch, 0},
		"fenced":                 {kerr.ProducerFenced, 0},
		"mapping":                {kerr.InvalidProducerIDMapping, 0},
		"foreign duplicate":      {kerr.DuplicateSequenceNumber, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c, o := fakeCluster(t, kfake.SeedTopics(1, "dlq"))
			j := keepJournal(c)
			s := newTestSink(t, o, "dlq")
			s.patience = 0
			c.Fault(produceFault(x.fault))
			b := letters(10, 10)
			for _, out := range deliver(t, s, b) {
				if out.Verdict != sinks.Retry || out.Status != int(x.fault.Code) {
					t.Fatalf("outcome %+v", out)
				}
			}
			allAcked(t, deliver(t, s, letters(4, 10)))
			allAcked(t, deliver(t, s, letters(4, 10)))
			stored(t, o, "dlq", x.stored+8)
			sent := j.all()
			if len(sent) != 3 || sent[1].producer == sent[0].producer || sent[1].sequence != 0 || sent[2].producer != sent[1].producer || sent[2].sequence != 4 {
				t.Errorf("batches sent: %+v", sent)
			}
		})
	}
}

// A refusal that is certain costs no producer id: its sequence is free.
func TestSequenceOfARefusedBatchIsUsedAgain(t *testing.T) {
	for _, fault := range []*kerr.Error{kerr.NotEnoughReplicas, kerr.TopicAuthorizationFailed, kerr.MessageTooLarge, kerr.InvalidRecord} {
		t.Run(fault.Message, func(t *testing.T) {
			c, o := fakeCluster(t, kfake.SeedTopics(1, "dlq"))
			j := keepJournal(c)
			s := newTestSink(t, o, "dlq")
			c.Fault(produceFault(fault))
			_, _ = s.Deliver(t.Context(), letters(2, 10), func(sinks.Note) {})
			allAcked(t, deliver(t, s, letters(2, 10)))
			for _, b := range j.all() {
				if b.producer != j.all()[0].producer {
					t.Fatalf("batches sent: %+v", j.all())
				}
			}
			if sent := j.all(); sent[0].sequence != 0 || sent[1].sequence != 0 {
				t.Errorf("batches sent: %+v", sent)
			}
		})
	}
}

func TestBatchIsFoundAgainAtTheNextLeader(t *testing.T) {
	c, o := fakeCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(1, "dlq"))
	s := newTestSink(t, o, "dlq")
	old := c.LeaderFor("dlq", 0)
	fault := produceFault(kerr.RequestTimedOut)
	fault.Nodes, fault.Count = []int32{old}, -1
	h := c.Fault(fault)
	done := make(chan []sinks.Outcome)
	go func() { done <- deliver(t, s, letters(10, 10)) }()
	if err := h.Wait(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if err := c.MoveTopicPartition("dlq", 0, 1-old); err != nil {
		t.Fatal(err)
	}
	allAcked(t, <-done)
	stored(t, o, "dlq", 10)
}

// Who gives up in the middle must not leave a sequence behind that is used again.
func TestEndOfTheContextGivesUpTheProducerID(t *testing.T) {
	c, o := fakeCluster(t, kfake.SeedTopics(1, "dlq"))
	j := keepJournal(c)
	s := newTestSink(t, o, "dlq")
	fault := produceFault(kerr.RequestTimedOut)
	fault.Count = -1
	h := c.Fault(fault)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error)
	go func() {
		_, err := s.Deliver(ctx, letters(10, 10), func(sinks.Note) {})
		done <- err
	}()
	if err := h.Wait(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-done; err == nil {
		t.Fatal("delivered, though nobody said so")
	}
	h.Remove()
	allAcked(t, deliver(t, s, letters(10, 10)))
	sent := j.all()
	if first, last := sent[0], sent[len(sent)-1]; first.producer == last.producer {
		// The answer to the last attempt may have come with an end to the fault.
		if last.sequence != first.sequence+first.records {
			t.Errorf("first %+v, last %+v", first, last)
		}
	}
	stored(t, o, "dlq", 20)
}

func TestSequencesDoNotWrap(t *testing.T) {
	c, o := fakeCluster(t, kfake.SeedTopics(1, "dlq"))
	j := keepJournal(c)
	s := newTestSink(t, o, "dlq")
	allAcked(t, deliver(t, s, letters(10, 10)))
	s.target("dlq").writer(0).next = math.MaxInt32 - 9
	allAcked(t, deliver(t, s, letters(10, 10)))
	sent := j.all()
	if last := sent[len(sent)-1]; last.sequence != 0 || last.producer == sent[0].producer {
		t.Errorf("batches sent: %+v", sent)
	}
	stored(t, o, "dlq", 20)
}

// Kafka below 2.8 wants a right of its own for producer ids; without it records
// are written as ever, and somebody is told.
func TestSinkGoesOnWithoutProducerIDs(t *testing.T) {
	without := kversion.Stable()
	without.SetMaxKeyVersion(int16(kmsg.InitProducerID), -1)
	for name, x := range map[string]struct {
		opts []kfake.Opt
		code int16
		want string
	}{
		"no right":     {nil, kerr.ClusterAuthorizationFailed.Code, "IdempotentWrite"},
		"no such call": {[]kfake.Opt{kfake.MaxVersions(without)}, 0, "give out no producer ids"},
	} {
		t.Run(name, func(t *testing.T) {
			c, o := fakeCluster(t, append(x.opts, kfake.SeedTopics(2, "dlq"))...)
			c.ControlKey(int16(kmsg.InitProducerID), func(req kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
				resp.ErrorCode = x.code
				return resp, nil, true
			})
			j := keepJournal(c)
			var log bytes.Buffer
			o.Logger = slog.New(slog.NewTextHandler(&log, nil))
			d := newDestination(t, DestinationConfig{Options: o, Topic: "dlq"})
			allAcked(t, deliver(t, d.sink, letters(50, 10)))
			allAcked(t, deliver(t, d.sink, letters(50, 10)))
			for _, b := range j.all() {
				if b.producer != -1 || b.epoch != -1 || b.sequence != -1 {
					t.Fatalf("batch %+v", b)
				}
			}
			if grade, why := d.Grade(); grade != sinks.GradeB || !strings.Contains(why, x.want) {
				t.Errorf("grade %s: %s", grade, why)
			}
			d.Close()
			if n := strings.Count(log.String(), "without a producer id"); n != 1 {
				t.Errorf("said %d times: %s", n, log.String())
			}
		})
	}
}

// Without an id a batch is sent once: the second one would be stored twice.
func TestSinkWithoutProducerIDDoesNotSendTwice(t *testing.T) {
	c, o := fakeCluster(t, kfake.SeedTopics(1, "dlq"))
	s := newTestSink(t, o, "dlq")
	s.goWithoutIDs(kerr.ClusterAuthorizationFailed)
	c.Fault(produceFault(kerr.RequestTimedOut))
	for _, out := range deliver(t, s, letters(10, 10)) {
		if out.Verdict != sinks.Retry {
			t.Fatalf("outcome %+v", out)
		}
	}
	stored(t, o, "dlq", 10)
}

func TestSinkWithoutAnIDYetDeliversNothing(t *testing.T) {
	c, o := fakeCluster(t, kfake.SeedTopics(1, "dlq"))
	s := newTestSink(t, o, "dlq")
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.CoordinatorLoadInProgress})
	if _, err := s.Deliver(t.Context(), letters(10, 10), func(sinks.Note) {}); err == nil || !strings.Contains(err.Error(), "producer id") {
		t.Fatalf("error %v", err)
	}
	allAcked(t, deliver(t, s, letters(10, 10)))
	stored(t, o, "dlq", 10)
}

// notingContext says when somebody begins to wait for its end.
type notingContext struct {
	context.Context
	once    sync.Once
	waiting chan struct{}
}

func (c *notingContext) Done() <-chan struct{} {
	c.once.Do(func() { close(c.waiting) })
	return c.Context.Done()
}

// Eight requests that wait for a partition that is gone must not each take as
// long as the first one to find that out.
func TestWhoWaitedForAPartitionThatFailedDoesNotTryItToo(t *testing.T) {
	c, o := fakeCluster(t, kfake.SeedTopics(1, "dlq"))
	j := keepJournal(c)
	s := newTestSink(t, o, "dlq")
	b := letters(10, 10)
	shares, faults := s.shareOut(t.Context(), b.Records)
	if len(shares) != 1 || len(faults) != 0 {
		t.Fatalf("%d shares, %d faults", len(shares), len(faults))
	}
	w := shares[0].writer
	w.turn <- struct{}{} // the first one's
	ctx := &notingContext{Context: t.Context(), waiting: make(chan struct{})}
	result := make(chan shareResult)
	go func() { result <- w.write(ctx, &delivery{records: b.Records}, shares[0]) }()
	<-ctx.waiting
	w.last = fmt.Errorf("gone")
	w.troubles.Add(1)
	<-w.turn
	if r := <-result; r.err == nil || r.err.Error() != "gone" {
		t.Errorf("result %+v", r)
	}
	if n := len(j.all()); n != 0 {
		t.Errorf("%d batches sent", n)
	}
	allAcked(t, deliver(t, s, b))
}

func TestDeliveriesAtTheSameTimeKeepTheirSequences(t *testing.T) {
	c, o := fakeCluster(t, kfake.NumBrokers(3), kfake.SeedTopics(5, "dlq"))
	j := keepJournal(c)
	s := newTestSink(t, o, "dlq")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				outcomes, err := s.Deliver(t.Context(), letters(100, 100), func(sinks.Note) {})
				if err != nil {
					t.Error(err)
					return
				}
				for _, out := range outcomes {
					if out.Verdict != sinks.Ack {
						t.Errorf("outcome %+v", out)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	stored(t, o, "dlq", 8*5*100)
	next := map[int32]int32{}
	producers := map[int64]int32{}
	for _, b := range j.all() {
		if b.sequence != next[b.partition] {
			t.Fatalf("partition %d: sequence %d where %d is due", b.partition, b.sequence, next[b.partition])
		}
		next[b.partition] += b.records
		if p, ok := producers[b.producer]; ok && p != b.partition {
			t.Fatalf("producer %d writes to partitions %d and %d", b.producer, p, b.partition)
		}
		producers[b.producer] = b.partition
	}
}

// Whatever answers are lost, refused or made up: what was acknowledged is there,
// once, unless it was given back in between.
func TestNothingIsAcknowledgedThatIsNotThere(t *testing.T) {
	faults := []*kerr.Error{
		kerr.RequestTimedOut, kerr.NotEnoughReplicasAfterAppend, kerr.NotLeaderForPartition, kerr.NotEnoughReplicas, kerr.MessageTooLarge,
		kerr.OutOfOrderSequenceNumber, kerr.UnknownProducerID, kerr.UnknownServerError, kerr.KafkaStorageError, kerr.CorruptMessage,
	}
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // to be repeated
			var mu sync.Mutex
			calm := false // nothing goes wrong any more
			roll := func(oneIn int) bool {
				mu.Lock()
				defer mu.Unlock()
				return !calm && rng.IntN(oneIn) == 0
			}
			still := func() {
				mu.Lock()
				defer mu.Unlock()
				calm = true
			}
			l := &link{lose: func() bool { return roll(12) }}
			c, o := fakeCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(3, "dlq"), kfake.ListenFn(l.listen))
			for _, f := range faults {
				fault := produceFault(f)
				fault.Count, fault.When = -1, func(kmsg.Request) bool { return roll(6 * len(faults)) }
				c.Fault(fault)
			}
			s := newTestSink(t, o, "dlq")
			if seed%2 == 1 {
				s.patience = 0
			}
			const n = 400
			tries := make([]int, n) // deliveries that did not acknowledge the record
			open := make([]int, 0, n)
			for i := range n {
				open = append(open, i)
			}
			for round := 0; len(open) > 0; round++ {
				if round == 60 {
					still()
				}
				if round > 200 {
					t.Fatalf("%d records are still not delivered", len(open))
				}
				part := open[:min(len(open), 50)]
				b := &buffer.Batch{}
				for _, i := range part {
					b.Add(&buffer.Record{Origin: origin, Offset: int64(i), Key: fmt.Appendf(nil, "%d", i%17), Value: fmt.Appendf(nil, "%d", i)})
				}
				outcomes, err := s.Deliver(t.Context(), b, func(sinks.Note) {})
				if err == nil && len(outcomes) != len(part) {
					t.Fatalf("%d outcomes for %d records", len(outcomes), len(part))
				}
				var rest []int
				for k, i := range part {
					if err == nil && outcomes[k].Verdict == sinks.Ack {
						continue
					}
					if err == nil && outcomes[k].Verdict == sinks.Reject {
						t.Fatalf("record %d rejected: %+v", i, outcomes[k])
					}
					tries[i]++
					rest = append(rest, i)
				}
				open = append(rest, open[len(part):]...)
			}
			still()
			copies := make([]int, n)
			for _, r := range storedAtLeast(t, o, "dlq", n) {
				var i int
				if _, err := fmt.Sscan(string(r), &i); err != nil {
					t.Fatal(err)
				}
				copies[i]++
			}
			for i := range n {
				if copies[i] < 1 || copies[i] > 1+tries[i] {
					t.Errorf("record %d is there %d times, given back %d times", i, copies[i], tries[i])
				}
			}
		})
	}
}
