package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// Result is one run.
type Result struct {
	Case, Group   string
	Setup         Setup `json:",omitzero"` // zero in files of before
	Load          load
	Backend       backend `json:",omitzero"`
	Version       string  `json:",omitempty"` // of a real backend
	Command       string  `json:",omitempty"` // of a rival
	UserSeconds   float64
	SystemSeconds float64
	CPUPerMillion float64 // CPU-seconds, user and system, a million events
	Seconds       float64 // from the first bulk request to the last answer
	PerSecond     float64 // events, while the middle 90 percent of them arrived
	PeakRSS       int64   // bytes
	Missing       int64   // events that the endpoint never took
	Twice         int64   // copies that it took of events it had
	Strangers     int64   `json:",omitempty"` // documents without an event's number
	Stored        int64   `json:",omitempty"` // documents in the index of a real backend
	Requests      int64
	Refused       int64   // requests refused as a whole
	Items         int64   // items refused one by one
	BodyBytes     int64   // decompressed
	RefusedShare  float64 // of the requests, or of the items where only those are refused
	CapacityUsed  float64 `json:",omitempty"` // share of the backend's service time

	Latency       latency `json:",omitzero"`  // from produced to arrived at the endpoint
	BrokerLatency latency `json:",omitzero"`  // from produced to acknowledged by the broker
	CPUShare      float64 `json:",omitempty"` // of one core, while latencies were taken
	RSS           int64   `json:",omitempty"` // bytes, at their end
}

// count takes over what the endpoint saw.
func (r *Result) count(t tally, b backend) {
	events := int64(r.Load.Events)
	r.Missing = events - t.Distinct
	r.Twice = t.Documents - t.Strangers - t.Distinct
	r.Strangers = t.Strangers
	r.Requests, r.Refused, r.Items, r.BodyBytes = t.Requests, t.Refused, t.Items, t.Bytes
	r.Seconds = time.Duration(t.Last - t.First).Seconds()
	if t.High > t.Low {
		r.PerSecond = 0.9 * float64(events) / time.Duration(t.High-t.Low).Seconds()
	} else if r.Seconds > 0 { // not even 95 percent came
		r.PerSecond = float64(t.Distinct) / r.Seconds
	}
	r.RefusedShare = float64(t.Refused) / float64(max(t.Refused+t.Requests, 1))
	if b.Fault == "items" {
		r.RefusedShare = float64(t.Items) / float64(max(t.Items+t.Documents, 1))
	}
	if b.Slots > 0 && r.Seconds > 0 {
		r.CapacityUsed = t.Busy.Seconds() / (r.Seconds * float64(b.Slots))
	}
}

func (r Result) print(w io.Writer, run int) {
	fmt.Fprintf(w, "%s %d: %.2f CPU-s/M, %.0f events/s, %.1f s, %.0f MiB, %d requests, refused %d and %d items, missing %d, twice %d",
		r.Case, run, r.CPUPerMillion, r.PerSecond, r.Seconds, mebi(r.PeakRSS), r.Requests, r.Refused, r.Items, r.Missing, r.Twice)
	if r.CapacityUsed > 0 {
		fmt.Fprintf(w, ", capacity used %.1f %%", 100*r.CapacityUsed)
	}
	if l := r.Latency; l.Events > 0 {
		fmt.Fprintf(w, ", latency p50 %v p99 %v p99.9 %v max %v, broker p50 %v p99 %v, %.1f %% of a core",
			ms(l.P50), ms(l.P99), ms(l.P999), ms(l.Greatest), ms(r.BrokerLatency.P50), ms(r.BrokerLatency.P99), 100*r.CPUShare)
	}
	if r.Strangers > 0 {
		fmt.Fprintf(w, ", %d documents without a number", r.Strangers)
	}
	fmt.Fprintln(w)
}

func mebi(n int64) float64 { return float64(n) / (1 << 20) }

