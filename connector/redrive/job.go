package redrive

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"strconv"
	"sync"

	"weir/buffer"
	"weir/connector"
	"weir/sinks"
)

// Config says what a Job redrives and where to.
type Config struct {
	// Connector is the name in the letters that are meant.
	Connector string
	Filter    Filter
	// Deliver is what the connector runs with otherwise. Its DeadLetter is not
	// used: what is refused again stays where it is.
	Deliver connector.Options
}

// Job redrives the letters of one connector. Its lanes share one connector, as
// they would when they were live.
type Job struct {
	cfg       Config
	connector *connector.Connector

	mu      sync.Mutex
	lanes   map[place]*lane // the last one of each partition
	reasons Reasons
}

type place struct {
	topic     string
	partition int32
}

// New is a Job that has no lanes yet.
func New(cfg Config) *Job {
	j := &Job{cfg: cfg, lanes: map[place]*lane{}}
	o := cfg.Deliver
	o.Sink = restoring{o.Sink}
	o.DeadLetter = keeper{j}
	j.connector = connector.New(o)
	return j
}

// Lane redrives the letters of a partition below end. It returns nil when each of
// them was sent or stays, and an error when ctx or something else ended it first,
// as connector.Connector.Lane does. After it returned it uses src no more.
func (j *Job) Lane(ctx context.Context, origin *buffer.Origin, src Source, end int64) error {
	note, err := src.Note(ctx)
	if err != nil {
		return fmt.Errorf("asking for what was redriven of %s/%d: %w", origin.Topic, origin.Partition, err)
	}
	start := src.Start()
	l := &lane{job: j, src: src, end: end, at: start, next: start, hold: -1, before: ParseNote(start, note)}
	j.mu.Lock()
	j.lanes[place{origin.Topic, origin.Partition}] = l
	j.mu.Unlock()
	if err := j.connector.Lane(ctx, origin, l); err != nil {
		return err
	}
	if l.at < end {
		return context.Cause(ctx) // it ended the lane, and what was taken is settled
	}
	return nil
}

// Kill ends everything at once, and nothing is lost by it.
func (j *Job) Kill() { j.connector.Kill() }

// Close waits for what is in flight. The lanes must have returned.
func (j *Job) Close() { j.connector.Close() }

// Report is how far a Job has come, in letters of its connector if nothing else
// is said.
type Report struct {
	Selected   int64 // were to be sent
	Delivered  int64 // were taken by the sink, Duplicates included
	Duplicates int64 // of Delivered: the sink held the record already
	Refused    int64 // were refused again, and stay
	Filtered   int64 // were not meant, and stay
	Before     int64 // were redriven by an earlier run
	Others     int64 // letters of other connectors
	Foreign    int64 // records that are no letters
	// Ahead is the number of offsets that were not looked at.
	Ahead int64
	// Reasons are those of what was refused again.
	Reasons Reasons
	// Trouble is why nothing moves, nil when it does.
	Trouble error
}

// Report may be called at any time.
func (j *Job) Report() Report {
	stats := j.connector.Stats()
	var r Report
	r.Trouble = stats.Down
	for _, s := range stats.Lanes {
		r.Delivered += s.Counts.Delivered
		r.Duplicates += s.Counts.Duplicates
		if s.Live {
			r.Trouble = cmp.Or(r.Trouble, s.Blocked)
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	r.Reasons = Reasons{counts: maps.Clone(j.reasons.counts), rest: j.reasons.rest}
	for _, l := range j.lanes {
		l.mu.Lock()
		c := l.counts
		r.Ahead += max(l.end-l.at, 0)
		l.mu.Unlock()
		r.Selected += c.selected
		r.Refused += c.refused
		r.Filtered += c.filtered
		r.Before += c.before
		r.Others += c.others
		r.Foreign += c.foreign
	}
	return r
}

// restoring hands a sink the records that the letters were made of.
type restoring struct{ inner sinks.Sink }

// Deliver implements sinks.Sink. The verdicts on the records are those on the
// letters, each in its place.
func (s restoring) Deliver(ctx context.Context, b *buffer.Batch, answered func(sinks.Note)) ([]sinks.Outcome, error) {
	records := make([]buffer.Record, len(b.Records))
	origins := map[buffer.Origin]*buffer.Origin{} // lanes share one each, and sinks may go by that
	restored := buffer.Batch{Records: make([]*buffer.Record, 0, len(b.Records))}
	for i, r := range b.Records {
		letter, err := Parse(r)
		if err != nil { // the lane hands out none
			return nil, fmt.Errorf("letter %s: %w", Address(r), err)
		}
		records[i] = letter.Record
		o := origins[*letter.Record.Origin]
		if o == nil {
			o = letter.Record.Origin
			origins[*o] = o
		}
		records[i].Origin = o
		restored.Add(&records[i])
	}
	return s.inner.Deliver(ctx, &restored, answered)
}

// keeper is the dead-letter sink of letters: they are where they belong.
type keeper struct{ job *Job }

// Deliver implements sinks.Sink.
func (k keeper) Deliver(_ context.Context, b *buffer.Batch, _ func(sinks.Note)) ([]sinks.Outcome, error) {
	out := make([]sinks.Outcome, len(b.Records))
	k.job.mu.Lock()
	defer k.job.mu.Unlock()
	for i, r := range b.Records {
		k.job.lanes[place{r.Topic, r.Partition}].keep(r.Offset)
		// The connector has just put its own marks behind those of the letter.
		again := r.Headers[len(r.Headers)-len(marks):]
		status, _ := strconv.Atoi(string(again[6].Value))
		k.job.reasons.Add(status, string(again[7].Value))
		out[i].Verdict = sinks.Ack
	}
	return out, nil
}
