// Command bench measures what weir costs and how it behaves: a real weir process
// between a real broker and a bulk endpoint, in a process of its own, that does
// nothing but keep account of every event, and a real Elasticsearch.
//
//	go run ./testbed/bench [-quick] [-cases throughput,500-5%] [-runs 3] [-rival COMMAND]
//
// The servers are those at WEIR_TEST_KAFKA and WEIR_TEST_ES, or those that
// TESTBED's scripts start; the real events are in the folder WEIR_TEST_DATA.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
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
	if len(os.Args) > 1 && os.Args[1] == "read" {
		exitOn(readCommand(os.Args[2:]))
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "naive" {
		exitOn(naiveCommand(os.Args[2:]))
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := benchmark(ctx, os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	exitOn(err)
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// settings are what the flags say.
type settings struct {
	load           load
	capacityEvents int // of the capacity case, which is paced by the endpoint
	tieredEvents   int // of the cases that read the remote tier
	backlogEvents  int // of the case with a large backlog
	faultEvents    int
	elasticEvents  int
	rivalEvents    int
	latencyFor     time.Duration
	runs           int
	memory         string
	cases          []benchCase
	backend        backend // of the capacity case
	rival          string
	from, out      string
	md, svg        string
	keep           string // folder to keep configurations and logs in
	reuse          bool
}

// What -quick runs, and instead of what is not set otherwise.
const quickCases = "plain,gzip,48-partitions,0%,500-20%,items-5%,10k/s,elasticsearch"

var quickValues = map[string]string{
	"events": "300000", "fault-events": "100000", "elastic-events": "30000", "latency": "5s", "runs": "1", "cases": quickCases,
}

func parse(args []string) (settings, error) {
	var s settings
	var names string
	var quick bool
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&quick, "quick", false, "a few cases, once: under two minutes")
	flags.StringVar(&names, "cases", "", "cases or groups of cases to run, separated by commas; empty: all; none: only show -from")
	flags.IntVar(&s.load.Events, "events", 1_000_000, "events a run; large ones a fourth of it")
	flags.IntVar(&s.load.Size, "size", 500, "bytes of an event's value, where the case does not say")
	flags.IntVar(&s.load.Partitions, "partitions", 6, "partitions of the topic, where the case does not say")
	flags.IntVar(&s.capacityEvents, "capacity-events", 1_000_000, "events a run of the capacity case")
	flags.IntVar(&s.backlogEvents, "backlog-events", 10_000_000, "events a run of the case with a large backlog")
	flags.IntVar(&s.tieredEvents, "tiered-events", 2_400_000, "events a run of the cases that read the remote tier")
	flags.IntVar(&s.faultEvents, "fault-events", 800_000, "events a run of the fault cases, which are paced by the endpoint: 5,000 a request")
	flags.IntVar(&s.elasticEvents, "elastic-events", 100_000, "events a run into the real Elasticsearch")
	flags.IntVar(&s.rivalEvents, "rival-events", 1_000_000, "events a run beside a rival")
	flags.DurationVar(&s.latencyFor, "latency", 10*time.Second, "how long a run takes latencies")
	flags.IntVar(&s.runs, "runs", 3, "runs of every case, in turns; medians and the spread are shown")
	flags.StringVar(&s.memory, "memory", "64MiB", "weir's memory setting")
	flags.IntVar(&s.backend.Slots, "slots", 4, "capacity case: requests served at a time; more are answered 429")
	flags.DurationVar(&s.backend.PerDocument, "per-document", 100*time.Microsecond, "capacity and fault cases: service time of a document")
	flags.StringVar(&s.rival, "rival", "", "command of another bridge to run beside weir, given to sh; "+
		"{brokers} {topic} {url} {host} {port} {group} {dir} stand for what it needs, and are in its environment as BENCH_BROKERS ...")
	flags.StringVar(&s.from, "from", "", "file with figures of earlier runs, to be kept but for the cases that are run again")
	flags.StringVar(&s.out, "out", "bench.json", "file for the figures; empty: none")
	flags.StringVar(&s.md, "md", "", "Markdown file for the tables: between its marks if it has any (docs/benchmark.md)")
	flags.StringVar(&s.svg, "svg", "", "file for the picture (docs/benchmark.svg)")
	flags.StringVar(&s.keep, "keep", "", "folder to keep configurations and logs in")
	flags.BoolVar(&s.reuse, "reuse", false, "leave the filled topics on the broker for the next time")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("unexpected %q", flags.Arg(0))
	}
	if quick {
		given := make(map[string]bool)
		flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
		for name, value := range quickValues {
			if given[name] {
				continue
			}
			if err := flags.Set(name, value); err != nil {
				return s, err
			}
		}
	}
	if s.load.Events < 100 || s.load.Partitions < 1 || s.runs < 1 {
		return s, errors.New("-events has to be 100 at least, -partitions and -runs 1")
	}
	if names == "none" {
		return s, nil
	}
	var err error
	s.cases, err = s.choose(names)
	return s, err
}

func benchmark(ctx context.Context, args []string) (err error) {
	s, err := parse(args)
	if err != nil {
		return err
	}
	var report Report
	if s.from != "" {
		if report, err = readReport(s.from); err != nil {
			return err
		}
	}
	if len(s.cases) > 0 {
		// What was measured before a fault is kept.
		if err = measure(ctx, s, &report); len(report.Runs) == 0 {
			return err
		}
	}
	report.markdown(os.Stdout)
	if s.out != "" {
		err = errors.Join(err, report.write(s.out))
	}
	if s.md != "" {
		err = errors.Join(err, report.writeMarkdown(s.md))
	}
	if s.svg != "" {
		err = errors.Join(err, report.draw(s.svg))
	}
	return err
}

// measure runs the cases and puts their results into the report, in the place of
// older ones.
func measure(ctx context.Context, s settings, report *Report) (err error) {
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
	defer func() { err = errors.Join(err, set.Close()) }()
	r := &runner{settings: s, dir: dir, made: make(map[string]bool)}
	if r.root, err = servers.Root(); err != nil {
		return err
	}
	if r.bin, err = bridge.Build(ctx, r.root, dir); err != nil {
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
	if !s.reuse {
		defer func() {
			for _, topic := range slices.Sorted(maps.Keys(r.made)) {
				r.deleteTopic(topic)
			}
		}()
	}
	if slices.ContainsFunc(s.cases, func(c benchCase) bool { return c.elastic }) {
		node, err := set.Elastic(ctx, servers.ElasticOptions{})
		if err != nil {
			return err
		}
		r.elastic = node.URL
	}
	if r.setup, err = r.lookAround(ctx); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, r.setup)
	return r.runAll(ctx, report)
}

// runAll runs the cases in turns, so that what else the machine does for a while
// meets all of them alike.
func (r *runner) runAll(ctx context.Context, report *Report) error {
	report.Runs = slices.DeleteFunc(report.Runs, func(old Result) bool {
		return slices.ContainsFunc(r.cases, func(c benchCase) bool { return c.Name == old.Case })
	})
	cases := slices.Clone(r.cases)
	for i := range r.runs {
		for _, c := range cases {
			result, err := r.run(ctx, c, i)
			if errors.Is(err, errNoEvents) {
				fmt.Fprintf(os.Stderr, "%s is left out: %v\n", c.Name, err)
				cases = slices.DeleteFunc(slices.Clone(cases), func(o benchCase) bool { return o.Load.Real })
				continue
			}
			if err != nil {
				return fmt.Errorf("case %s, run %d: %w", c.Name, i+1, err)
			}
			result.Setup, result.Backend = r.setup, c.backend
			result.print(os.Stderr, i+1)
			report.Runs = append(report.Runs, result)
		}
	}
	return nil
}

// deleteTopic deletes a topic of the benchmark and its dead letters, in the time
// that is left after an interrupt, too.
func (r *runner) deleteTopic(topic string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := errors.Join(r.client.DeleteTopic(ctx, topic), r.client.DeleteTopic(ctx, topic+".dlq")); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}
