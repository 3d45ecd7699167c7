package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"weir/connector"
	"weir/connector/kafka"
)

const (
	// stuckAfter is how long a partition may have records and settle none before
	// that is trouble. A slow sink that settles now and then is slow, not stuck.
	stuckAfter = time.Minute
	// grace is how long something may go wrong with the brokers, as it does at
	// every change of a leader, before that is trouble for who has joined the group.
	grace = 10 * time.Second
)

// trouble is one reason why the bridge is not ready.
type trouble struct {
	connector string
	key       string // the same for the same trouble at another time
	text      string
}

func (t trouble) String() string { return t.connector + ": " + t.text }

// troubles says why the bridge is not ready; none: it is.
func (b *bridge) troubles(now time.Time) []trouble {
	var all []trouble
	for _, l := range b.links {
		add := func(key, format string, args ...any) {
			all = append(all, trouble{connector: l.name, key: l.name + " " + key, text: fmt.Sprintf(format, args...)})
		}
		g := l.group.Status()
		for _, f := range g.Faults {
			if g.State != kafka.StateJoined || now.Sub(f.Since) > grace {
				add("kafka "+f.What, "kafka, %s since %s: %v", f.What, ago(now, f.Since), f.Err)
			}
		}
		for _, m := range g.Missing {
			add("missing "+m.Topic, "kafka: waiting for topic %s: %v", m.Topic, m.Err)
		}
		if g.State != kafka.StateJoined && len(g.Faults) == 0 && len(g.Missing) == 0 {
			add("group", "kafka: %s", g.State)
		}
		for _, p := range g.Partitions {
			if p.Err != nil && now.Sub(p.Since) > grace {
				add(fmt.Sprintf("partition %s/%d", p.Topic, p.Partition), "%s/%d is not read since %s: %v", p.Topic, p.Partition, ago(now, p.Since), p.Err)
			}
		}
		s := l.connector.Stats()
		if s.Down != nil {
			next := "being tried now"
			if s.NextAttempt.After(now) {
				next = "tried again in " + s.NextAttempt.Sub(now).Round(time.Second).String()
			}
			add("down", "the sink takes nothing since %s: %v; %s", ago(now, s.DownSince), s.Down, next)
		}
		b.laneTroubles(s, now, add)
	}
	return all
}

// laneTroubles adds those of the partitions. Partitions with the same trouble are
// one line: a dead-letter topic that refuses is one thing to mend, not 48.
func (b *bridge) laneTroubles(s connector.Stats, now time.Time, add func(key, format string, args ...any)) {
	type group struct {
		first connector.LaneStats
		n     int
	}
	blocked := map[string]*group{}
	for _, lane := range s.Lanes {
		where := fmt.Sprintf("%s/%d", lane.Topic, lane.Partition)
		switch {
		case !lane.Live:
		case lane.Blocked != nil:
			reason := lane.Blocked.Error()
			if g := blocked[reason]; g != nil {
				g.n++
			} else {
				blocked[reason] = &group{first: lane, n: 1}
			}
		case lane.Lag() > 0 && now.Sub(lane.Moved) > stuckAfter && s.Down == nil:
			add("stuck "+where, "%s is stuck at offset %d for %s while its log ends at %d", where, lane.Committed, ago(now, lane.Moved), lane.End)
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(blocked)) {
		g := blocked[reason]
		others := ""
		if g.n > 1 {
			others = fmt.Sprintf(" (and %d more partitions)", g.n-1)
		}
		add("blocked: "+reason, "%s/%d%s stands still at offset %d since %s: %s",
			g.first.Topic, g.first.Partition, others, g.first.Committed, ago(now, g.first.BlockedSince), reason)
	}
}

func ago(now, then time.Time) string { return now.Sub(then).Round(time.Second).String() }

// watchHealth logs each trouble when it comes and when it goes, once.
func (b *bridge) watchHealth(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	known := map[string]trouble{}
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		current := map[string]trouble{}
		for _, t := range b.troubles(time.Now()) {
			current[t.key] = t
			if _, ok := known[t.key]; !ok {
				log.Error("not ready", "connector", t.connector, "reason", t.text)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(known)) {
			if _, ok := current[key]; !ok {
				t := known[key]
				log.Info("over", "connector", t.connector, "was", strings.TrimPrefix(key, t.connector+" "))
			}
		}
		known = current
	}
}
