package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// usualRate is the events a second outside a burst. The in-process Kafka keeps
// what is not settled in memory: at this rate a cycle's outage is about 20 MB.
const usualRate = 2500

// generator writes events to the topic and keeps account of every one that the
// broker acknowledged.
type generator struct {
	client   *kgo.Client
	topic    string
	events   *events
	rate     float64
	next     int64 // number of the next event
	produced numbers

	mu  sync.Mutex
	end map[int32]int64 // behind the last acknowledged offset of a partition
	err error           // the first failed write
}

func newGenerator(brokers []string, topic string, seed uint64, rate float64) (*generator, error) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(brokers...),
		kgo.ClientID("weir-demo-generator"),
		kgo.DefaultProduceTopic(topic),
		kgo.ProducerLinger(20*time.Millisecond),
	)
	if err != nil {
		return nil, fmt.Errorf("demo: the generator's Kafka client: %w", err)
	}
	return &generator{client: client, topic: topic, events: newEvents(seed), rate: rate, end: map[int32]int64{}}, nil
}

// fill writes n events and waits until the broker has acknowledged each.
//
// Errors: as run.
func (g *generator) fill(ctx context.Context, n int) error {
	for range n {
		g.write(ctx, everyday)
	}
	return g.flush(ctx)
}

// run writes events until until is done, then waits until the broker has
// acknowledged each, or ctx is done. The script says how many; elapsed is the
// demo's clock.
//
// Errors: the broker refused an event, or did not answer in time.
func (g *generator) run(ctx, until context.Context, s script, elapsed func() time.Duration) error {
	const step = 20 * time.Millisecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	last, due, extra := elapsed(), 0.0, 0.0
	for g.next < maxEvents {
		select {
		case <-until.Done():
			return g.flush(ctx)
		case <-tick.C:
		}
		now := elapsed()
		// A machine that was suspended must not owe a flood afterwards.
		passed := min(now-last, 10*step).Seconds()
		last = now
		due += g.rate * passed * (1 + 0.15*math.Sin(now.Seconds()*1.7))
		k := everyday
		if b := s.burst(now); b != nil {
			k = b.kind
			extra += b.factor * g.rate * passed
		} else {
			extra = 0
		}
		for ; due >= 1; due-- {
			g.write(ctx, everyday)
		}
		for ; extra >= 1; extra-- {
			g.write(ctx, k)
		}
	}
	return g.flush(ctx)
}

// write hands an event to the client, which waits when too many are on the way.
func (g *generator) write(ctx context.Context, k kind) {
	n := g.next
	if n == maxEvents {
		return
	}
	g.next++
	e := g.events.next(n, k, time.Now())
	r := &kgo.Record{Key: e.key, Value: e.value, Timestamp: e.time}
	g.client.Produce(ctx, r, func(r *kgo.Record, err error) {
		if err != nil {
			g.mu.Lock()
			g.err = cmp.Or(g.err, err)
			g.mu.Unlock()
			return
		}
		g.produced.add(n)
		g.mu.Lock()
		g.end[r.Partition] = max(g.end[r.Partition], r.Offset+1)
		g.mu.Unlock()
	})
}

func (g *generator) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := g.client.Flush(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := errors.Join(g.err, err); err != nil {
		return fmt.Errorf("demo: writing events to %s: %w", g.topic, err)
	}
	return nil
}

// ends is the offset behind the last acknowledged event of each partition.
func (g *generator) ends() map[int32]int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.end)
}

func (g *generator) close() { g.client.Close() }
