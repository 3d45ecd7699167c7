package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Result is one run.
type Result struct {
	Case          string
	Load          load
	UserSeconds   float64
	SystemSeconds float64
	CPUPerMillion float64 // CPU-seconds, user and system, a million events
	Seconds       float64 // from the first bulk request to the last answer
	PerSecond     float64 // events
	PeakRSS       int64   // bytes
	Missing       int64   // events committed that the endpoint never saw
	Twice         int64   // events it saw more than once
	Requests      int64
	Refused       int64   // requests answered 429
	BodyBytes     int64   // decompressed
	CapacityUsed  float64 `json:",omitempty"` // share of the backend's service time
	RefusedShare  float64 `json:",omitempty"` // share of requests answered 429
}

func (r Result) print(w io.Writer, run int) {
	fmt.Fprintf(w, "%s %d: %.2f CPU-s/M (user %.2f, system %.2f), %.0f events/s, %.0f MiB, %d requests, missing %d, twice %d",
		r.Case, run, r.CPUPerMillion, r.UserSeconds, r.SystemSeconds, r.PerSecond, float64(r.PeakRSS)/(1<<20), r.Requests, r.Missing, r.Twice)
	if r.CapacityUsed > 0 {
		fmt.Fprintf(w, ", capacity used %.1f %%, refused %.2f %%", 100*r.CapacityUsed, 100*r.RefusedShare)
	}
	fmt.Fprintln(w)
}

// Report is all runs on one machine.
type Report struct {
	Machine string
	Memory  string
	Runs    []Result
}

func (r Report) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// print writes a line a case: medians, and the least and the most in brackets.
func (r Report) print(w io.Writer, b backend) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "case\truns\tevents\tCPU-s per million\tevents/s\tpeak RSS MiB\tmissing\tsent twice\tcapacity used\trefused")
	for len(r.Runs) > 0 {
		n := 1
		for n < len(r.Runs) && r.Runs[n].Case == r.Runs[0].Case {
			n++
		}
		runs := r.Runs[:n]
		r.Runs = r.Runs[n:]
		most := func(f func(Result) int64) int64 {
			var m int64
			for _, run := range runs {
				m = max(m, f(run))
			}
			return m
		}
		used, refused := "", ""
		if runs[0].CapacityUsed > 0 {
			used = spread(runs, "%.1f %%", func(r Result) float64 { return 100 * r.CapacityUsed })
			refused = spread(runs, "%.2f %%", func(r Result) float64 { return 100 * r.RefusedShare })
		}
		fmt.Fprintf(t, "%s\t%d\t%d x %d B\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", runs[0].Case, n, runs[0].Load.Events, runs[0].Load.Size,
			spread(runs, "%.2f", func(r Result) float64 { return r.CPUPerMillion }),
			spread(runs, "%.0f", func(r Result) float64 { return r.PerSecond }),
			spread(runs, "%.0f", func(r Result) float64 { return float64(r.PeakRSS) / (1 << 20) }),
			most(func(r Result) int64 { return r.Missing }), most(func(r Result) int64 { return r.Twice }), used, refused)
	}
	_ = t.Flush()
	fmt.Fprintf(w, "memory: %s; capacity: %d requests at a time, %v a document; %s\n", r.Memory, b.Slots, b.PerDocument, r.Machine)
}

// spread is the median, and in brackets the least and the most.
func spread(runs []Result, format string, f func(Result) float64) string {
	values := make([]float64, len(runs))
	for i, r := range runs {
		values[i] = f(r)
	}
	slices.Sort(values)
	median := values[len(values)/2]
	if len(values)%2 == 0 {
		median = (values[len(values)/2-1] + median) / 2
	}
	if len(values) == 1 {
		return fmt.Sprintf(format, median)
	}
	return fmt.Sprintf(format+" ("+format+" - "+format+")", median, values[0], values[len(values)-1])
}

// machine says what the figures were taken on.
func machine() string {
	cpu := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				cpu = strings.TrimSpace(strings.TrimLeft(name, "\t :"))
				break
			}
		}
	}
	kernel := runtime.GOOS
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel += " " + strings.TrimSpace(string(text))
	}
	return fmt.Sprintf("%d x %s, %s, %s, %s", runtime.NumCPU(), cpu, kernel, runtime.Version(), time.Now().UTC().Format(time.DateOnly))
}
