package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/cenkalti/backoff/v4"

	"weir/buffer"
	"weir/connector"
)

// Lane takes in one partition until ctx is done and what it took is settled, or
// until it cannot go on. After it returned it must not call src any more.
type Lane func(ctx context.Context, origin *buffer.Origin, src connector.Source) error

// GroupConfig says what a Group reads and where to.
type GroupConfig struct {
	Options Options
	Group   string // the consumer group's id
	// Topics or Pattern: what to read. Topics that do not exist are waited for. A
	// pattern is tried on all topics but Kafka's internal ones, now and then anew.
	Topics  []string
	Pattern *regexp.Regexp
	Start   Start // where to begin without a committed offset
	// Begin, if it is set, says so for each partition, instead of Start. ErrNotRead
	// leaves a partition alone, any other error is tried again.
	Begin func(origin *buffer.Origin) (offset int64, err error)
	// FetchBytes bounds the memory of what is fetched and not yet taken by a lane,
	// over all partitions. One batch that is larger than that may come on top.
	FetchBytes int64
	// AskBytes is how much memory a partition is asked for at a time at most, 0: 4
	// MiB. More helps where each answer takes long to come, as from a remote tier.
	AskBytes int64
	Lane     Lane
	Log      *slog.Logger

	every intervals
}

// ErrNotRead is Begin's error for a partition that is not to be read.
var ErrNotRead = errors.New("the partition is not to be read")

// intervals are how often things are done; zero: the default. Tests shorten them.
type intervals struct {
	watch, discover, retry, retryMax, leave, heartbeat time.Duration
}

// watch is how often topics are looked at: are they there, are they the same.
func (c *GroupConfig) watch() time.Duration { return or(c.every.watch, 5*time.Second) }

// discover is how often the pattern is tried on all topics.
func (c *GroupConfig) discover() time.Duration { return or(c.every.discover, 30*time.Second) }

// retry and retryMax bound the pause between attempts.
func (c *GroupConfig) retry() time.Duration    { return or(c.every.retry, time.Second) }
func (c *GroupConfig) retryMax() time.Duration { return or(c.every.retryMax, 30*time.Second) }

// leave is how long the last commit and the farewell to the group may take, once
// all lanes have ended.
func (c *GroupConfig) leave() time.Duration { return or(c.every.leave, 10*time.Second) }

func or(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}

// Group reads topics as a member of a consumer group.
//
// Membership, heartbeats, rebalances and commits are sarama's; records are
// fetched by a fetcher. sarama's own reading of a claimed partition is paused at
// once: its claim serves only to say when the partition is revoked.
type Group struct {
	cfg GroupConfig
	log *slog.Logger

	cluster *cluster
	fetcher *fetcher
	look    chan struct{} // has room for one signal: a topic looks deleted or remade
	change  chan struct{} // has room for one signal: topics changed

	mu         sync.Mutex
	joined     bool
	session    sarama.ConsumerGroupSession
	generation int32
	rebalances int64
	claims     map[*claim]struct{}
	topics     []string          // those to read that exist, sorted
	missing    map[string]error  // those that do not, and why
	gone       map[string]int    // in how many looks on end
	ids        map[string]string // topic ids as last seen
	remade     map[string]bool   // topics that were made again while we ran
	lostBy     map[lostKey]int64 // records that retention took before delivery
	faults     map[string]fault
	kill       func()      // ends the group's connections
	killing    *time.Timer // set when only farewells are left to say
	ending     bool
	heard      bool // some broker has answered
	saidNone   bool // that no topic matches the pattern
}

type lostKey struct {
	topic     string
	partition int32
}

// NewGroup is a Group that does not run yet.
func NewGroup(cfg GroupConfig) *Group {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Group{
		cfg:     cfg,
		log:     log,
		look:    make(chan struct{}, 1),
		change:  make(chan struct{}, 1),
		claims:  make(map[*claim]struct{}),
		missing: make(map[string]error),
		gone:    make(map[string]int),
		ids:     make(map[string]string),
		remade:  make(map[string]bool),
		lostBy:  make(map[lostKey]int64),
		faults:  make(map[string]fault),
	}
}

// Run reads until ctx is done, whatever the brokers do: it joins the group, and
// joins again, with a growing pause between attempts. When it returns every lane
// has returned, the last offsets are committed and the group was left, as far as
// the brokers answered in time. Run is called once.
func (g *Group) Run(ctx context.Context) error {
	// Connections of the group outlive ctx: the last commit needs them.
	hard, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	defer context.AfterFunc(ctx, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.ending = true
		g.endIfIdle()
	})()
	c := newCluster(ctx, g.cfg.Options)
	defer c.Close()
	f := newFetcher(ctx, c, g.cfg.FetchBytes, g.log, func(string) { signal(g.look) })
	f.maxAsk = g.cfg.AskBytes
	defer f.Close()
	g.mu.Lock()
	g.kill, g.cluster, g.fetcher = kill, c, f
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.killing != nil {
			g.killing.Stop()
		}
	}()

	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { g.watch(ctx) })

	pause := g.pause()
	for {
		began := time.Now()
		err := g.member(ctx, hard)
		if ctx.Err() != nil {
			return nil
		}
		g.fault(faultGroup, g.cfg.Options.Explain(err))
		signal(g.look) // it may be that a topic is gone
		if time.Since(began) > g.cfg.retryMax() {
			pause.Reset()
		}
		sleep(ctx, pause.NextBackOff())
	}
}

func (g *Group) pause() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(g.cfg.retry()),
		backoff.WithMaxInterval(g.cfg.retryMax()),
		backoff.WithMaxElapsedTime(0))
}

// endIfIdle starts the clock for the last commit and the farewell. Under g.mu.
func (g *Group) endIfIdle() {
	if g.ending && len(g.claims) == 0 && g.killing == nil && g.kill != nil {
		g.killing = time.AfterFunc(g.cfg.leave(), g.kill)
	}
}

// member is one membership of the group: it lasts until ctx is done or something
// fails. The next one has a client of its own: this one would keep a password
// that may have been changed meanwhile.
func (g *Group) member(ctx, hard context.Context) error {
	cfg, err := g.cfg.Options.config()
	if err != nil {
		return err
	}
	// Where we may not use the group sarama asks on for a quarter of a minute before
	// it says so. Whatever else goes wrong is for it to find out.
	if _, err := g.cluster.coordinator(ctx, g.cfg.Group); errors.Is(err, sarama.ErrGroupAuthorizationFailed) {
		return err
	}
	cfg.Net.Proxy.Enable, cfg.Net.Proxy.Dialer = true, groupDialer{hard, cfg.Net.DialTimeout}
	cfg.Metadata.RefreshFrequency = g.cfg.discover()
	// What follows is about sarama's own reading, which is paused before it begins:
	// should it still ask for something, it is little. Where it believes to be does
	// not matter, so an offset that is out of range must not end the session.
	cfg.Consumer.Group.ResetInvalidOffsets = true
	cfg.Consumer.Fetch.Default = 1
	cfg.Consumer.Fetch.MaxBytes = 1
	cfg.Consumer.MaxWaitTime = 100 * time.Millisecond
	cfg.ChannelBufferSize = 1
	cfg.Consumer.Group.Heartbeat.Interval = or(g.cfg.every.heartbeat, cfg.Consumer.Group.Heartbeat.Interval)

	client, err := sarama.NewClient(g.cfg.Options.Brokers, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	group, err := sarama.NewConsumerGroupFromClient(g.cfg.Group, client)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for err := range group.Errors() {
			g.groupError(err)
		}
	})
	defer func() {
		if err := group.Close(); err != nil {
			g.log.Warn("leaving the group", "group", g.cfg.Group, "err", err)
		}
	}()
	for ctx.Err() == nil {
		topics := g.subscription()
		if len(topics) == 0 {
			select {
			case <-g.change:
			case <-ctx.Done():
			}
			continue
		}
		if err := g.consume(ctx, group, topics); err != nil {
			return err
		}
	}
	return nil
}

func (g *Group) subscription() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.topics
}

// consume is one session, or one attempt at it. It ends without an error when
// the topics to read have changed.
func (g *Group) consume(ctx context.Context, group sarama.ConsumerGroup, topics []string) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() {
		for ctx.Err() == nil {
			if !slices.Equal(g.subscription(), topics) {
				cancel()
				return
			}
			select {
			case <-g.change:
			case <-ctx.Done():
			}
		}
	})
	err := group.Consume(ctx, topics, &handler{g})
	g.mu.Lock()
	g.joined, g.session = false, nil
	g.mu.Unlock()
	if err == nil && ctx.Err() == nil {
		// sarama ends a session without an error when it was thrown out or a claim
		// could not be made.
		return errors.New("the session with the group ended")
	}
	return err
}

