package kafka

import (
	"cmp"
	"slices"
	"time"
)

// plan is one request.
type plan struct {
	asks []ask
	wait time.Duration
}

// ask is what is asked for of one partition.
type ask struct {
	r     *partitionReader
	turn  int
	from  int64
	epoch int32
	wire  int64 // bytes asked for, as they come
	need  int64 // bytes of memory set aside
	giant bool  // it may bring a block that exceeds the limit
}

// plan chooses what to ask for now; without anything, it says when to look again
// at the latest. Under f.mu.
func (l *leaderLoop) plan(now time.Time) (p plan, idle time.Duration) {
	f := l.f
	idle = retire
	later := func(at time.Time) { idle = min(idle, max(at.Sub(now), time.Millisecond)) }
	if now.Before(l.retryAt) {
		later(l.retryAt)
		return plan{}, idle
	}
	// Some have something to be fetched, as far as is known, others are at their
	// end. soon: somebody will be asked for in a moment and cannot be now.
	var hungry, resting, alone []*partitionReader
	soon := false
	for r := range l.readers {
		switch {
		case r.replica >= 0 && now.After(r.until):
			r.replica, r.stable = -1, -1
			f.assign(r)
		case r.stop != nil, r.parked:
		case r.box != nil:
			soon = soon || now.Sub(r.boxedAt) < busyFor
		case now.Before(r.retryAt):
			later(r.retryAt)
			soon = soon || r.retryAt.Sub(now) < longPoll
		case r.alone:
			alone = append(alone, r)
		case r.stable >= 0 && r.next >= r.stable:
			resting = append(resting, r)
		default:
			hungry = append(hungry, r)
		}
	}
	oldest := func(a, b *partitionReader) int { return cmp.Compare(a.askedAt, b.askedAt) }
	slices.SortFunc(hungry, oldest)
	slices.SortFunc(resting, oldest)
	slices.SortFunc(alone, oldest)

	// Turn by turn, so that neither kind starves the other.
	spare := f.spare()
	if l.solo = len(alone) > 0 && (!l.solo || len(hungry) == 0); l.solo {
		spare = f.choose(&p, alone[:1], spare)
	}
	if len(p.asks) == 0 {
		l.solo = false
		spare = f.choose(&p, hungry, spare)
	}
	soon = soon || len(alone) > 0 || len(p.asks) < len(hungry)
	p.wait = longPoll
	if soon {
		p.wait = shortPoll
	}
	// Who is at its end must not keep the others waiting, and is asked for beside
	// them, or now and then when there is room for nobody.
	if probe := l.probed.Add(shortPoll); len(resting) > 0 && !l.solo {
		switch {
		case len(p.asks) == 0 && !soon, !now.Before(probe):
			if len(p.asks) == 0 && soon {
				p.wait = 0
			}
			f.choose(&p, resting, spare)
			l.probed = now
		default:
			later(probe)
		}
	}
	if len(p.asks) == 0 && len(hungry)+len(alone) > 0 {
		if f.squeeze(now) {
			return l.plan(now)
		}
		idle = min(idle, squeezeAfter/2)
	}
	return p, idle
}

// share is how much of the limit belongs to each partition at a time: of two
// blocks, one that is being taken and one that is fetched ahead. Under f.mu.
func (f *fetcher) share() int64 {
	return f.limit / int64(2*max(len(f.readers), 1))
}

// held is what counts of a reader against the limit: what it holds and what is
// set aside for it. Under f.mu.
func (r *partitionReader) held() int64 {
	n := r.asked
	for _, b := range [...]*block{r.cur, r.box} {
		if b != nil && !b.giant {
			n += b.charge
		}
	}
	return n
}

// spare is what is left of the limit when each partition is counted with its
// share at least: whoever takes more than that takes it from here, so that
// partitions that stand still with theirs leave the others enough. Under f.mu.
func (f *fetcher) spare() int64 {
	spare, share := f.limit, f.share()
	for r := range f.readers {
		spare -= max(r.held(), share)
	}
	return spare
}

// room is how much r may hold: its share, or what it holds, and what is spare.
// Under f.mu.
func (f *fetcher) room(r *partitionReader) int64 {
	return max(r.held(), f.share()) + max(f.spare(), 0)
}

// choose adds to p what there is room for, in the order given, and sets memory
// aside for it. It returns what is then spare. Under f.mu.
func (f *fetcher) choose(p *plan, readers []*partitionReader, spare int64) int64 {
	share := f.share()
	for _, r := range readers {
		ratio := max(cmp.Or(r.ratio, f.ratio), 1)
		// What its next batch needs, as far as that is known.
		least := max(min(share, minWire), r.big, int64(float64(r.cut)*ratio))
		held := r.held()
		room := max(held, share) - held + max(spare, 0)
		a := ask{r: r, turn: r.turn, from: r.next, epoch: r.epoch}
		switch {
		case least <= room:
			a.need = min(max(min(share, cmp.Or(f.maxAsk, maxAsk)), least, min(int64(minWire*ratio), f.limit/4)), room)
		case least > share && f.giant == 0 && !f.giantAsked:
			a.need, a.giant = least, true
			f.giantAsked = true
		default:
			continue
		}
		a.wire = max(int64(float64(a.need)/ratio), r.cut, 1)
		if !a.giant {
			spare -= max(held+a.need, share) - max(held, share)
			r.asked = a.need
		}
		p.asks = append(p.asks, a)
	}
	return spare
}

// more sets n bytes more aside for a request in flight, whose first batch needs
// more than was known. It reports false when they are not to be had.
func (f *fetcher) more(a *ask, n int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case a.giant:
		return true
	case a.turn != a.r.turn:
		return false // closed, or sought elsewhere meanwhile
	case a.r.held()+n <= f.room(a.r):
		a.r.asked += n
		a.need += n
		return true
	case f.giant == 0 && !f.giantAsked:
		a.r.asked, a.giant, f.giantAsked = 0, true, true
		return true
	}
	return false
}
