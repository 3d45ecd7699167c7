package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"weir/testbed/bridge"
	"weir/testbed/torture/front"
	"weir/testbed/torture/proxy"
)

// sample is what one look at the member that runs all the time gave.
type sample struct {
	at         time.Duration
	rss        int64 // bytes, now
	goroutines float64
	files      float64
	lag        float64
}

// soaking is a long and quiet round: a steady load and the events of daily life.
type soaking struct {
	r         *round
	authority *authority
	secret    string // path
	every     time.Duration
	span      time.Duration

	began   time.Time
	mu      sync.Mutex
	key     string // what the judge takes
	samples []sample
	done    map[string]int // daily events by kind
	back    time.Duration  // the longest time until the lag was zero again
}

func soak(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("torture soak", flag.ContinueOnError)
	o.register(flags, time.Hour, front.Elasticsearch.Name, "the `backend` to play")
	every := flags.Duration("every", time.Minute, "pause between events of daily life")
	if err := flags.Parse(args); err != nil {
		return err
	}
	s := &soaking{every: *every, span: o.span, done: map[string]int{}}
	played, err := findBackend(o.backend)
	if err != nil {
		return err
	}
	if len(played.protocols) > 1 || played.protocols[0].Serve == nil {
		return fmt.Errorf("a soak plays one backend that is reached by network, not %s", o.backend)
	}
	b, end, err := o.prepare(ctx)
	if err != nil {
		return err
	}
	defer end()
	if s.authority, err = newAuthority(b.work); err != nil {
		return err
	}
	s.secret = filepath.Join(b.work, "sink.key")
	if err := s.rotate(); err != nil {
		return err
	}
	b.allow = func(credentials string) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return credentials == s.key
	}
	b.target = front.Target{CAFile: s.authority.caFile(), SecretFile: s.secret}
	p := &plan{
		seed: o.seed, backend: played, topics: 2, partitions: 6, members: 1, gzip: true, memory: 32,
		records: 1000, linger: 200 * time.Millisecond, inFlight: 8, rate: o.rate,
	}
	res := b.run(ctx, p, s.live)
	if ctx.Err() != nil && res.err == nil {
		res.err = ctx.Err()
	}
	report, grown := s.verdict()
	if o.markdown != "" {
		if err := os.WriteFile(o.markdown, []byte(s.markdown(res, report)), 0o644); err != nil {
			return err
		}
	}
	fmt.Println(res)
	fmt.Print(report)
	switch {
	case res.err != nil:
		return res.err
	case !res.ok():
		return errors.New("the contract was broken")
	case len(grown) > 0:
		return fmt.Errorf("it grows: %s", strings.Join(grown, ", "))
	}
	if o.keep == "" {
		_ = os.RemoveAll(res.dir)
	}
	return nil
}

