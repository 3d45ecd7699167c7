package buffer

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// round starts as many requests as there is room for and answers them all.
func round(w *Window, a Answer, took time.Duration) {
	var slots []Slot
	for w.Room() {
		slots = append(slots, w.Start())
	}
	for _, s := range slots {
		w.Done(s, a, took)
	}
}

func limits(w *Window, rounds int, a Answer, took time.Duration) (out []int) {
	for range rounds {
		round(w, a, took)
		out = append(out, w.Limit())
	}
	return out
}

func TestWindowGrowsByHalfUntilTheFirstRefusal(t *testing.T) {
	w := NewWindow(1, 16)
	if got := limits(w, 8, Clean, time.Second); !slices.Equal(got, []int{2, 3, 4, 6, 9, 13, 16, 16}) {
		t.Errorf("limits %v", got)
	}
}

func TestManyRefusalsOfOneRoundCutOnce(t *testing.T) {
	w := NewWindow(1, 16)
	limits(w, 9, Clean, time.Second) // 16, and confirmed
	round(w, Refused, 0)
	if w.Limit() != 11 {
		t.Errorf("limit %d after sixteen refusals of one round, want one cut by a third to 11", w.Limit())
	}
}

func TestRefusedGrowthIsUndoneAndTriedEverMoreRarely(t *testing.T) {
	w := NewWindow(1, 8)
	limits(w, 3, Clean, time.Second) // 4
	round(w, Clean, time.Second)     // 6
	w.Done(w.Start(), Refused, 0)
	if w.Limit() != 6 {
		t.Fatalf("limit %d: one refusal, that may be chance, undoes a growth from 4 to 6", w.Limit())
	}
	w.Done(w.Start(), Refused, 0)
	if w.Limit() != 4 {
		t.Fatalf("limit %d after a refused growth from 4 to 6", w.Limit())
	}
	last := 0
	for range 3 {
		rounds := 0
		for w.Limit() == 4 {
			round(w, Clean, time.Second)
			if rounds++; rounds > 1000 {
				t.Fatal("never tries again")
			}
		}
		if w.Limit() != 5 {
			t.Fatalf("grew from 4 to %d", w.Limit())
		}
		if rounds <= last {
			t.Errorf("tried again after %d rounds, the time before after %d", rounds, last)
		}
		last = rounds
		w.Done(w.Start(), Refused, 0)
		w.Done(w.Start(), Refused, 0)
		if w.Limit() != 4 {
			t.Fatalf("limit %d after a refused growth from 4", w.Limit())
		}
	}
}

func TestWindowStaysWithinItsBounds(t *testing.T) {
	w := NewWindow(3, 5)
	for range 50 {
		round(w, Refused, 0)
		if w.Limit() < 3 {
			t.Fatalf("limit %d", w.Limit())
		}
	}
	for range 500 {
		round(w, Clean, time.Second)
		if w.Limit() > 5 {
			t.Fatalf("limit %d", w.Limit())
		}
	}
	if w.Limit() != 5 || w.InFlight() != 0 {
		t.Errorf("limit %d, in flight %d", w.Limit(), w.InFlight())
	}
}

func TestSlowingAnswersShrinkTheWindow(t *testing.T) {
	w := NewWindow(1, 8)
	limits(w, 10, Clean, time.Second)
	if w.Limit() != 8 {
		t.Fatalf("limit %d", w.Limit())
	}
	limits(w, 3, Clean, 5*time.Second)
	if w.Limit() >= 8 {
		t.Errorf("limit still %d though answers take five times as long", w.Limit())
	}
	if limits(w, 1000, Clean, 5*time.Second); w.Limit() != 8 {
		t.Errorf("limit %d: a backend that stays slow is starved for ever", w.Limit())
	}
}

func TestLimitThatIsNotReachedDoesNotGrow(t *testing.T) {
	w := NewWindow(2, 8)
	for range 100 {
		w.Done(w.Start(), Clean, time.Second)
	}
	if w.Limit() != 2 {
		t.Errorf("limit %d though one request at a time was in flight", w.Limit())
	}
}

