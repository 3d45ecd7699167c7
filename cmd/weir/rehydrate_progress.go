package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"weir/connector/evidence"
	"weir/connector/replay"
)

// caseState is what is told of a running case at a time.
type caseState struct {
	name    string
	look    *overview
	worker  replay.Report
	offsets float64 // a second, of all workers
	records float64
	left    time.Duration
	known   bool   // left is
	waiting string // for what beside the sink, "" for nothing
}

// caseProgress tells how far a case has come: in a picture that is drawn anew on a
// terminal, else in lines of JSON.
type caseProgress struct {
	out      io.Writer
	terminal *os.File // nil: none

	mu    sync.Mutex
	drawn int // lines on the terminal
	last  caseState
}

// newCaseProgress writes to out.
func newCaseProgress(out io.Writer) *caseProgress {
	p := &caseProgress{out: out}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		p.terminal = f
	}
	return p
}

// every is how often show is to be called.
func (p *caseProgress) every() time.Duration {
	if p.terminal != nil {
		return redrawEvery
	}
	return lineEvery
}

func (p *caseProgress) show(s caseState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = s
	if p.terminal == nil {
		_ = json.NewEncoder(cleanJSON{p.out}).Encode(s.line())
		return
	}
	p.clear()
	p.draw()
}

func (p *caseProgress) draw() {
	if p.last.look == nil {
		return
	}
	width, height := 80, 24
	if w, h, err := term.GetSize(int(p.terminal.Fd())); err == nil && w > 20 && h > 5 {
		width, height = w, h
	}
	lines := p.last.lines(width, height-2)
	p.drawn = len(lines)
	fmt.Fprint(p.out, strings.Join(lines, "\n")+"\n")
}

// clear takes the picture off the terminal.
func (p *caseProgress) clear() {
	if p.drawn > 0 {
		fmt.Fprintf(p.out, "\x1b[%dA\x1b[J", p.drawn)
	}
	p.drawn = 0
}

// close leaves the terminal as it was found.
func (p *caseProgress) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	p.last = caseState{}
}

// beside is a writer for what else goes to the same terminal: the picture is
// drawn again below it.
func (p *caseProgress) beside(w io.Writer) io.Writer {
	if f, ok := w.(*os.File); p.terminal == nil || !ok || !term.IsTerminal(int(f.Fd())) {
		return w
	}
	return besideWriter{p, w}
}

type besideWriter struct {
	p *caseProgress
	w io.Writer
}

func (b besideWriter) Write(text []byte) (int, error) {
	b.p.mu.Lock()
	defer b.p.mu.Unlock()
	b.p.clear()
	n, err := b.w.Write(text)
	if bytes.HasSuffix(text, []byte("\n")) {
		b.p.draw()
	}
	return n, err
}

// progressLine is a state for machines.
type progressLine struct {
	Time       time.Time                 `json:"time"`
	Event      string                    `json:"event"`
	Case       string                    `json:"case"`
	Offsets    int64                     `json:"offsets"`
	Done       int64                     `json:"offsets_done"`
	Finished   int                       `json:"partitions_done"`
	Partitions int                       `json:"partitions"`
	PerSecond  float64                   `json:"records_per_second"`
	ETA        *float64                  `json:"eta_seconds"`
	Counts     evidence.Counts           `json:"counts"`
	Gaps       evidence.ClassCounts      `json:"gap_offsets"`
	Waiting    string                    `json:"waiting,omitempty"`
	Each       []progressLineOfPartition `json:"each,omitempty"`
}

type progressLineOfPartition struct {
	Topic     string               `json:"topic"`
	Partition int32                `json:"partition"`
	First     int64                `json:"first_offset"`
	Next      int64                `json:"next_offset"`
	End       int64                `json:"end_offset"`
	Done      bool                 `json:"done"`
	Begun     bool                 `json:"begun"`
	Counts    evidence.Counts      `json:"counts"`
	Gaps      evidence.ClassCounts `json:"gap_offsets"`
	Listed    []evidence.Gap       `json:"gaps_listed,omitempty"`
	Unlisted  uint64               `json:"gaps_not_listed,omitempty"`
}

