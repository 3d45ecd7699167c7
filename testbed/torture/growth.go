package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// sample is what one look at the member that runs all the time gave.
type sample struct {
	at    time.Duration
	pause int // between two events, counted; -1: it is of none

	rss        float64 // bytes
	heap       float64 // bytes at which the next collection begins: about twice what is in use
	goroutines float64
	files      float64
	lag        float64 // weir's own, in records; -1: it has no partitions
}

// resource is what a process may need more of as time goes by.
type resource struct {
	name string
	unit float64 // that it is shown in
	of   func(sample) float64
	// rise is how much more of it may seem to be needed at the end of what is judged
	// than at its begin.
	rise float64
}

// resources are what must not grow.
//
// A bound is a rise over all that is judged, and no speed, since that is what noise
// has: resident memory wanders by a MiB or two and connections are kept for 90 s
// after a moment in which they were needed, however long one looks. So the slowest
// leak that is found is the slower the longer the run. An hour, of which three
// quarters are judged, cannot tell 4 MiB a day from nothing; a day can.
//
// Each bound lies between what noise does in an hour and what an hour has to find.
// In hours simulated after a real one (growth_test.go) the rise of a process that
// does not leak has a standard deviation of 1.1 MiB of resident memory, 0.6 MiB of
// heap, 0.9 goroutines and 1.2 files, and one such hour in a hundred or fewer is
// beyond a bound. A leak of 11 MiB an hour makes the rise 8 MiB, one goroutine or
// file at each event of one kind makes it 6.
//
// A connection has two goroutines and a file, and how many connections there are is
// chance. They are taken out of the goroutines, which would have three times the
// noise, and remain in the files.
var resources = []resource{
	{"resident memory, MiB", 1 << 20, func(s sample) float64 { return s.rss }, 4 << 20},
	{"heap at which a collection begins, MiB", 1 << 20, func(s sample) float64 { return s.heap }, 2 << 20},
	{"goroutines, less two for each open file", 1, func(s sample) float64 { return s.goroutines - 2*s.files }, 3.5},
	{"open files", 1, func(s sample) float64 { return s.files }, 3.5},
}

const (
	// fewestSamples make a level.
	fewestSamples = 5
	// fewestLevels after each kind of event make a verdict: with fewer of them a leak
	// of one at each event of a kind would not pass the bound.
	fewestLevels = 5
)

// level is what was needed in a calm moment.
type level struct {
	at    time.Duration
	after int // kind of event
	value float64
}

// levels are the lower quartiles of each pause between two events: what is needed
// for a moment only stands out upwards. The first quarter of the time is for warming
// up.
func levels(samples []sample, of func(sample) float64) (found []level) {
	for rest := samples; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].pause == rest[0].pause {
			n++
		}
		first, last := rest[0], rest[n-1]
		var values []float64
		for _, s := range rest[:n] {
			values = append(values, of(s))
		}
		rest = rest[n:]
		if first.pause < 0 || n < fewestSamples || first.at < samples[len(samples)-1].at/4 {
			continue
		}
		slices.Sort(values)
		found = append(found, level{at: (first.at + last.at) / 2, after: first.pause % len(life), value: values[n/4]})
	}
	return found
}

// growth is how much a resource grows in an hour: the slope of Theil and Sen, which is
// the median of the slopes between any two levels, so that a quarter of them may be
// wild. A level is compared with those after events of the same kind only: each kind
// leaves another one behind.
func growth(levels []level) float64 {
	var slopes []float64
	for i, b := range levels {
		for _, a := range levels[:i] {
			if a.after == b.after {
				slopes = append(slopes, (b.value-a.value)/(b.at-a.at).Hours())
			}
		}
	}
	return median(slopes)
}

func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// enough says what is missing for a verdict.
func enough(levels []level) error {
	seen := make([]int, len(life))
	for _, l := range levels {
		seen[l.after]++
	}
	if n := slices.Min(seen); n < fewestLevels {
		return fmt.Errorf("too short for a verdict on growth: without the first quarter there were %d pauses with %d samples after %q, and %d are needed after each kind of event",
			n, fewestSamples, life[slices.Index(seen, n)].name, fewestLevels)
	}
	return nil
}

// verdict says whether what was sampled grows.
func verdict(samples []sample) (report string, err error) {
	var b strings.Builder
	b.WriteString("| of the member that ran all the time, between events | median | rise over what was judged | more is growth | that is in a day | |\n| --- | ---: | ---: | ---: | ---: | --- |\n")
	var grown []string
	for _, r := range resources {
		levels := levels(samples, r.of)
		if err := enough(levels); err != nil {
			return err.Error() + "\n", err
		}
		var values []float64
		for _, l := range levels {
			values = append(values, l.value)
		}
		hourly := growth(levels)
		rise := hourly * (levels[len(levels)-1].at - levels[0].at).Hours()
		word := "steady"
		if rise > r.rise {
			word = "GROWS"
			grown = append(grown, r.name)
		}
		fmt.Fprintf(&b, "| %s | %.1f | %+.1f | %.1f | %+.0f | %s |\n", r.name, median(values)/r.unit, rise/r.unit, r.rise/r.unit, hourly*24/r.unit, word)
	}
	if len(grown) > 0 {
		err = errors.New("it grows: " + strings.Join(grown, "; "))
	}
	return b.String(), err
}
