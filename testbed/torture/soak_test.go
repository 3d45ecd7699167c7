package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/testbed/torture/account"
)

// soaked is a soak with a bridge that is played: 100 records a second are produced,
// and committed unless stands says that the bridge stands still so long after the
// begin of the event. says is what it makes of its lag.
type soaked struct {
	stands func(since time.Duration) bool
	says   func(lag float64) float64
	event  daily
}

// run has one event happen in virtual time, and is what was found.
func (b soaked) run(t *testing.T) (e *effect, found string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a := account.New("r", false, account.Rules{Folders: true}) // what is committed need not be stored
		log := a.Open("t", "id")
		s := &soaking{
			r:     &round{plan: &plan{rate: 100}, connectors: []*connector{{account: a}}},
			every: time.Minute, fresh: 2 * time.Second, began: time.Now(), effects: map[string]*effect{}, pause: -1,
		}
		if b.event.do == nil {
			b.event.do = func(context.Context, *soaking) error { return nil }
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		const begin = 10 * time.Second
		go func() {
			var end, committed int64
			for i := 1; sleep(ctx, 100*time.Millisecond); i++ {
				for range 10 {
					a.Acked(a.Produce(log, 0), end)
					end++
				}
				if b.stands == nil || !b.stands(time.Since(s.began)-begin) {
					committed = end - 10
				}
				a.Committed("t", "id", 0, committed)
				s.measureLag()
				if i%20 == 0 {
					lag := float64(end - committed)
					if b.says != nil {
						lag = b.says(lag)
					}
					s.mu.Lock()
					s.samples = append(s.samples, sample{at: time.Since(s.began), lag: lag})
					if s.last != nil {
						s.last.said = max(s.last.said, lag)
					}
					s.mu.Unlock()
				}
			}
		}()
		sleep(ctx, begin)
		if err := s.happen(ctx, 0, b.event); err != nil {
			t.Error(err)
		}
		_, faults := a.Close()
		for _, f := range faults {
			if !strings.Contains(f, "LOST") {
				found += f + "\n"
			}
		}
		e = s.effects[b.event.name]
	})
	return e, found
}

// between is true from a to b.
func between(a, b time.Duration) func(time.Duration) bool {
	return func(at time.Duration) bool { return at >= a && at < b }
}

func TestSoakTakesABridgeThatRecovers(t *testing.T) {
	f := func(b soaked, back, most time.Duration) {
		t.Helper()
		e, found := b.run(t)
		if found != "" {
			t.Error(found)
		}
		// One look at the lag more or less.
		if e.times != 1 || (e.back-back).Abs() > 300*time.Millisecond || (e.most-int64(100*most.Seconds())) > 30 {
			t.Errorf("%d times, lag back after %s, want %s; at most %d, want %s", e.times, e.back, back, e.most, most)
		}
	}
	f(soaked{}, 0, 0)
	f(soaked{stands: between(0, 10*time.Second)}, 10*time.Second, 8*time.Second)
	// It stands still only a while after an event that is over in a moment.
	f(soaked{stands: between(4*time.Second, 14*time.Second)}, 14*time.Second, 8*time.Second)
	// And when it is as before, once more.
	f(soaked{stands: between(30*time.Second, 40*time.Second)}, 40*time.Second, 8*time.Second)
	// Its lag is no lag as long as it is fresh.
	f(soaked{stands: between(0, time.Second)}, 0, 0)
}

func TestSoakFindsABridgeThatDoesNot(t *testing.T) {
	f := func(b soaked, want string) {
		t.Helper()
		if _, found := b.run(t); !strings.Contains(found, want) || strings.Count(found, "\n") != 1 {
			t.Errorf("found %q, want %q once", found, want)
		}
	}
	f(soaked{stands: between(0, 2*time.Minute)}, "are not committed")
	f(soaked{stands: between(4*time.Second, 2*time.Minute)}, "are not committed")
	// It has committed what was there when the event had had its effect, and no more.
	f(soaked{stands: between(20*time.Second, 4*time.Minute)}, "a lag of")
	f(soaked{says: func(lag float64) float64 { return lag + 300 }}, "weir says that the lag is")
	f(soaked{says: func(float64) float64 { return -1 }}, "weir says nothing of its lag")
	f(soaked{
		stands: between(0, 10*time.Second),
		says:   func(float64) float64 { return 0 },
	}, "weir's own lag was 0 records at most")
}

// Where weir cannot know its lag, that it does not say it is no fault.
func TestSoakAllowsForABlindBridge(t *testing.T) {
	if _, found := (soaked{
		event:  daily{blind: true},
		stands: between(0, 10*time.Second),
		says:   func(float64) float64 { return 0 },
	}).run(t); found != "" {
		t.Error(found)
	}
}

func TestSoakAsksForTheNewSecret(t *testing.T) {
	var changed daily
	for _, d := range life {
		if d.name == "secret changed" {
			changed = d
		}
	}
	f := func(want string, stale bool) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "key")
		_, found := soaked{event: daily{name: changed.name, do: func(ctx context.Context, s *soaking) error {
			s.secret = path
			if err := s.rotate(); err != nil {
				return err
			}
			old := s.key
			asking, stop := context.WithCancel(ctx)
			defer stop()
			go func() {
				for sleep(asking, 100*time.Millisecond) {
					key := old
					if now, err := os.ReadFile(path); err == nil && !stale {
						key = strings.TrimSpace(string(now))
					}
					s.allow(key)
				}
			}()
			sleep(ctx, time.Second) // keys are made of the time
			return changed.do(ctx, s)
		}}}.run(t)
		if want == "" && found != "" || !strings.Contains(found, want) {
			t.Errorf("found %q, want %q", found, want)
		}
	}
	f("", false)
	f("no request has shown the new one", true)
}
