// Command mutants breaks one rule of the bridge at a time and runs the tests: a
// rule that can be broken without a test failing is a rule in name only.
//
// Nothing in the work tree is changed: each mutant is compiled with an overlay.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// mutant replaces one text, which must stand exactly once in file, by another.
type mutant struct {
	rule     string // what it breaks
	file     string
	old, new string
}

func main() {
	only := flag.String("only", "", "run only mutants whose rule contains this `text`")
	flag.Parse()
	survived, broken, ran := 0, 0, 0
	for _, m := range mutants {
		if !strings.Contains(m.rule, *only) {
			continue
		}
		ran++
		began := time.Now()
		verdict, err := try(m)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", m.rule, err)
			broken++
			continue
		}
		if verdict == "" {
			verdict = "SURVIVED"
			survived++
		}
		fmt.Printf("%-72s %5.1fs  %s\n", m.rule, time.Since(began).Seconds(), verdict)
	}
	fmt.Printf("%d mutants, %d killed, %d survived, %d could not be made\n", ran, ran-survived-broken, survived, broken)
	if survived > 0 || broken > 0 || ran == 0 {
		os.Exit(1)
	}
}

// try runs the tests on m and returns the name of one that killed it, "" if none
// did.
func try(m mutant) (killer string, err error) {
	src, err := os.ReadFile(m.file)
	if err != nil {
		return "", err
	}
	if n := bytes.Count(src, []byte(m.old)); n != 1 {
		return "", fmt.Errorf("the text to replace stands %d times in %s, want once:\n%s", n, m.file, m.old)
	}
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	mutated := filepath.Join(dir, "mutated.go")
	if err := os.WriteFile(mutated, bytes.Replace(src, []byte(m.old), []byte(m.new), 1), 0o600); err != nil {
		return "", err
	}
	path, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{path: mutated}})
	if err != nil {
		return "", err
	}
	overlayFile := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlayFile, overlay, 0o600); err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-overlay", overlayFile, "./buffer", "./connector", "./connector/evidence", "./connector/replay")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("the mutant does not compile: %s", out)
	}
	// A mutant that hangs is killed by the limit, which is as good as a failure.
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	test := exec.CommandContext(ctx, "go", "test", "-short", "-count=1", "-failfast", "-timeout", "60s", "-overlay", overlayFile, "./buffer", "./connector", "./connector/evidence", "./connector/replay")
	out, err := test.CombinedOutput()
	if err == nil {
		return "", nil
	}
	for line := range strings.Lines(string(out)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "--- FAIL: "); ok {
			return strings.Fields(name)[0], nil
		}
	}
	return "a panic or the time limit", nil
}
