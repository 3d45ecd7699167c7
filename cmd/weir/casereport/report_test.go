package casereport

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"weir/connector/evidence"
)

var from = time.Date(2026, 5, 1, 8, 0, 0, 0, time.UTC)

// someCase is one in which everything that people or producers chose is text.
func someCase(text string) *Case {
	first := from.Add(time.Minute)
	m := &evidence.Manifest{
		Case: "A-1", Examiner: text, Purpose: text, Cluster: text, Created: from, Sealed: from.Add(time.Hour),
		Tool:    evidence.Tool{Name: "weir", Version: text, Go: text, OS: text, Host: text},
		Request: evidence.Request{From: from, To: from.Add(6 * time.Hour), Filter: text, Connector: text, Destination: text},
		Topics: []evidence.Topic{{Name: text, ID: text, Partitions: []evidence.PartitionSeal{{
			Partition: 3, Start: 100, End: 1234567, StartBy: text, EndBy: text, First: &first, Last: &first,
			Rescued: &evidence.TreeHead{Size: 17},
			Counts:  evidence.Counts{Read: 1234467, Matched: 1234000, Bytes: 5 << 30, DeadLettered: 2, FilterErrors: 7},
			Gaps: evidence.GapSeal{Offsets: evidence.ClassCounts{evidence.Retention: 12345}, Unlisted: 4,
				Listed: []evidence.Gap{{From: 100, To: 12445, Class: evidence.Retention}}},
		}}}},
		Custody: []evidence.CustodyHead{{Entries: 1}},
	}
	line := NewTimeline(text, m.Request.From, m.Request.To)
	for i := range 1000 {
		line.Add(from.Add(time.Duration(i*i) * time.Second / 50))
	}
	line.Add(time.Time{})
	return &Case{
		Manifest: m, KeyID: "key", Faults: []evidence.Fault{{Place: text, Problem: text}}, RecordsRead: true, Timelines: []*Timeline{line},
		Custody: [][]evidence.Entry{{{Number: 1, Who: text, Host: text, Action: evidence.Action(text), Details: map[string]any{text: text}}}},
		Written: from, Tool: text,
	}
}

var hostile = []string{
	`<script>alert(1)</script>`, `</title><script>`, `"><img src=x onerror=alert(1)>`, `{{.}}`, `' onload='x`, "a\nb\n# head\n| x | y |", "`code` | pipe", "[link](javascript:x)",
	"</style><b>", "<!--", "]]>", "\u202eright to left", "\xff\xfe", "&lt;", "https://example.com", "***", "```\n", "--- \n", "日本語",
}

// Nothing that somebody wrote into a name becomes a part of the page.
func TestPageHoldsTextAndNothingElse(t *testing.T) {
	for _, text := range hostile {
		var out bytes.Buffer
		if err := HTML(&out, someCase(text)); err != nil {
			t.Fatal(err)
		}
		page := out.String()
		var elements []string
		d := xml.NewDecoder(strings.NewReader(page))
		d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			switch e := token.(type) {
			case xml.StartElement:
				elements = append(elements, e.Name.Local)
				for _, a := range e.Attr {
					if strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "src" || a.Name.Local == "href" {
						t.Errorf("%q: <%s %s=%q>", text, e.Name.Local, a.Name.Local, a.Value)
					}
				}
			case xml.Comment:
				t.Errorf("%q: a comment", text)
			}
		}
		var plain bytes.Buffer
		if err := HTML(&plain, someCase("plain")); err != nil {
			t.Fatal(err)
		}
		want := strings.Count(plain.String(), "</")
		if got := strings.Count(page, "</"); got != want || len(elements) < 100 {
			t.Errorf("%q: %d elements end, %d with a plain text", text, got, want)
		}
		for _, bad := range []string{"<script", "<img", "ZgotmplZ"} {
			if strings.Contains(page, bad) {
				t.Errorf("%q: the page has %q", text, bad)
			}
		}
	}
}

// codeSpan is what Markdown shows as it is.
var codeSpan = regexp.MustCompile("`+ ?[^\n]*? ?`+")

