package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	// stuckAfter is how long a partition may have records and settle none before
	// that is trouble. A slow sink that settles now and then is slow, not stuck.
	stuckAfter = time.Minute
	// joinGrace is how long a connector may take to get into its group before that
	// is trouble.
	joinGrace = 10 * time.Second
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
		if trouble := g.Trouble(); trouble != "" && now.Sub(g.Since) > joinGrace {
			add("group "+trouble, "kafka: %s (for %s)", trouble, ago(now, g.Since))
		}
		s := l.connector.Stats()
		if s.Down != nil {
			next := "being tried now"
			if s.NextAttempt.After(now) {
				next = "tried again in " + s.NextAttempt.Sub(now).Round(time.Second).String()
			}
			add("down", "the sink takes nothing since %s: %v; %s", ago(now, s.DownSince), s.Down, next)
		}
		for _, lane := range s.Lanes {
			if !lane.Live {
				continue
			}
			where := fmt.Sprintf("%s/%d", lane.Topic, lane.Partition)
			switch {
			case lane.Blocked != nil:
				add("blocked "+where, "%s stands still at offset %d since %s: %v", where, lane.Committed, ago(now, lane.BlockedSince), lane.Blocked)
			case lane.Lag() > 0 && now.Sub(lane.Moved) > stuckAfter && s.Down == nil:
				add("stuck "+where, "%s is stuck at offset %d for %s while its log ends at %d", where, lane.Committed, ago(now, lane.Moved), lane.End)
			}
		}
	}
	return all
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
