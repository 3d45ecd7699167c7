package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"weir/buffer"
	"weir/connector"
)

// Why a lane is ended and begun anew though its partition is still ours.
var (
	errRecreated = errors.New("the topic was deleted and made again")
	errReset     = errors.New("the group's offset was set anew")
)

// source is a partition of a group as a lane sees it.
type source struct {
	g       *Group
	claim   *claim
	session sarama.ConsumerGroupSession
	reader  *partitionReader
	origin  *buffer.Origin
	start   int64
	restart context.CancelCauseFunc // ends the lane's context

	committed atomic.Int64
	truncated atomic.Bool
}

func (s *source) Start() int64 { return s.start }

func (s *source) End() int64 { return s.reader.End() }

// Commit marks p.Next; sarama commits what was marked every commitInterval, and
// when the partition is given back.
func (s *source) Commit(p connector.Progress) {
	s.committed.Store(p.Next)
	s.session.MarkOffset(s.origin.Topic, s.origin.Partition, p.Next, s.mark().String())
}

func (s *source) mark() mark {
	return mark{ours: true, topicID: s.origin.TopicID, truncated: s.truncated.Load()}
}

func (s *source) Next(ctx context.Context) (connector.Run, error) {
	for {
		if s.truncated.Load() {
			return connector.Run{}, s.waitForReset(ctx, s.committed.Load())
		}
		run, err := s.reader.Next(ctx)
		out, ok := errors.AsType[*OutOfRangeError](err)
		if !ok {
			return run, err
		}
		run, err = s.outOfRange(ctx, out)
		if err != nil || run.Next > 0 {
			return run, err
		}
	}
}

// outOfRange decides what to do when the log does not hold the offset to be read
// next: retention took it, or the log was cut off, or it is another topic's log.
// A Run with Next 0 says to try again.
func (s *source) outOfRange(ctx context.Context, out *OutOfRangeError) (connector.Run, error) {
	topic, partition := s.origin.Topic, s.origin.Partition
	now, err := s.g.cluster.topicNow(ctx, topic)
	if err == nil && now.id != s.origin.TopicID {
		s.restart(errRecreated)
		return connector.Run{}, errRecreated
	}
	var first, end int64
	if err == nil {
		first, err = s.g.cluster.offsetAt(ctx, topic, partition, sarama.OffsetOldest, sarama.ReadUncommitted)
	}
	if err == nil {
		end, err = s.g.cluster.offsetAt(ctx, topic, partition, sarama.OffsetNewest, sarama.ReadUncommitted)
	}
	switch {
	case err != nil:
		s.claim.problem(fmt.Errorf("%w; asking for the log's bounds: %w", out, err))
		if !sleep(ctx, s.g.cfg.retry()) {
			return connector.Run{}, ctx.Err()
		}
		return connector.Run{}, nil
	case out.Offset < first:
		lost := first - out.Offset
		s.g.lost(s.claim, lost)
		s.g.log.Error("retention removed records before they were delivered: they are lost to this connector, going on at the log's start",
			"topic", topic, "partition", partition, "from", out.Offset, "to", first, "offsets", lost)
		s.reader.GoTo(first)
		s.claim.problem(nil)
		return connector.Run{Next: first, Gaps: []connector.Gap{{From: out.Offset, To: first, Why: connector.GapRetention}}}, nil
	case out.Offset > end:
		// An unclean leader election, most probably. Records that were delivered are
		// gone, and others will get their offsets: going on here would skip those.
		s.truncated.Store(true)
		s.pin(s.committed.Load())
		return connector.Run{}, s.waitForReset(ctx, out.Offset)
	}
	s.reader.GoTo(out.Offset) // it is within by now
	if !sleep(ctx, s.g.cfg.retry()) {
		return connector.Run{}, ctx.Err()
	}
	s.claim.problem(nil)
	return connector.Run{}, nil
}

// pin makes next what is committed, even if it is lower than what was, or the
// same with another mark: sarama's MarkOffset only raises and its ResetOffset
// only lowers.
func (s *source) pin(next int64) {
	topic, partition, metadata := s.origin.Topic, s.origin.Partition, s.mark().String()
	s.committed.Store(next)
	s.session.ResetOffset(topic, partition, next, metadata)
	s.session.MarkOffset(topic, partition, next, metadata)
}

