package buffer

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// The watermark is compared with the obvious thing: a map of what is unsettled.
func TestWatermarkAgreesWithTheObvious(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 7))
		start := int64(rng.IntN(1000))
		w := NewWatermark(start)
		open := map[int64]bool{}
		var tracked []int64
		position := start
		for range 4000 {
			switch rng.IntN(10) {
			case 1:
				if len(tracked) == 0 || rng.IntN(4) > 0 {
					continue
				}
				back := max(0, len(tracked)-1-rng.IntN(20))
				if o := tracked[back]; o >= w.Next() {
					w.Retreat(o + 1<<40) // behind the position: nothing
					w.Retreat(o)
					for _, o := range tracked[back:] {
						delete(open, o)
					}
					tracked, position = tracked[:back], o
				}
			case 0:
				position += int64(rng.IntN(5))
				w.Advance(position)
				w.Advance(position - 3) // going back changes nothing
			case 2, 3, 4, 5:
				position += int64(rng.IntN(3)) // a gap, sometimes
				w.Track(position)
				open[position] = true
				tracked = append(tracked, position)
				position++
			default:
				if len(tracked) == 0 {
					continue
				}
				o := tracked[max(0, len(tracked)-1-rng.IntN(200))]
				if got := w.Settle(o); got != open[o] {
					t.Fatalf("seed %d: Settle(%d) = %v, open was %v", seed, o, got, open[o])
				}
				delete(open, o)
			}
			want := position
			for o := range open {
				want = min(want, o)
			}
			if w.Next() != want || w.Position() != position || w.Pending() != len(open) {
				t.Fatalf("seed %d: next %d position %d pending %d, want %d %d %d", seed, w.Next(), w.Position(), w.Pending(), want, position, len(open))
			}
		}
	}
}

func TestSettlingWhatWasNeverTrackedChangesNothing(t *testing.T) {
	w := NewWatermark(10)
	w.Track(12)
	w.Track(15)
	for _, o := range []int64{-1, 9, 10, 11, 13, 14, 16, 100} {
		if w.Settle(o) {
			t.Errorf("offset %d was never tracked, and settled", o)
		}
	}
	if w.Next() != 12 || w.Pending() != 2 {
		t.Errorf("next %d, pending %d", w.Next(), w.Pending())
	}
}

func TestTrackingBackwardsPanics(t *testing.T) {
	w := NewWatermark(10)
	w.Track(12)
	for _, o := range []int64{12, 11, 3} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("offset %d was tracked behind 12", o)
				}
			}()
			w.Track(o)
		}()
	}
}

func TestWatermarkKeepsNoMoreThanItsSpan(t *testing.T) {
	w := NewWatermark(0)
	for o := range int64(1_000_000) {
		w.Track(o)
		if o >= 100 {
			w.Settle(o - 100)
		}
	}
	if w.Span() != 100 || cap(w.offsets) > 10000 {
		t.Errorf("span %d, room for %d offsets", w.Span(), cap(w.offsets))
	}
}

func BenchmarkWatermark(b *testing.B) {
	w := NewWatermark(0)
	for i := range int64(b.N) {
		w.Track(i)
		if i >= 5000 {
			w.Settle(i - 5000)
		}
	}
	if w.Next() < 0 {
		b.Fatal(fmt.Sprint(w.Next()))
	}
}
