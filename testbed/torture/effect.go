package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"weir/testbed/torture/account"
)

// effect is what an event came to, or all of one kind.
type effect struct {
	times int
	most  int64         // lag until the next event, in records
	said  float64       // the most that weir's own metric said
	back  time.Duration // from its end until the lag was zero and stayed so until the next one
}

// mark is what Kafka had acknowledged at a time.
type mark struct {
	at   time.Time
	ends account.Marks
}

const (
	// settle is how long after its end an event has had its effect: weir waits 2 s for
	// an answer and 1 s at most before it tries again.
	settle = 5 * time.Second
	// backWithin is how long it may take until everything is as it was: a broker that
	// could not be reached is asked again after 30 s at most, as long as partitions
	// may take to be given to others, and the rest is for a machine that is busy.
	backWithin = 90 * time.Second
	// near is how much is produced while weir's own lag may be taken for none: a third
	// of it is on its way at any time.
	near = time.Second
)

// happen lets the i-th event happen and watches what comes of it until it is time for
// the next one.
func (s *soaking) happen(ctx context.Context, i int, d daily) error {
	s.mu.Lock()
	s.last, s.pause = &effect{}, -1
	s.mu.Unlock()
	s.event = d.name
	if err := d.do(ctx, s); err != nil {
		return err
	}
	ended := time.Now()
	sleep(ctx, settle)
	// What is here by now and was not before the event can only be delivered after it.
	ends, since := s.account().Acknowledged(), time.Since(s.began)
	back := s.await(ctx, func() string {
		if n := s.account().Behind(ends); n > 0 {
			return fmt.Sprintf("%d records of those that were there %s after it are not committed", n, settle)
		}
		return s.apart(since)
	})
	if ctx.Err() != nil {
		return nil // the time is up: the round waits for what is left
	}
	s.mu.Lock()
	if back {
		s.pause = i
	}
	took := max(0, s.lagged.Sub(ended))
	s.mu.Unlock()
	c := s.account().Counts()
	fmt.Printf("%8s %-32s lag back after %5.1fs; produced %d stored %d re-sent %d violations %d; %s\n",
		time.Since(s.began).Round(time.Second), d.name, took.Seconds(), c.Produced, c.Stored, c.Resent, c.Violations, s.lastSample())
	sleep(ctx, time.Until(ended.Add(s.every)))
	s.await(ctx, s.late)
	s.count(d, ended)
	return nil
}

// count adds the latest event, which ended then, to those of its kind.
func (s *soaking) count(d daily, ended time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.last
	// How large it gets is not judged: weir hears of the log's end with what it
	// fetches, and with as much as it takes at a time in hand it fetches no more.
	if !d.blind && float64(e.most) > 2*s.produced(near) && e.said < s.produced(near) {
		s.r.violation("%s: weir's own lag was %.0f records at most, the account's %d", d.name, e.said, e.most)
	}
	all := s.effects[d.name]
	if all == nil {
		all = &effect{}
		s.effects[d.name] = all
	}
	all.times++
	all.most, all.said = max(all.most, e.most), max(all.said, e.said)
	all.back = max(all.back, s.lagged.Sub(ended))
}

// await waits until why is empty, which says what is still to come after the event.
func (s *soaking) await(ctx context.Context, why func() string) bool {
	for began := time.Now(); ; {
		w := why()
		if w == "" {
			return true
		}
		if took := time.Since(began); took > backWithin {
			s.r.violation("not as before %s after %q: %s", took.Round(time.Second), s.event, w)
			return false
		}
		if !sleep(ctx, 200*time.Millisecond) {
			return false
		}
	}
}

// late says what lag there is.
func (s *soaking) late() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.behind == 0 {
		return ""
	}
	return fmt.Sprintf("a lag of %d records", s.behind)
}

// apart says what lag there is, or how weir's own metric, read since then, differs
// from there being none.
func (s *soaking) apart(since time.Duration) string {
	if w := s.late(); w != "" {
		return w
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch n := len(s.samples); {
	case n == 0 || s.samples[n-1].at < since:
		return "weir's metrics were not read"
	case s.samples[n-1].lag < 0:
		return "weir says nothing of its lag"
	case s.samples[n-1].lag > s.produced(near):
		return fmt.Sprintf("weir says that the lag is %.0f records", s.samples[n-1].lag)
	}
	return ""
}

// produced is how many records are produced in d.
func (s *soaking) produced(d time.Duration) float64 { return float64(s.r.plan.rate) * d.Seconds() }

// watchLag measures the lag all the time.
func (s *soaking) watchLag(ctx context.Context) {
	for sleep(ctx, 200*time.Millisecond) {
		s.measureLag()
	}
}

// measureLag measures the lag: what Kafka had acknowledged when it was no longer
// fresh, and the group has not committed. So a bridge that works has none at all.
func (s *soaking) measureLag() {
	now, ends := time.Now(), s.account().Acknowledged()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marks = append(s.marks, mark{now, ends})
	for len(s.marks) > 1 && now.Sub(s.marks[1].at) >= s.fresh {
		s.marks = s.marks[1:]
	}
	s.behind = s.account().Behind(s.marks[0].ends)
	if s.behind > 0 {
		s.lagged = now
	}
	if s.last != nil {
		s.last.most = max(s.last.most, s.behind)
	}
}

func (s *soaking) lastSample() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.samples) == 0 {
		return ""
	}
	x := s.samples[len(s.samples)-1]
	return fmt.Sprintf("%.0f MiB, %.0f goroutines, %.0f files", x.rss/(1<<20), x.goroutines, x.files)
}

// report is what the events came to.
func (s *soaking) report() string {
	var b strings.Builder
	b.WriteString("| event | times | greatest lag until the next one, records | weir's own metric | longest time until the lag was zero again, s |\n| --- | ---: | ---: | ---: | ---: |\n")
	for _, d := range life {
		e := s.effects[d.name]
		if e == nil {
			e = &effect{}
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %.0f | %.1f |\n", d.name, e.times, e.most, e.said, e.back.Seconds())
	}
	return b.String()
}
