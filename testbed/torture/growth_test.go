package main

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// hour is a simulated run. Its noise is that of the hour of 2026-11-28, in which after
// the first quarter and for each kind of event by itself the standard deviation was
// 1.0 MiB of resident memory, 2.8 goroutines and 1.1 files, and how memory and
// connections go from one pause to the next is that of six minutes looked at closely.
type hour struct {
	span time.Duration
	rng  *rand.Rand
	// What leaks: bytes an hour, and at each event of a kind.
	rss, heap         float64
	goroutines, files []int
}

func newHour(seed uint64) *hour {
	return &hour{span: time.Hour, rng: rand.New(rand.NewPCG(seed, 0)), goroutines: make([]int, len(life)), files: make([]int, len(life))}
}

// wander is noise of a standard deviation of 1 that remembers itself for a time.
func (h *hour) wander(memory time.Duration) func() float64 {
	x := h.rng.NormFloat64()
	keep := math.Exp(-everyLook.Seconds() / memory.Seconds())
	return func() float64 {
		x = keep*x + math.Sqrt(1-keep*keep)*h.rng.NormFloat64()
		return x
	}
}

const everyLook = 2 * time.Second

// samples has an event every 66 s, of which 11 s are no pause.
func (h *hour) samples() (all []sample) {
	const mib = 1 << 20
	quick, slow := h.wander(time.Minute), h.wander(10*time.Minute)
	heapQuick, heapSlow := h.wander(time.Minute), h.wander(10*time.Minute)
	others := h.wander(5 * time.Minute)
	idle, load := h.wander(90*time.Second), h.wander(10*time.Minute)
	goroutines, files := 0, 0
	happened := -1
	for at := everyLook; at <= h.span; at += everyLook {
		x := sample{at: at, pause: -1}
		began := at - time.Minute
		event := int(began / (66 * time.Second))
		if began >= 0 && event > happened {
			happened = event
			goroutines += h.goroutines[event%len(life)]
			files += h.files[event%len(life)]
		}
		after := []float64{0, -2, -0.5, -0.5, 2, 1}[max(0, event)%len(life)]
		connections := math.Round(max(1, 5+0.5*after+0.9*idle()+0.7*load()))
		x.rss = 57 - 8*math.Exp(-at.Minutes()/4) + after + 0.8*quick() + 0.6*slow()
		x.heap = 30 + 0.5*after + 0.6*heapQuick() + 0.3*heapSlow()
		if began >= 0 && began%(66*time.Second) >= 11*time.Second {
			x.pause = event
		} else {
			// Whatever an event does is no growth.
			x.rss += 30 * h.rng.Float64()
			connections *= 1 + h.rng.Float64()
		}
		x.rss = (x.rss + h.rss*at.Hours()) * mib
		x.heap = (x.heap + h.heap*at.Hours()) * mib
		x.goroutines = math.Round(116 + 2*connections + 0.8*others() + 6*h.rng.Float64() + float64(goroutines))
		x.files = 13 + connections + float64(files)
		all = append(all, x)
	}
	return all
}

// wrong is in how many of n simulated hours the verdict is not that want grows; empty:
// nothing does.
func wrong(n uint64, want string, leak func(*hour)) (times int) {
	for seed := range n {
		h := newHour(seed)
		leak(h)
		if _, err := verdict(h.samples()); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			times++
		}
	}
	return times
}

func TestNoiseIsNoGrowth(t *testing.T) {
	if n := wrong(300, "", func(*hour) {}); n > 3 {
		t.Errorf("%d of 300 hours without a leak are said to have one", n)
	}
}

func TestGrowthIsFound(t *testing.T) {
	f := func(what, want string, leak func(*hour)) {
		t.Helper()
		if n := wrong(50, want, leak); n > 1 {
			t.Errorf("%s: not found in %d of 50 hours", what, n)
		}
	}
	f("11 MiB an hour", "resident memory", func(h *hour) { h.rss = 11 })
	f("5 MiB an hour of heap that is collected at twice its size", "heap", func(h *hour) { h.heap = 5 })
	for i, d := range life {
		f("two goroutines: "+d.name, "goroutines", func(h *hour) { h.goroutines[i] = 2 })
		f("a file: "+d.name, "open files", func(h *hour) { h.files[i] = 1 })
	}
	f("a file at any event", "open files", func(h *hour) {
		for i := range h.files {
			h.files[i] = 1
		}
	})
	f("one goroutine", "goroutines", func(h *hour) { h.goroutines[0] = 1 })
	// A connection, with all that it has.
	f("a connection", "open files", func(h *hour) { h.files[0], h.goroutines[0] = 1, 2 })
}

// A longer run finds a slower leak.
func TestSlowLeakInADay(t *testing.T) {
	h := newHour(1)
	h.span, h.rss = 24*time.Hour, 0.3
	if _, err := verdict(h.samples()); err == nil || !strings.Contains(err.Error(), "resident memory") {
		t.Errorf("7 MiB in a day: %v", err)
	}
	h = newHour(1)
	h.span = 24 * time.Hour
	if _, err := verdict(h.samples()); err != nil {
		t.Errorf("nothing in a day: %v", err)
	}
}

func TestTooFewSamplesAreNoVerdict(t *testing.T) {
	f := func(what string, samples []sample) {
		t.Helper()
		report, err := verdict(samples)
		if err == nil || !strings.Contains(report, "too short") {
			t.Errorf("%s: %v\n%s", what, err, report)
		}
	}
	f("none", nil)
	h := newHour(1)
	h.span = 30 * time.Minute
	f("half an hour", h.samples())
	var few, lost []sample
	for i, x := range newHour(1).samples() {
		if i%10 == 0 {
			few = append(few, x)
		}
		if x.pause%len(life) != 2 || x.pause > 26 {
			lost = append(lost, x)
		}
	}
	f("a look every 20 s", few)
	f("pauses after events of one kind were not looked at", lost)
}
