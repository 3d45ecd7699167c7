package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// Setup is what runs were measured with. Those of a report need not have been
// measured at a time.
type Setup struct {
	Machine string // and the broker on it
	Weir    string // what the binary says of itself
	Memory  string // weir's setting
	Date    string
	Busy    string // load averages before the first run
}

func (s Setup) String() string { return strings.Join(s.lines(), "; ") }

// lines are the machine, and what may differ on it.
func (s Setup) lines() []string {
	if s == (Setup{}) {
		return []string{"what this was measured with is not recorded"}
	}
	return []string{s.Machine, fmt.Sprintf("%s, memory: %s; %s, load average before the first run %s", s.Weir, s.Memory, s.Date, s.Busy)}
}

// lookAround finds out what is measured with. What the machine does not tell is
// left out: it is a caption, not a figure.
//
// Errors: weir does not say which one it is.
func (r *runner) lookAround(ctx context.Context) (Setup, error) {
	s := Setup{Memory: r.memory, Date: time.Now().UTC().Format(time.DateOnly)}
	version, err := exec.CommandContext(ctx, r.bin, "version").Output()
	if err != nil {
		return s, fmt.Errorf("%s version: %w", r.bin, err)
	}
	s.Weir = strings.TrimSpace(string(version))
	cpu, kernel := runtime.GOARCH, runtime.GOOS
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				cpu = strings.TrimSpace(strings.TrimLeft(name, "\t :"))
				break
			}
		}
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel += " " + strings.TrimSpace(string(text))
	}
	s.Machine = fmt.Sprintf("%d x %s", runtime.NumCPU(), cpu)
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		s.Machine += fmt.Sprintf(", %.0f GiB", float64(kilobytes(string(text), "MemTotal:"))/(1<<30))
	}
	s.Machine += ", " + kernel
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		s.Busy = strings.Join(strings.Fields(string(text))[:3], " ")
	}
	if res, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, r.client.Client); err == nil {
		// A broker does not say its version, but which requests it knows.
		s.Machine += ", Kafka " + kversion.FromApiVersionsResponse(res).VersionGuess()
	}
	return s, nil
}