// In Markdown a text stays in its line and its cell.
func TestMarkdownHoldsTextAndNothingElse(t *testing.T) {
	shape := func(text string) (lines []string) {
		var out bytes.Buffer
		if err := Markdown(&out, someCase(text)); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			kind := "text"
			switch {
			case strings.HasPrefix(line, "|"):
				kind = fmt.Sprint("row of ", strings.Count(line, "|")-strings.Count(line, `\|`))
			case strings.HasPrefix(line, "#"), strings.HasPrefix(line, "```"), strings.HasPrefix(line, "- "), line == "\n":
				kind = line[:1]
			}
			lines = append(lines, kind)
		}
		return lines
	}
	want := strings.Join(shape("plain"), "\n")
	for _, text := range hostile {
		if got := strings.Join(shape(text), "\n"); got != want {
			t.Errorf("%q changes the page:\n%s", text, got)
		}
		var out bytes.Buffer
		if err := Markdown(&out, someCase(text)); err != nil {
			t.Fatal(err)
		}
		outside := codeSpan.ReplaceAllString(out.String(), "")
		for _, bad := range []string{"<script", "<img", "<b>", "<!--", "](", "\n***"} {
			if strings.Contains(outside, bad) {
				t.Errorf("%q: Markdown has %q", text, bad)
			}
		}
	}
}

func TestReportSaysWhatTheManifestSays(t *testing.T) {
	c := someCase("plain")
	for name, write := range map[string]func(io.Writer, *Case) error{"html": HTML, "markdown": Markdown} {
		render := func() string {
			var out bytes.Buffer
			if err := write(&out, c); err != nil {
				t.Fatal(err)
			}
			return out.String()
		}
		page := render()
		for _, want := range []string{"It does not hold", "Not complete", "12\u202f345", "1\u202f234\u202f566", "5.0 GiB", "Signer not established", "And 4 more such gaps", "17 records of such offsets", "1 records without a timestamp"} {
			if !strings.Contains(page, want) {
				t.Errorf("%s: no %q", name, want)
			}
		}
		held := *c
		held.Faults, held.KeyGiven, held.RecordsRead, held.Timelines, held.Custody = nil, true, false, nil, nil
		m := *c.Manifest
		m.Topics = []evidence.Topic{{Name: "t", Partitions: []evidence.PartitionSeal{{Start: 5, End: 5}}}}
		held.Manifest = &m
		c = &held
		page = render()
		for _, want := range []string{"The signatures hold", "Complete", "Not known here", "were not at hand"} {
			if !strings.Contains(page, want) {
				t.Errorf("%s: no %q", name, want)
			}
		}
		for _, not := range []string{"does not hold", "Signer not established", "Not complete", "Everything holds"} {
			if strings.Contains(page, not) {
				t.Errorf("%s: %q", name, not)
			}
		}
		c = someCase("plain")
	}
}

func TestTimelineCountsEveryRecordOnce(t *testing.T) {
	for _, span := range []time.Duration{time.Millisecond, 90 * time.Millisecond, time.Second, 59 * time.Minute, 6 * time.Hour, 40 * 24 * time.Hour, 30 * 365 * 24 * time.Hour} {
		start := from.Add(1234567 * time.Microsecond)
		l := NewTimeline("t", start, start.Add(span))
		if n := len(l.Counts); n < 1 || n > maxBars+1 {
			t.Errorf("%s: %d bars of %s", span, n, l.Step)
		}
		l.Add(start)
		l.Add(start.Add(span - time.Nanosecond))
		l.Add(start.Add(span / 2))
		var sum uint64
		for _, n := range l.Counts {
			sum += n
		}
		if sum != 3 || l.None != 0 {
			t.Errorf("%s: %d counted, %d not", span, sum, l.None)
		}
		l.Add(start.Add(2*span + 2*l.Step))
		l.Add(start.Add(-2 * l.Step))
		l.Add(time.Time{})
		if l.None != 3 {
			t.Errorf("%s: %d outside", span, l.None)
		}
		for _, b := range l.Bars() {
			if b.X < 0 || b.X+b.Width > chartWidth || b.Y < 0 || b.Y+b.Height > chartHeight {
				t.Errorf("%s: the bar leaves the picture: %+v", span, b)
			}
		}
		if ticks := l.Ticks(); len(ticks) < 2 && len(l.Counts) > 1 {
			t.Errorf("%s: %v", span, ticks)
		}
	}
}