// waitForReset holds the lane until an operator has said where to go on. The mark
// keeps what we found out over restarts: when the new log has grown past the old
// offset nothing else would tell.
func (s *source) waitForReset(ctx context.Context, at int64) error {
	topic, partition := s.origin.Topic, s.origin.Partition
	marked := false
	for {
		s.claim.problem(fmt.Errorf("the log was cut off below offset %d, which this group had read up to: records were lost by the brokers and new ones get their offsets. "+
			"Nothing is read until the group's offset is set: stop all members of %q, then kafka-consumer-groups --reset-offsets --group %s --topic %s:%d --to-offset N",
			at, s.g.cfg.Group, s.g.cfg.Group, topic, partition))
		if !sleep(ctx, s.g.cfg.watch()) {
			return ctx.Err()
		}
		_, metadata, err := s.g.cluster.committed(ctx, s.g.cfg.Group, topic, partition)
		if err != nil {
			continue
		}
		if parseMark(metadata).ours {
			marked = true
		} else if marked {
			s.restart(errReset)
			return errReset
		}
	}
}

// begin decides where a partition is read from, and makes that durable.
func (g *Group) begin(ctx context.Context, c *claim, session sarama.ConsumerGroupSession) (*source, error) {
	topic, partition := c.topic, c.partition
	now, err := g.cluster.topicNow(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("asking for the topic: %w", err)
	}
	offset, metadata, err := g.cluster.committed(ctx, g.cfg.Group, topic, partition)
	if err != nil {
		return nil, fmt.Errorf("asking for the offset of group %q: %w", g.cfg.Group, err)
	}
	s := &source{
		g: g, claim: c, session: session,
		origin: &buffer.Origin{Cluster: g.cluster.clusterID(), Topic: topic, TopicID: now.id, Partition: partition},
	}
	start := func() (int64, error) { return g.cfg.Start.offset(ctx, g.cluster, topic, partition) }
	if g.cfg.Begin != nil {
		first, err := g.cfg.Begin(s.origin)
		if err != nil {
			return nil, err
		}
		start = func() (int64, error) { return first, nil }
	}
	m := parseMark(metadata)
	switch {
	case offset >= 0 && m.stale(now.id), offset < 0 && g.wasRemade(topic, now.id):
		first, err := g.cluster.offsetAt(ctx, topic, partition, sarama.OffsetOldest, sarama.ReadUncommitted)
		if err != nil {
			return nil, fmt.Errorf("asking for the log's start: %w", err)
		}
		g.log.Warn("the topic was deleted and made again: reading the new one from its start",
			"topic", topic, "partition", partition, "old_id", m.topicID, "new_id", now.id, "old_offset", offset, "start", first)
		s.start = first
	case offset >= 0:
		s.start = offset
		s.truncated.Store(m.truncated)
		s.committed.Store(offset)
		return s, nil
	default:
		if s.start, err = start(); err != nil {
			return nil, fmt.Errorf("asking for the %s offset: %w", g.cfg.Start, err)
		}
		g.log.Info("the group has no offset yet", "topic", topic, "partition", partition, "start", s.start)
	}
	// Before anything is read: a crash before the first commit must not move
	// "latest" past records that came meanwhile. Commit tells no errors, so the
	// offset is read back.
	s.pin(s.start)
	session.Commit()
	offset, metadata, err = g.cluster.committed(ctx, g.cfg.Group, topic, partition)
	if err != nil {
		return nil, fmt.Errorf("reading back the first commit of group %q: %w", g.cfg.Group, err)
	}
	if offset != s.start || parseMark(metadata) != s.mark() {
		return nil, fmt.Errorf("the first commit of group %q, offset %d, is not there yet", g.cfg.Group, s.start)
	}
	return s, nil
}

// claim is one partition while it is ours.
type claim struct {
	g         *Group
	topic     string
	partition int32

	// Guarded by g.mu.
	topicID string
	reader  *partitionReader
	restart context.CancelCauseFunc
	trouble error
	since   time.Time
	saidAt  time.Time
}

// sayAgain is how often a problem that does not change is logged.
const sayAgain = time.Minute

// problem notes why a lane does not run; nil: it does.
func (c *claim) problem(err error) {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	now := time.Now()
	switch {
	case err == nil:
		if c.trouble != nil {
			c.g.log.Info("a partition goes on", "topic", c.topic, "partition", c.partition, "after", now.Sub(c.since).Round(time.Millisecond))
		}
		c.trouble, c.saidAt = nil, time.Time{}
		return
	case c.trouble == nil:
		c.since = now
	}
	if c.trouble == nil || !alike(c.trouble, err) || now.Sub(c.saidAt) >= sayAgain {
		c.g.log.Error("a partition stands still", "topic", c.topic, "partition", c.partition, "since", c.since, "err", err)
		c.saidAt = now
	}
	c.trouble = err
}
