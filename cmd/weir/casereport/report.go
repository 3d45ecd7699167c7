// Package casereport writes down a sealed case for people who sign things: as one HTML
// page that needs nothing else and prints well, and as Markdown.
package casereport

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io"
	"strconv"
	"strings"
	text "text/template"
	"time"
	"unicode"
	"unicode/utf8"

	"weir/connector/evidence"
)

// Case is what is reported.
type Case struct {
	Manifest *evidence.Manifest
	// ManifestHash is the SHA-256 of what is signed.
	ManifestHash evidence.Hash
	KeyID        string
	// KeyGiven: the key came from who checks, and not out of the case itself.
	KeyGiven bool
	// Faults are what does not hold.
	Faults []evidence.Fault
	// RecordsRead: all records were read again for this report, from a bag.
	RecordsRead bool
	// Timelines has one entry a topic; nil: nothing is known, since no records were
	// read.
	Timelines []*Timeline
	// Custody are the entries of the custody logs that were sealed, log by log.
	Custody [][]evidence.Entry
	// Written is when, Tool what wrote the report.
	Written time.Time
	Tool    string
}

//go:embed report.html.tmpl report.md.tmpl
var templates embed.FS

// HTML writes the page.
func HTML(w io.Writer, c *Case) error {
	t, err := template.New("report.html.tmpl").Funcs(functions).ParseFS(templates, "report.html.tmpl")
	if err != nil {
		return err
	}
	var page bytes.Buffer
	if err := t.Execute(&page, newView(c)); err != nil {
		return err
	}
	_, err = w.Write(bytes.Map(func(r rune) rune {
		if unicode.Is(unicode.Bidi_Control, r) {
			return utf8.RuneError // it would show the text behind it in another order
		}
		return r
	}, bytes.ToValidUTF8(page.Bytes(), []byte("\uFFFD"))))
	return err
}

// Markdown writes the same as Markdown.
func Markdown(w io.Writer, c *Case) error {
	t, err := text.New("report.md.tmpl").Funcs(functions).ParseFS(templates, "report.md.tmpl")
	if err != nil {
		return err
	}
	return t.Execute(w, newView(c))
}

var functions = template.FuncMap{
	"when": when, "number": number, "bytes": size, "md": markdown, "code": code, "inc": func(i int) int { return i + 1 },
	"share": share, "details": details, "stamp": stamp, "rescued": rescued, "duration": duration, "hash": hash,
}

// view is a case with what the templates need to know of it.
type view struct {
	*Case
	Total    evidence.Counts
	Missing  []missing
	Offsets  uint64 // that were read
	Lost     uint64 // that may have held records
	Holds    bool
	Listed   []listedGap
	Unlisted uint64
	Rescued  uint64
}

// missing is one class of gaps.
type missing struct {
	Class   string
	Why     string
	Offsets uint64
	Lost    bool
}

type listedGap struct {
	Topic     string
	Partition int32
	evidence.Gap
}

// why says what the class of a gap means.
var why = [evidence.Classes]string{
	evidence.Control:     "Markers that Kafka writes at the end of transactions. No record was ever there.",
	evidence.Aborted:     "Records of transactions that their producer aborted. Kafka hides them from readers.",
	evidence.Compacted:   "Removed by compaction: the topic keeps the latest record of each key only.",
	evidence.Retention:   "Deleted by retention, or on request, before they could be read. What they held is not known.",
	evidence.Unexplained: "Nothing is there, and none of the other reasons applies. What they held is not known.",
}

