// Command torture judges the weir binary on a real broker: weir, the broker and
// the backend are killed, links are cut, answers are lost or wrong, in rounds that
// are drawn from a seed, while a judge that plays the backend keeps account of
// every event and compares every commit with it.
//
//	TESTBED=... go run ./testbed/torture -seed 7 -for 5m
//	TESTBED=... go run ./testbed/torture -seed 7 -round 13   # one round again
//	TESTBED=... go run ./testbed/torture soak -for 1h
//
// TESTBED names the folder of the scripts that start and stop servers.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"weir/testbed/bridge"
	"weir/testbed/servers"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "front" {
		exitOn(frontCommand(os.Args[2:]))
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == "soak" {
		exitOn(soak(ctx, os.Args[2:]))
		return
	}
	exitOn(torture(ctx, os.Args[1:]))
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

func frontCommand(args []string) error {
	flags := flag.NewFlagSet("torture front", flag.ContinueOnError)
	protocol := flags.String("protocol", "", "")
	listen := flags.String("listen", "", "")
	socket := flags.String("account", "", "")
	dir := flags.String("dir", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return runFront(*protocol, *listen, *socket, *dir)
}

// options are what both commands share.
type options struct {
	seed     uint64
	span     time.Duration
	rate     int
	port     int
	keep     string
	bin      string
	backend  string
	markdown string
}

func (o *options) register(flags *flag.FlagSet, span time.Duration, backend, what string) {
	seed := uint64(time.Now().UnixNano() % 1e6)
	if n, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		seed = n
	}
	flags.Uint64Var(&o.seed, "seed", seed, "what everything is drawn from (also SEED)")
	flags.DurationVar(&o.span, "for", span, "how long")
	flags.IntVar(&o.rate, "rate", 1500, "events a second")
	flags.IntVar(&o.port, "port", 14100, "first of ten `ports` on loopback, below those that the system gives to clients")
	flags.StringVar(&o.backend, "backend", backend, what)
	flags.StringVar(&o.keep, "keep", "", "keep the logs of every round in this `folder` (else those of failed rounds in a temporary one)")
	flags.StringVar(&o.bin, "bin", "", "a weir binary (else it is built)")
	flags.StringVar(&o.markdown, "md", "", "write a table to this `file`")
}

// prepare builds weir and starts the broker.
func (o *options) prepare(ctx context.Context) (b *bed, end func(), err error) {
	root, err := servers.Root()
	if err != nil {
		return nil, nil, err
	}
	b = &bed{bin: o.bin, dir: o.keep, ports: ports(o.port)}
	// Everything that is thrown away: the binary, the broker's data, the socket.
	work, err := os.MkdirTemp("", "weir-torture-")
	if err != nil {
		return nil, nil, err
	}
	b.work = work
	ends := []func(){func() { _ = os.RemoveAll(work) }}
	endAll := func() {
		for i := len(ends) - 1; i >= 0; i-- {
			ends[i]()
		}
	}
	defer func() {
		if err != nil {
			endAll()
		}
	}()
	if b.dir == "" {
		if b.dir, err = os.MkdirTemp("", "weir-torture-logs-"); err != nil {
			return nil, nil, err
		}
		dir := b.dir
		ends = append(ends, func() { _ = os.Remove(dir) }) // if nothing is left in it
	}
	if b.dir, err = filepath.Abs(b.dir); err != nil {
		return nil, nil, err
	}
	if b.bin == "" {
		if b.bin, err = bridge.Build(ctx, root, work); err != nil {
			return nil, nil, err
		}
	}
	if b.kafka, err = startKafka(ctx, work, b.ports); err != nil {
		return nil, nil, err
	}
	kafka := b.kafka
	ends = append(ends, func() {
		if err := kafka.close(); err != nil {
			fmt.Fprintln(os.Stderr, "torture:", err)
		}
	})
	return b, endAll, nil
}

func torture(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("torture", flag.ContinueOnError)
	o.register(flags, 5*time.Minute, "", "these `backends` only, separated by commas")
	from := flags.Int("from", 1, "first round")
	rounds := flags.Int("rounds", 0, "how many rounds; 0: as many as begin within -for")
	only := flags.Int("round", 0, "this round alone, again")
	length := flags.Duration("length", 10*time.Second, "within how long a round's faults begin")
	some := flags.String("kinds", "", "these kinds of faults only, separated by commas")
	all := flags.Bool("all", false, "go on beyond -for until every kind of fault has met something (but for the ways in which one backend of two is away), for three times as long at most; else it failed")
	show := flags.Bool("print", false, "print the plans and do nothing")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *only > 0 {
		*from, *rounds = *only, 1
	}
	d := deck{seed: o.seed, length: *length, rate: o.rate}
	if *some != "" {
		d.kinds = strings.Split(*some, ",")
	}
	if o.backend != "" {
		d.backends = strings.Split(o.backend, ",")
		for _, name := range d.backends {
			if _, err := findBackend(name); err != nil {
				return err
			}
		}
	}
	if *show {
		for n := *from; n < *from+max(1, *rounds); n++ {
			fmt.Print(d.draw(n))
		}
		return nil
	}
	b, end, err := o.prepare(ctx)
	if err != nil {
		return err
	}
	defer end()

	// What a plan depends on beside the seed and the round.
	var more []string
	flags.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "rate", "length", "kinds", "backend":
			more = append(more, fmt.Sprintf("-%s %q", f.Name, f.Value))
		}
	})
	fmt.Printf("seed %d; one round again: -seed %d -round N\n", o.seed, o.seed)
	var t table
	began := time.Now()
	for n := *from; ctx.Err() == nil; n++ {
		enough := o.span
		if *all && len(t.unseen(usual())) > 0 {
			enough *= 3
		}
		if *rounds > 0 && n >= *from+*rounds || *rounds == 0 && time.Since(began) >= enough {
			break
		}
		p := d.draw(n)
		res := b.run(ctx, p, torment)
		if ctx.Err() != nil {
			break // half a round says nothing
		}
		fmt.Println(res)
		t.add(res)
		if !res.ok() {
			fmt.Println(res.again(more))
		} else if o.keep == "" {
			_ = os.RemoveAll(res.dir)
		}
		if o.markdown != "" {
			if err := t.write(o.markdown); err != nil {
				return err
			}
		}
		if res.err != nil {
			return res.err // the broker or the judge is in no state to go on
		}
	}
	fmt.Print(t.sum())
	if t.failed > 0 {
		return fmt.Errorf("the contract was broken in %d rounds of seed %d, see above", t.failed, o.seed)
	}
	if *all && len(t.unseen(usual())) > 0 {
		return errors.New("not every kind of fault has met something, see above")
	}
	return nil
}
