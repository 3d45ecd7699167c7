//go:build integration

package integration

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"weir/testbed/bridge"
	"weir/testbed/broker"
)

// slowly makes a run take long enough to be hit in the middle.
func slowly(cfg *bridge.Config) {
	bridge.Set(cfg.Connector, "batch.records", 250)
	bridge.Set(cfg.Connector, "in_flight.max", 2)
}

func TestKillInTheMiddleLosesNothing(t *testing.T) {
	b := newBed(t, 3*time.Minute)
	killInTheMiddle(b, b.node())
}

// OpenSearch refuses part of it with 429, on top of that.
func TestKillInTheMiddleOnOpenSearch(t *testing.T) {
	b := newBed(t, 3*time.Minute)
	es := b.openSearch()
	before := es.rejected()
	killInTheMiddle(b, es)
	n := es.rejected() - before
	t.Logf("OpenSearch refused %d writes because its queue was full", n)
	if n == 0 && es.Owned() {
		t.Error("no write was refused: the test hit nothing")
	}
}

func killInTheMiddle(b *bed, es *elastic) {
	const n = 80_000
	topic := b.topic("", 6, nil)
	b.must(b.cl.Write(b.ctx, synthetic(topic, 6, 0, n, 300)))
	cfg := b.config(topic, es)
	slowly(cfg)

	settled := int64(0)
	for i := range 3 {
		p := b.weir(fmt.Sprint("weir", i), cfg)
		b.waitMetric(p, bridge.RecordsDelivered, 10_000)
		p.Kill()
		committed, err := b.cl.Committed(b.ctx, cfg.Group(), topic)
		b.must(err)
		total := es.wantCommittedOnlyDelivered(topic, committed)
		b.Logf("kill %d: %d committed, %d in the index", i+1, total, es.count(topic, nil))
		if total <= settled {
			b.Errorf("kill %d: committed %d, %d before: no progress", i+1, total, settled)
		}
		settled = total
	}
	if settled >= n {
		b.Fatal("everything was committed before the last kill: the test hit nothing")
	}
	bridge.Set(cfg.Connector, "in_flight.max", 8)
	bridge.Set(cfg.Connector, "batch.records", 5000)
	p := b.weir("last", cfg)
	b.waitCommitted(p, cfg.Group(), topic)
	es.wantNumbers(topic, n)
	if letters, err := b.cl.Count(b.ctx, topic+".dlq"); err == nil && letters != 0 {
		b.Errorf("%d dead letters", letters)
	}
	b.Logf("%d records were sent twice, of %d", es.refused(topic), n)
	b.stop(p)
}

func TestTerminateDrainsAndSendsNothingTwice(t *testing.T) {
	b := newBed(t, 2*time.Minute)
	es := b.node()
	const n, drain = 60_000, 10 * time.Second
	topic := b.topic("", 6, nil)
	b.must(b.cl.Write(b.ctx, synthetic(topic, 6, 0, n, 300)))
	cfg := bridge.NewConfig(b.kafka.Addr, topic, es.URL)
	slowly(cfg)
	cfg.Connector["drain"] = drain.String()

	p := b.weir("first", cfg)
	b.waitMetric(p, bridge.RecordsDelivered, 10_000)
	limit, cancel := context.WithTimeout(b.ctx, drain+5*time.Second)
	defer cancel()
	code, err := p.Terminate(limit)
	b.must(err)
	if code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
	committed, err := b.cl.Committed(b.ctx, cfg.Group(), topic)
	b.must(err)
	covered := es.wantCommittedOnlyDelivered(topic, committed)
	if delivered := es.count(topic, nil); delivered != covered {
		t.Errorf("%d in the index, but only %d committed: they would be sent again", delivered, covered)
	} else if delivered == n {
		t.Fatal("everything was delivered before SIGTERM: the test hit nothing")
	}

	p = b.weir("second", cfg)
	b.waitCommitted(p, cfg.Group(), topic)
	es.wantNumbers(topic, n)
	if again := es.refused(topic); again != 0 {
		t.Errorf("%d records were sent twice", again)
	}
	b.stop(p)
}

// Two members take turns: each start and each stop is a rebalance, while events
// keep coming.
func TestRollingMembersLoseAndRepeatNothing(t *testing.T) {
	b := newBed(t, 3*time.Minute)
	es := b.node()
	const chunk = 300
	topic := b.topic("", 6, nil)
	cfg := bridge.NewConfig(b.kafka.Addr, topic, es.URL)
	slowly(cfg)

	produced := 0
	more := func() {
		b.must(b.cl.Write(b.ctx, synthetic(topic, 6, produced, chunk, 300)))
		produced += chunk
	}
	// busy keeps events coming until p has its share of the partitions and
	// delivers them.
	busy := func(p *bridge.Process) {
		b.eventually("a member that joined delivers", p, func() (bool, error) {
			more()
			m, err := p.Metrics(b.ctx)
			return err == nil && m.Sum(bridge.RecordsDelivered) > 0, err
		})
	}
	a := b.weir("a0", cfg)
	busy(a)
	for i := range 3 {
		began := time.Now()
		next := b.weir(fmt.Sprint("a", i+1), cfg)
		busy(next)
		t.Logf("member %d delivers after %v", i+1, time.Since(began).Round(time.Millisecond))
		more()
		var stopped sync.WaitGroup
		stopped.Go(func() { b.stop(a) })
		more() // while the other one drains and leaves
		more()
		stopped.Wait()
		t.Logf("the one before it is gone after %v", time.Since(began).Round(time.Millisecond))
		a = next
	}
	b.waitCommitted(a, cfg.Group(), topic)
	es.wantNumbers(topic, produced)
	if again := es.refused(topic); again != 0 {
		t.Errorf("%d of %d records were sent twice", again, produced)
	}
	b.stop(a)
}

// A topic that is deleted and made again starts at offset 0 under the same name.
// Its records must not be taken for those that had the offsets before.
func TestTopicMadeAgainUnderARunningBridge(t *testing.T) {
	b := newBed(t, 4*time.Minute)
	es := b.node()
	const n = 1000
	topic := b.topic("", 2, nil)
	cfg := bridge.NewConfig(b.kafka.Addr, topic, es.URL)
	b.must(b.cl.Write(b.ctx, synthetic(topic, 2, 0, n, 300)))
	p := b.weir("weir", cfg)
	b.waitCommitted(p, cfg.Group(), topic)

	b.must(b.cl.DeleteTopic(b.ctx, topic))
	b.eventually("the topic is gone", p, func() (bool, error) {
		_, found, err := b.cl.Metadata(b.ctx, topic)
		return err == nil && !found, err
	})
	b.must(b.cl.CreateTopic(b.ctx, topic, 2, nil))
	// A client of its own: the other one still knows the topic by its old id.
	cl, err := broker.Dial(b.kafka.Addr)
	b.must(err)
	defer cl.Close()
	// The second half comes when the bridge has met the new topic.
	b.must(cl.Write(b.ctx, synthetic(topic, 2, n, n/2, 300)))
	began := time.Now()
	b.eventually("the new topic's records are in the index", p, func() (bool, error) {
		got := es.count(topic, nil)
		return got >= n+n/2, fmt.Errorf("%d of %d", got, n+n/2)
	})
	t.Logf("found after %v", time.Since(began).Round(time.Millisecond))
	b.must(cl.Write(b.ctx, synthetic(topic, 2, n+n/2, n/2, 300)))
	b.waitCommitted(p, cfg.Group(), topic)
	es.wantNumbers(topic, 2*n)
	b.waitReady(p)
	b.stop(p)
}
