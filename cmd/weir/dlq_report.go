package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"weir/connector/redrive"
)

// progress tells how far a job has come: on a terminal in one line that changes,
// else in a line now and then.
type progress struct {
	out      io.Writer
	job      *redrive.Job
	terminal bool
	stop     chan struct{}
	ended    sync.WaitGroup

	mu      sync.Mutex
	waiting func() string // what is waited for beside the sink, "" for nothing
}

const (
	redrawEvery = 500 * time.Millisecond
	lineEvery   = 10 * time.Second
)

func newProgress(out io.Writer, job *redrive.Job) *progress {
	p := &progress{out: out, job: job, stop: make(chan struct{})}
	every := lineEvery
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		p.terminal, every = true, redrawEvery
	}
	p.ended.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.say()
			case <-p.stop:
				return
			}
		}
	})
	return p
}

// waitsFor has what f returns told as well; nil: nothing.
func (p *progress) waitsFor(f func() string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = f
}

func (p *progress) say() {
	r := p.job.Report()
	line := fmt.Sprintf("%d delivered, %d refused again, %d left out, %d offsets to go", r.Delivered, r.Refused, r.Filtered, r.Ahead)
	if r.Trouble != nil {
		line += "; stands still: " + cleanLine(r.Trouble.Error())
	}
	p.mu.Lock()
	if p.waiting != nil {
		if what := p.waiting(); what != "" {
			line = what
		}
	}
	p.mu.Unlock()
	if !p.terminal {
		fmt.Fprintln(p.out, line)
		return
	}
	if w, _, err := term.GetSize(int(p.out.(*os.File).Fd())); err == nil && w > 1 {
		line = cut(line, w-1)
	}
	fmt.Fprint(p.out, "\r\x1b[K"+line)
}

// cut is s in at most n runes.
func cut(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

// close ends it and leaves the terminal's line empty.
func (p *progress) close() {
	close(p.stop)
	p.ended.Wait()
	if p.terminal {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

// printReport says what became of the letters of a connector.
func printReport(out io.Writer, name, from string, r redrive.Report, shared int64) {
	fmt.Fprintf(out, "%s: dead letters in %s\n", name, cleanLine(from))
	row := func(n int64, what string) { fmt.Fprintf(out, "  %10d  %s\n", n, what) }
	row(r.Delivered, fmt.Sprintf("delivered, of which the sink held %d already", r.Duplicates))
	row(r.Refused, "refused again, and stay")
	printReasons(out, r.Reasons)
	row(r.Filtered, "left out by the filter, and stay")
	for _, more := range []struct {
		n    int64
		what string
	}{
		{r.Before, "skipped: redriven by an earlier run"},
		{r.Others, "skipped: of other connectors"},
		{r.Foreign, "skipped: no letters of weir"},
		{r.Selected - r.Delivered - r.Refused, "in flight when it was stopped, and stay"},
		{r.Ahead, "offsets not looked at"},
		{shared, "partitions left to another redrive"},
	} {
		if more.n > 0 {
			row(more.n, more.what)
		}
	}
	row(r.Refused+r.Filtered+max(r.Selected-r.Delivered-r.Refused, 0), remaining(r, shared))
}

// remaining says what the last number of the report is about.
func remaining(r redrive.Report, shared int64) string {
	if r.Ahead > 0 || shared > 0 {
		return "remain, and what was not looked at"
	}
	return "remain"
}

// printReasons lists the reasons, the most frequent first.
func printReasons(out io.Writer, reasons redrive.Reasons) {
	all, rest := reasons.All()
	for _, r := range all {
		fmt.Fprintf(out, "  %10d    %s\n", r.Count, cleanLine(r.String()))
	}
	if rest > 0 {
		fmt.Fprintf(out, "  %10d    other reasons\n", rest)
	}
}
