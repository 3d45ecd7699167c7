// Command bench measures what weir costs: processor time and memory of a real
// weir process between a real broker and a bulk endpoint, in a process of its
// own, that does nothing.
//
//	go run ./testbed/bench [-events 3000000] [-runs 3] [-cases plain,gzip,capacity]
//
// The broker is the one at WEIR_TEST_KAFKA, or one that TESTBED's scripts start.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"weir/testbed/bridge"
	"weir/testbed/broker"
	"weir/testbed/servers"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "sink" {
		exitOn(sinkCommand(os.Args[2:]))
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exitOn(benchmark(ctx, os.Args[1:]))
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// settings are what the flags say.
type settings struct {
	load     load
	capacity load // of the capacity case, which is paced by the endpoint
	runs     int
	memory   string
	cases    []benchCase
	backend  backend // of the capacity case
	out      string
	keep     string // folder to keep configurations and logs in
}

func parse(args []string) (settings, error) {
	var s settings
	var names string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&s.load.Events, "events", 3_000_000, "events a run")
	flags.IntVar(&s.load.Size, "size", 500, "bytes of an event's value")
	flags.IntVar(&s.load.Partitions, "partitions", 6, "partitions of the topic")
	flags.IntVar(&s.capacity.Events, "capacity-events", 3_000_000, "events a run of the capacity case")
	flags.IntVar(&s.runs, "runs", 3, "runs of every case; medians and the spread are shown")
	flags.StringVar(&s.memory, "memory", "64MiB", "weir's memory setting")
	flags.StringVar(&names, "cases", strings.Join(caseNames(), ","), "cases to run")
	flags.IntVar(&s.backend.Slots, "slots", 4, "capacity case: requests served at a time; more are answered 429")
	flags.DurationVar(&s.backend.PerDocument, "per-document", 100*time.Microsecond, "capacity case: service time of a document")
	flags.StringVar(&s.out, "out", "bench.json", "file for the figures; empty: none")
	flags.StringVar(&s.keep, "keep", "", "folder to keep weir's configurations and logs in")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	s.capacity.Size, s.capacity.Partitions = s.load.Size, s.load.Partitions
	for name := range strings.SplitSeq(names, ",") {
		c, ok := caseNamed(name)
		if !ok {
			return s, fmt.Errorf("no case %q; there are %s", name, strings.Join(caseNames(), ", "))
		}
		s.cases = append(s.cases, c)
	}
	return s, nil
}

func benchmark(ctx context.Context, args []string) (err error) {
	s, err := parse(args)
	if err != nil {
		return err
	}
	dir := s.keep
	if dir == "" {
		if dir, err = os.MkdirTemp("", "weir-bench-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	} else if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	set, err := servers.NewSet(os.Stderr)
	if err != nil {
		return err
	}
	defer func() {
		if e := set.Close(); err == nil {
			err = e
		}
	}()
	root, err := servers.Root()
	if err != nil {
		return err
	}
	r := runner{settings: s, dir: dir}
	if r.bin, err = bridge.Build(ctx, root, dir); err != nil {
		return err
	}
	kafka, err := set.Kafka(ctx)
	if err != nil {
		return err
	}
	r.kafka = kafka.Addr
	if r.client, err = broker.Dial(kafka.Addr); err != nil {
		return err
	}
	defer r.client.Close()

	report := Report{Machine: machine(), Memory: s.memory}
	fmt.Println(report.Machine)
	for _, c := range s.cases {
		l := s.load
		if c.capacity {
			l = s.capacity
		}
		topic, err := produce(ctx, r.client, l)
		if err != nil {
			return err
		}
		for i := range s.runs {
			result, err := r.run(ctx, c, l, topic, i)
			if err != nil {
				return fmt.Errorf("case %s, run %d: %w", c.Name, i+1, err)
			}
			result.print(os.Stderr, i+1)
			report.Runs = append(report.Runs, result)
		}
	}
	report.print(os.Stdout, s.backend)
	if s.out == "" {
		return nil
	}
	return report.write(filepath.Clean(s.out))
}
