package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// runLatency measures the time from produced to stored while events come at a
// steady rate, whatever weir does (an open loop). An event's time is the one it
// was due at: a generator that is late makes the figures worse, not better.
func (r *runner) runLatency(ctx context.Context, c benchCase, i int) (Result, error) {
	res := Result{Case: c.Name, Group: c.Group, Load: c.Load}
	topic := fmt.Sprintf("weir-bench2-latency-%d", time.Now().UnixNano())
	if err := newTopic(ctx, r.client, topic, c.Load.Partitions, nil); err != nil {
		return res, err
	}
	defer r.deleteTopic(topic)
	sink, err := startSink(c.backend, c.Load.Events)
	if err != nil {
		return res, err
	}
	defer sink.stop()
	p, cfg, err := r.start(c, topic, sink.url, i)
	if err != nil {
		return res, err
	}
	defer p.Kill()

	var before, after usage
	var began time.Time
	g := generator{load: c.Load, rate: c.rate, topic: topic, warm: func() {
		before, _ = processUsage(p.PID()) // an ended weir is noticed below
		began = time.Now()
	}}
	broker, err := g.run(ctx, r.kafka)
	if err != nil {
		return res, err
	}
	seconds := time.Since(began).Seconds()
	if after, err = processUsage(p.PID()); err != nil {
		return res, fmt.Errorf("%w\n%s", err, p.Log())
	}
	if err := r.conclude(ctx, p, sink, cfg.Group(), topic, &res); err != nil {
		return res, err
	}
	t, err := sink.latency(ctx)
	if err != nil {
		return res, err
	}
	res.count(t, c.backend)
	res.CPUShare = (after.CPU - before.CPU).Seconds() / seconds
	res.RSS = after.RSS
	res.PerSecond = float64(g.measured()) / seconds // what was produced
	res.Latency, res.BrokerLatency = t.Latency, broker
	return res, nil
}

// generator produces events at a rate.
type generator struct {
	load  load
	rate  int // events a second
	topic string
	warm  func() // called when the warm-up is over
}

// first is the number of the first event that counts.
func (g *generator) first() int { return int(float64(g.rate) * warmUp.Seconds()) }

func (g *generator) measured() int { return g.load.Events - g.first() }

// run produces all events and returns how long the broker took to acknowledge
// those that count.
func (g *generator) run(ctx context.Context, addr string) (latency, error) {
	cl, err := producer(addr, 0)
	if err != nil {
		return latency{}, err
	}
	defer cl.Close()
	var mu sync.Mutex
	var took []time.Duration
	var failed error
	begin := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := 0; i < g.load.Events; {
		select {
		case <-ctx.Done():
			return latency{}, ctx.Err()
		case <-tick.C:
		}
		due := min(int(time.Since(begin).Seconds()*float64(g.rate)), g.load.Events)
		for ; i < due; i++ {
			at := begin.Add(time.Duration(float64(i) / float64(g.rate) * float64(time.Second)))
			var sent int64
			counts := i >= g.first()
			if counts {
				sent = at.UnixNano()
			}
			if i == g.first() {
				g.warm()
			}
			value := g.load.event(make([]byte, 0, g.load.Size), i, sent)
			cl.Produce(ctx, &kgo.Record{Topic: g.topic, Partition: int32(i % g.load.Partitions), Value: value}, func(_ *kgo.Record, err error) {
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					failed = err
				} else if counts {
					took = append(took, time.Since(at))
				}
			})
		}
	}
	if err := cl.Flush(ctx); err != nil {
		return latency{}, err
	}
	mu.Lock()
	defer mu.Unlock()
	return quantiles(took), failed
}