func TestNeutralAnswersChangeNothingButThePlace(t *testing.T) {
	w := NewWindow(1, 8)
	limits(w, 4, Clean, time.Second)
	before := w.Limit()
	for range 20 {
		round(w, Neutral, 0)
	}
	if w.Limit() != before || w.InFlight() != 0 {
		t.Errorf("limit %d (was %d), in flight %d", w.Limit(), before, w.InFlight())
	}
}

func TestCollapseFallsToTheMinimum(t *testing.T) {
	w := NewWindow(1, 8)
	limits(w, 4, Clean, time.Second)
	s := w.Start()
	w.Collapse()
	if w.Limit() != 1 {
		t.Errorf("limit %d", w.Limit())
	}
	w.Done(s, Refused, 0) // of before the collapse: says nothing about now
	if w.Limit() != 1 || w.InFlight() != 0 {
		t.Errorf("limit %d, in flight %d", w.Limit(), w.InFlight())
	}
}

// chance answers n rounds; each request is refused with probability p, whatever
// the limit.
func chance(w *Window, rng *rand.Rand, p float64, rounds int) (mean float64) {
	for range rounds {
		var slots []Slot
		for w.Room() {
			slots = append(slots, w.Start())
		}
		for _, s := range slots {
			if rng.Float64() < p {
				w.Done(s, Refused, 0)
			} else {
				w.Done(s, Clean, time.Second)
			}
		}
		mean += float64(w.Limit()) / float64(rounds)
	}
	return mean
}

func TestRefusalsThatDoNotDependOnTheLimitDoNotKeepItDown(t *testing.T) {
	for _, p := range []float64{0.01, 0.05, 0.2} {
		const seeds = 20
		sum := 0.0
		for seed := range uint64(seeds) {
			w := NewWindow(1, 8)
			rng := rand.New(rand.NewPCG(seed, 1))
			chance(w, rng, p, 50)
			mean := chance(w, rng, p, 1000)
			sum += mean
			if mean < 5 {
				t.Errorf("seed %d, %.0f %% of the requests refused: mean limit %.1f of 8", seed, 100*p, mean)
			}
		}
		if mean := sum / seeds; mean < 7 {
			t.Errorf("%.0f %% of the requests refused: mean limit %.1f of 8", 100*p, mean)
		}
	}
}

func TestRoomThatBecomesLessIsNoticedBehindABackgroundOfRefusals(t *testing.T) {
	w := NewWindow(1, 8)
	chance(w, rand.New(rand.NewPCG(1, 1)), 0.2, 2000)
	mean := 0.0
	for i := range 200 { // from now on it serves two at a time
		var slots []Slot
		for w.Room() {
			slots = append(slots, w.Start())
		}
		for i, s := range slots {
			if i < 2 {
				w.Done(s, Clean, time.Second)
			} else {
				w.Done(s, Refused, 0)
			}
		}
		if i >= 100 {
			mean += float64(w.Limit()) / 100
		}
	}
	// Its refusals look like those it had before, so that it is asked for more than
	// it serves; but for no more than twice that.
	if mean > 4.5 {
		t.Errorf("mean limit %.1f at a sink that serves two at a time", mean)
	}
}

func TestBackgroundThatEndedIsForgotten(t *testing.T) {
	w := NewWindow(1, 8)
	chance(w, rand.New(rand.NewPCG(1, 1)), 0.2, 2000)
	limits(w, 200, Clean, time.Second)
	for range 8 {
		w.Done(w.Start(), Refused, 0)
	}
	if w.Limit() == 8 {
		t.Error("eight refusals in a row pass for a background that is long gone")
	}
}

func TestCrowdedSinkIsAskedForLessOnceARound(t *testing.T) {
	w := NewWindow(1, 16)
	limits(w, 9, Clean, time.Second) // 16, and confirmed
	round(w, Crowded, 0)
	if w.Limit() != 12 || w.InFlight() != 0 {
		t.Errorf("limit %d after sixteen answers of one round that say crowded, want one cut by a quarter to 12", w.Limit())
	}
}
