package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a configuration. It names the place and
// what is expected there, never the value: that can be a secret in the wrong
// place.
type Fault struct {
	Path     string // key, such as connectors[0].batch.linger; "" when the fault is the whole file's
	Line     int    // line of the file, 1-based; 0: the file does not hold the key
	Variable string // the environment variable the value came from, if it did
	Problem  string
}

func (f Fault) String() string {
	place := f.Path
	switch {
	case f.Variable != "" && place != "":
		place += " (" + f.Variable + ")"
	case f.Variable != "":
		place = f.Variable
	case f.Line > 0 && place != "":
		place += fmt.Sprintf(" (line %d)", f.Line)
	case f.Line > 0:
		place = fmt.Sprintf("line %d", f.Line)
	}
	if place == "" {
		return f.Problem
	}
	return place + ": " + f.Problem
}

// Faults is everything that is wrong with a configuration, in the order of its
// lines. It is never empty as an error.
type Faults []Fault

// Error writes one fault a line.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

func (fs *Faults) add(path string, at place, format string, args ...any) {
	*fs = append(*fs, Fault{path, at.line, at.variable, fmt.Sprintf(format, args...)})
}

// sort orders by line; what has none (environment, a value that is missing
// altogether) comes last.
func (fs Faults) sort() {
	slices.SortStableFunc(fs, func(a, b Fault) int {
		return cmp.Compare(uint(a.Line-1), uint(b.Line-1))
	})
}

// about reports whether there is a fault at path, below it or above it: then
// what is there is not what the user wrote, and checking it would only mislead.
func (fs Faults) about(path string) bool {
	return slices.ContainsFunc(fs, func(f Fault) bool {
		return f.Path != "" && (within(f.Path, path) || within(path, f.Path))
	})
}

// within reports whether path is key or below it.
func within(path, key string) bool {
	rest, ok := strings.CutPrefix(path, key)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// nearest is the known name that is closest to what was written, "" when none is
// close.
func nearest(written string, known []string) string {
	if len(written) > 100 {
		return ""
	}
	best, least := "", len(written)
	for _, k := range known {
		if d := distance(strings.ToLower(written), strings.ToLower(k)); d < least {
			best, least = k, d
		}
	}
	if 3*least > len(written)+2 {
		return ""
	}
	return best
}

// distance is the Levenshtein distance of a and b: how many bytes to insert,
// delete or replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
