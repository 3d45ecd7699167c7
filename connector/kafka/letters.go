package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/IBM/sarama"

	"weir/buffer"
	"weir/connector"
)

// Log is a topic that is read from one end to the other, without a group: what
// it holds, and how far groups have come in it.
type Log struct {
	// Topic and ID are its name and its UUID, as in Topic.
	Topic, ID string
	// Extents are its partitions, as they were when it was opened.
	Extents []Extent

	opts    Options
	cluster *cluster
	fetcher *fetcher
	cancel  context.CancelFunc
}

// Extent is what a partition holds: offsets from First on and below End. What
// belongs to a transaction that is not decided is not part of it.
type Extent struct {
	Partition  int32
	First, End int64
}

// ErrNoTopic is the error of opening a topic that does not exist.
var ErrNoTopic = errors.New("kafka: the topic does not exist")

// OpenLog looks at a topic. Reading it takes up to fetchBytes of memory.
//
// Errors: ErrNoTopic; a right that is missing, by name; no broker answers.
func OpenLog(ctx context.Context, o Options, topic string, fetchBytes int64) (*Log, error) {
	m, err := o.Metadata(ctx, topic)
	if err != nil {
		return nil, err
	}
	t := m.Topics[topic]
	switch {
	case errors.Is(t.Err, sarama.ErrUnknownTopicOrPartition):
		return nil, ErrNoTopic
	case t.Err != nil:
		return nil, o.Explain(t.Err)
	case !t.May(sarama.AclOperationRead):
		return nil, fmt.Errorf("kafka: topic %q exists, but we have no READ right on it", topic)
	}
	l := &Log{Topic: topic, ID: t.ID, opts: o}
	ctx, l.cancel = context.WithCancel(ctx)
	l.cluster = newCluster(ctx, o)
	l.fetcher = newFetcher(ctx, l.cluster, fetchBytes, o.logger(), func(string) {})
	slices.Sort(t.Partitions)
	for _, p := range t.Partitions {
		e := Extent{Partition: p}
		e.First, err = l.cluster.offsetAt(ctx, topic, p, sarama.OffsetOldest, sarama.ReadUncommitted)
		if err == nil {
			e.End, err = l.cluster.offsetAt(ctx, topic, p, sarama.OffsetNewest, sarama.ReadCommitted)
		}
		if err != nil {
			l.Close()
			return nil, fmt.Errorf("kafka: asking how far partition %d of topic %q goes: %w", p, topic, o.Explain(err))
		}
		l.Extents = append(l.Extents, e)
	}
	return l, nil
}

// Close ends the connections.
func (l *Log) Close() {
	l.fetcher.Close()
	l.cancel()
	l.cluster.Close()
}

// standstill is how long Read waits for the next records before it gives up.
const standstill = time.Minute

// Read calls f with the records of a partition from an offset on and below end,
// in order. Their memory is reused after f returned. What retention has removed
// in the meantime is left out.
//
// Errors: f's; ctx's; nothing came for a minute, with the reason.
func (l *Log) Read(ctx context.Context, partition int32, from, end int64, f func(*buffer.Record) error) error {
	origin := &buffer.Origin{Cluster: l.cluster.clusterID(), Topic: l.Topic, TopicID: l.ID, Partition: partition}
	reader := l.fetcher.Add(origin, from)
	defer reader.Close()
	for from < end {
		run, err := nextWithin(ctx, reader, standstill)
		if out, ok := errors.AsType[*OutOfRangeError](err); ok {
			first, err := l.cluster.offsetAt(ctx, l.Topic, partition, sarama.OffsetOldest, sarama.ReadUncommitted)
			if err != nil {
				return l.opts.Explain(err)
			}
			if first <= from {
				return out // the log was cut off behind: there is no more
			}
			from = first
			reader.GoTo(first)
			continue
		}
		if err != nil {
			return err
		}
		for i := range run.Records {
			if run.Records[i].Offset >= end {
				return nil
			}
			if err := f(&run.Records[i]); err != nil {
				return err
			}
		}
		from = run.Next
	}
	return nil
}

// nextWithin is what comes next, if it comes in time.
func nextWithin(ctx context.Context, r *partitionReader, limit time.Duration) (connector.Run, error) {
	wait, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	run, err := r.Next(wait)
	if err != nil && wait.Err() != nil && ctx.Err() == nil {
		_, trouble := r.Trouble()
		err = fmt.Errorf("kafka: nothing came from partition %d of topic %q within %v", r.origin.Partition, r.origin.Topic, limit)
		if trouble != nil {
			err = fmt.Errorf("%w: %w", err, trouble)
		}
	}
	return run, err
}

// Committed is how far a group has come in a partition.
type Committed struct {
	Offset int64
	Note   string // see Noted
}

// Committed is what a group committed for the topic, by partition; nothing for
// those where it committed nothing, or did for an earlier topic of that name.
//
// Errors: the right on the group is missing; its coordinator does not answer.
func (l *Log) Committed(ctx context.Context, group string) (map[int32]Committed, error) {
	committed := map[int32]Committed{}
	for _, e := range l.Extents {
		var offset int64
		var metadata string
		err := patiently(ctx, func() (err error) {
			offset, metadata, err = l.cluster.committed(ctx, group, l.Topic, e.Partition)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("kafka: asking how far group %q has come in topic %q: %w", group, l.Topic, l.opts.Explain(err))
		}
		if offset >= 0 && !parseMark(metadata).stale(l.ID) {
			committed[e.Partition] = Committed{Offset: offset, Note: noteOf(metadata)}
		}
	}
	return committed, nil
}

// Members is how many members a group has.
func (l *Log) Members(ctx context.Context, group string) (int, error) {
	g, err := l.opts.describeGroup(ctx, group)
	if err != nil {
		return 0, l.opts.Explain(err)
	}
	return len(g.Members), nil
}

// Noted is what the Source of a Group's lane is as well: it can keep a note with
// the offset it commits. A broker takes offset.metadata.max.bytes of mark and note,
// 4096 if nothing else is said.
type Noted interface {
	connector.Source
	// Mark is what stands before the note, with a space between them.
	Mark() string
	// Note is what was committed with Start, "" when there was none.
	Note(ctx context.Context) (string, error)
	// CommitNote is Commit with a note. Unlike Commit it may come again with the
	// same offset and another note.
	CommitNote(next int64, note string)
}

var _ Noted = (*source)(nil)

func (s *source) Mark() string { return s.mark().String() }

func (s *source) Note(ctx context.Context) (string, error) {
	offset, metadata, err := s.g.cluster.committed(ctx, s.g.cfg.Group, s.origin.Topic, s.origin.Partition)
	if err != nil || offset != s.start || parseMark(metadata).stale(s.origin.TopicID) {
		return "", err
	}
	return noteOf(metadata), nil
}

func (s *source) CommitNote(next int64, note string) {
	topic, partition := s.origin.Topic, s.origin.Partition
	metadata := s.mark().String()
	if note != "" {
		metadata += " " + note
	}
	s.committed.Store(next)
	// The one alters what has this very offset already, the other raises it.
	s.session.ResetOffset(topic, partition, next, metadata)
	s.session.MarkOffset(topic, partition, next, metadata)
}

// noteOf is the note behind the mark of a commit's metadata.
func noteOf(metadata string) string {
	m := parseMark(metadata)
	f := strings.SplitN(metadata, " ", 3)
	if !m.ours || m.truncated || len(f) < 3 {
		return ""
	}
	return f[2]
}