func ms(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// Report is all runs.
type Report struct {
	Runs []Result
}

func readReport(path string) (Report, error) {
	var r Report
	text, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(text, &r)
}

func (r Report) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// summary is the runs of one case.
type summary struct {
	Result // the first one, for what is the same in all
	runs   []Result
}

// of returns the group's cases, in the order of their first runs.
func (r Report) of(group string) []summary {
	var list []summary
	for _, run := range r.Runs {
		if run.Group != group {
			continue
		}
		i := slices.IndexFunc(list, func(s summary) bool { return s.Case == run.Case })
		if i < 0 {
			list = append(list, summary{Result: run})
			i = len(list) - 1
		}
		list[i].runs = append(list[i].runs, run)
	}
	return list
}

// figure is the median of one case, 0 when it was not run.
func (r Report) figure(group, name string, f func(Result) float64) float64 {
	for _, s := range r.of(group) {
		if s.Case == name {
			return s.median(f)
		}
	}
	return 0
}

func (s summary) values(f func(Result) float64) []float64 {
	values := make([]float64, len(s.runs))
	for i, r := range s.runs {
		values[i] = f(r)
	}
	slices.Sort(values)
	return values
}

func (s summary) median(f func(Result) float64) float64 {
	v := s.values(f)
	if len(v)%2 == 0 {
		return (v[len(v)/2-1] + v[len(v)/2]) / 2
	}
	return v[len(v)/2]
}

// spread is the median, and in brackets the least and the most.
func (s summary) spread(format string, f func(Result) float64) string {
	text := fmt.Sprintf(format, s.median(f))
	if v := s.values(f); len(v) > 1 {
		text += fmt.Sprintf(" ("+format+" - "+format+")", v[0], v[len(v)-1])
	}
	return text
}

// most is the worst run's: a loss is not averaged away.
func (s summary) most(f func(Result) int64) string {
	var m int64
	for _, r := range s.runs {
		m = max(m, f(r))
	}
	return fmt.Sprint(m)
}

// What the tables show of a run.
var (
	cpu       = func(r Result) float64 { return r.CPUPerMillion }
	perSecond = func(r Result) float64 { return r.PerSecond / 1000 }
	peak      = func(r Result) float64 { return mebi(r.PeakRSS) }
	refused   = func(r Result) float64 { return 100 * r.RefusedShare }
	used      = func(r Result) float64 { return 100 * r.CapacityUsed }
	share     = func(r Result) float64 { return 100 * r.CPUShare }
	missing   = func(r Result) int64 { return r.Missing }
	twice     = func(r Result) int64 { return r.Twice }
)

func milliseconds(f func(latency) time.Duration) func(Result) float64 {
	return func(r Result) float64 { return float64(f(r.Latency)) / float64(time.Millisecond) }
}

var (
	p50      = milliseconds(func(l latency) time.Duration { return l.P50 })
	p99      = milliseconds(func(l latency) time.Duration { return l.P99 })
	p999     = milliseconds(func(l latency) time.Duration { return l.P999 })
	greatest = milliseconds(func(l latency) time.Duration { return l.Greatest })
	kafkaP99 = func(r Result) float64 { return float64(r.BrokerLatency.P99) / float64(time.Millisecond) }
)

// setups are those that the runs were measured with, each once.
func (r Report) setups() []Setup {
	var list []Setup
	for _, run := range r.Runs {
		if !slices.Contains(list, run.Setup) {
			list = append(list, run.Setup)
		}
	}
	return list
}

// measuredWith says what a group's runs were measured with, and names the cases
// where it is not the same for all.
func (r Report) measuredWith(group string) string {
	var setups []Setup
	cases := make(map[Setup][]string)
	for _, s := range r.of(group) {
		if cases[s.Setup] == nil {
			setups = append(setups, s.Setup)
		}
		cases[s.Setup] = append(cases[s.Setup], s.Case)
	}
	var texts []string
	for _, setup := range setups {
		text := setup.String() + "."
		if len(setups) > 1 {
			text = strings.Join(cases[setup], ", ") + ": " + text
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, " ")
}

// markdown writes a table a group: medians, and the least and the most in
// brackets; missing and twice are the worst run's. What was measured with is said
// once where it is the same for all, else under each table.
func (r Report) markdown(w io.Writer) {
	setups := r.setups()
	if len(setups) == 1 {
		fmt.Fprintf(w, "%v.\n", setups[0])
	}
	var rows [][]string
	flush := func(group, title, columns string) {
		if len(rows) == 0 {
			return
		}
		fmt.Fprintf(w, "\n### %s\n\n| %s |\n|%s\n", title, columns, strings.Repeat(" --- |", strings.Count(columns, "|")+1))
		for _, row := range rows {
			fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
		}
		if len(setups) > 1 {
			fmt.Fprintf(w, "\n%s\n", r.measuredWith(group))
		}
		rows = nil
	}
	usual := func(s summary, more ...string) {
		row := []string{s.Case, s.Load.String(), fmt.Sprint(len(s.runs)), s.spread("%.2f", cpu), s.spread("%.0f", perSecond), s.spread("%.0f", peak)}
		rows = append(rows, append(append(row, more...), s.most(missing), s.most(twice)))
	}
	const columns = "case | load | runs | CPU-s per million | 1000 events/s | peak RSS MiB | "

	for _, s := range r.of(throughput) {
		usual(s)
	}
	flush(throughput, "Throughput", columns+"missing | twice")
	for _, pair := range [][2]string{{plainCase, baselineCase}, {gzipCase, baselineGzipCase}, {backlogCase, baselineBacklogCase}} {
		if a, b := r.figure(throughput, pair[0], cpu), r.figure(throughput, pair[1], cpu); a > 0 && b > 0 {
			fmt.Fprintf(w, "\nProcessor time of weir (%s), by that of a naive reader that promises nothing (%s): %.2f.\n", pair[0], pair[1], a/b)
		}
	}

	for _, s := range r.of(idling) {
		rows = append(rows, []string{s.Case, fmt.Sprint(s.Load.Partitions), fmt.Sprint(len(s.runs)), s.spread("%.2f", share),
			s.spread("%.0f", func(r Result) float64 { return mebi(r.RSS) })})
	}
	flush(idling, "Nothing to do", "case | partitions | runs | % of a core | RSS MiB")

	for _, s := range r.of(others) {
		usual(s)
	}
	flush(others, "Other sinks", columns+"missing | twice")

	// Every refused request has to be made again: that much may be lost, no more.
	list := r.of(faults)
	for _, s := range list {
		kept := "?"
		if i := slices.IndexFunc(list, func(s summary) bool { return s.Case == noFaults }); i >= 0 {
			kept = fmt.Sprintf("%.0f %%", 100*s.median(perSecond)/list[i].median(perSecond))
		}
		usual(s, s.spread("%.1f", refused), kept, fmt.Sprintf("%.0f %%", 100-s.median(refused)))
	}
	flush(faults, "Faults", columns+"refused % | events/s, of those without faults | to be expected | missing | twice")

	for _, s := range r.of(capacity) {
		usual(s, s.spread("%.1f", used), s.spread("%.2f", refused))
	}
	flush(capacity, "A backend with a known capacity", columns+"capacity used % | requests refused % | missing | twice")

	for _, s := range r.of(latencies) {
		rows = append(rows, []string{s.Case, fmt.Sprint(len(s.runs)), s.spread("%.1f", perSecond),
			s.spread("%.0f", p50), s.spread("%.0f", p99), s.spread("%.0f", p999), s.spread("%.0f", greatest), s.spread("%.0f", kafkaP99),
			s.spread("%.1f", share), s.spread("%.0f", func(r Result) float64 { return mebi(r.RSS) }), s.most(missing), s.most(twice)})
	}
	flush(latencies, "Latency, from produced to stored", "case | runs | 1000 events/s produced | p50 ms | p99 ms | p99.9 ms | greatest ms | Kafka's acknowledgement, p99 ms | % of a core | RSS MiB | missing | twice")

	for _, s := range r.of(real) {
		usual(s, s.Version, s.most(func(r Result) int64 { return r.Stored }))
	}
	flush(real, "A real Elasticsearch", columns+"version | in the index | missing | twice")

	for _, s := range r.of(replays) {
		usual(s, s.spread("%.1f", used))
	}
	flush(replays, "Rehydrate", columns+"capacity used % | missing | twice")
	for _, line := range r.ratios() {
		fmt.Fprintf(w, "\n%s\n", line)
	}

	for _, s := range r.of(rivals) {
		usual(s, s.spread("%.1f", refused))
	}
	flush(rivals, "Beside another", columns+"refused % | missing | twice")
}

// Marks in a page between which the tables go.
const (
	beginMark = "<!-- figures: make bench writes what follows -->\n"
	endMark   = "<!-- /figures -->\n"
)

// writeMarkdown writes the tables to path: between the marks of a page that has
// them, else as a page of their own.
func (r Report) writeMarkdown(path string) error {
	var text strings.Builder
	r.markdown(&text)
	page := text.String()
	if old, err := os.ReadFile(path); err == nil {
		head, rest, begins := strings.Cut(string(old), beginMark)
		_, tail, ends := strings.Cut(rest, endMark)
		if begins && ends {
			page = head + beginMark + "\n" + page + "\n" + endMark + tail
		}
	}
	return os.WriteFile(path, []byte(page), 0o644)
}
