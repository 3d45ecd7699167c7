package buffer

import "time"

// Window bounds the requests in flight to one sink and moves with its answers:
// up, to twice as many at most, after a round without doubt, down when the sink
// refuses for lack of room or its answers slow down. A round is as many answers as
// the limit has places.
//
// What refusals say about the sink's room is capacity's matter: it tells one that
// serves exactly four requests at a time, and is asked for a fifth rarely, from a
// proxy that refuses every fifth however few are in flight, for which to ask for
// less would only be slower.
//
// Only answers to requests that started after the last change count, so that
// eight refusals of one round cut once. Not safe for concurrent use.
type Window struct {
	min, max int
	limit    int
	inFlight int

	epoch  uint64        // counts changes of limit
	clean  int           // good answers of this round
	took   time.Duration // the sum of those that were timed
	timed  int           // how many were timed
	good   int           // the limit before the last growth, 0 when a full round confirmed it
	usual  time.Duration // what an answer usually takes
	filled bool          // all places were taken at once in this epoch

	room *capacity
}

// slowFactor: answers that take this many times as long as usual are a sign of a
// backend that queues instead of refusing.
const slowFactor = 2

// Slot is one request's place in the window.
type Slot struct {
	epoch uint64
	n     int // in flight with it
}

// NewWindow starts at min.
func NewWindow(min, max int) *Window {
	w := &Window{min: min, max: max, room: newCapacity(min, max)}
	w.set(min)
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
	return Slot{epoch: w.epoch, n: w.inFlight}
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
	if s.epoch != w.epoch {
		return
	}
	switch a {
	case Refused:
		w.room.saw(s.n, w.limit, true)
		if room, yes := w.room.exceeded(w.limit); yes {
			w.fall(room)
		}
	case Crowded:
		w.relax()
	case Clean:
		w.room.saw(s.n, w.limit, false)
		w.clean++
		if took > 0 {
			w.took += took
			w.timed++
		}
		if w.clean >= w.limit {
			w.round()
		}
	}
}

// fall asks for what there is room for, or for a third less if that is more: a
// sink that refuses at once refuses many while it serves one, so that it looks
// smaller than it is. What was good before the last growth is good still.
func (w *Window) fall(room int) {
	lowest := w.good
	if lowest == 0 {
		lowest = w.limit - max(w.limit/3, 1)
	}
	w.set(max(room, lowest))
}

// round draws the conclusions of a round.
func (w *Window) round() {
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
	w.clean = 0
	if !w.filled {
		return // a limit that was not reached says nothing about a higher one
	}
	w.good = 0
	if more := w.room.beyond(w.limit, 2*w.limit); more > w.limit {
		good := w.limit
		w.set(more)
		w.good = good
	}
}

// relax asks for a quarter less for some rounds.
func (w *Window) relax() {
	limit := w.limit - max(w.limit/4, 1)
	w.room.doubt(limit + 1)
	w.set(limit)
}

func (w *Window) set(limit int) {
	w.good, w.clean, w.took, w.timed, w.filled = 0, 0, 0, 0, false
	w.limit = min(max(limit, w.min), w.max)
	w.epoch++
}

// Collapse falls back to min, as after an outage, and feels its way up again.
func (w *Window) Collapse() {
	w.usual = 0
	w.room.forget()
	w.set(w.min)
}
