package demo

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// style is the parameter of an ANSI colour sequence.
type style string

const (
	none   style = ""
	bold   style = "1"
	dim    style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
	blue   style = "34"
	purple style = "35"
	cyan   style = "36"
)

// moodStyle is the colour of a mood, in the sentence and in the graph.
func moodStyle(name string) style {
	switch name {
	case "healthy", "recovered", "calm":
		return green
	case "slowing":
		return yellow
	case "overloaded":
		return purple
	case "outage", "restarting":
		return red
	default:
		return cyan
	}
}

// row is a line of the screen that never gets wider than the screen. Every
// character in it takes one column.
type row struct {
	b      strings.Builder
	room   int
	colour bool
}

func (r *row) put(st style, text string) *row {
	if n := utf8.RuneCountInString(text); n > r.room {
		text = string([]rune(text)[:r.room])
		r.room = 0
	} else {
		r.room -= n
	}
	if text == "" {
		return r
	}
	if r.colour && st != none {
		fmt.Fprintf(&r.b, "\x1b[%sm%s\x1b[0m", st, text)
	} else {
		r.b.WriteString(text)
	}
	return r
}

// right puts text at the right end of the row, if there is room for it.
func (r *row) right(st style, text string) *row {
	n := utf8.RuneCountInString(text)
	if n+1 > r.room {
		return r
	}
	return r.put(none, strings.Repeat(" ", r.room-n-1)).put(st, text)
}

const graphRows = 4

// frame draws the story on a screen of width columns and height lines.
func frame(s *story, metrics string, width, height int, colour bool) []string {
	var rows []*row
	add := func() *row {
		r := &row{room: width, colour: colour}
		rows = append(rows, r)
		return r
	}
	b := s.Bridge
	end := ""
	if s.run > 0 {
		end = " of " + clock(s.run)
	}
	add().put(bold, " weir demo").put(dim, "   Kafka -> weir -> a slow and moody SIEM").right(bold, clock(s.Elapsed)+end)
	add().put(dim, " SIEM    ").put(moodStyle(s.mood.name), "● "+s.mood.name).put(none, ": "+s.mood.says)
	add().put(dim, " weir    ").put(none, s.weirDoes())
	add().put(dim, " events  ").put(none, s.traffic())
	add()
	add().put(dim, " lag     ").put(bold, thousands(s.lag)).put(none, " events wait in Kafka").right(dim, "peak "+thousands(s.peak))
	for _, cells := range graph(s.columns, width-2) {
		r := add().put(none, " ")
		for _, c := range cells {
			r.put(c.style, c.text)
		}
	}
	add()
	add().put(dim, " requests  ").put(blue, slots(b.InFlight, b.Window, b.WindowMax)).put(none, fmt.Sprintf("  %d in flight, window %d, at most %d", b.InFlight, b.Window, b.WindowMax))
	add().put(dim, " memory    ").put(blue, bar(float64(b.BytesHeld), float64(b.BytesMax))).put(none, fmt.Sprintf("  %s held of %s", mebi(b.BytesHeld), mebi(b.BytesMax)))
	scale := max(s.rateIn, s.rateOut, 2*usualRate)
	add().put(dim, " produced  ").put(cyan, bar(s.rateIn, scale)).put(none, fmt.Sprintf("  %s events/s", thousands(int64(s.rateIn))))
	add().put(dim, " settled   ").put(green, bar(s.rateOut, scale)).put(none, fmt.Sprintf("  %s events/s", thousands(int64(s.rateOut))))
	add()
	cell := func(r *row, name, value string) {
		r.put(dim, fmt.Sprintf(" %-15s", name)).put(bold, fmt.Sprintf("%9s", value))
	}
	r := add()
	cell(r, "produced", thousands(s.Produced))
	cell(r, "delivered", thousands(s.counts.Delivered))
	cell(r, "dead-lettered", thousands(s.counts.DeadLettered))
	r = add()
	cell(r, "retried", thousands(s.counts.Retried))
	cell(r, "duplicates", thousands(s.counts.Duplicates))
	cell(r, "oldest held", seconds(s.oldest))
	add()

	room := max(0, height-len(rows)-1)
	for _, e := range s.entries[max(0, len(s.entries)-room):] {
		add().put(dim, fmt.Sprintf(" %5s  ", clock(e.at))).put(none, e.text)
	}
	rows = rows[:min(len(rows), max(0, height-1))]
	for len(rows) < height-1 {
		add()
	}
	add().put(dim, " "+plain(metrics)).right(dim, "Ctrl-C ends it and counts")

	lines := make([]string, len(rows))
	for i, r := range rows {
		lines[i] = r.b.String()
	}
	return lines
}

const barWidth = 32

var eighths = []rune(" ▁▂▃▄▅▆▇█")

// bar fills a part of barWidth columns.
func bar(value, most float64) string {
	n := 0
	if most > 0 {
		n = int(math.Round(barWidth * min(1, max(0, value/most))))
	}
	return strings.Repeat("█", n) + strings.Repeat("·", barWidth-n)
}

// slots shows the requests in flight, the places left in the window, and those
// that the window gave up.
func slots(inFlight, window, most int) string {
	if most <= 0 {
		return strings.Repeat("·", barWidth)
	}
	at := func(n int) int { return min(barWidth, max(0, n*barWidth/most)) }
	used, open := at(inFlight), at(max(window, inFlight))
	return strings.Repeat("█", used) + strings.Repeat("░", open-used) + strings.Repeat("·", barWidth-open)
}

type cell struct {
	style style
	text  string
}

// graph draws the columns that fit into width, the latest at the right end, as
// high as the most lag among them.
func graph(columns []column, width int) [graphRows][]cell {
	columns = columns[max(0, len(columns)-max(0, width)):]
	var most int64 = 1
	for _, c := range columns {
		most = max(most, c.lag)
	}
	var rows [graphRows][]cell
	for _, c := range columns {
		filled := int(math.Ceil(float64(max(0, c.lag)) / float64(most) * graphRows * 8))
		for i := range rows {
			part := min(8, max(0, filled-8*(graphRows-1-i)))
			// The lowest row is never empty, so that its colours show the moods.
			if i == graphRows-1 {
				part = max(1, part)
			}
			rows[i] = append(rows[i], cell{moodStyle(c.mood), string(eighths[part])})
		}
	}
	return rows
}
