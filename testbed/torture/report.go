package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func (r result) ok() bool { return r.err == nil && r.counts.Violations == 0 }

// String is the round in a line, and what was found wrong below it.
func (r result) String() string {
	c := r.counts
	verdict := "ok"
	if !r.ok() {
		verdict = "FAILED"
	}
	s := fmt.Sprintf("%-6s seed %d round %3d %5.1fs produced %6d stored %6d dead %4d re-sent %5d (unexplained %d) late commits %d lost %d violations %d peak %3d MiB  [%s]",
		verdict, r.plan.seed, r.plan.round, r.took.Seconds(), c.Produced, c.Stored, c.Dead, c.Resent, c.Unexcused, c.LateCommits, c.Lost, c.Violations, r.peak>>20, r.plan.names())
	for _, f := range r.faults {
		s += "\n       " + f
	}
	if r.err != nil {
		s += "\n       the harness failed: " + r.err.Error()
	}
	return s
}

// lastWords is how many lines of each log are shown of a round that failed.
const lastWords = 20

// again is what is needed to look into a round that failed, where nothing but
// this output may be left: what was done, how to do it again, the ends of the logs.
// more are the flags that the plan depends on, beside the seed and the round.
func (r result) again(more []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s  logs: %s\n  the same again: TESTBED=... make torture ARGS='%s'\n", r.plan, r.dir,
		strings.Join(append([]string{fmt.Sprintf("-seed %d -round %d", r.plan.seed, r.plan.round)}, more...), " "))
	logs, _ := filepath.Glob(filepath.Join(r.dir, "*.log"))
	for _, path := range logs {
		text, err := os.ReadFile(path)
		if err != nil {
			text = []byte(err.Error())
		}
		fmt.Fprintf(&b, "\n  %s ends with\n%s\n", filepath.Base(path), lastLines(string(text), lastWords))
	}
	return b.String()
}

// names are the kinds of faults of a plan.
func (p *plan) names() string {
	var names []string
	for _, f := range p.faults {
		names = append(names, f.kind.name)
	}
	return strings.Join(names, ", ")
}

// table collects rounds.
type table struct {
	results []result
	failed  int
}

func (t *table) add(r result) {
	t.results = append(t.results, r)
	if !r.ok() {
		t.failed++
	}
}

// totals adds up the rounds.
func (t *table) totals() (c struct {
	produced, stored, dead, deadMore, resent, unexcused, late, lost, violations int64
	latest, took                                                                time.Duration
	peak                                                                        int64
}) {
	for _, r := range t.results {
		c.produced += r.counts.Produced
		c.stored += r.counts.Stored
		c.dead += r.counts.Dead
		c.deadMore += r.counts.DeadMore
		c.resent += r.counts.Resent
		c.unexcused += r.counts.Unexcused
		c.late += r.counts.LateCommits
		c.lost += r.counts.Lost
		c.violations += r.counts.Violations
		c.latest = max(c.latest, r.counts.LatestCommit)
		c.took += r.took
		c.peak = max(c.peak, r.peak)
	}
	return c
}

// seen counts the faults by kind.
func (t *table) seen() map[string]int {
	n := map[string]int{}
	for _, r := range t.results {
		for _, f := range r.plan.faults {
			n[f.kind.name]++
		}
	}
	return n
}

func (t *table) sum() string {
	c := t.totals()
	var missing []string
	seen := t.seen()
	for _, k := range kinds {
		if seen[k.name] == 0 {
			missing = append(missing, k.name)
		}
	}
	s := fmt.Sprintf("\n%d rounds in %s, %d failed: produced %d, stored %d, dead-lettered %d (%d twice), re-sent %d (%d unexplained), late commits %d (at most %s), lost %d, violations %d, peak %d MiB\n",
		len(t.results), c.took.Round(time.Second), t.failed, c.produced, c.stored, c.dead, c.deadMore, c.resent, c.unexcused, c.late, c.latest.Round(time.Millisecond), c.lost, c.violations, c.peak>>20)
	if len(missing) > 0 {
		s += "kinds of faults not seen: " + strings.Join(missing, ", ") + "\n"
	}
	return s
}

// write writes the rounds as Markdown.
func (t *table) write(path string) error {
	var b strings.Builder
	c := t.totals()
	fmt.Fprintf(&b, "%d rounds, %d events, %d faults of %d kinds, %d rounds failed.\n\n", len(t.results), c.produced, sumOf(t.seen()), len(t.seen()), t.failed)
	b.WriteString("| fault | times |\n| --- | ---: |\n")
	seen := t.seen()
	for _, k := range kinds {
		fmt.Fprintf(&b, "| %s | %d |\n", k.name, seen[k.name])
	}
	b.WriteString("\n| seed | round | s | faults | produced | stored | dead letters | re-sent | unexplained | lost | violations | peak MiB |\n" +
		"| ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	for _, r := range t.results {
		fmt.Fprintf(&b, "| %d | %d | %.0f | %s%s | %d | %d | %d | %d | %d | %d | %d | %d |\n",
			r.plan.seed, r.plan.round, r.took.Seconds(), r.plan.names(), ordered(r.plan), r.counts.Produced, r.counts.Stored, r.counts.Dead,
			r.counts.Resent, r.counts.Unexcused, r.counts.Lost, r.counts.Violations, r.peak>>20)
	}
	fmt.Fprintf(&b, "| | **all** | %.0f | | %d | %d | %d | %d | %d | %d | %d | %d |\n",
		c.took.Seconds(), c.produced, c.stored, c.dead, c.resent, c.unexcused, c.lost, c.violations, c.peak>>20)
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

func ordered(p *plan) string {
	if p.ordered {
		return " (ordered)"
	}
	return ""
}

func sumOf(m map[string]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}
