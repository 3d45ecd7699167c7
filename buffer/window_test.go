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

func TestWindowDoublesUntilTheFirstRefusal(t *testing.T) {
	w := NewWindow(1, 20)
	if got := limits(w, 7, Clean, time.Second); !slices.Equal(got, []int{2, 4, 8, 16, 20, 20, 20}) {
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

// fill starts as many requests as there is room for.
func fill(w *Window) (slots []Slot) {
	for w.Room() {
		slots = append(slots, w.Start())
	}
	return slots
}

func TestRefusedGrowthIsUndone(t *testing.T) {
	w := NewWindow(1, 8)
	limits(w, 3, Clean, time.Second) // 8
	slots := fill(w)
	w.Done(slots[4], Refused, 0)
	if w.Limit() != 8 {
		t.Fatalf("limit %d: one refusal, that may be chance, undoes a growth from 4 to 8", w.Limit())
	}
	w.Done(slots[5], Refused, 0)
	if w.Limit() != 4 {
		t.Fatalf("limit %d after a refused growth from 4 to 8", w.Limit())
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

// backend is a sink in virtual time whose requests take a second.
type backend struct {
	random float64 // the share that is refused however few are in flight
	room   int     // requests it serves at a time; 0: any number
	rate   float64 // requests it serves a second; 0: any number
	// refusal is how many seconds a refusal takes.
	refusal float64
}

// drive has w ask b for as much as it may, for so many seconds. It returns what was
// taken a second, and which share was refused.
func drive(w *Window, b backend, rng *rand.Rand, seconds float64) (taken, refused float64) {
	type request struct {
		slot Slot
		ends float64
		a    Answer
	}
	var inFlight []request
	now, serving, tokens := 0.0, 0, b.rate
	var answers [Crowded]float64
	for now < seconds {
		for _, slot := range fill(w) {
			r := request{slot: slot, ends: now + 0.9 + 0.2*rng.Float64(), a: Clean}
			switch {
			case rng.Float64() < b.random, b.room > 0 && serving >= b.room, b.rate > 0 && tokens < 1:
				r.a, r.ends = Refused, now+b.refusal*(0.9+0.2*rng.Float64())
			default:
				tokens--
				serving++
			}
			inFlight = append(inFlight, r)
		}
		first := 0
		for i := range inFlight {
			if inFlight[i].ends < inFlight[first].ends {
				first = i
			}
		}
		r := inFlight[first]
		inFlight = slices.Delete(inFlight, first, first+1)
		tokens = min(tokens+(r.ends-now)*b.rate, 1+b.rate)
		now = r.ends
		if r.a == Clean {
			serving--
		}
		answers[r.a]++
		w.Done(r.slot, r.a, time.Second)
	}
	for _, r := range inFlight {
		w.Done(r.slot, Neutral, 0)
	}
	return answers[Clean] / now, answers[Refused] / (answers[Clean] + answers[Refused])
}

// As much is taken as a sink has room for, however it says that it has no more:
// from the start on, and in the long run with few refusals.
func TestWindowFindsTheRoom(t *testing.T) {
	tests := []struct {
		name    string
		sink    backend
		max     int
		begin   float64 // taken of what there is room for, in the first twelve seconds
		taken   float64 // and later
		refused float64 // later, at most
	}{
		{"no refusals", backend{}, 8, 0.6, 0.99, 0},
		{"1 % at random", backend{random: 0.01, refusal: 1}, 8, 0.6, 0.98, 0.02},
		{"5 % at random", backend{random: 0.05, refusal: 1}, 8, 0.5, 0.98, 0.06},
		{"20 % at random", backend{random: 0.2, refusal: 1}, 8, 0.4, 0.97, 0.22},
		{"40 % at random", backend{random: 0.4, refusal: 1}, 8, 0.25, 0.8, 0.42},
		{"20 % at random of many", backend{random: 0.2, refusal: 1}, 32, 0.1, 0.95, 0.22},
		{"one at a time", backend{room: 1, refusal: 0.05}, 8, 0.9, 0.99, 0.06},
		{"two at a time", backend{room: 2, refusal: 0.05}, 8, 0.85, 0.98, 0.03},
		{"four at a time", backend{room: 4, refusal: 0.05}, 8, 0.75, 0.98, 0.02},
		{"four at a time, slow refusals", backend{room: 4, refusal: 1}, 8, 0.75, 0.98, 0.02},
		{"seven at a time of many", backend{room: 7, refusal: 0.05}, 32, 0.6, 0.98, 0.02},
		{"two a second", backend{rate: 2, refusal: 1}, 8, 0.8, 0.95, 0.1},
		{"four a second", backend{rate: 4, refusal: 0.05}, 8, 0.75, 0.95, 0.15},
		{"20 % at random, and four at a time", backend{random: 0.2, room: 4, refusal: 0.05}, 8, 0.5, 0.9, 0.3},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			room := float64(test.max)
			if test.sink.room > 0 {
				room = float64(test.sink.room)
			}
			if test.sink.rate > 0 {
				room = test.sink.rate
			}
			if test.sink.refusal == 1 && test.sink.rate == 0 {
				room *= 1 - test.sink.random
			}
			const seeds = 10
			var begin, taken, refused float64
			for seed := range uint64(seeds) {
				rng := rand.New(rand.NewPCG(seed, 1))
				w := NewWindow(1, test.max)
				b, _ := drive(w, test.sink, rng, 12)
				drive(w, test.sink, rng, 50)
				a, r := drive(w, test.sink, rng, 500)
				begin, taken, refused = begin+b/room/seeds, taken+a/room/seeds, refused+r/seeds
			}
			if begin < test.begin || taken < test.taken || refused > test.refused {
				t.Errorf("took %.2f of what there is room for at the start and %.3f later, %.3f refused; want at least %.2f and %.3f, at most %.3f",
					begin, taken, refused, test.begin, test.taken, test.refused)
			} else {
				t.Logf("took %.2f of what there is room for at the start and %.3f later, %.3f refused", begin, taken, refused)
			}
		})
	}
}

func TestRoomThatBecomesLessIsNoticedBehindABackgroundOfRefusals(t *testing.T) {
	for _, refusal := range []float64{0.05, 1} {
		rng := rand.New(rand.NewPCG(1, 1))
		w := NewWindow(1, 8)
		drive(w, backend{random: 0.2, refusal: 1}, rng, 200)
		drive(w, backend{room: 2, refusal: refusal}, rng, 100)
		if taken, refused := drive(w, backend{room: 2, refusal: refusal}, rng, 200); taken < 1.9 || refused > 0.1 {
			t.Errorf("refusals of %v s: a sink that serves two at a time took %.2f, and refused %.0f %%", refusal, taken, 100*refused)
		}
	}
}

func TestRoomThatBecomesMoreIsUsedSoon(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		w := NewWindow(1, 8)
		drive(w, backend{room: 8, refusal: 0.05}, rng, 100)
		drive(w, backend{room: 2, refusal: 0.05}, rng, 300)
		drive(w, backend{room: 8, refusal: 0.05}, rng, 60)
		if w.Limit() < 6 {
			t.Errorf("seed %d: limit %d a minute after a sink that served two at a time serves eight", seed, w.Limit())
		}
	}
}

func TestBackgroundThatEndedIsForgotten(t *testing.T) {
	w := NewWindow(1, 8)
	drive(w, backend{random: 0.2, refusal: 1}, rand.New(rand.NewPCG(1, 1)), 2000)
	limits(w, 200, Clean, time.Second)
	for range 8 {
		fill(w)
		w.Done(Slot{epoch: w.epoch, n: w.inFlight}, Refused, 0)
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
