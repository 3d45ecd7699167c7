package demo

import (
	"fmt"
	"strings"
	"time"

	"weir/connector"
)

// Snapshot is one look at everything the demo runs.
type Snapshot struct {
	Elapsed  time.Duration // since the generator started
	Produced int64         // events that the broker acknowledged
	Bridge   connector.Stats

	mood  mood
	burst *burst
}

// totals sums up the bridge's lanes.
func totals(st connector.Stats) (c connector.Counts, lag int64, oldest time.Time) {
	for _, l := range st.Lanes {
		c.Read += l.Counts.Read
		c.Delivered += l.Counts.Delivered
		c.Duplicates += l.Counts.Duplicates
		c.DeadLettered += l.Counts.DeadLettered
		c.Retried += l.Counts.Retried
		if !l.Live {
			continue
		}
		lag += l.Lag()
		if !l.Oldest.IsZero() && (oldest.IsZero() || l.Oldest.Before(oldest)) {
			oldest = l.Oldest
		}
	}
	return c, lag, oldest
}

// story is what the viewer is told: the latest snapshot, how it came to it, and
// what happened on the way. It belongs to one goroutine.
type story struct {
	run  time.Duration // 0: without end
	step time.Duration // of one column of the graph
	now  time.Time

	Snapshot
	counts    connector.Counts
	lag, peak int64
	oldest    time.Duration // how long the oldest unsettled record has been held

	rateIn, rateOut, rateLag float64 // events a second over the last second
	recent                   []point // the last second

	columns []column // the graph, oldest first
	drawn   int      // the step of the last column
	entries []entry  // what happened last, oldest first
	noted   int64    // how many entries there ever were

	widest  int  // the largest window so far
	lowered bool // the window was noted to be at half of that or less
	down    bool
	stuck   bool
}

type point struct {
	at                time.Duration
	produced, settled int64
	lag               int64
	window            int
}

// column is one step of the graph.
type column struct {
	lag  int64
	mood string
}

// entry is one line of what happened.
type entry struct {
	at   time.Duration
	text string
}

const (
	maxColumns = 200
	maxEntries = 50
)

func newStory(run time.Duration) *story {
	step := time.Second
	if run > 0 {
		step = min(step, max(run/70, 100*time.Millisecond))
	}
	return &story{run: run, step: step}
}

// note adds a line to what happened. The text may hold foreign words.
func (s *story) note(text string) {
	if len(s.entries) == maxEntries {
		s.entries = append(s.entries[:0], s.entries[1:]...)
	}
	s.entries = append(s.entries, entry{s.Elapsed, plain(text)})
	s.noted++
}

// since is what was noted after the first n entries, as far as it is kept.
func (s *story) since(n int64) []entry {
	return s.entries[max(0, int64(len(s.entries))-(s.noted-n)):]
}

// observe takes in a snapshot. Elapsed must not go back.
func (s *story) observe(now time.Time, sn Snapshot) {
	before := s.Snapshot
	s.now, s.Snapshot = now, sn
	var oldest time.Time
	s.counts, s.lag, oldest = totals(sn.Bridge)
	s.peak = max(s.peak, s.lag)
	s.oldest = 0
	if !oldest.IsZero() {
		s.oldest = max(0, now.Sub(oldest))
	}
	s.measure()
	s.draw()
	s.compare(before)
}

// measure makes the rates out of the last second's points.
func (s *story) measure() {
	p := point{s.Elapsed, s.Produced, s.counts.Delivered + s.counts.DeadLettered, s.lag, s.Bridge.Window}
	s.recent = append(s.recent, p)
	for len(s.recent) > 2 && p.at-s.recent[1].at >= time.Second {
		s.recent = s.recent[1:]
	}
	first := s.recent[0]
	if d := (p.at - first.at).Seconds(); d > 0 {
		s.rateIn = float64(p.produced-first.produced) / d
		s.rateOut = float64(p.settled-first.settled) / d
		s.rateLag = float64(p.lag-first.lag) / d
	}
}

// draw adds to the graph; a column shows the most lag of its time.
func (s *story) draw() {
	i := int(s.Elapsed / s.step)
	if len(s.columns) > 0 && i == s.drawn {
		last := &s.columns[len(s.columns)-1]
		last.lag = max(last.lag, s.lag)
		return
	}
	s.drawn = i
	s.columns = append(s.columns, column{s.lag, s.mood.name})
	if len(s.columns) > maxColumns {
		s.columns = append(s.columns[:0], s.columns[1:]...)
	}
}

