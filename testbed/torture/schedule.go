package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"weir/testbed/torture/front"
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
	seed    uint64
	round   int
	backend *backend
	victim  int // which of the backend's protocols the faults of the sink are done to

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

	// replay: the log is written first, and replayed; nil: weir is a bridge.
	replay *replayPlan

	// alone is done first, while nothing else happens, and lasts until the connectors
	// of the other protocols have shown that it does not concern them; nil: there are
	// no others.
	alone  *away
	faults []fault
}

// deck is what plans are drawn from.
type deck struct {
	seed     uint64
	length   time.Duration // within which faults begin
	rate     int
	kinds    []string // these only; none: all
	backends []string // these only; none: all
}

// memoryBound is how much memory a weir process may have: what it was given for
// records, and what the process itself needs.
func (p *plan) memoryBound() int64 { return int64(p.memory+68) << 20 }

// pick is any of these.
func pick[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

// draw makes the plan of a round. So that every kind comes soon, half of a round's
// faults are of those that were drawn least in the rounds before it, which are
// therefore drawn as well.
func (d *deck) draw(number int) (p *plan) {
	drawn := map[*kind]int{}
	for n := 1; n <= max(1, number); n++ {
		p = d.next(n, drawn)
	}
	return p
}

// next makes the plan of a round after those of which drawn are the kinds.
func (d *deck) next(number int, drawn map[*kind]int) *plan {
	rng := rand.New(rand.NewPCG(d.seed, uint64(number)))
	p := &plan{
		seed: d.seed, round: number, rate: d.rate, backend: d.backend(number),
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
	p.victim = rng.IntN(len(p.backend.protocols))
	victim := p.backend.protocols[p.victim]
	if len(p.backend.protocols) > 1 {
		p.memory, p.preload = 32, 20_000 // so that the victim's part is soon full
		p.alone = d.away(number)
	}
	if p.backend.waits() {
		// A batch is on its way until it is acknowledged, seconds later, and with bad
		// events in it until each piece is: one at a time, or the rate of the other
		// backends, is more than a loaded machine can take.
		p.inFlight, p.rate = max(p.inFlight, 4), p.rate/3
		if p.ordered {
			p.records = 5000 // so is one of each lane
		}
	}
	var candidates []*kind
	for _, k := range kinds {
		if k.fits(victim) && (len(d.kinds) == 0 || slices.Contains(d.kinds, k.name)) {
			candidates = append(candidates, k)
		}
	}
	rng.Shuffle(len(candidates), func(i, j int) { candidates[i], candidates[j] = candidates[j], candidates[i] })
	n := min(5+rng.IntN(4), len(candidates))
	slices.SortStableFunc(candidates, func(a, b *kind) int { return drawn[a] - drawn[b] })
	chosen := slices.Clone(candidates[:(n+1)/2])
	rest := candidates[len(chosen):]
	rng.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	chosen = append(chosen, rest[:n-len(chosen)]...)
	if victim.Rules.Folders && len(d.kinds) == 0 {
		// What an archive has to stand.
		chosen = append(chosen, killKind, killKind)
	}
	if kept(victim) && len(d.kinds) == 0 {
		// What a case has to stand.
		chosen = append(chosen, killKind, pick(rng, termKind, rollKind))
	}
	begin := time.Duration(0)
	if !victim.Rules.Folders && !kept(victim) && len(d.kinds) == 0 && rng.IntN(2) == 0 {
		// Only where nothing else is in trouble is it judged how soon commits come.
		drawn[killKind]++
		p.faults = append(p.faults, fault{kind: killKind, at: time.Duration(rng.Int64N(int64(500 * msec))), last: killKind.least, seed: rng.Uint64()})
		begin = time.Second
	}
	for _, k := range chosen {
		drawn[k]++
		p.faults = append(p.faults, fault{
			kind: k,
			at:   begin + time.Duration(rng.Int64N(int64(d.length))),
			last: k.least + time.Duration(rng.Int64N(int64(k.most-k.least+1))),
			seed: rng.Uint64(),
		})
	}
	if victim.Name == front.Rehydrate.Name {
		p.replay = d.replay(rng, p)
	}
	slices.SortStableFunc(p.faults, func(a, b fault) int { return int(a.at - b.at) })
	return p
}

// backend is the one of a round: as many rounds as there are backends have each of
// them once.
func (d *deck) backend(number int) *backend {
	of := d.played()
	block := (number - 1) / len(of)
	order := rand.New(rand.NewPCG(d.seed, 1<<32+uint64(block))).Perm(len(of))
	return of[order[(number-1)%len(of)]]
}

// away is how one of several backends is away in a round: there is one such round in
// a block, and they have all ways in turn.
func (d *deck) away(number int) *away {
	order := rand.New(rand.NewPCG(d.seed, 1<<33)).Perm(len(aways))
	return aways[order[(number-1)/len(d.played())%len(aways)]]
}

// played are the backends that rounds are drawn from.
func (d *deck) played() (of []*backend) {
	for i := range backends {
		if len(d.backends) == 0 || slices.Contains(d.backends, backends[i].name) {
			of = append(of, &backends[i])
		}
	}
	return of
}

// String is the plan for a reader.
func (p *plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d round %d: %s, %d topics of %d partitions, %d members, ordered %t, gzip %t, memory %d MiB, batch %d, linger %s, in flight %d, preload %d, %d events/s\n",
		p.seed, p.round, p.backend.name, p.topics, p.partitions, p.members, p.ordered, p.gzip, p.memory, p.records, p.linger, p.inFlight, p.preload, p.rate)
	if p.replay != nil {
		fmt.Fprintf(&b, "   %+v\n", *p.replay)
	}
	if p.alone != nil {
		fmt.Fprintf(&b, "   first %s: %s, until the others have kept up\n", p.backend.protocols[p.victim].Name, p.alone.name)
	}
	for _, f := range p.faults {
		fmt.Fprintf(&b, "  %7.3fs %s", f.at.Seconds(), f.kind.name)
		if f.last > 0 {
			fmt.Fprintf(&b, " for %s", f.last.Round(time.Millisecond))
		}
		b.WriteByte('\n')
	}
	return b.String()
}
