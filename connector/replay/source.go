package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"weir/buffer"
	"weir/connector"
	"weir/connector/evidence"
)

// Upstream is a partition of the replay's group. Beside the offset it keeps a note
// with each commit.
type Upstream interface {
	connector.Source
	// Mark is what stands before the note in what is committed.
	Mark() string
	// Note is what was committed with Start, "" when there was none.
	Note(ctx context.Context) (string, error)
	// CommitNote commits next with a note.
	CommitNote(next int64, note string)
}

// MismatchError says that what is there is not what the plan is of. No waiting
// mends it.
type MismatchError struct{ what string }

func (e *MismatchError) Error() string { return e.what }

func mismatch(format string, args ...any) error {
	return &MismatchError{fmt.Sprintf(format, args...)}
}

// maxPending bounds the runs of which a source remembers the evidence until they
// are settled: beyond that it waits.
const maxPending = 1024

// source is a partition between the bounds of its plan. It hands out the records
// of the range, and commits with each offset the evidence of all that was read up
// to there.
//
// The connector calls Commit from another goroutine than Next.
type source struct {
	job     *Job
	up      Upstream
	topic   *Topic
	plan    *Partition
	compact bool // the topic is: holes are what compaction left

	// Those of the goroutine that calls Next.
	at       int64
	evidence *evidence.Partition
	gaps     []evidence.Gap // of the run at hand

	mu        sync.Mutex
	pending   []evidence.Progress
	base      evidence.Progress // as it was committed when the lane began
	committed evidence.Progress
	position  int64
	freed     chan struct{} // has room for one signal: pending has room
}

// open goes on where the group's last commit for the partition says.
//
// Errors: *MismatchError; the note cannot be asked for.
func (j *Job) open(ctx context.Context, origin *buffer.Origin, up Upstream) (*source, error) {
	topic, plan := j.cfg.Plan.Partition(origin.Topic, origin.Partition)
	switch {
	case plan == nil:
		return nil, mismatch("partition %d of topic %q is not in the plan", origin.Partition, origin.Topic)
	case topic.ID != origin.TopicID:
		return nil, mismatch("topic %q has the id %q now, and %q in the plan: it was deleted and made again, and what the plan is of is gone", origin.Topic, origin.TopicID, topic.ID)
	case j.cfg.Plan.Cluster != origin.Cluster:
		return nil, mismatch("this is cluster %q, and the plan is of cluster %q", origin.Cluster, j.cfg.Plan.Cluster)
	}
	note, err := up.Note(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking how far the case has come: %w", err)
	}
	s := &source{job: j, up: up, topic: topic, plan: plan, compact: topic.Compacted(), at: up.Start(), freed: make(chan struct{}, 1)}
	p, err := DecodeNote(up.Mark(), note)
	switch {
	case errors.Is(err, evidence.ErrNoProgress):
		if s.at != plan.First {
			return nil, mismatch("group %q has committed offset %d of %s/%d without any evidence: it was set by something else than a replay of the case", j.cfg.Plan.Group(), s.at, origin.Topic, origin.Partition)
		}
		if p, err = s.first(origin); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, mismatch("group %q, %s/%d: %v", j.cfg.Plan.Group(), origin.Topic, origin.Partition, err)
	}
	switch {
	case p.Plan != j.cfg.Mark:
		return nil, mismatch("the case was begun with another plan or another filter (%s, and this is %s): the evidence of the two does not add up. Use the same ones, or another case", p.Plan, j.cfg.Mark)
	case p.Next != s.at:
		return nil, mismatch("group %q is at offset %d of %s/%d, but its evidence ends at %d: it was set by something else than a replay of the case", j.cfg.Plan.Group(), s.at, origin.Topic, origin.Partition, p.Next)
	}
	s.base, s.committed, s.position = p, p.Clone(), s.at
	s.evidence = evidence.Resume(origin, p)
	return s, nil
}

// first is the progress before anything was read. It is committed at once, so
// that a partition without anything to read has its evidence, too.
func (s *source) first(origin *buffer.Origin) (evidence.Progress, error) {
	begin := s.plan.First
	if s.plan.Taken != nil {
		begin = s.plan.Taken.From
	}
	e := evidence.Start(origin, s.job.cfg.Mark, begin)
	if s.plan.Taken != nil {
		taken := evidence.Gap{From: begin, To: s.plan.First, Class: evidence.Retention}
		if err := e.Gap(taken); err != nil {
			return evidence.Progress{}, err
		}
		s.gaps = append(s.gaps, taken)
		if err := s.tell(); err != nil {
			return evidence.Progress{}, err
		}
	}
	p := e.Snapshot()
	s.commit(&p)
	return p, nil
}

// tell tells of the gaps of the run at hand.
func (s *source) tell() error {
	if tell := s.job.cfg.Gaps; tell != nil && len(s.gaps) > 0 {
		if err := tell(s.topic.Name, s.plan.Number, s.gaps); err != nil {
			return fmt.Errorf("telling of gaps: %w", err)
		}
	}
	s.gaps = s.gaps[:0]
	return nil
}

func (s *source) commit(p *evidence.Progress) {
	s.up.CommitNote(p.Next, EncodeNote(s.up.Mark(), p))
}

// EncodeNote is the note that holds p, behind a commit's mark.
func EncodeNote(mark string, p *evidence.Progress) string {
	return strings.TrimPrefix(p.Encode(mark), mark+" ")
}

// DecodeNote reads it.
//
// Errors: evidence.ErrNoProgress for one that is not of a replay; it is damaged.
func DecodeNote(mark, note string) (evidence.Progress, error) {
	_, p, err := evidence.DecodeProgress(mark + " " + note)
	return p, err
}

