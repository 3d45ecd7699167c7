package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// fault is one thing that is done to the bridge or to what is around it.
type fault struct {
	kind *kind
	at   time.Duration // after the first events were delivered
	last time.Duration // how long it lasts
	seed uint64        // of what else is drawn for it
}

// plan is a round as it is drawn from the seed: what runs, and what is done to it
// when. The same seed and round give the same plan.
type plan struct {
	seed  uint64
	round int

	topics     int
	partitions int32
	members    int
	ordered    bool
	gzip       bool
	memory     int // MiB
	records    int // in a batch at most
	linger     time.Duration
	inFlight   int
	preload    int // events before weir starts
	rate       int // events a second

	faults []fault
}

// memoryBound is how much memory a weir process may have: what it was given for
// records, and what the process itself needs.
func (p *plan) memoryBound() int64 { return int64(p.memory+68) << 20 }

// pick is any of these.
func pick[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

// draw makes the plan of a round whose faults begin within length.
func draw(seed uint64, number int, length time.Duration, rate int, only []string) *plan {
	rng := rand.New(rand.NewPCG(seed, uint64(number)))
	p := &plan{
		seed: seed, round: number, rate: rate,
		topics:     pick(rng, 1, 2, 3),
		partitions: pick(rng, int32(1), 2, 3, 6),
		members:    pick(rng, 1, 1, 2, 3),
		ordered:    pick(rng, false, false, true),
		gzip:       pick(rng, false, false, true),
		memory:     pick(rng, 16, 32),
		records:    pick(rng, 50, 500, 5000),
		linger:     pick(rng, 10*time.Millisecond, 100*time.Millisecond, 200*time.Millisecond),
		inFlight:   pick(rng, 1, 4, 8),
		preload:    pick(rng, 0, 0, 20_000),
	}
	candidates := kinds
	if len(only) > 0 {
		candidates = nil
		for _, k := range kinds {
			if slices.Contains(only, k.name) {
				candidates = append(candidates, k)
			}
		}
	}
	n := min(4+rng.IntN(4), len(candidates))
	for _, i := range rng.Perm(len(candidates))[:n] {
		k := candidates[i]
		p.faults = append(p.faults, fault{
			kind: k,
			at:   time.Duration(rng.Int64N(int64(length))),
			last: k.least + time.Duration(rng.Int64N(int64(k.most-k.least+1))),
			seed: rng.Uint64(),
		})
	}
	slices.SortFunc(p.faults, func(a, b fault) int { return int(a.at - b.at) })
	return p
}

// String is the plan for a reader.
func (p *plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d round %d: %d topics of %d partitions, %d members, ordered %t, gzip %t, memory %d MiB, batch %d, linger %s, in flight %d, preload %d, %d events/s\n",
		p.seed, p.round, p.topics, p.partitions, p.members, p.ordered, p.gzip, p.memory, p.records, p.linger, p.inFlight, p.preload, p.rate)
	for _, f := range p.faults {
		fmt.Fprintf(&b, "  %7.3fs %s", f.at.Seconds(), f.kind.name)
		if f.last > 0 {
			fmt.Fprintf(&b, " for %s", f.last.Round(time.Millisecond))
		}
		b.WriteByte('\n')
	}
	return b.String()
}
