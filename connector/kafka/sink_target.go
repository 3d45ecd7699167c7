package kafka

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
)

// knowledgeAge is how soon a new partition is seen.
const knowledgeAge = time.Minute

// target is a topic that a Sink writes to.
type target struct {
	name   string
	known  atomic.Pointer[knowledge] // nil: nothing yet
	asking chan struct{}             // has room for the one who asks

	mu      sync.Mutex
	writers map[int32]*partitionWriter
	sink    *Sink
}

// knowledge is what was heard of a topic. It is not altered.
type knowledge struct {
	at         time.Time // of the question
	partitions map[int32]leadership
	writable   []int32 // those with a leader
}

// target is the one of that name. They are kept: there are no more of them than
// topics that were read, and those that are written at the moment are most.
func (s *Sink) target(name string) *target {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.targets[name]
	if t == nil {
		t = &target{name: name, asking: make(chan struct{}, 1), writers: make(map[int32]*partitionWriter), sink: s}
		s.targets[name] = t
	}
	return t
}

func (t *target) writer(partition int32) *partitionWriter {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.writers[partition]
	if w == nil {
		w = &partitionWriter{sink: t.sink, target: t, partition: partition, turn: make(chan struct{}, 1)}
		t.writers[partition] = w
	}
	return w
}

// current is what is known of t, no older than knowledgeAge as long as somebody
// tells. A question to a broker cannot be broken off, so it goes on without the
// caller when ctx ends.
func (s *Sink) current(ctx context.Context, t *target) (*knowledge, error) {
	if k := t.known.Load(); k != nil && time.Since(k.at) < knowledgeAge {
		return k, nil
	}
	if !s.begin() {
		return nil, errClosed
	}
	var k *knowledge
	var err error
	done := make(chan struct{})
	go func() {
		defer s.sends.Done()
		defer close(done)
		k, err = t.since(ctx, time.Now().Add(-knowledgeAge))
	}()
	select {
	case <-done:
		return k, err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// since is what was asked for after that moment. Many want to know at the same
// time when a leader is gone: one of them asks.
//
// Errors: sarama.ErrUnknownTopicOrPartition when there is no such topic.
func (t *target) since(ctx context.Context, moment time.Time) (*knowledge, error) {
	if k := t.known.Load(); k != nil && k.at.After(moment) {
		return k, nil
	}
	select {
	case t.asking <- struct{}{}:
		defer func() { <-t.asking }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if k := t.known.Load(); k != nil && k.at.After(moment) {
		return k, nil
	}
	k := &knowledge{at: time.Now()}
	state, err := t.sink.cluster.topicNow(ctx, t.name)
	if err != nil {
		return nil, err
	}
	if len(state.partitions) == 0 {
		return nil, sarama.ErrUnknownTopicOrPartition
	}
	k.partitions = state.partitions
	for p, l := range state.partitions {
		if l.broker >= 0 {
			k.writable = append(k.writable, p)
		}
	}
	t.known.Store(k)
	return k, nil
}
