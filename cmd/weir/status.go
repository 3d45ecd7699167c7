package main

import (
	"fmt"
	"time"

	"weir/connector"
	"weir/sinks"
)

// connectorStatus is one connector in /status.
type connectorStatus struct {
	Name  string      `json:"name"`
	Grade sinks.Grade `json:"grade"`
	// GradeReason says why it is that grade.
	GradeReason string   `json:"grade_reason"`
	Ready       bool     `json:"ready"`
	Troubles    []string `json:"troubles,omitempty"` // why it is not ready

	Group struct {
		State      string `json:"state"`
		Partitions int    `json:"partitions"` // assigned to this process
		Rebalances int64  `json:"rebalances"`
	} `json:"group"`

	Requests struct {
		InFlight int `json:"in_flight"`
		Window   int `json:"window"`
		Max      int `json:"max"`
	} `json:"requests"`

	Bytes struct {
		Held    int64 `json:"held"`
		Budget  int64 `json:"budget"`
		Fetched int64 `json:"fetched"`
	} `json:"bytes"`

	Lanes []laneStatus `json:"partitions"`
}

// laneStatus is one partition in /status: the totals since the process started,
// and, while it is ours, where it stands.
type laneStatus struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Ours      bool   `json:"ours"`

	Lag           *int64  `json:"lag,omitempty"`
	Committed     *int64  `json:"committed,omitempty"` // everything below is settled
	End           *int64  `json:"end,omitempty"`       // of the log, as last heard
	OldestSeconds float64 `json:"oldest_unsettled_seconds,omitempty"`
	Blocked       string  `json:"blocked,omitempty"`

	Read         int64 `json:"read"`
	Delivered    int64 `json:"delivered"`
	Duplicates   int64 `json:"duplicates"`
	Quarantined  int64 `json:"quarantined"`
	Filtered     int64 `json:"filtered"`
	DeadLettered int64 `json:"dead_lettered"`
	Retried      int64 `json:"retried"`
	InDoubt      int64 `json:"in_doubt"`
}

func (b *bridge) status() []connectorStatus {
	now := time.Now()
	troubles := map[string][]string{}
	for _, t := range b.troubles(now) {
		troubles[t.connector] = append(troubles[t.connector], t.text)
	}
	out := make([]connectorStatus, len(b.links))
	for i, l := range b.links {
		s, g, o := l.connector.Stats(), l.group.Status(), &out[i]
		o.Name, o.Troubles = l.name, troubles[l.name]
		o.Grade, o.GradeReason = l.sink.Grade()
		o.Ready = len(o.Troubles) == 0
		o.Group.State = string(g.State)
		o.Group.Partitions, o.Group.Rebalances = len(g.Partitions), g.Rebalances
		o.Requests.InFlight, o.Requests.Window, o.Requests.Max = s.InFlight, s.Window, s.WindowMax
		o.Bytes.Held, o.Bytes.Budget, o.Bytes.Fetched = s.BytesHeld, s.BytesMax, g.FetchHeld
		o.Lanes = make([]laneStatus, len(s.Lanes))
		for i, lane := range s.Lanes {
			o.Lanes[i] = newLaneStatus(lane, now)
		}
	}
	return out
}

func newLaneStatus(l connector.LaneStats, now time.Time) laneStatus {
	s := laneStatus{
		Topic: l.Topic, Partition: l.Partition, Ours: l.Live,
		Read: l.Counts.Read, Delivered: l.Counts.Delivered, Duplicates: l.Counts.Duplicates, Quarantined: l.Counts.Quarantined,
		Filtered: l.Counts.Filtered, DeadLettered: l.Counts.DeadLettered, Retried: l.Counts.Retried, InDoubt: l.Counts.InDoubt,
	}
	if !l.Live {
		return s
	}
	lag := l.Lag()
	s.Lag, s.Committed = &lag, &l.Committed
	if l.End >= 0 {
		s.End = &l.End
	}
	if !l.Oldest.IsZero() {
		s.OldestSeconds = now.Sub(l.Oldest).Seconds()
	}
	if l.Blocked != nil {
		s.Blocked = fmt.Sprint(l.Blocked)
	}
	return s
}
