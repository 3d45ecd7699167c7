package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"weir/testbed/torture/logbook"
)

func TestSameSeedSamePlan(t *testing.T) {
	f := func(seed uint64, round int) string { return testDeck(seed).draw(round).String() }
	if a, b := f(7, 3), f(7, 3); a != b {
		t.Errorf("two plans of one seed:\n%s\n%s", a, b)
	}
	if f(7, 3) == f(7, 4) || f(7, 3) == f(8, 3) {
		t.Error("the same plan for another round or seed")
	}
}

func testDeck(seed uint64) *deck {
	return &deck{seed: seed, length: 10 * time.Second, rate: 1000}
}

func TestEveryKindIsDrawn(t *testing.T) {
	drawn := map[string]bool{}
	for n := range 60 {
		p := testDeck(1).draw(n + 1)
		if p.alone != nil {
			drawn[p.alone.title()] = true
		}
		for _, f := range p.faults {
			drawn[f.kind.name] = true
			if !f.kind.fits(p.backend.protocols[p.victim]) {
				t.Errorf("round %d: there is no %q of %s", n+1, f.kind.name, p.backend.name)
			}
		}
	}
	for _, name := range titles() {
		if !drawn[name] {
			t.Errorf("%q is not drawn in 60 rounds", name)
		}
		if strings.Contains(name, ",") {
			t.Errorf("%q cannot be named in -kinds", name)
		}
	}
}

func TestEveryBackendHasItsTurn(t *testing.T) {
	d := testDeck(1)
	for block := range 3 {
		seen := map[string]bool{}
		for n := range backends {
			seen[d.draw(block*len(backends)+n+1).backend.name] = true
		}
		if len(seen) != len(backends) {
			t.Errorf("block %d has only %v", block, seen)
		}
	}
	d.backends = []string{"file", "splunk_hec"}
	for n := range 10 {
		if name := d.draw(n + 1).backend.name; name != "file" && name != "splunk_hec" {
			t.Errorf("round %d plays %s", n+1, name)
		}
	}
}

// Where the machine is gone by the time somebody reads of it, as in CI, the output
// is all there is.
func TestFailedRoundSaysHowToDoItAgain(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "weir-1.log"), []byte(strings.Repeat("early\n", 100)+"the last words\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := testDeck(7).draw(3)
	got := result{plan: p, dir: dir}.again([]string{`-rate "1000"`})
	for _, want := range []string{p.String(), `make torture ARGS='-seed 7 -round 3 -rate "1000"'`, dir, "the last words"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if n := strings.Count(got, "early"); n >= lastWords {
		t.Errorf("%d lines of the log", n+1)
	}
}

// What .ci/run says of its seed: all backends and kinds of faults are in its first
// ten rounds. Where that is no longer so, another seed has to be looked for.
func TestSeedOfCI(t *testing.T) {
	script, err := os.ReadFile("../../.ci/run")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`SEED:-(\d+)`).FindSubmatch(script)
	if found == nil {
		t.Fatal("no seed in .ci/run")
	}
	seed, err := strconv.ParseUint(string(found[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for n := range 10 {
		p := testDeck(seed).draw(n + 1)
		seen[p.backend.name] = true
		for _, f := range p.faults {
			// A case may be done before a fault's turn comes.
			if p.replay == nil || f.kind == retentionKind {
				seen[f.kind.name] = true
			}
		}
	}
	if !seen[retentionKind.name] {
		t.Errorf("no %q", retentionKind.name)
	}
	for _, b := range backends {
		if !seen[b.name] {
			t.Errorf("no round of %s", b.name)
		}
	}
	for _, k := range kinds {
		if !seen[k.name] {
			t.Errorf("no %q", k.name)
		}
	}
}

// A worker that has read nothing of a partition finds everything gone that retention
// took before the plan and since, in one gap.
func TestWhatRetentionTookBeforeBelongsToAGapThatTouchesIt(t *testing.T) {
	b := &book{cuts: []logbook.Span{{From: 0, To: 882}, {From: 882, To: 1310}, {From: 882, To: 1326}, {From: 2000, To: 2500}}}
	for i, want := range []int64{0, 0, 0, 2000} {
		if got := b.taken(b.cuts[i]); got != want {
			t.Errorf("what cut %d took begins at %d, want %d", i, got, want)
		}
	}
}
