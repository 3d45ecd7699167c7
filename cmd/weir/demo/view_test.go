package demo

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"weir/connector"
)

// told is a story of a SIEM that got slow, with foreign text in every place that
// can hold some.
func told(run time.Duration) *story {
	s := newStory(run)
	start := noon
	for i := range 120 {
		at := time.Duration(i) * frameTime
		st := connector.Stats{
			Name: "demo\x1b[2J", InFlight: 2, Window: max(3, 8-i/10), WindowMax: 8, BytesHeld: 12 << 20, BytesMax: 32 << 20,
			Lanes: []connector.LaneStats{
				{Topic: topic, Live: true, Committed: int64(100 * i), End: int64(250 * i), Oldest: start, Counts: connector.Counts{Delivered: int64(100 * i), DeadLettered: 3, Retried: 1234567}},
				{Topic: topic, Partition: 1, Committed: 0, End: 9999, Counts: connector.Counts{Delivered: 5}}, // not ours any more
			},
		}
		s.observe(start.Add(at), Snapshot{Elapsed: at, Produced: int64(250 * i), Bridge: st, mood: newScript(20 * time.Second).mood(at)})
	}
	return s
}

// onScreen fails unless lines fit a screen and hold nothing that moves a cursor.
func onScreen(t *testing.T, lines []string, width, height int) {
	t.Helper()
	if len(lines) != height {
		t.Errorf("%d lines on a screen of %d", len(lines), height)
	}
	for i, l := range lines {
		if n := utf8.RuneCountInString(l); n > width {
			t.Errorf("line %d has %d columns of %d: %s", i, n, width, l)
		}
		for _, r := range l {
			if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
				t.Errorf("line %d holds the control character %q: %q", i, r, l)
			}
		}
	}
}

func TestFrameFitsTheScreen(t *testing.T) {
	huge := told(0)
	huge.Produced, huge.lag, huge.peak, huge.counts.Retried = math.MaxInt64, math.MaxInt64, math.MaxInt64, math.MaxInt64
	huge.rateIn, huge.oldest = 1e18, 1e18
	huge.note(strings.Repeat("a long tale ", 100))
	for name, s := range map[string]*story{"nothing yet": newStory(0), "usual": told(20 * time.Second), "huge": huge} {
		for _, size := range [][2]int{{80, 24}, {60, 20}, {132, 50}, {20, 5}, {1, 1}} {
			t.Run(fmt.Sprintf("%s at %dx%d", name, size[0], size[1]), func(t *testing.T) {
				onScreen(t, frame(s, "http://127.0.0.1:9600/metrics", size[0], size[1], false), size[0], size[1])
			})
		}
	}
}

func TestFrameSaysHowThingsAre(t *testing.T) {
	s := told(20 * time.Second)
	lines := frame(s, "http://127.0.0.1:9600/metrics", 80, 24, false)
	all := strings.Join(lines, "\n")
	t.Log("\n" + all)
	for _, want := range []string{
		"0:17 of 0:20",
		"● recovered: answers every request at once again",
		"17,850 events wait in Kafka", // not those of the partition that is not ours
		"2 in flight, window 3, at most 8",
		"████████░░░░····················",
		"12.0 MiB held of 32.0 MiB",
		"29,750", // produced
		"11,905", // delivered, by the lane that is gone too
		"1,234,567",
		"17.9 s",
		"http://127.0.0.1:9600/metrics",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("the screen does not say %q", want)
		}
	}
}

func TestForeignTextCannotDriveTheTerminal(t *testing.T) {
	s := told(0)
	evil := "\x1b]0;owned\x07\x1b[2J\r\n\u009b31mé日"
	s.note(evil)
	s.Bridge.Lanes[0].Blocked = errors.New(evil)
	s.observe(noon, s.Snapshot)
	lines := frame(s, evil, 80, 24, false)
	onScreen(t, lines, 80, 24)
	if !strings.Contains(lines[2], "is blocked") {
		t.Errorf("the screen does not say that a partition is blocked: %s", lines[2])
	}
	if strings.ContainsAny(s.line(), "\x1b\r\n") {
		t.Errorf("the line holds control characters: %q", s.line())
	}
}

func TestColourIsLeftOutWhenNotWanted(t *testing.T) {
	s := told(0)
	plainText, coloured := frame(s, "m", 80, 24, false), frame(s, "m", 80, 24, true)
	for i := range coloured {
		stripped := coloured[i]
		for {
			at := strings.Index(stripped, "\x1b[")
			if at < 0 {
				break
			}
			stripped = stripped[:at] + stripped[at+strings.IndexByte(stripped[at:], 'm')+1:]
		}
		if stripped != plainText[i] {
			t.Errorf("line %d differs without its colours:\n%q\n%q", i, stripped, plainText[i])
		}
	}
	if strings.Join(coloured, "") == strings.Join(plainText, "") {
		t.Error("there is no colour")
	}
}

func TestOutageIsTold(t *testing.T) {
	s := told(0)
	sn := s.Snapshot
	sn.Bridge.Down, sn.Bridge.NextAttempt = errors.New("503"), noon.Add(21500*time.Millisecond)
	s.observe(noon.Add(20*time.Second), sn)
	if got := s.weirDoes(); got != "holds 12.0 MiB, commits nothing, tries again in 1.5 s" {
		t.Errorf("got %q", got)
	}
	sn.Bridge.Down = nil
	s.observe(noon.Add(21*time.Second), sn)
	last := s.entries[len(s.entries)-2:]
	if !strings.Contains(last[0].text, "the SIEM is down") || !strings.Contains(last[1].text, "delivers again") {
		t.Errorf("what happened ends with %v", last)
	}
}

func TestWindowIsTold(t *testing.T) {
	s := newStory(0)
	var said []string
	for i, w := range []int{1, 4, 8, 8, 8, 5, 3, 3, 3, 5, 8} {
		at := time.Duration(i) * time.Second
		s.observe(noon.Add(at), Snapshot{Elapsed: at, mood: instant, Bridge: connector.Stats{Window: w, WindowMax: 8}})
		said = append(said, s.weirDoes())
	}
	for i, want := range map[int]string{
		2: "opens its window from 4 to 8; keeps up",
		4: "keeps up",
		6: "lowers its window from 5 to 3; keeps up",
		8: "window at 3 of 8; keeps up",
	} {
		if said[i] != want {
			t.Errorf("at %d s: %q, want %q", i, said[i], want)
		}
	}
	var noted []string
	for _, e := range s.entries {
		noted = append(noted, e.text)
	}
	want := "weir has lowered its window from 8 to 3 requests at a time|weir has opened its window again, to 8 requests at a time"
	if got := strings.Join(noted[1:], "|"); got != want {
		t.Errorf("noted %q, want %q", got, want)
	}
}

func TestLinesPrintsEachEntryOnceAndALineASecond(t *testing.T) {
	var out strings.Builder
	v := &lines{out: &out, next: time.Second}
	s := newStory(0)
	for i := range 300 {
		s.observe(noon, Snapshot{Elapsed: time.Duration(i) * 10 * time.Millisecond, mood: instant})
		if i%3 == 0 {
			s.note(fmt.Sprintf("entry %03d", i))
		}
		v.show(s)
	}
	if n := strings.Count(out.String(), "entry "); n != 100 {
		t.Errorf("%d entries were printed, want 100", n)
	}
	if n := strings.Count(out.String(), "in flight"); n != 2 {
		t.Errorf("%d lines were printed in 3 seconds, want 2", n)
	}
}
