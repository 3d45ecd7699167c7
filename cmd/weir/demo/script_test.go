package demo

import (
	"testing"
	"time"
)

func TestEveryRunShowsEveryMoodAndBurst(t *testing.T) {
	for _, run := range []time.Duration{5 * time.Second, 20 * time.Second, time.Minute, 10 * time.Minute, 0} {
		s := newScript(run)
		length := run
		if run == 0 {
			length = cycle
		}
		moods, seen := map[string]int{}, map[string]bool{}
		last := ""
		for at := time.Duration(0); at < length; at += frameTime {
			if m := s.mood(at).name; m != last {
				moods[m]++
				last = m
			}
			if b := s.burst(at); b != nil {
				seen[b.name] = true
			}
		}
		cycles := int((length + s.cycle/2) / s.cycle)
		for _, a := range acts {
			if moods[a.mood.name] != cycles {
				t.Errorf("a run of %s has the mood %s %d times, want %d", run, a.mood.name, moods[a.mood.name], cycles)
			}
		}
		for _, b := range bursts {
			if !seen[b.name] {
				t.Errorf("a run of %s has no %s", run, b.name)
			}
		}
		if s.cycle > 70*time.Second {
			t.Errorf("a run of %s has an outage of %s: the lag would fill the memory", run, s.cycle/7)
		}
	}
}

func TestRunEndsWell(t *testing.T) {
	s := newScript(20 * time.Second)
	if m := s.mood(20*time.Second - 1); m.fault != well {
		t.Errorf("the run ends with the SIEM %s", m.name)
	}
}

func TestSlowingGetsSlower(t *testing.T) {
	s := newScript(100 * time.Second)
	early, late := s.mood(s.cycle*19/100), s.mood(s.cycle*39/100)
	if early.name != "slowing" || late.name != "slowing" || late.doc < 2*early.doc || late.workers >= early.workers || late.workers < 2 {
		t.Errorf("%s with %s a document, then %s with %s", early.name, early.doc, late.name, late.doc)
	}
}
