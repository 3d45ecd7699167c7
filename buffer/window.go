package buffer

import (
	"math"
	"time"
)

// Window bounds the requests in flight to one sink and moves with its answers:
// up by one after a clean round, down when the sink refuses for lack of room or
// its answers slow down. A round is as many answers as the limit has places.
//
// Growth that is refused at once is undone, and the next try waits four times as
// many rounds: a backend that serves exactly four requests at a time is asked for
// a fifth ever more rarely, instead of being run into refusals all the time. A
// refusal at a limit that used to work means that the backend has less room than
// it had: the limit falls by a third and is rebuilt from there.
//
// One refusal a round may be chance and moves nothing before the round is over;
// then the limit stays if more was taken at it than could be at the lower one.
//
// Some refusals have nothing to do with how many requests are in flight (a proxy
// that refuses at random, one bad node of five). What is refused at lower limits,
// too, is taken for such a background, and only what exceeds it by more than
// chance moves the limit.
//
// Only answers to requests that started after the last change count, so that
// eight refusals of one round cut once. Not safe for concurrent use.
type Window struct {
	min, max int
	limit    int
	inFlight int

	epoch    uint64        // counts changes of limit
	clean    int           // good answers of this epoch
	took     time.Duration // their sum
	timed    int           // how many of them were timed
	good     int           // the limit before the last growth, 0 when a full round confirmed it
	patience int           // clean rounds before growing
	climbing bool          // until the first refusal the limit grows by half
	usual    time.Duration // what an answer usually takes
	filled   bool          // all places were taken at once in this epoch

	here tally   // the answers of this epoch
	late tally   // the last of them, about a round
	at   []tally // the last answers at each limit
}

// tally counts answers, the old ones for less and less.
type tally struct{ seen, refused float64 }

// tallied is how many answers a tally of a limit or an epoch remembers at most.
const tallied = 64

// add reports whether the tally was full, with size answers, and is half as long
// now.
func (t *tally) add(refused bool, size int) bool {
	t.seen++
	if refused {
		t.refused++
	}
	if t.seen < float64(size) {
		return false
	}
	t.seen, t.refused = t.seen/2, t.refused/2
	return true
}

const (
	// enough answers at lower limits to compare with.
	enough = 16
	// rare: a background below this needs no notice; one more cut does no harm.
	rare = 1.0 / 32
	// hopeless: where more than half is refused at lower limits, too, the sink has
	// no room, and there is no background to speak of.
	hopeless = 0.5
)

// background is the share of requests that is refused at limits well below this
// one, too, so that to fall back there would not help. More in flight is never
// refused less: the least that was seen up to any of them counts.
func (w *Window) background() float64 {
	share := 1.0
	var below tally
	for l := w.min; l <= max(w.min, 2*w.limit/3); l++ {
		below.seen += w.at[l].seen
		below.refused += w.at[l].refused
		if below.seen >= enough {
			share = min(share, below.refused/below.seen)
		}
	}
	if share < rare || share > hopeless {
		return 0
	}
	return share
}

// note notes an answer of this epoch.
func (w *Window) note(refused bool) {
	w.here.add(refused, tallied)
	w.late.add(refused, 2*w.limit)
}

// count notes an answer to a request that was sent under limit.
func (w *Window) count(limit int, refused bool) {
	here := &w.at[limit]
	if !here.add(refused, tallied) {
		return
	}
	// A background that is not met here, within three standard deviations, was long
	// ago.
	most := (here.refused + 3*math.Sqrt(here.refused) + 1) / here.seen
	for l := w.min; l < limit; l++ {
		w.at[l].refused = min(w.at[l].refused, most*w.at[l].seen)
	}
}

// usualRefusals reports whether this epoch's refusals are no more than the
// background and chance explain: three standard deviations, and always one.
func (w *Window) usualRefusals() bool {
	p := w.background()
	if p == 0 {
		return false
	}
	n := w.here.seen
	return w.here.refused <= max(1, n*p+3*math.Sqrt(n*p*(1-p)))
}

// worthIt reports whether the refusals of late cost less than a step down would:
// whether more is taken at this limit than could be at the lower one. One refusal
// says little before there is a round to judge by.
func (w *Window) worthIt() bool {
	lower := w.good
	if lower == 0 {
		lower = w.limit - max(w.limit/3, 1)
	}
	taken := w.late.seen - w.late.refused
	if w.late.seen < float64(w.limit) {
		return w.late.refused <= 1
	}
	return taken*float64(w.limit) > w.late.seen*float64(lower)
}

