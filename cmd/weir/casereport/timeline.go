package casereport

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Timeline counts the records of a topic by time, from the beginning of the case's
// time range to its end.
type Timeline struct {
	Topic    string
	From, To time.Time
	Step     time.Duration
	Counts   []uint64
	// None is how many have no timestamp.
	None uint64
}

// steps are the lengths of time that people count in.
var steps = []time.Duration{
	time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond, time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour, 48 * time.Hour, 7 * 24 * time.Hour, 28 * 24 * time.Hour,
}

// maxBars bounds the bars of a timeline.
const maxBars = 60

// NewTimeline is the empty timeline of a topic.
func NewTimeline(topic string, from, to time.Time) *Timeline {
	t := &Timeline{Topic: topic, From: from.UTC(), To: to.UTC()}
	span := to.Sub(from)
	for _, t.Step = range steps {
		if span/t.Step < maxBars {
			break
		}
	}
	for span/t.Step >= maxBars {
		t.Step *= 2
	}
	t.From = t.From.Truncate(t.Step)
	n := (to.Sub(t.From) + t.Step - 1) / t.Step
	t.Counts = make([]uint64, max(n, 1))
	return t
}

// Add counts a record of that time; the zero time is none.
func (t *Timeline) Add(at time.Time) {
	i := int(at.Sub(t.From) / t.Step)
	if at.IsZero() || at.Before(t.From) || i >= len(t.Counts) {
		t.None++
		return
	}
	t.Counts[i]++
}

// Most is the highest count.
func (t *Timeline) Most() uint64 { return slices.Max(t.Counts) }

// The picture of a timeline, in its own units.
const (
	chartWidth  = 720
	chartHeight = 120
)

// Bar is one bar of the picture.
type Bar struct {
	X, Y, Width, Height float64
	At                  time.Time
	Records             uint64
}

// Bars are those that are not empty.
func (t *Timeline) Bars() []Bar {
	var bars []Bar
	width := float64(chartWidth) / float64(len(t.Counts))
	most := float64(max(t.Most(), 1))
	for i, n := range t.Counts {
		if n == 0 {
			continue
		}
		h := max(chartHeight*float64(n)/most, 1)
		bars = append(bars, Bar{X: float64(i)*width + 0.5, Y: chartHeight - h, Width: max(width-1, 0.5), Height: h, At: t.start(i), Records: n})
	}
	return bars
}

func (t *Timeline) start(i int) time.Time { return t.From.Add(time.Duration(i) * t.Step) }

// Tick is a time below the picture.
type Tick struct {
	X    float64
	Text string
}

// Ticks are at the ends and between.
func (t *Timeline) Ticks() []Tick {
	layout := "Jan 2 15:04"
	switch end := t.start(len(t.Counts)); {
	case t.Step >= 24*time.Hour:
		layout = "2006-01-02"
	case t.Step < time.Minute && end.Sub(t.From) < 24*time.Hour:
		layout = "15:04:05"
	}
	var ticks []Tick
	last := -1
	for i := range 5 {
		if at := i * len(t.Counts) / 4; at != last {
			ticks = append(ticks, Tick{float64(chartWidth) * float64(at) / float64(len(t.Counts)), t.start(at).Format(layout)})
			last = at
		}
	}
	return ticks
}

// Row is a line of the timeline in text.
type Row struct {
	At      string
	Records uint64
	Bar     string
}

// Rows are the bars in text.
func (t *Timeline) Rows() []Row {
	var rows []Row
	most := max(t.Most(), 1)
	for i, n := range t.Counts {
		bar := strings.Repeat("█", int(n*40/most))
		if n > 0 && bar == "" {
			bar = "▏"
		}
		rows = append(rows, Row{t.start(i).Format("2006-01-02 15:04:05"), n, bar})
	}
	return rows
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }
