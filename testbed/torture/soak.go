package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"weir/testbed/bridge"
	"weir/testbed/torture/account"
	"weir/testbed/torture/front"
	"weir/testbed/torture/proxy"
)

// soaking is a long and quiet round: a steady load and the events of daily life.
type soaking struct {
	r         *round
	authority *authority
	secret    string // path
	every     time.Duration
	span      time.Duration
	// fresh is how old what Kafka has acknowledged has to be to be lag.
	fresh time.Duration

	began   time.Time
	event   string // that happened last
	mu      sync.Mutex
	key     string             // what the judge takes
	shown   bool               // it was asked with the key
	asked   int                // how often it was asked, with any key
	marks   []mark             // of the time that is fresh, and the last one before
	behind  int64              // the lag, in records
	lagged  time.Time          // when there was one last
	last    *effect            // of the event; nil: there was none
	effects map[string]*effect // by kind
	pause   int                // between two events, counted; -1: it is none now
	samples []sample
}

func soak(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("torture soak", flag.ContinueOnError)
	o.register(flags, time.Hour, front.Elasticsearch.Name, "the `backend` to play")
	every := flags.Duration("every", time.Minute, "pause between events of daily life")
	if err := flags.Parse(args); err != nil {
		return err
	}
	s := &soaking{every: *every, span: o.span, effects: map[string]*effect{}, pause: -1}
	played, err := findBackend(o.backend)
	if err != nil {
		return err
	}
	if len(played.protocols) > 1 || played.protocols[0].Serve == nil {
		return fmt.Errorf("a soak plays one backend that is reached by network, not %s", o.backend)
	}
	// As long as a commit may take after a delivery in a round (account.CommitLooks),
	// ten times what it does take.
	s.fresh = 2 * time.Second
	if played.waits() {
		s.fresh = 6 * time.Second
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
	b.allow = s.allow
	b.target = front.Target{CAFile: s.authority.caFile(), SecretFile: s.secret}
	p := &plan{
		seed: o.seed, backend: played, topics: 2, partitions: 6, members: 1, gzip: true, memory: 32,
		records: 1000, linger: 200 * time.Millisecond, inFlight: 8, rate: o.rate,
	}
	res := b.run(ctx, p, s.live)
	if ctx.Err() != nil && res.err == nil {
		res.err = ctx.Err()
	}
	growth, grows := verdict(s.samples)
	report := growth + "\n" + s.report()
	s.note(res.dir)
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
	case grows != nil:
		return grows
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
	s.key, s.shown = fmt.Sprintf("key-%d", time.Now().UnixNano()), false
	// As a secret store does: a new file in the place of the old one.
	next := s.secret + ".next"
	if err := os.WriteFile(next, []byte(s.key+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(next, s.secret)
}

// allow says whether the judge takes a request.
func (s *soaking) allow(credentials string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if credentials != s.key {
		return false
	}
	s.shown = true
	return true
}

// requests is how many there were, whether the judge took them or not.
func (s *soaking) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// daily is one event of daily life.
type daily struct {
	name string
	// blind: weir cannot know all of the lag meanwhile, since not all partitions are
	// those of the member that is looked at, or since it does not reach the broker.
	blind bool
	do    func(ctx context.Context, s *soaking) error
}

var life = []daily{
	{"sink restarted", false, func(ctx context.Context, s *soaking) error {
		s.connector().judge.killFront()
		sleep(ctx, 5*time.Second)
		return s.connector().judge.startFront()
	}},
	{"members added and removed", true, func(ctx context.Context, s *soaking) error {
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
	{"secret changed", false, func(ctx context.Context, s *soaking) error {
		if err := s.rotate(); err != nil {
			return err
		}
		s.await(ctx, func() string {
			s.mu.Lock()
			defer s.mu.Unlock()
			if !s.shown {
				return "no request has shown the new one"
			}
			return ""
		})
		return nil
	}},
	{"certificate expired and renewed", false, certificateRenewed},
	{"sink slow for a while", false, func(ctx context.Context, s *soaking) error {
		_, over := s.connector().judge.feel(mood{share: 1, plan: front.Plan{Wait: 400 * time.Millisecond}})
		defer over()
		sleep(ctx, 10*time.Second)
		return nil
	}},
	{"kafka connections cut", true, func(ctx context.Context, s *soaking) error {
		defer s.r.trouble()()
		p := s.r.bed.kafka.proxy
		p.Set(proxy.Mode{Cut: true})
		defer p.Set(proxy.Mode{})
		sleep(ctx, time.Second)
		return nil
	}},
}

// certificateRenewed shows weir a certificate that has expired, and then one that it
// can take. A certificate is shown when a connection is made, so the connections are
// cut; that nothing comes before the new one is there proves that what comes later
// comes because of it.
func certificateRenewed(ctx context.Context, s *soaking) error {
	defer s.r.trouble()()
	if err := s.authority.expire(); err != nil {
		return err
	}
	p := s.connector().judge.proxy
	p.Set(proxy.Mode{Cut: true})
	sleep(ctx, 200*time.Millisecond)
	p.Set(proxy.Mode{})
	// A front at work on a request goes on with it.
	sleep(ctx, 2*time.Second)
	before := s.requests()
	sleep(ctx, 3*time.Second)
	if n := s.requests() - before; n > 0 {
		s.r.violation("%d requests over connections whose certificate has expired", n)
	}
	if err := s.authority.renew(); err != nil {
		return err
	}
	before = s.requests()
	s.await(ctx, func() string {
		if s.requests() == before {
			return "no request came with the new one"
		}
		return ""
	})
	return nil
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
	watch.Go(func() { s.watchLag(watching) })
	sleep(ctx, s.every)
	for i := 0; ctx.Err() == nil; i++ {
		if err := s.happen(ctx, i, life[i%len(life)]); err != nil {
			return fmt.Errorf("%s: %w", life[i%len(life)].name, err)
		}
	}
	return nil
}

func (s *soaking) connector() *connector { return s.r.connectors[0] }

func (s *soaking) account() *account.Account { return s.connector().account }

// look measures the member that runs all the time.
func (s *soaking) look(ctx context.Context) {
	p := s.r.members.procAt(0)
	if p == nil {
		return // that it has ended is a violation already
	}
	pause := s.pauseNow()
	ask, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	m, err := p.Metrics(ask)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		s.r.violation("weir's metrics could not be read: %v", err)
		return
	}
	read := func(name string) float64 {
		if !m.Has(name) {
			s.r.violation("weir's metrics have no %s", name)
		}
		return m.Sum(name)
	}
	x := sample{
		at: time.Since(s.began), pause: pause,
		rss: read("process_resident_memory_bytes"), heap: read("go_memstats_next_gc_bytes"),
		goroutines: read("go_goroutines"), files: read("process_open_fds"), lag: -1,
	}
	if m.Has(bridge.Lag) {
		x.lag = m.Sum(bridge.Lag)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pause != pause {
		x.pause = -1 // an event began meanwhile
	}
	s.samples = append(s.samples, x)
	if s.last != nil {
		s.last.said = max(s.last.said, x.lag)
	}
}

func (s *soaking) pauseNow() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pause
}

// note leaves the samples beside the logs.
func (s *soaking) note(dir string) {
	var b strings.Builder
	b.WriteString("seconds,pause,resident,heap,goroutines,files,lag\n")
	for _, x := range s.samples {
		fmt.Fprintf(&b, "%.1f,%d,%.0f,%.0f,%.0f,%.0f,%.0f\n", x.at.Seconds(), x.pause, x.rss, x.heap, x.goroutines, x.files, x.lag)
	}
	_ = os.WriteFile(filepath.Join(dir, "samples.csv"), []byte(b.String()), 0o600)
}

func (s *soaking) markdown(res result, report string) string {
	c := res.parts[0].counts
	return fmt.Sprintf("%s at %d events/s: produced %d, stored %d, dead letters %d, re-sent %d, lost %d, violations %d, peak %d MiB.\n\n%s",
		res.took.Round(time.Second), res.plan.rate, c.Produced, c.Stored, c.Dead, c.Resent, c.Lost, c.Violations, res.peak>>20, report)
}
