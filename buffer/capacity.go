package buffer

import "math"

// capacity is what the answers of late say about how many requests the sink has
// room for.
//
// A sink with room for c of n requests takes a share of c/n of them, and all if n
// is no more than c. But some refusals have nothing to do with how many are in
// flight (a proxy that refuses at random, one bad node of five), so that a share
// of what there is room for is refused, too: the background. Every pair of the two
// is a way to explain the answers. Each answer makes the pairs that foresaw it
// more likely than the others, and older answers count for less and less, so
// that a pair is refuted for as long as there is something to refute it by.
//
// Pairs that only differ beyond what was tried explain the answers equally well.
// So growing needs no rule of its own: it is to try the greatest number that
// nothing speaks against, and what a refused try has refuted is likely enough to
// be tried again once that has faded.
type capacity struct {
	min, max int
	// log is the logarithm of how likely each pair is, up to what all have in common;
	// by number, from min.
	log [][len(backgrounds)]float64
}

// backgrounds are the shares that are refused however few are in flight. Above a
// half there is no background to speak of, but a sink without room. None is
// nothing: one refusal among hundreds must not refute all numbers alike.
var backgrounds = [...]float64{.005, .01, .03, .06, .1, .15, .2, .3, .4, .5}

const (
	// memory is how many rounds of answers count, about.
	memory = 24
	// refuted: the logarithm of how much less likely than the best a pair can become.
	// It is how long a sink that has room again is asked for too little: a number is
	// tried again when log(refuted/untried), 1.4, memories have passed at most.
	refuted = 8
	// doubtful: a number that is this much less likely than the best, a twentieth as
	// likely, is not kept.
	doubtful = 3
	// untried: a number that is less likely than the best by no more than this is
	// worth a try.
	untried = 2
	// undisputed: nothing to speak of was seen against a number, so that all up to it
	// can be left out.
	undisputed = 1
)

// rarity is how much less likely a background is before anything was seen. At a
// share of 0.3 it exceeds doubtful: where the answers at hand allow for both, a
// sink that refuses every third request is taken for one with less room, and asked
// for less, which soon shows which of the two it is.
func rarity(background float64) float64 { return min(3.3, 36*background*background) }

func newCapacity(min, max int) *capacity {
	c := &capacity{min: min, max: max, log: make([][len(backgrounds)]float64, max-min+1)}
	c.forget()
	return c
}

// forget leaves nothing but that backgrounds are rare.
func (c *capacity) forget() {
	for i := range c.log {
		for j, b := range backgrounds {
			c.log[i][j] = -rarity(b)
		}
	}
}

// saw notes the answer to a request that was sent as the nth in flight, while as
// many as limit might have been.
func (c *capacity) saw(n, limit int, refused bool) {
	fade := 1 - 1/float64(memory*limit)
	best := math.Inf(-1)
	var learned [len(backgrounds)]float64
	for i := range c.log {
		if number := c.min + i; number <= n || i == 0 { // beyond n all foresaw the same
			room := min(1, float64(number)/float64(n))
			for j, b := range backgrounds {
				taken := (1 - b) * room
				if refused {
					taken = 1 - taken
				}
				learned[j] = math.Log(taken)
			}
		}
		for j, b := range backgrounds {
			before := -rarity(b)
			c.log[i][j] = before + (c.log[i][j]-before)*fade + learned[j]
			best = max(best, c.log[i][j])
		}
	}
	for i := range c.log {
		for j := range c.log[i] {
			c.log[i][j] = max(c.log[i][j]-best, -refuted)
		}
	}
}

// doubt makes numbers from number on unlikely for a while.
func (c *capacity) doubt(number int) {
	for i := max(0, number-c.min); i < len(c.log); i++ {
		for j := range c.log[i] {
			c.log[i][j] -= doubtful
		}
	}
}

// likely is the logarithm of how likely number is, with whatever background
// explains the answers best.
func (c *capacity) likely(number int) float64 {
	best := math.Inf(-1)
	for _, l := range c.log[number-c.min] {
		best = max(best, l)
	}
	return best
}

// best is the greatest of the likeliest numbers.
func (c *capacity) best() (number int, likely float64) {
	likely = math.Inf(-1)
	for n := c.min; n <= c.max; n++ {
		if l := c.likely(n); l >= likely {
			number, likely = n, l
		}
	}
	return number, likely
}

// exceeded reports that limit is more than there is room for, and how much there
// is.
func (c *capacity) exceeded(limit int) (room int, yes bool) {
	room, likely := c.best()
	return room, room < limit && c.likely(limit) < likely-doubtful
}

// beyond is the greatest number above limit, up to most, that is worth a try; one
// more than limit, if something speaks against any; limit, if too much does.
func (c *capacity) beyond(limit, most int) int {
	_, likely := c.best()
	for n := min(most, c.max); n > limit+1; n-- {
		if c.likely(n) >= likely-undisputed {
			return n
		}
	}
	if limit < c.max && c.likely(limit+1) >= likely-untried {
		return limit + 1
	}
	return limit
}
