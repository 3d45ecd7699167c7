package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"weir/connector/evidence"
)

func TestReportOfASealedCase(t *testing.T) {
	c := newTestCase(t)
	dir := t.TempDir()
	read := func(name string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	in := func(name string) string { return filepath.Join(dir, name) }

	if _, errs, code := weir(t, "report", "--bag", c.bag, "--key", c.key+".pub", "--html", in("a.html"), "--markdown", in("a.md"), "--custody", c.custody); code != exitDone {
		t.Fatal(errs)
	}
	for _, name := range []string{"a.html", "a.md"} {
		page := read(name)
		for _, want := range []string{"Everything holds", "Not complete", "win.security", "run stop", c.manifest.Topics[0].Partitions[0].Records.Root.String(), c.manifest.Plan.String()} {
			if !strings.Contains(page, want) {
				t.Errorf("%s: no %q", name, want)
			}
		}
		if strings.Contains(page, "Signer not established") || strings.Contains(page, "<script") {
			t.Errorf("%s: %s", name, page)
		}
	}
	if n := strings.Count(read("a.html"), "<svg"); n != 2 {
		t.Errorf("%d timelines", n)
	}
	// Without records, and without a key that was given.
	if _, errs, code := weir(t, "report", "--manifest", filepath.Join(c.dir, "case"), "--key", c.key+".pub", "--html", in("b.html")); code != exitDone || !strings.Contains(read("b.html"), "Not known here") {
		t.Error(errs)
	}
	if _, errs, code := weir(t, "report", "--manifest", filepath.Join(c.bag, "weir", evidence.FileEnvelope), "--key", c.key+".pub", "--html", in("c.html")); code != exitDone || !strings.Contains(read("c.html"), "were not at hand") {
		t.Error(errs)
	}
	if _, errs, code := weir(t, "report", "--bag", c.bag, "--html", in("d.html")); code != exitDone || !strings.Contains(read("d.html"), "Signer not established") {
		t.Error(errs)
	}
	if _, errs, code := weir(t, "report", "--bag", c.bag, "--html", in("d.html")); code != exitFailed {
		t.Errorf("a report was written over: %s", errs)
	}
	if _, errs, code := weir(t, "report", "--bag", c.bag, "--html", filepath.Join(c.bag, "weir", "r.html")); code != exitUsage {
		t.Errorf("a report was written into the bag: %s", errs)
	}
	if _, _, code := weir(t, "report", "--bag", c.bag); code != exitUsage {
		t.Error("a report to nowhere")
	}
	// The report of what does not hold says so, and the exit code, too.
	if err := os.WriteFile(filepath.Join(c.bag, "data", "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := weir(t, "report", "--bag", c.bag, "--markdown", in("e.md")); code != exitFailed || !strings.Contains(read("e.md"), "It does not hold") || !strings.Contains(read("e.md"), "data/x") {
		t.Error(errs)
	}
}