// rotate writes another secret; the judge takes no other from now on.
func (s *soaking) rotate() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = fmt.Sprintf("key-%d", time.Now().UnixNano())
	// As a secret store does: a new file in the place of the old one.
	next := s.secret + ".next"
	if err := os.WriteFile(next, []byte(s.key+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(next, s.secret)
}

// daily is one event of daily life.
type daily struct {
	name string
	do   func(ctx context.Context, s *soaking) error
}

var life = []daily{
	{"sink restarted", func(ctx context.Context, s *soaking) error {
		s.connector().judge.killFront()
		sleep(ctx, 5*time.Second)
		return s.connector().judge.startFront()
	}},
	{"members added and removed", func(ctx context.Context, s *soaking) error {
		for i := 1; i < 3; i++ {
			s.r.disrupted(false)
			if err := s.r.members.start(i); err != nil {
				return err
			}
			sleep(ctx, 5*time.Second)
		}
		for i := 1; i < 3; i++ {
			s.r.members.stop(i)
			sleep(ctx, 3*time.Second)
		}
		return nil
	}},
	{"secret changed", func(_ context.Context, s *soaking) error { return s.rotate() }},
	{"certificate renewed", func(ctx context.Context, s *soaking) error {
		if err := s.authority.renew(); err != nil {
			return err
		}
		// It is shown at the next handshake: the connections end as well.
		defer s.r.trouble()()
		p := s.connector().judge.proxy
		p.Set(proxy.Mode{Cut: true})
		defer p.Set(proxy.Mode{})
		sleep(ctx, 200*time.Millisecond)
		return nil
	}},
	{"sink slow for a while", func(ctx context.Context, s *soaking) error {
		_, over := s.connector().judge.feel(mood{share: 1, plan: front.Plan{Wait: 400 * time.Millisecond}})
		defer over()
		sleep(ctx, 10*time.Second)
		return nil
	}},
	{"kafka connections cut", func(ctx context.Context, s *soaking) error {
		defer s.r.trouble()()
		p := s.r.bed.kafka.proxy
		p.Set(proxy.Mode{Cut: true})
		defer p.Set(proxy.Mode{})
		sleep(ctx, time.Second)
		return nil
	}},
}

// live lets daily life happen for as long as asked, and measures.
func (s *soaking) live(ctx context.Context, r *round) error {
	s.r, s.began = r, time.Now()
	ctx, cancel := context.WithTimeout(ctx, s.span)
	defer cancel()
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer stop()
	watch.Go(func() {
		for sleep(watching, 2*time.Second) {
			s.look(watching)
		}
	})
	for i := 0; sleep(ctx, s.every); i++ {
		d := life[i%len(life)]
		if err := d.do(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		began := time.Now()
		for s.lag() > s.calm() {
			if time.Since(began) > 90*time.Second {
				r.violation("the lag is not back %s after %q: %.0f records", time.Since(began).Round(time.Second), d.name, s.lag())
				break
			}
			if !sleep(ctx, 500*time.Millisecond) {
				break
			}
		}
		took := time.Since(began)
		s.mu.Lock()
		s.done[d.name]++
		s.back = max(s.back, took)
		s.mu.Unlock()
		c := s.connector().account.Counts()
		fmt.Printf("%8s %-26s lag back after %5.1fs; produced %d stored %d re-sent %d violations %d; %s\n",
			time.Since(s.began).Round(time.Second), d.name, took.Seconds(), c.Produced, c.Stored, c.Resent, c.Violations, s.last())
	}
	return nil
}

func (s *soaking) connector() *connector { return s.r.connectors[0] }

// calm is a lag that is none: what is produced while a batch lingers and is
// committed.
func (s *soaking) calm() float64 { return float64(s.r.plan.rate) * 1.5 }

// lag is the lag of all members together, as the account sees it.
func (s *soaking) lag() float64 {
	c := s.connector().account.Counts()
	return float64(c.Produced - c.Stored - c.Dead)
}

// look measures the member that runs all the time.
func (s *soaking) look(ctx context.Context) {
	p := s.r.members.procAt(0)
	if p == nil {
		return
	}
	m, err := p.Metrics(ctx)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.samples = append(s.samples, sample{
		at: time.Since(s.began), rss: int64(m.Sum("process_resident_memory_bytes")),
		goroutines: m.Sum("go_goroutines"), files: m.Sum("process_open_fds"), lag: m.Sum(bridge.Lag),
	})
}

func (s *soaking) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.samples) == 0 {
		return ""
	}
	l := s.samples[len(s.samples)-1]
	return fmt.Sprintf("%d MiB, %.0f goroutines, %.0f files", l.rss>>20, l.goroutines, l.files)
}

// verdict compares the second quarter with the last one, by their medians: the
// first one is for warming up.
func (s *soaking) verdict() (report string, grown []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.samples)
	if n < 8 {
		return "too short for a verdict on growth\n", nil
	}
	second, last := s.samples[n/4:n/2], s.samples[3*n/4:]
	var b strings.Builder
	compare := func(name string, unit float64, slack float64, of func(sample) float64) {
		x, y := median(second, of), median(last, of)
		verdict := "steady"
		if y > x+max(0.1*x, slack) {
			verdict = "GROWS"
			grown = append(grown, name)
		}
		fmt.Fprintf(&b, "| %s | %.1f | %.1f | %s |\n", name, x/unit, y/unit, verdict)
	}
	b.WriteString("| of the member that ran all the time | median of the 2nd quarter | of the last quarter | |\n| --- | ---: | ---: | --- |\n")
	compare("resident memory, MiB", 1<<20, 4<<20, func(x sample) float64 { return float64(x.rss) })
	compare("goroutines", 1, 6, func(x sample) float64 { return x.goroutines })
	compare("open files", 1, 4, func(x sample) float64 { return x.files })
	for _, d := range life {
		fmt.Fprintf(&b, "| %s, times | | %d | |\n", d.name, s.done[d.name])
	}
	fmt.Fprintf(&b, "| longest time until the lag was zero again, s | | %.1f | |\n", s.back.Seconds())
	return b.String(), grown
}

func median(samples []sample, of func(sample) float64) float64 {
	v := make([]float64, len(samples))
	for i, x := range samples {
		v[i] = of(x)
	}
	slices.Sort(v)
	return v[len(v)/2]
}

func (s *soaking) markdown(res result, report string) string {
	c := res.parts[0].counts
	return fmt.Sprintf("%s at %d events/s: produced %d, stored %d, dead letters %d, re-sent %d, lost %d, violations %d, peak %d MiB.\n\n%s",
		res.took.Round(time.Second), res.plan.rate, c.Produced, c.Stored, c.Dead, c.Resent, c.Lost, c.Violations, res.peak>>20, report)
}
