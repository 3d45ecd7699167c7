package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// usage is what a process group used so far.
type usage struct {
	CPU     time.Duration // user and system, of ended children that were waited for, too
	PeakRSS int64         // VmHWM of the processes that run, added up
	RSS     int64         // now
}

// ticks is USER_HZ, which Linux fixes at 100 a second for what /proc shows.
const ticks = 100

// groupUsage reads /proc for the processes of the group with the leader pgid.
// Processes come and go while it reads; those that went are left out.
func groupUsage(pgid int) usage {
	var u usage
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is well-formed
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		// The name, in brackets, may hold anything; fields are counted behind it.
		_, after, ok := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
		f := strings.Fields(after)
		if !ok || len(f) < 15 || f[2] != strconv.Itoa(pgid) {
			continue
		}
		for _, field := range f[11:15] { // utime, stime, cutime, cstime
			n, _ := strconv.ParseInt(field, 10, 64) // the kernel writes numbers
			u.CPU += time.Duration(n) * time.Second / ticks
		}
		status, err := os.ReadFile(filepath.Join(filepath.Dir(path), "status"))
		if err != nil {
			continue
		}
		u.PeakRSS += kilobytes(string(status), "VmHWM:")
		u.RSS += kilobytes(string(status), "VmRSS:")
	}
	return u
}

// kilobytes finds a line like "VmHWM:  1234 kB" and returns it in bytes.
func kilobytes(text, name string) int64 {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, name); ok {
			n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			return n << 10
		}
	}
	return 0
}

// processUsage is the usage of one process.
func processUsage(pid int) (usage, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var u usage
	for _, field := range f[11:13] {
		n, _ := strconv.ParseInt(field, 10, 64) // the kernel writes numbers
		u.CPU += time.Duration(n) * time.Second / ticks
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	u.PeakRSS, u.RSS = kilobytes(string(status), "VmHWM:"), kilobytes(string(status), "VmRSS:")
	return u, err
}
