package buffer

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestBudgetIsNeverExceededAndGivenBack(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 3))
			var mu sync.Mutex
			chance := func(n int) int { mu.Lock(); defer mu.Unlock(); return rng.IntN(n) }
			b := NewBudget(10000)
			var wg sync.WaitGroup
			for range 1 + rng.IntN(8) {
				wg.Go(func() {
					a := b.Open()
					defer a.Close()
					for range 60 {
						ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+chance(200))*time.Millisecond)
						n, err := a.Acquire(ctx, int64(1+chance(14000)))
						cancel()
						held, capacity := b.Held()
						if held > capacity {
							t.Errorf("%d held of %d", held, capacity)
						}
						if err != nil {
							continue
						}
						time.Sleep(time.Duration(chance(20)) * time.Millisecond)
						a.Release(n)
					}
				})
			}
			wg.Wait()
			if held, _ := b.Held(); held != 0 {
				t.Errorf("seed %d: %d never given back", seed, held)
			}
			if len(b.accounts) != 0 || len(b.waiting) != 0 {
				t.Errorf("seed %d: %d accounts and %d claims left", seed, len(b.accounts), len(b.waiting))
			}
		})
	}
}

// One account takes all it can and never lets go: the others still have their
// reserve.
func TestGreedyAccountLeavesTheReserves(t *testing.T) {
	b := NewBudget(12000)
	greedy, modest := b.Open(), b.Open()
	for {
		if _, ok := greedy.TryAcquire(100); !ok {
			break
		}
	}
	if held, _ := b.Held(); held != 9000 {
		t.Errorf("the greedy one holds %d, want half (6000) and its reserve (3000)", held)
	}
	if modest.Reserve() != 3000 {
		t.Errorf("reserve %d, want 3000", modest.Reserve())
	}
	if _, ok := modest.TryAcquire(3000); !ok {
		t.Error("the reserve of the other one is gone")
	}
	if _, ok := modest.TryAcquire(1); ok {
		t.Error("more was granted than there is")
	}
}

func TestClosedAccountThatStillHoldsCountsAgainstTheCommonHalf(t *testing.T) {
	b := NewBudget(1000)
	gone := b.Open()
	n, _ := gone.TryAcquire(800)
	gone.Close()
	a := b.Open()
	if _, ok := a.TryAcquire(300); ok {
		t.Error("granted 300 of 200")
	}
	gone.Release(n)
	if _, ok := a.TryAcquire(1000); !ok {
		t.Error("given back, and not granted")
	}
}

// A large claim waits at the head of the queue; small ones that could be served
// from the common half at once must not keep it waiting for ever.
func TestLargeClaimIsNotStarved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(1000)
		small, large := b.Open(), b.Open()
		if _, ok := small.TryAcquire(700); !ok {
			t.Fatal("refused")
		}
		served := make(chan struct{})
		go func() {
			defer close(served)
			if _, err := large.Acquire(t.Context(), 700); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		small.Release(300) // 400 held
		synctest.Wait()
		if _, ok := small.TryAcquire(100); ok {
			t.Error("a small claim went ahead of the large one that waits")
		}
		small.Release(400)
		<-served
	})
}

func TestClaimLargerThanAnythingPassesAlone(t *testing.T) {
	b := NewBudget(1000)
	a, other := b.Open(), b.Open()
	n, err := a.Acquire(t.Context(), 5000)
	if err != nil || n != 750 {
		t.Errorf("charged %d, %v; want the common half and the reserve, 750", n, err)
	}
	if _, ok := other.TryAcquire(250); !ok {
		t.Error("the other one's reserve is gone")
	}
}

func TestAcquireEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(100)
		a := b.Open()
		a.TryAcquire(100)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Acquire(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if held, _ := b.Held(); held != 100 {
			t.Errorf("%d held after a claim that was given up", held)
		}
	})
}

func TestReleasingMoreThanHeldPanics(t *testing.T) {
	a := NewBudget(100).Open()
	a.TryAcquire(10)
	defer func() {
		if recover() == nil {
			t.Error("11 of 10 bytes were released")
		}
	}()
	a.Release(11)
}