// compare notes what changed.
func (s *story) compare(before Snapshot) {
	if s.mood.name != before.mood.name {
		s.note("SIEM " + s.mood.name + ": " + s.mood.says)
	}
	w := s.Bridge.Window
	s.widest = max(s.widest, w)
	switch {
	case !s.lowered && s.widest >= 4 && w <= s.widest/2:
		s.lowered = true
		s.note(fmt.Sprintf("weir has lowered its window from %d to %d requests at a time", s.widest, w))
	case s.lowered && w > s.widest*3/4:
		s.lowered = false
		s.note(fmt.Sprintf("weir has opened its window again, to %d requests at a time", w))
	}
	if s.burst != before.burst {
		if s.burst != nil {
			s.note(s.burst.says)
		} else if before.burst != nil {
			s.note("the " + before.burst.name + " is over")
		}
	}
	switch down := s.Bridge.Down != nil; {
	case down && !s.down:
		s.note("weir sees that the SIEM is down, keeps what it holds and commits nothing")
	case !down && s.down:
		s.note(fmt.Sprintf("weir delivers again; %s events wait in Kafka", thousands(s.lag)))
	}
	s.down = s.Bridge.Down != nil
	blocked := s.blocked()
	if blocked != nil && !s.stuck {
		s.note(fmt.Sprintf("weir: %s/%d is blocked: %v", blocked.Topic, blocked.Partition, blocked.Blocked))
	}
	s.stuck = blocked != nil
}

func (s *story) blocked() *connector.LaneStats {
	for i := range s.Bridge.Lanes {
		if l := &s.Bridge.Lanes[i]; l.Live && l.Blocked != nil {
			return l
		}
	}
	return nil
}

// weirDoes says in a sentence what the bridge does about the SIEM's mood.
func (s *story) weirDoes() string {
	b := s.Bridge
	if len(s.recent) == 0 {
		return ""
	}
	if l := s.blocked(); l != nil {
		return plain(fmt.Sprintf("%s/%d is blocked: %v", l.Topic, l.Partition, l.Blocked))
	}
	if b.Down != nil {
		wait := "now"
		if d := b.NextAttempt.Sub(s.now); d > 0 {
			wait = "in " + seconds(d)
		}
		return fmt.Sprintf("holds %s, commits nothing, tries again %s", mebi(b.BytesHeld), wait)
	}
	lag := "keeps up"
	switch {
	case s.lag < 1000:
	case s.rateLag < -100:
		lag = fmt.Sprintf("catches up, lag falls by %s/s", thousands(int64(-s.rateLag)))
	case s.rateLag > 100:
		lag = fmt.Sprintf("the rest waits, lag grows by %s/s", thousands(int64(s.rateLag)))
	case float64(s.lag) > s.rateIn:
		lag = "leaves in Kafka what the SIEM cannot take"
	}
	switch before := s.recent[0].window; {
	case b.Window < before:
		return fmt.Sprintf("lowers its window from %d to %d; %s", before, b.Window, lag)
	case b.Window > before:
		return fmt.Sprintf("opens its window from %d to %d; %s", before, b.Window, lag)
	case b.Window < s.widest:
		return fmt.Sprintf("window at %d of %d; %s", b.Window, b.WindowMax, lag)
	}
	return lag
}

// traffic says in a sentence what the generator sends.
func (s *story) traffic() string {
	if s.burst != nil {
		return s.burst.says
	}
	if s.mood.name == calm.name {
		return "no new events"
	}
	return "Sysmon, logons, DNS, firewall and CloudTrail of a quiet network"
}

// line is the snapshot as one line of plain text.
func (s *story) line() string {
	b := s.Bridge
	return fmt.Sprintf("%s  %-10s  lag %s  in flight %d window %d/%d  held %s/%s  produced %s (%s/s)  delivered %s (%s/s)  dead-lettered %s  retried %s  duplicates %s  oldest %s",
		clock(s.Elapsed), s.mood.name, thousands(s.lag), b.InFlight, b.Window, b.WindowMax, mebi(b.BytesHeld), mebi(b.BytesMax),
		thousands(s.Produced), thousands(int64(s.rateIn)), thousands(s.counts.Delivered), thousands(int64(s.rateOut)),
		thousands(s.counts.DeadLettered), thousands(s.counts.Retried), thousands(s.counts.Duplicates), seconds(s.oldest))
}

// plain makes foreign text safe for a terminal and one column a character.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
}

func clock(d time.Duration) string {
	return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

func mebi(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
