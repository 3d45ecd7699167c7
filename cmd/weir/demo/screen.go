package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// viewer shows the story while it goes on.
type viewer interface {
	show(*story)
	// close leaves the output as it was found; it may be called again, and from
	// any goroutine.
	close()
}

// newViewer is a screen when out is a terminal that can draw one, and prints
// lines otherwise.
func newViewer(out io.Writer, metrics string) viewer {
	if f, ok := out.(*os.File); ok && drawable(f) {
		return openScreen(f, metrics)
	}
	return &lines{out: out, next: time.Second}
}

func drawable(f *os.File) bool {
	if !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return false
	}
	w, h, err := term.GetSize(int(f.Fd()))
	return err == nil && w >= 60 && h >= 20
}

// screen draws frames on the terminal's alternate screen.
type screen struct {
	f       *os.File
	metrics string
	colour  bool
	width   int
	height  int
	mu      sync.Mutex
	closed  bool
}

func openScreen(f *os.File, metrics string) *screen {
	_, _ = f.WriteString("\x1b[?1049h\x1b[?25l\x1b[2J")
	return &screen{f: f, metrics: metrics, colour: os.Getenv("NO_COLOR") == "", width: 80, height: 24}
}

func (sc *screen) show(s *story) {
	if w, h, err := term.GetSize(int(sc.f.Fd())); err == nil && w > 0 && h > 0 {
		sc.width, sc.height = w, h
	}
	text := strings.Join(frame(s, sc.metrics, sc.width, sc.height, sc.colour), "\x1b[K\r\n")
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if !sc.closed {
		// One write a frame, or it would flicker.
		_, _ = sc.f.WriteString("\x1b[H" + text + "\x1b[K\x1b[J")
	}
}

func (sc *screen) close() {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if !sc.closed {
		sc.closed = true
		_, _ = sc.f.WriteString("\x1b[?25h\x1b[?1049l")
	}
}

// lines prints one line a second, and one for everything that happened.
type lines struct {
	out     io.Writer
	next    time.Duration
	printed int64 // entries
}

func (l *lines) show(s *story) {
	for _, e := range s.since(l.printed) {
		_, _ = fmt.Fprintf(l.out, "%s  -- %s\n", clock(e.at), e.text)
	}
	l.printed = s.noted
	if s.Elapsed >= l.next {
		_, _ = fmt.Fprintln(l.out, s.line())
		l.next = s.Elapsed.Truncate(time.Second) + time.Second
	}
}

func (l *lines) close() {}
