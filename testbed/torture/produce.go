package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"weir/testbed/broker"
	"weir/testbed/torture/account"
)

// topic is one that weir reads. It may be deleted and made again meanwhile; each
// time it has a client of its own, so that no record meant for the old one
// reaches the new one.
type topic struct {
	name  string
	round *round

	admin      sync.Mutex // one change at a time
	mu         sync.Mutex // producing against changing
	partitions int32
	logs       []*account.Log // for each connector's account
	cl         *broker.Client // nil: being remade
	next       int32
}

// open makes the topic.
func (t *topic) open(ctx context.Context, partitions int32) error {
	a := admin{t.round.admin}
	if err := a.make(ctx, t.name, partitions); err != nil {
		return err
	}
	var id string
	err := persist(ctx, func() (err error) {
		id, err = a.topicID(ctx, t.name)
		return err
	})
	if err != nil {
		return err
	}
	cl, err := broker.Dial(t.round.bed.kafka.addr, kgo.UnknownTopicRetries(-1), kgo.MetadataMaxAge(2*time.Second))
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.partitions, t.cl, t.logs = partitions, cl, nil
	for _, c := range t.round.connectors {
		t.logs = append(t.logs, c.account.Open(t.name, id))
	}
	return nil
}

// produce sends n events, spread over the partitions.
func (t *topic) produce(ctx context.Context, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cl == nil {
		return
	}
	connectors := t.round.connectors
	for range n {
		t.next = (t.next + 1) % t.partitions
		// One after the other: each account gives it the same number.
		var number int64
		for i, c := range connectors {
			number = c.account.Produce(t.logs[i], t.next)
		}
		r := &kgo.Record{Topic: t.name, Partition: t.next, Value: account.Value(t.round.name, number)}
		t.cl.TryProduce(ctx, r, func(r *kgo.Record, err error) {
			if err != nil {
				return
			}
			for _, c := range connectors {
				c.account.Acked(number, r.Offset)
			}
		})
	}
}

// grow adds partitions.
func (t *topic) grow(ctx context.Context, n int32) error {
	t.admin.Lock()
	defer t.admin.Unlock()
	want := t.partitions + n
	err := persist(ctx, func() error {
		a := admin{t.round.admin}
		if have, _, err := a.Metadata(ctx, t.name); err == nil && len(have) == int(want) {
			return nil // an earlier attempt whose answer was lost
		}
		return a.addPartitions(ctx, t.name, want)
	})
	if err != nil {
		return err
	}
	// The producer hears of them when it next asks, and fails a record for one it
	// does not know: it goes on with those it knows for a while.
	err = persist(ctx, func() error {
		t.cl.ForceMetadataRefresh()
		have, _, err := admin{t.round.admin}.Metadata(ctx, t.name)
		if err == nil && len(have) < int(want) {
			err = fmt.Errorf("%d of %d partitions", len(have), want)
		}
		return err
	})
	if err != nil {
		return err
	}
	sleep(ctx, 2500*time.Millisecond)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.partitions = want
	return nil
}

// remake deletes the topic and makes it again.
func (t *topic) remake(ctx context.Context) error {
	t.admin.Lock()
	defer t.admin.Unlock()
	t.mu.Lock()
	cl := t.cl
	t.cl = nil
	t.mu.Unlock()
	flush, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	_ = cl.Flush(flush)
	cl.Close()
	for i, c := range t.round.connectors {
		c.account.Gone(t.logs[i])
	}
	a := admin{t.round.admin}
	if err := persist(ctx, func() error { return a.DeleteTopic(ctx, t.name) }); err != nil {
		return err
	}
	err := persist(ctx, func() error {
		_, found, err := a.Metadata(ctx, t.name)
		if err == nil && found {
			err = errors.New("still there")
		}
		return err
	})
	if err != nil {
		return err
	}
	return t.open(ctx, t.partitions)
}

// stop waits until everything that was produced is acknowledged, and ends.
func (t *topic) stop(ctx context.Context) error {
	t.admin.Lock()
	defer t.admin.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cl == nil {
		return nil
	}
	err := t.cl.Flush(ctx)
	t.cl.Close()
	t.cl = nil
	return err
}

// persist calls f until it succeeds or ctx is done: brokers are killed while it
// is at work.
func persist(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		if !sleep(ctx, 300*time.Millisecond) {
			return errors.Join(ctx.Err(), err)
		}
	}
}

// sleep reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
