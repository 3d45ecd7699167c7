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

// Machine is what the figures were taken on and with.
type Machine struct {
	CPU, Kernel, Go, Weir, Kafka, Elasticsearch, Date string
	Cores                                             int
	Memory                                            int64  // bytes
	Busy                                              string // load averages before the first run
}

func (m Machine) String() string {
	s := fmt.Sprintf("%d x %s, %.0f GiB, %s, %s, weir %s, Kafka %s", m.Cores, m.CPU, float64(m.Memory)/(1<<30), m.Kernel, m.Go, m.Weir, m.Kafka)
	if m.Elasticsearch != "" {
		s += ", Elasticsearch " + m.Elasticsearch
	}
	return s + ", " + m.Date + "; load average before the first run " + m.Busy
}

// machine looks at the machine and asks the servers who they are. What cannot be
// found out is left out: it is a caption, not a figure.
func (r *runner) machine(ctx context.Context) Machine {
	m := Machine{CPU: runtime.GOARCH, Cores: runtime.NumCPU(), Kernel: runtime.GOOS, Go: runtime.Version(), Date: time.Now().UTC().Format(time.DateOnly)}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				m.CPU = strings.TrimSpace(strings.TrimLeft(name, "\t :"))
				break
			}
		}
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel += " " + strings.TrimSpace(string(text))
	}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		m.Memory = kilobytes(string(text), "MemTotal:")
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Busy = strings.Join(strings.Fields(string(text))[:3], " ")
	}
	if text, err := exec.CommandContext(ctx, "git", "-C", r.root, "describe", "--tags", "--always", "--dirty").Output(); err == nil {
		m.Weir = strings.TrimSpace(string(text))
	}
	if res, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, r.client.Client); err == nil {
		// A broker does not say its version, but which requests it knows.
		m.Kafka = kversion.FromApiVersionsResponse(res).VersionGuess()
	}
	if r.elastic != "" {
		var node struct{ Version struct{ Number string } }
		if ask(ctx, "GET", r.elastic+"/", "", &node) == nil {
			m.Elasticsearch = node.Version.Number
		}
	}
	return m
}