// groupDialer makes the group's connections end with ctx.
type groupDialer struct {
	ctx     context.Context
	timeout time.Duration
}

func (d groupDialer) Dial(network, addr string) (net.Conn, error) {
	return (&contextDialer{ctx: d.ctx, timeout: d.timeout}).Dial(network, addr)
}

// handler is what sarama calls during a session.
type handler struct{ g *Group }

func (h *handler) Setup(session sarama.ConsumerGroupSession) error {
	h.g.mu.Lock()
	h.g.joined, h.g.session = true, session
	h.g.noteGeneration()
	h.g.mu.Unlock()
	h.g.fault(faultGroup, nil)
	return nil
}

func (h *handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// ConsumeClaim reads a partition while it is ours. It must not return before:
// sarama ends the whole session when a claim returns on its own account.
func (h *handler) ConsumeClaim(session sarama.ConsumerGroupSession, sc sarama.ConsumerGroupClaim) error {
	g := h.g
	if p, ok := sc.(interface{ Pause() }); ok {
		p.Pause()
	}
	ctx, cancel := context.WithCancel(session.Context())
	defer cancel()
	go func() {
		defer cancel()
		for range sc.Messages() { // closed when the partition is revoked
		}
	}()

	c := &claim{g: g, topic: sc.Topic(), partition: sc.Partition()}
	g.mu.Lock()
	g.claims[c] = struct{}{}
	g.noteGeneration()
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.claims, c)
		g.noteGeneration()
		g.endIfIdle()
	}()

	pause := g.pause()
	for ctx.Err() == nil {
		began := time.Now()
		err := g.read(ctx, c, session)
		switch {
		case ctx.Err() != nil:
			if err != nil && !errors.Is(err, context.Canceled) {
				g.log.Warn("a partition is given back unfinished", "topic", c.topic, "partition", c.partition, "err", err)
			}
		case errors.Is(err, ErrNotRead):
			<-ctx.Done()
		case errors.Is(err, errRecreated), errors.Is(err, errReset):
			g.log.Warn("a partition is read anew", "topic", c.topic, "partition", c.partition, "why", err)
		default:
			if time.Since(began) > g.cfg.retryMax() {
				pause.Reset()
			}
			c.problem(err)
			sleep(ctx, pause.NextBackOff())
		}
	}
	return nil
}

// read runs a lane on a partition.
func (g *Group) read(ctx context.Context, c *claim, session sarama.ConsumerGroupSession) error {
	session.Commit() // of the lane before, so that this one does not repeat it
	s, err := g.begin(ctx, c, session)
	if err != nil {
		return err
	}
	c.problem(nil)
	ctx, s.restart = context.WithCancelCause(ctx)
	defer s.restart(nil)
	s.reader = g.fetcher.Add(s.origin, s.start)
	defer s.reader.Close()
	g.mu.Lock()
	c.topicID, c.reader, c.restart = s.origin.TopicID, s.reader, s.restart
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		c.reader, c.restart = nil, nil
	}()
	err = g.cfg.Lane(ctx, s.origin, s)
	if cause := context.Cause(ctx); errors.Is(cause, errRecreated) || errors.Is(cause, errReset) {
		return cause
	}
	if err == nil && ctx.Err() == nil {
		err = errors.New("the lane ended by itself")
	}
	return err
}

// noteGeneration counts rebalances: sarama tells of none with cooperative-sticky.
// Under g.mu.
func (g *Group) noteGeneration() {
	if g.session == nil {
		return
	}
	if n := g.session.GenerationID(); n != g.generation {
		g.generation = n
		g.rebalances++
	}
}

// groupError notes an error that sarama reports beside the session: most are
// commits that failed and are tried again.
func (g *Group) groupError(err error) {
	if errors.Is(err, sarama.ErrRebalanceTimedOut) {
		err = fmt.Errorf("a partition was not given back within %v and its last offsets may be read again by another member: %w", RebalanceTimeout, err)
	}
	g.passing(faultCommit, err)
}

func (g *Group) lost(c *claim, n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lostBy[lostKey{c.topic, c.partition}] += n
}
