package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSameSeedSamePlan(t *testing.T) {
	f := func(seed uint64, round int) string { return draw(seed, round, 10*time.Second, 1000, nil).String() }
	if a, b := f(7, 3), f(7, 3); a != b {
		t.Errorf("two plans of one seed:\n%s\n%s", a, b)
	}
	if f(7, 3) == f(7, 4) || f(7, 3) == f(8, 3) {
		t.Error("the same plan for another round or seed")
	}
}

func TestEveryKindIsDrawn(t *testing.T) {
	seen := map[string]bool{}
	for n := range 100 {
		for _, f := range draw(1, n, 10*time.Second, 1000, nil).faults {
			seen[f.kind.name] = true
		}
	}
	for _, k := range kinds {
		if !seen[k.name] {
			t.Errorf("%q is not drawn in 100 rounds", k.name)
		}
		if strings.Contains(k.name, ",") {
			t.Errorf("%q cannot be named in -kinds", k.name)
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
	p := draw(7, 3, 10*time.Second, 1000, nil)
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

func TestGrowthIsFound(t *testing.T) {
	f := func(of func(i int) sample, want ...string) {
		t.Helper()
		s := &soaking{}
		for i := range 100 {
			s.samples = append(s.samples, of(i))
		}
		_, grown := s.verdict()
		if strings.Join(grown, ";") != strings.Join(want, ";") {
			t.Errorf("grown %q, want %q", grown, want)
		}
	}
	const mib = 1 << 20
	f(func(i int) sample { return sample{rss: 60 * mib, goroutines: 100, files: 20} })
	// It rises to its level in the first quarter, and swings.
	f(func(i int) sample {
		return sample{rss: int64(min(i, 25)+40+i%5) * mib, goroutines: float64(100 + i%9), files: 20}
	})
	f(func(i int) sample { return sample{rss: int64(60+i) * mib, goroutines: 100, files: 20} }, "resident memory, MiB")
	f(func(i int) sample { return sample{rss: 60 * mib, goroutines: float64(100 + i), files: float64(20 + i)} }, "goroutines", "open files")
}
