package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"weir/testbed/torture/account"
	"weir/testbed/torture/front"
)

func (r result) ok() bool {
	return r.err == nil && !slices.ContainsFunc(r.parts, func(p part) bool { return p.counts.Violations > 0 })
}

// String is the round in a line, one for each of its connectors, and what was found
// wrong below it.
func (r result) String() string {
	verdict := "ok"
	if !r.ok() {
		verdict = "FAILED"
	}
	s := fmt.Sprintf("%-6s seed %d round %3d %5.1fs peak %3d MiB  %s [%s]", verdict, r.plan.seed, r.plan.round, r.took.Seconds(), r.peak>>20, r.plan.backend.name, r.names())
	for _, p := range r.parts {
		c := p.counts
		s += fmt.Sprintf("\n       %s, grade %s: produced %d stored %d (%d twice) dead %d (%d twice) re-sent %d (without a reason %d) commits late at %d kills %d (%d looks) lost %d violations %d",
			p.protocol.Name, p.protocol.Grade, c.Produced, c.Stored, c.Twice, c.Dead, c.DeadMore, c.Resent, c.Unexcused, c.Kills, c.LateCommits, c.Waited, c.Lost, c.Violations)
		if c.Removed > 0 {
			s += fmt.Sprintf(" taken by retention %d", c.Removed)
		}
		for _, f := range p.faults {
			s += "\n       " + f
		}
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

// names are the kinds of faults of a round. Those in parentheses met nothing.
func (r result) names() string {
	var names []string
	add := func(name string, met int64) {
		if met == 0 {
			name = "(" + name + ")"
		}
		names = append(names, name)
	}
	p := r.plan
	if p.replay != nil {
		names = append(names, p.replay.words()...)
	}
	if p.alone != nil {
		add(p.backend.protocols[p.victim].Name+" "+p.alone.name, r.aloneMet)
	}
	for i, f := range p.faults {
		add(f.kind.name, r.met[i])
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

// total is what rounds came to together, for one protocol or for all.
type total struct {
	rounds int
	account.Counts
	peak int64
}

func (t *total) add(c account.Counts, peak int64) {
	t.rounds++
	t.Produced += c.Produced
	t.Stored += c.Stored
	t.Twice += c.Twice
	t.Dead += c.Dead
	t.DeadMore += c.DeadMore
	t.Resent += c.Resent
	t.Unexcused += c.Unexcused
	t.LateCommits += c.LateCommits
	t.Kills += c.Kills
	t.Waited = max(t.Waited, c.Waited)
	t.Lost += c.Lost
	t.Removed += c.Removed
	t.Violations += c.Violations
	t.peak = max(t.peak, peak)
}

// totals adds up the rounds, of all protocols and of each.
func (t *table) totals() (all total, each map[string]*total, took time.Duration) {
	each = map[string]*total{}
	for _, r := range t.results {
		took += r.took
		for _, p := range r.parts {
			if each[p.protocol.Name] == nil {
				each[p.protocol.Name] = &total{}
			}
			each[p.protocol.Name].add(p.counts, r.peak)
			all.add(p.counts, r.peak)
		}
	}
	return all, each, took
}

// seen counts the faults by kind that met something, and all others.
func (t *table) seen() (met map[string]int, missed int) {
	met = map[string]int{}
	add := func(name string, n int64) {
		if n > 0 {
			met[name]++
		} else {
			missed++
		}
	}
	for _, r := range t.results {
		for i, f := range r.plan.faults {
			add(f.kind.name, r.met[i])
		}
		if r.plan.alone != nil {
			add(r.plan.alone.title(), r.aloneMet)
		}
	}
	return met, missed
}

// unseen are those of the kinds of faults of which none has met anything.
func (t *table) unseen(names []string) []string {
	seen, _ := t.seen()
	return slices.DeleteFunc(names, func(name string) bool { return seen[name] > 0 })
}

// title is the name of a in a list of kinds.
func (a *away) title() string { return "one backend of two: " + a.name }

// usual are the names of the kinds of faults that a dozen rounds can have.
func usual() (names []string) {
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return append(names, retentionKind.name)
}

// titles are the names of all kinds of faults, with the ways in which one backend of
// two is away, of which there is one in each block of rounds.
func titles() []string {
	names := usual()
	for _, a := range aways {
		names = append(names, a.title())
	}
	return names
}

func (t *table) sum() string {
	c, each, took := t.totals()
	seen, missed := t.seen()
	s := fmt.Sprintf("\n%d rounds in %s, %d failed: %d faults of %d kinds (and %d that met nothing), peak %d MiB\n", len(t.results), took.Round(time.Second), t.failed, sumOf(seen), len(seen), missed, c.peak>>20)
	for _, p := range front.Protocols {
		if c := each[p.Name]; c != nil {
			s += fmt.Sprintf("  %-14s grade %s, %d rounds: produced %d, stored %d (%d twice), dead-lettered %d (%d twice), re-sent %d (%d without a reason), late commits at %d kills %d (at most %d looks), lost %d, violations %d\n",
				p.Name, p.Grade, c.rounds, c.Produced, c.Stored, c.Twice, c.Dead, c.DeadMore, c.Resent, c.Unexcused, c.Kills, c.LateCommits, c.Waited, c.Lost, c.Violations)
		}
	}
	if missing := t.unseen(titles()); len(missing) > 0 {
		s += "kinds of faults that met nothing or were not drawn: " + strings.Join(missing, ", ") + "\n"
	}
	return s
}

// write writes the rounds as Markdown.
func (t *table) write(path string) error {
	var b strings.Builder
	c, each, took := t.totals()
	seen, missed := t.seen()
	fmt.Fprintf(&b, "%d rounds, %d events, %d faults of %d kinds, %d rounds failed. %d faults met nothing; they are not counted, and stand in parentheses below.\n\n",
		len(t.results), c.Produced, sumOf(seen), len(seen), t.failed, missed)
	const columns = "produced | stored | once more | dead letters | once more | re-sent | without a reason | kills judged | looks to commit | lost | violations | peak MiB |\n"
	figures := func(c account.Counts, peak int64) string {
		return fmt.Sprintf("%d | %d | %d | %d | %d | %d | %d | %d | %d | %d | %d | %d |\n",
			c.Produced, c.Stored, c.Twice, c.Dead, c.DeadMore, c.Resent, c.Unexcused, c.Kills, c.Waited, c.Lost, c.Violations, peak>>20)
	}
	dashes := strings.Repeat("---: | ", strings.Count(columns, "|")-1) + "---: |\n"
	b.WriteString("| backend | grade | rounds | " + columns + "| --- | --- | ---: | " + dashes)
	for _, p := range front.Protocols {
		if c := each[p.Name]; c != nil {
			fmt.Fprintf(&b, "| %s | %s | %d | %s", p.Name, p.Grade, c.rounds, figures(c.Counts, c.peak))
		}
	}
	b.WriteString("\n| fault | times |\n| --- | ---: |\n")
	for _, name := range titles() {
		fmt.Fprintf(&b, "| %s | %d |\n", name, seen[name])
	}
	b.WriteString("\n| seed | round | s | backend | faults | " + columns + "| ---: | ---: | ---: | --- | --- | " + dashes)
	for _, r := range t.results {
		for i, p := range r.parts {
			faults := "the same"
			if i == 0 {
				faults = r.names() + ordered(r.plan)
			}
			fmt.Fprintf(&b, "| %d | %d | %.0f | %s | %s | %s", r.plan.seed, r.plan.round, r.took.Seconds(), p.protocol.Name, faults, figures(p.counts, r.peak))
		}
	}
	fmt.Fprintf(&b, "| | **all** | %.0f | | | %s", took.Seconds(), figures(c.Counts, c.peak))
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