func newView(c *Case) *view {
	v := &view{Case: c, Holds: len(c.Faults) == 0}
	var offsets evidence.ClassCounts
	for _, t := range c.Manifest.Topics {
		for _, p := range t.Partitions {
			v.Total.Add(p.Counts)
			v.Offsets += uint64(p.End - p.Start)
			for i, n := range p.Gaps.Offsets {
				offsets[i] += n
			}
			for _, g := range p.Gaps.Listed {
				v.Listed = append(v.Listed, listedGap{t.Name, p.Partition, g})
			}
			v.Unlisted += p.Gaps.Unlisted
			if p.Rescued != nil {
				v.Rescued += p.Rescued.Size
			}
		}
	}
	for _, class := range []evidence.Class{evidence.Retention, evidence.Unexplained, evidence.Compacted, evidence.Aborted, evidence.Control} {
		v.Missing = append(v.Missing, missing{class.String(), why[class], offsets[class], class.Lost()})
		if class.Lost() {
			v.Lost += offsets[class]
		}
	}
	return v
}

// when is a time for people, in UTC, with as many digits as it has.
func when(at any) string {
	var t time.Time
	switch at := at.(type) {
	case time.Time:
		t = at
	case *time.Time:
		if at != nil {
			t = *at
		}
	}
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Truncate(time.Millisecond).Format("2006-01-02 15:04:05.999 UTC")
}

// stamp is a time in a table whose head says that it is in UTC.
func stamp(at any) string { return strings.TrimSuffix(when(at), " UTC") }

// duration is d for people, if it is a round one.
func duration(d time.Duration) string {
	for _, unit := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}, {time.Millisecond, "ms"}} {
		if d >= unit.of && d%unit.of == 0 {
			return strconv.FormatInt(int64(d/unit.of), 10) + " " + unit.name
		}
	}
	return d.String()
}

// rescued says what is in the bag though its offset counts as missing.
func rescued(n uint64) string {
	return number(n) + " records of such offsets are in the bag all the same: a worker had stored them, and was killed before that was noted; when the next one came to read them again, they were gone. They are signed, apart from the others, and count neither as read nor as delivered."
}

// hash is h, if there is one.
func hash(h evidence.Hash) string {
	if h == (evidence.Hash{}) {
		return "not recorded"
	}
	return h.String()
}

// number is n with its digits in groups of three.
func number(n any) string {
	s := fmt.Sprint(n)
	digits, minus := strings.CutPrefix(s, "-")
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteString("\u202f")
		}
		b.WriteRune(d)
	}
	if minus {
		return "−" + b.String()
	}
	return b.String()
}

// size is a number of bytes for people.
func size(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return strconv.FormatUint(n, 10) + " B"
	}
	return strconv.FormatFloat(f, 'f', 1, 64) + " " + units[i]
}

// share is n of all, in percent.
func share(n, all uint64) string {
	if all == 0 {
		return "–"
	}
	return strconv.FormatFloat(100*float64(n)/float64(all), 'f', 2, 64) + " %"
}

// details are those of a custody entry, in the order of their names.
func details(e evidence.Entry) string {
	var parts []string
	for _, k := range sortedKeys(e.Details) {
		parts = append(parts, fmt.Sprintf("%s: %v", k, e.Details[k]))
	}
	return strings.Join(parts, ", ")
}

// markdown is s as text in a line or a table of Markdown: nothing in it is obeyed.
func markdown(v any) string {
	var b strings.Builder
	for _, r := range oneLine(fmt.Sprint(v)) {
		switch {
		case r == '<':
			b.WriteString("&lt;")
		case r == '>':
			b.WriteString("&gt;")
		case r == '&':
			b.WriteString("&amp;")
		case strings.ContainsRune("\\`*_{}[]()#+!|~:@", r):
			b.WriteByte('\\')
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// code is s between backticks, for a table of Markdown, too.
func code(v any) string {
	s := oneLine(fmt.Sprint(v))
	if s == "" {
		return "–"
	}
	if !strings.Contains(s, "`") {
		return "`" + strings.ReplaceAll(s, "|", "\\|") + "`"
	}
	fence := "`"
	for strings.Contains(s, fence) {
		fence += "`"
	}
	return fence + " " + strings.ReplaceAll(s, "|", "\\|") + " " + fence
}

func oneLine(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD")))
}