const (
	maxPatience = 64
	// slowFactor: answers that take this many times as long as usual are a sign
	// of a backend that queues instead of refusing.
	slowFactor = 2
)

// Slot is one request's place in the window.
type Slot struct {
	epoch uint64
	limit int
}

// NewWindow starts at min.
func NewWindow(min, max int) *Window {
	w := &Window{min: min, max: max, at: make([]tally, max+1)}
	w.Collapse()
	return w
}

// Room reports whether one more request may start.
func (w *Window) Room() bool { return w.inFlight < w.limit }

// Limit is the number of requests that may be in flight.
func (w *Window) Limit() int { return w.limit }

// InFlight is the number of requests in flight.
func (w *Window) InFlight() int { return w.inFlight }

// Start takes a place. The caller has asked Room.
func (w *Window) Start() Slot {
	w.inFlight++
	if w.inFlight >= w.limit {
		w.filled = true
	}
	return Slot{epoch: w.epoch, limit: w.limit}
}

// Answer is what an answer says about the sink's room.
type Answer uint8

const (
	// Neutral says nothing (a reset, a 500): the place is given back.
	Neutral Answer = iota
	// Clean: the sink took the request.
	Clean
	// Refused: the sink had no room (429, 503).
	Refused
	// Crowded: the sink took the request, and says that it is close to its limit.
	Crowded
)

// Done gives a place back. took is how long the answer took, 0 when it is not
// comparable (a batch that was far from full).
func (w *Window) Done(s Slot, a Answer, took time.Duration) {
	w.inFlight--
	if a != Neutral {
		w.count(s.limit, a == Refused)
	}
	if s.epoch != w.epoch {
		return
	}
	switch a {
	case Refused:
		w.note(true)
		if w.usualRefusals() || w.worthIt() {
			return
		}
		w.climbing = false
		if w.good > 0 {
			w.patience = min(w.patience*4, maxPatience)
			w.set(w.good)
		} else {
			w.patience = 1
			w.set(w.limit - max(w.limit/3, 1))
		}
	case Crowded:
		w.relax()
	case Clean:
		w.note(false)
		w.clean++
		if took > 0 {
			w.took += took
			w.timed++
		}
		w.round()
	}
}

// round draws the conclusions of a clean round, if this was one.
func (w *Window) round() {
	if w.clean < w.limit*w.patience && w.clean%w.limit != 0 {
		return
	}
	if w.timed >= w.limit {
		mean := w.took / time.Duration(w.timed)
		slow := w.usual > 0 && mean > slowFactor*w.usual
		switch {
		case w.usual == 0 || mean < w.usual:
			w.usual = mean
		default:
			// What is usual drifts up slowly: a backend that stays slow is not
			// starved for ever.
			w.usual += (mean - w.usual) / 32
		}
		w.took, w.timed = 0, 0
		if slow && w.limit > w.min {
			w.relax()
			return
		}
	}
	if w.good > 0 && w.filled { // the limit was raised, and works
		w.good = 0
		w.patience = max(w.patience/4, 1)
	}
	if w.clean < w.limit*w.patience {
		return
	}
	if w.limit >= w.max || !w.filled {
		// A limit that was not reached says nothing about a higher one.
		w.clean = 0
		return
	}
	good := w.limit
	if w.climbing {
		w.set(w.limit + max(w.limit/2, 1))
	} else {
		w.set(w.limit + 1)
	}
	w.good = good
}

// relax asks for a quarter less.
func (w *Window) relax() {
	w.climbing = false
	w.patience = 1
	w.set(w.limit - max(w.limit/4, 1))
}

func (w *Window) set(limit int) {
	w.good, w.clean, w.took, w.timed, w.filled = 0, 0, 0, 0, false
	w.here, w.late = tally{}, tally{}
	w.limit = min(max(limit, w.min), w.max)
	w.epoch++
}

// Collapse falls back to min, as after an outage, and feels its way up again.
func (w *Window) Collapse() {
	w.patience, w.climbing, w.usual = 1, true, 0
	clear(w.at)
	w.set(w.min)
}
