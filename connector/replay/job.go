package replay

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"weir/buffer"
	"weir/connector"
	"weir/connector/evidence"
)

// Config says what a Job replays and where to.
type Config struct {
	Plan *Plan
	// Mark is that of the plan and the filter: see Mark.
	Mark     string
	Filter   *Filter // nil: none
	Throttle *Throttle
	// Gaps, if it is set, is told of each run's gaps before anything of the run can be
	// committed. After a crash it may be told of the same ones again.
	Gaps func(topic string, partition int32, gaps []evidence.Gap) error
	// Deliver is how the records are delivered.
	Deliver connector.Options
}

// Job is one worker's part in a replay.
type Job struct {
	cfg       Config
	connector *connector.Connector

	mu      sync.Mutex
	sources map[place]*source // the last one of each partition
	ours    map[place]bool
	failed  int64 // records that the filter failed on
	said    bool
}

// New is a Job that has no lanes yet.
func New(cfg Config) *Job {
	if cfg.Throttle == nil {
		cfg.Throttle = NewThrottle(Rates{})
	}
	return &Job{cfg: cfg, connector: connector.New(cfg.Deliver), sources: map[place]*source{}, ours: map[place]bool{}}
}

// Lane replays a partition from where the group has come to, up to its end in the
// plan. It returns nil when each record of it was settled and committed, and else
// an error, ctx's cause among them. After it returned it uses up no more.
func (j *Job) Lane(ctx context.Context, origin *buffer.Origin, up Upstream) error {
	s, err := j.open(ctx, origin, up)
	if err != nil {
		return err
	}
	at := place{origin.Topic, origin.Partition}
	j.mu.Lock()
	j.sources[at], j.ours[at] = s, true
	j.mu.Unlock()
	defer func() {
		j.mu.Lock()
		delete(j.ours, at)
		j.mu.Unlock()
		j.cfg.Throttle.done(origin.Topic, s.plan)
	}()
	if err := j.connector.Lane(ctx, origin, s); err != nil {
		return err
	}
	if s.at < s.plan.End {
		return cmp.Or(context.Cause(ctx), context.Canceled)
	}
	return nil
}

// filterFailed counts a record that the filter failed on. The first one is told.
func (j *Job) filterFailed(r *buffer.Record, err error) {
	j.mu.Lock()
	j.failed++
	first := !j.said
	j.said = true
	j.mu.Unlock()
	if first && j.cfg.Deliver.Log != nil {
		j.cfg.Deliver.Log.Warn("the filter fails on a record, which counts as wanted; further ones are only counted",
			"topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "err", err)
	}
}

// Kill ends everything at once. Nothing is lost by it.
func (j *Job) Kill() { j.connector.Kill() }

// Close waits for what is in flight. The lanes must have returned.
func (j *Job) Close() { j.connector.Close() }

// Stats are those of the connector that delivers.
func (j *Job) Stats() connector.Stats { return j.connector.Stats() }

// Report is how far a worker has come with the partitions that it has or had.
type Report struct {
	Partitions []PartitionReport // by topic and partition
	Trouble    error             // why nothing is delivered, nil when it is
	TroubleAt  time.Time
	Paused     string // why nothing is read, "" when it is
}

// PartitionReport is how far a partition is.
type PartitionReport struct {
	Topic      string
	Partition  int32
	Ours       bool // now
	First, End int64
	Position   int64             // to be read next
	Progress   evidence.Progress // as committed last
}

// Done reports whether all of it is settled and committed.
func (p *PartitionReport) Done() bool { return p.Progress.Next >= p.End }

// Report may be called at any time.
func (j *Job) Report() Report {
	stats := j.connector.Stats()
	r := Report{Trouble: stats.Down, TroubleAt: stats.DownSince, Paused: j.cfg.Throttle.Paused()}
	for _, s := range stats.Lanes {
		if s.Live && r.Trouble == nil && s.Blocked != nil {
			r.Trouble, r.TroubleAt = s.Blocked, s.BlockedSince
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for at, s := range j.sources {
		s.mu.Lock()
		p := PartitionReport{Topic: at.topic, Partition: at.partition, Ours: j.ours[at],
			First: s.plan.First, End: s.plan.End, Position: s.position, Progress: s.committed}
		s.mu.Unlock()
		r.Partitions = append(r.Partitions, p)
	}
	slices.SortFunc(r.Partitions, func(a, b PartitionReport) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return r
}
