package connector

import (
	"cmp"
	"slices"
	"time"

	"weir/buffer"
)

// Counts are totals since the process started.
type Counts struct {
	Read, ReadBytes           int64 // taken from the log
	Delivered, DeliveredBytes int64 // acknowledged by the sink, Duplicates and Quarantined included
	Duplicates                int64 // of Delivered: the sink held them already
	Quarantined               int64 // of Delivered: stored aside by the sink
	Filtered                  int64 // dropped by a transform
	DeadLettered              int64 // acknowledged by the dead-letter destination
	Retried                   int64 // sent again (a record that is sent three times counts twice)
	InDoubt                   int64 // of Retried: the destination may have stored them the time before
}

// Stats is a snapshot of a connector.
type Stats struct {
	Name  string
	Lanes []LaneStats // those that run now and those that ran earlier, by topic and partition

	InFlight, Window, WindowMax int   // requests in flight, how many may be, how many may ever be
	BytesHeld, BytesMax         int64 // of the budget

	// Down is set while the sink answers nothing but failures.
	Down        error
	DownSince   time.Time
	NextAttempt time.Time // when the sink is tried again while Down
}

// LaneStats is a snapshot of one lane.
type LaneStats struct {
	Topic     string
	Partition int32
	Counts    Counts

	// The rest is meaningful only while the partition is ours.
	Live      bool
	Committed int64 // everything below is settled
	Position  int64 // the next offset to take from the log
	End       int64 // the log's end as last heard, -1 unknown
	Held      int64 // bytes of records taken and not yet settled
	// Oldest is when the oldest unsettled record was taken; zero when there is none.
	Oldest time.Time
	// Moved is when Committed moved last, or the lane started.
	Moved time.Time
	// Blocked says why the lane stands still, nil when it does not: a rejected
	// record without a dead-letter destination, or one that refuses.
	Blocked      error
	BlockedSince time.Time
}

// Lag is the number of offsets up to the log's end that are not settled, what is
// in flight included.
func (l LaneStats) Lag() int64 {
	if l.End < 0 || l.End <= l.Committed {
		return 0
	}
	return l.End - l.Committed
}

// countsOf are the totals of a partition, kept over the lanes it has had.
func (c *Connector) countsOf(o *buffer.Origin) *Counts {
	p := partition{topic: o.Topic, number: o.Partition}
	n := c.counts[p]
	if n == nil {
		n = &Counts{}
		c.counts[p] = n
	}
	return n
}

// Stats takes a snapshot.
func (c *Connector) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Stats{
		Name:        c.opt.Name,
		InFlight:    c.window.InFlight(),
		Window:      c.window.Limit(),
		WindowMax:   c.opt.InFlightMax,
		Down:        c.health.down,
		DownSince:   c.health.since,
		NextAttempt: c.health.hold,
	}
	s.BytesHeld, s.BytesMax = c.opt.Budget.Held()
	at := make(map[partition]int, len(c.counts))
	for p, n := range c.counts {
		at[p] = len(s.Lanes)
		s.Lanes = append(s.Lanes, LaneStats{Topic: p.topic, Partition: p.number, Counts: *n, End: -1})
	}
	for _, l := range c.lanes {
		out := &s.Lanes[at[partition{topic: l.origin.Topic, number: l.origin.Partition}]]
		out.Live = true
		out.Committed = l.watermark.Next()
		out.Position = l.watermark.Position()
		out.End = l.source.End()
		out.Held = l.held
		out.Moved = l.moved
		out.Blocked, out.BlockedSince = l.blocked, l.blockedSince
		if len(l.taken) > 0 {
			out.Oldest = l.taken[0].at
		}
	}
	slices.SortFunc(s.Lanes, func(a, b LaneStats) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return s
}