func (s *caseState) line() progressLine {
	l := progressLine{
		Time: time.Now().UTC().Truncate(time.Millisecond), Event: "progress", Case: s.name, Waiting: s.waits(),
		PerSecond: float64(int64(s.records*10)) / 10,
	}
	if s.known {
		seconds := s.left.Round(time.Second).Seconds()
		l.ETA = &seconds
	}
	if o := s.look; o != nil {
		l.Offsets, l.Done, l.Finished, l.Partitions, l.Counts, l.Gaps = o.total, o.done, o.finished, len(o.partitions), o.counts, o.gaps
	}
	return l
}

// each are the partitions of an overview for machines.
func (o *overview) each() []progressLineOfPartition {
	var all []progressLineOfPartition
	for i := range o.partitions {
		s := &o.partitions[i]
		l := progressLineOfPartition{Topic: s.topic.Name, Partition: s.plan.Number, First: s.plan.First, Next: s.next(), End: s.plan.End, Done: s.done()}
		if s.progress != nil {
			l.Begun, l.Counts, l.Gaps = true, s.progress.Counts, s.gaps.Offsets
			l.Listed, l.Unlisted = s.gaps.Listed, s.gaps.Unlisted
		}
		all = append(all, l)
	}
	return all
}

// waits says what is waited for, "" for nothing.
func (s *caseState) waits() string {
	switch {
	case s.worker.Trouble != nil:
		return "stands still: " + s.worker.Trouble.Error()
	case s.worker.Paused != "":
		return s.worker.Paused
	}
	return s.waiting
}

// lines is a state as a picture.
func (s *caseState) lines(width, height int) []string {
	o := s.look
	eta := "?"
	if s.known {
		eta = span(s.left)
	}
	head := fmt.Sprintf(" %s  %s  %s of %s offsets  %s records/s  ETA %s", cleanLine(s.name), percent(o.done, o.total),
		grouped(o.done), grouped(o.total), grouped(int64(s.records)), eta)
	lines := []string{cut(head, width-1), " " + bar(o.done, o.total, width-2)}
	if w := s.waits(); w != "" {
		lines = append(lines, cut(" "+cleanLine(w), width-1))
	}
	ours := map[string]int64{}
	for i := range s.worker.Partitions {
		if p := &s.worker.Partitions[i]; p.Ours || p.Position >= p.End {
			ours[fmt.Sprintf("%s/%d", p.Topic, p.Partition)] = p.Position
		}
	}
	longest := 0
	for i := range o.partitions {
		longest = max(longest, len(cleanLine(o.partitions[i].name())))
	}
	// The ones of this worker first, then those that others have, then what is done.
	var mine, others, done []string
	for i := range o.partitions {
		p := &o.partitions[i]
		name := fmt.Sprintf(" %-*s ", longest, cleanLine(p.name()))
		next := p.next()
		position, here := ours[p.name()]
		next = max(next, min(position, p.plan.End))
		line := name + bar(next-p.plan.First, p.plan.Offsets(), 20) + " " + percent(next-p.plan.First, p.plan.Offsets())
		if p.progress != nil {
			c := &p.progress.Counts
			line += fmt.Sprintf("  %s matched, %s delivered", grouped(int64(c.Matched)), grouped(int64(c.Delivered+c.Duplicates+c.Quarantined)))
			if c.DeadLettered > 0 {
				line += fmt.Sprintf(", %s dead letters", grouped(int64(c.DeadLettered)))
			}
			if lost := lostOffsets(p.gaps.Offsets); lost > 0 {
				line += fmt.Sprintf(", %s offsets gone", grouped(lost))
			}
		}
		switch {
		case p.done():
			done = append(done, cut(line+"  done", width-1))
		case here:
			mine = append(mine, cut(line, width-1))
		default:
			others = append(others, cut(line+"  not here", width-1))
		}
	}
	all := append(append(mine, others...), done...)
	room := max(height-len(lines)-1, 1)
	if len(all) > room {
		rest := len(all) - room
		all = append(all[:room], fmt.Sprintf(" and %d more partitions", rest))
	}
	return append(lines, all...)
}

func lostOffsets(gaps evidence.ClassCounts) int64 {
	return int64(gaps[evidence.Retention] + gaps[evidence.Unexplained])
}

func percent(n, of int64) string {
	if of <= 0 {
		return "100.0 %"
	}
	return fmt.Sprintf("%5.1f %%", float64(n)*100/float64(of))
}

// bar is how much of a whole is done.
func bar(n, of int64, width int) string {
	width = max(width, 1)
	full := width
	if of > 0 {
		full = int(max(0, min(n, of)) * int64(width) / of)
	}
	return strings.Repeat("█", full) + strings.Repeat("░", width-full)
}