// Compacted reports whether records of the topic may be missing because newer ones
// have their key.
func (t *Topic) Compacted() bool { return strings.Contains(t.Config["cleanup.policy"], "compact") }

func (s *source) Start() int64 { return s.up.Start() }

func (s *source) End() int64 { return s.plan.End }

// Next hands out the records of the range, and takes the evidence of all it sees.
func (s *source) Next(ctx context.Context) (connector.Run, error) {
	if s.at >= s.plan.End {
		return connector.Run{}, io.EOF
	}
	if err := s.room(ctx); err != nil {
		return connector.Run{}, err
	}
	turn := s.job.cfg.Throttle
	if err := turn.before(ctx, s.topic.Name, s.plan); err != nil {
		return connector.Run{}, err
	}
	run, err := s.up.Next(ctx)
	if err != nil {
		return run, err
	}
	bytes := int64(0)
	gaps, send := run.Gaps, run.Records[:0]
	for i := range run.Records {
		r := &run.Records[i]
		if r.Offset >= s.plan.End {
			break
		}
		if gaps, err = s.pass(gaps, r.Offset); err != nil {
			return connector.Run{}, err
		}
		bytes += int64(evidence.ContentBytes(r))
		keep, err := s.see(r)
		if err != nil {
			return connector.Run{}, err
		}
		if keep {
			if send = send[:len(send)+1]; len(send) <= i {
				send[len(send)-1] = *r // records before it were left out
			}
		}
	}
	to := min(run.Next, s.plan.End)
	if _, err = s.pass(gaps, to); err != nil {
		return connector.Run{}, err
	}
	if err := s.tell(); err != nil {
		return connector.Run{}, err
	}
	read := int64(len(run.Records))
	s.at = to
	s.mu.Lock()
	s.pending = append(s.pending, s.evidence.Snapshot())
	s.position = to
	s.mu.Unlock()
	if err := turn.after(ctx, read, bytes); err != nil {
		return connector.Run{}, err
	}
	return connector.Run{Records: send, Next: to}, nil
}

// see takes the evidence of a record. It reports whether the record is to be
// delivered.
func (s *source) see(r *buffer.Record) (bool, error) {
	cfg := &s.job.cfg
	if r.Time.Before(cfg.Plan.From) || !r.Time.Before(cfg.Plan.To) {
		return false, s.evidence.Outside(r)
	}
	if cfg.Filter != nil {
		ok, err := cfg.Filter.Match(r)
		if err != nil {
			// It says nothing against the record.
			s.evidence.Counts.FilterErrors++
			s.job.filterFailed(r, err)
		} else if !ok {
			return false, s.evidence.Filter(r)
		}
	}
	return true, s.evidence.Match(r)
}

// pass takes the evidence of the offsets up to to, which hold no record, and
// returns the gaps that are left.
func (s *source) pass(gaps []connector.Gap, to int64) ([]connector.Gap, error) {
	for len(gaps) > 0 && gaps[0].From < to {
		g := gaps[0]
		if g.From > s.evidence.Next {
			if err := s.gap(s.evidence.Next, g.From, connector.GapHole); err != nil {
				return nil, err
			}
		}
		if err := s.gap(max(g.From, s.evidence.Next), min(g.To, to), g.Why); err != nil {
			return nil, err
		}
		if g.To > to {
			break
		}
		gaps = gaps[1:]
	}
	return gaps, s.gap(s.evidence.Next, to, connector.GapHole)
}

func (s *source) gap(from, to int64, why connector.GapReason) error {
	if from >= to {
		return nil
	}
	class := evidence.Unexplained
	switch {
	case why == connector.GapControl:
		class = evidence.Control
	case why == connector.GapAborted:
		class = evidence.Aborted
	case why == connector.GapRetention:
		class = evidence.Retention
	case s.compact:
		class = evidence.Compacted
	}
	g := evidence.Gap{From: from, To: to, Class: class}
	s.gaps = append(s.gaps, g)
	return s.evidence.Gap(g)
}

// room waits until fewer than maxPending runs wait to be settled.
func (s *source) room(ctx context.Context) error {
	for {
		s.mu.Lock()
		full := len(s.pending) >= maxPending
		s.mu.Unlock()
		if !full {
			return nil
		}
		select {
		case <-s.freed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Commit commits the evidence up to p.Mark, with what became of the records up to
// there. p.Next can lie within a run, of which no evidence is kept: what is
// settled of it is read and sent again by whoever goes on, and is met by its own
// id.
func (s *source) Commit(p connector.Progress) {
	s.mu.Lock()
	i := slices.IndexFunc(s.pending, func(e evidence.Progress) bool { return e.Next >= p.Mark })
	if i < 0 || s.pending[i].Next != p.Mark {
		s.mu.Unlock()
		return // no run has been settled since
	}
	done := s.pending[i]
	s.pending = slices.Delete(s.pending, 0, i+1)
	done.Counts.Delivered = s.base.Counts.Delivered + uint64(p.Tally.Delivered-p.Tally.Duplicates-p.Tally.Quarantined)
	done.Counts.Duplicates = s.base.Counts.Duplicates + uint64(p.Tally.Duplicates)
	done.Counts.Quarantined = s.base.Counts.Quarantined + uint64(p.Tally.Quarantined)
	done.Counts.DeadLettered = s.base.Counts.DeadLettered + uint64(p.Tally.DeadLettered)
	done.Counts.Dropped = s.base.Counts.Dropped + uint64(p.Tally.Filtered)
	s.committed = done
	s.mu.Unlock()
	select {
	case s.freed <- struct{}{}:
	default:
	}
	s.commit(&done)
}
