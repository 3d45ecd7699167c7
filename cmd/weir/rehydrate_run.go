package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/spf13/cobra"

	"weir/buffer"
	"weir/config"
	"weir/connector"
	"weir/connector/evidence"
	"weir/connector/kafka"
	"weir/connector/replay"
	"weir/sinks"
	"weir/sinks/bag"
)

func rehydrateRunCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Deliver what a plan says, as one worker of any number",
		Long: `Deliver what a plan says, as one worker of any number.

The same command on other machines shares the work: the workers are members of the
consumer group weir.rehydrate.CASE, which keeps how far each partition has come and
the evidence of it. Any of them may be stopped (Ctrl-C, exit code 130), killed and
started again, anywhere, with nothing but the plan file. It ends, with exit code 0,
when every partition of the plan is done, whoever did it.

Records go through the connector's decoding and sink, into an index of the case's
own: rehydrate-CASE, in lower case, where an id made of the record's place keeps what
is sent twice from being there twice. The connector itself, its group, its offsets
and its memory are not touched. Rates are for this worker alone.`,
		Args: noArgs,
	}
	path := configFlag(cmd)
	f := cmd.Flags()
	var w worker
	var rates rateFlags
	f.StringVar(&w.plan, "plan", "", "the plan `file`; needed")
	f.StringVar(&w.connector, "connector", "", "the `name` of the connector whose sink and decoding are used; needed")
	f.StringVar(&w.index, "index", "", "the `index` to write to, for elasticsearch and splunk_hec. Without it: rehydrate-CASE for elasticsearch, the connector's for splunk_hec")
	f.StringVar(&w.filter, "filter", "", "deliver only records for which this `expression` is true (docs/rehydrate.md)")
	f.StringVar(&w.yieldTo, "yield-to", "", "pause while the lag of this `connector` grows")
	f.StringVar(&w.bag, "bag", "", "keep the records in a bag, too: a new `folder`, or the one of an earlier run. With it --connector may be left out")
	rates.add(cmd, "by this worker")
	log := custodyFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if w.rates, err = rates.parse(); err != nil {
			return err
		}
		w.custodyFile = *log
		w.path, w.out, w.errs = *path, cmd.OutOrStdout(), cmd.ErrOrStderr()
		return w.run(cmd.Context())
	}
	return cmd
}

// worker is one run of the command.
type worker struct {
	path, plan, connector, index, filter, yieldTo, bag, custodyFile string

	rates     replay.Rates
	out, errs io.Writer

	open     *openCase
	job      *replay.Job
	throttle *replay.Throttle
	group    *kafka.Group
	log      *slog.Logger
	moved    chan struct{}                                                  // has room for one signal: a partition is through
	failures atomic.Int64                                                   // requests to the destination that failed
	gaps     func(topic string, partition int32, gaps []evidence.Gap) error // puts them into the bag; nil: there is none

	mu    sync.Mutex
	fault error // that no waiting mends
	stop  context.CancelCauseFunc
}

// errAllDone ends a worker when there is nothing left to do for anybody.
var errAllDone = errors.New("every partition of the plan is done")

func (w *worker) run(ctx context.Context) (err error) {
	// Before anything else: whoever is told to stop while it starts stops in order.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)

	cfg, open, log, err := loadCase(w.path, w.plan, w.errs)
	if err != nil {
		return err
	}
	w.open = open
	filter, err := replay.ParseFilter(w.filter)
	if err != nil {
		return usageError{fmt.Errorf("--filter: %w", err)}
	}
	open.mark = replay.Mark(open.hash, w.filter)
	c, err := w.target(cfg)
	if err != nil {
		return err
	}
	progress := newCaseProgress(w.out)
	w.errs = progress.beside(w.errs)
	w.log = log.With("case", open.plan.Case)
	prepareProcess(cfg, w.log)
	trail, err := openAudit(cfg.Log, w.path, w.errs)
	if err != nil {
		return err
	}
	defer trail.close()

	ctx, w.stop = context.WithCancelCause(ctx)
	defer w.stop(nil)
	if err := w.connect(ctx, cfg, signals); err != nil {
		return err
	}
	defer open.close()
	if err := w.checkMetadata(ctx); err != nil {
		return err
	}
	if _, err := open.look(ctx); err != nil {
		return err
	}

	change, err := trail.begin(rehydrate, fmt.Sprintf("case %s, plan %x, into %s", open.plan.Case, open.hash[:8], w.into(c)))
	if err != nil {
		return err
	}
	return change.end("", w.deliver(ctx, cfg, c, filter, signals, progress))
}

// deliver is the part of run that changes something: the bag and the dead-letter
// file are made by it.
func (w *worker) deliver(ctx context.Context, cfg *config.Config, c config.Connector, filter *replay.Filter, signals chan os.Signal, progress *caseProgress) error {
	open := w.open
	sink, err := w.destination(cfg, c)
	if err != nil {
		return err
	}
	defer sink.Close()
	b := &bridge{log: w.log}
	b.topics.keepAccount(cfg.Log, w.path, w.errs)
	dead, closeDead, err := b.newDeadLetter(c.DeadLetter, open.options, w.log)
	if err != nil {
		return err
	}
	if closeDead != nil {
		defer closeDead()
	}
	fetch := int64(cfg.Memory) / fetchShare
	delivery, err := deliveryOptions(c, sink, int64(cfg.Memory)-fetch, w.log)
	if err != nil {
		return err
	}
	// Dead letters say that they are of the case and not of the connector.
	delivery.Name, delivery.DeadLetter = open.plan.Group(), dead
	w.throttle = replay.NewThrottle(w.rates)
	w.job = replay.New(replay.Config{Plan: open.plan, Mark: open.mark, Filter: filter, Throttle: w.throttle, Gaps: w.gaps, Deliver: delivery})
	defer w.job.Close()
	w.moved = make(chan struct{}, 1)
	w.group = kafka.NewGroup(kafka.GroupConfig{
		Options: open.options, Group: open.plan.Group(), Topics: open.plan.Names(),
		Begin: w.begin, FetchBytes: fetch, AskBytes: askBytes, Lane: w.lane, Log: w.log,
	})

	grade, why := sink.Grade()
	w.log.Info("a worker of the case begins", "plan", w.plan, "group", open.plan.Group(), "into", w.into(c), "grade", grade, "since", why)
	chain := custody(w.custodyFile, open.file, open.plan.Case)
	if err := w.custodyStart(chain, c); err != nil {
		return err
	}
	go func() {
		for s := range signals {
			if ctx.Err() != nil {
				w.log.Warn("stopping at once: what is in flight is sent again by whoever goes on", "signal", s.String())
				w.job.Kill()
				return
			}
			w.log.Info("stopping: what is in flight is delivered and committed first", "signal", s.String())
			w.stop(errInterrupted)
		}
	}()
	err = w.work(ctx, cfg, progress)
	signal.Stop(signals)
	close(signals)
	progress.close()
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errAllDone):
	case cause != nil && err == nil:
		err = cause
	}
	return errors.Join(err, w.report(), w.custodyStop(chain, context.Cause(ctx)))
}

// connect connects to the cluster of the plan. While no broker answers it waits, as
// it would later: a worker that is started while they are away is not for a person
// to start again.
func (w *worker) connect(ctx context.Context, cfg *config.Config, signals <-chan os.Signal) error {
	pause := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(time.Second), backoff.WithMaxInterval(30*time.Second), backoff.WithMaxElapsedTime(0))
	for {
		err := w.open.connect(ctx, cfg, w.log)
		if !kafka.IsAway(err) || ctx.Err() != nil {
			return err
		}
		wait := pause.NextBackOff().Round(100 * time.Millisecond)
		w.log.Warn("no broker answers: trying again", "error", err, "in", wait)
		select {
		case <-time.After(wait):
		case <-signals:
			return errInterrupted
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// askBytes is how much a partition is asked for at a time: a remote tier takes
// long for each answer (KIP-405).
const askBytes = 16 << 20

// target is the connector as the case uses it: with an index of the case's own.
func (w *worker) target(cfg *config.Config) (config.Connector, error) {
	if w.connector == "" {
		if w.bag == "" {
			return config.Connector{}, usageError{errors.New("--connector is needed, or --bag: whose sink and decoding?")}
		}
		if w.index != "" {
			return config.Connector{}, usageError{errors.New("--index is of the sink of a connector, and there is no --connector")}
		}
		c := config.DefaultConnector()
		c.Decode.Format = "raw" // into the bag as they are
		return c, nil
	}
	i := slices.IndexFunc(cfg.Connectors, func(c config.Connector) bool { return c.Name == w.connector })
	if i < 0 {
		return config.Connector{}, usageError{fmt.Errorf("there is no connector %q", w.connector)}
	}
	if w.yieldTo != "" && !slices.ContainsFunc(cfg.Connectors, func(c config.Connector) bool { return c.Name == w.yieldTo }) {
		return config.Connector{}, usageError{fmt.Errorf("--yield-to: there is no connector %q", w.yieldTo)}
	}
	c := cfg.Connectors[i]
	err := caseIndex(&c, w.open.plan.Case, w.index)
	return c, err
}

// caseIndex makes c write to an index of the case's own.
func caseIndex(c *config.Connector, id, index string) error {
	switch {
	case c.Sink.Elasticsearch != nil:
		e := *c.Sink.Elasticsearch
		e.Index, e.DataStream, e.Op, e.ID = index, "", "create", "offset"
		if index == "" {
			e.Index = "rehydrate-" + strings.ToLower(id)
		}
		c.Sink.Elasticsearch = &e
	case c.Sink.SplunkHEC != nil && index != "":
		h := *c.Sink.SplunkHEC
		h.Index = index
		c.Sink.SplunkHEC = &h
	case index != "":
		return usageError{fmt.Errorf("--index: the sink of connector %q has no index", c.Name)}
	}
	return nil
}

// into says where the records go.
func (w *worker) into(c config.Connector) string {
	var all []string
	switch e := c.Sink.Elasticsearch; {
	case e != nil:
		all = append(all, "index "+e.Index)
	case c.Name != "":
		all = append(all, "the sink of connector "+c.Name)
	}
	if w.bag != "" {
		all = append(all, "bag "+w.bag)
	}
	return strings.Join(all, " and ")
}

// destination is the sink of c, or a bag, or both.
func (w *worker) destination(cfg *config.Config, c config.Connector) (destination, error) {
	observe := func(status int, _ time.Duration) {
		if status < 200 || status > 299 {
			w.failures.Add(1)
		}
	}
	if w.bag == "" {
		return newDestination(cfg, c, w.log, observe)
	}
	b, err := bag.Open(bag.Config{Dir: w.bag, Plan: w.open.text, Log: w.log, Observe: observe})
	if err != nil {
		return nil, err
	}
	w.gaps = func(topic string, partition int32, gaps []evidence.Gap) error {
		var lines []byte
		for _, g := range gaps {
			lines = evidence.AppendGap(lines, g)
		}
		return b.Tell(evidence.GapFile(topic, partition), lines)
	}
	if c.Name == "" {
		return b, nil
	}
	sink, err := newDestination(cfg, c, w.log, observe)
	if err != nil {
		b.Close()
		return nil, err
	}
	return bagged{sink, b}, nil
}

// bagged is a sink whose records are put into a bag first.
type bagged struct {
	destination
	bag *bag.Sink
}

// Deliver implements sinks.Sink. What is not in the bag is not sent on; what was
// put into it already is there once.
func (b bagged) Deliver(ctx context.Context, batch *buffer.Batch, answered func(sinks.Note)) ([]sinks.Outcome, error) {
	kept, err := b.bag.Deliver(ctx, batch, func(sinks.Note) {})
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(kept, func(o sinks.Outcome) bool { return o.Verdict != sinks.Ack }); i >= 0 || len(kept) != len(batch.Records) {
		return nil, errors.New("the bag did not take every record")
	}
	return b.destination.Deliver(ctx, batch, answered)
}

func (b bagged) Close() {
	b.destination.Close()
	b.bag.Close()
}

// What the entry about the begin of a run says of it.
const (
	detailConnector   = "connector"
	detailDestination = "destination"
)

func (w *worker) custodyStart(chain *evidence.Custody, c config.Connector) error {
	return chain.Add(evidence.ActionStart, map[string]any{
		"plan_sha256": w.open.hash.String(), "mark": w.open.mark, detailConnector: c.Name, detailDestination: w.into(c), "filter": w.filter,
		"rate_bytes": w.rates.Bytes, "rate_records": w.rates.Records, "yield_to": w.yieldTo, "group": w.open.plan.Group(),
	})
}

func (w *worker) custodyStop(chain *evidence.Custody, cause error) error {
	why := "an error"
	switch {
	case errors.Is(cause, errAllDone):
		why = "all partitions are done"
	case errors.Is(cause, errInterrupted):
		why = "told to stop"
	}
	read := w.group.Status()
	var n connector.Counts
	for _, l := range w.job.Stats().Lanes {
		n.Delivered += l.Counts.Delivered
		n.Duplicates += l.Counts.Duplicates
		n.DeadLettered += l.Counts.DeadLettered
		n.Retried += l.Counts.Retried
	}
	return chain.Add(evidence.ActionStop, map[string]any{
		"why": why, "delivered": n.Delivered, "duplicates": n.Duplicates, "dead_lettered": n.DeadLettered, "retried": n.Retried,
		detailErrors: w.failures.Load() + read.Failures, detailThrottled: read.Waited.Milliseconds(),
	})
}

// checkMetadata refuses a broker that takes less metadata than the evidence of the
// largest partition may need.
func (w *worker) checkMetadata(ctx context.Context) error {
	longest := 0
	for i := range w.open.plan.Topics {
		t := &w.open.plan.Topics[i]
		for j := range t.Partitions {
			longest = max(longest, evidence.LongestText(len(kafka.Mark(t.ID)), t.Partitions[j].Offsets()))
		}
	}
	limit, err := kafka.MetadataLimit(ctx, w.open.options)
	if err != nil {
		w.log.Info("the brokers do not say how much metadata a commit may have; 4096 bytes are assumed", "err", err)
		limit = 4096
	}
	if limit < longest {
		return fmt.Errorf("the brokers take %d bytes of metadata with a commit (offset.metadata.max.bytes), and the evidence of this plan can need %d: raise it on every broker, it takes a restart", limit, longest)
	}
	return nil
}

// fail ends the worker: no waiting mends err.
func (w *worker) fail(err error) {
	w.mu.Lock()
	if w.fault == nil {
		w.fault = err
	}
	w.mu.Unlock()
	w.stop(err)
}

// begin says where a partition begins that nobody has begun with.
func (w *worker) begin(origin *buffer.Origin) (int64, error) {
	topic, plan := w.open.plan.Partition(origin.Topic, origin.Partition)
	switch {
	case plan == nil:
		return 0, kafka.ErrNotRead // it was added to the topic since
	case topic.ID != origin.TopicID:
		err := fmt.Errorf("topic %q was deleted and made again while it was replayed: what the plan is of is gone", origin.Topic)
		w.fail(err)
		return 0, err
	}
	return plan.First, nil
}

// lane replays a partition while it is ours, and then keeps it until it is not: a
// lane that ends would be begun again.
func (w *worker) lane(ctx context.Context, origin *buffer.Origin, src connector.Source) error {
	up, ok := src.(kafka.Noted)
	if !ok {
		return errors.New("the group's source keeps no notes")
	}
	if err := w.job.Lane(ctx, origin, up); err != nil {
		if _, no := errors.AsType[*replay.MismatchError](err); no {
			w.fail(err)
		}
		return err
	}
	select {
	case w.moved <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return nil
}

// lookEvery is how often the group is asked how far the case has come.
const lookEvery = 2 * time.Second

// work is a member of the group until all is done, or ctx is.
func (w *worker) work(ctx context.Context, cfg *config.Config, progress *caseProgress) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- w.group.Run(running) }()
	var side sync.WaitGroup
	defer side.Wait()
	defer stop()
	if w.yieldTo != "" {
		side.Go(func() { w.yield(running, cfg) })
	}

	state := caseState{name: w.open.plan.Case}
	var speed pace
	look, show := time.NewTicker(lookEvery), time.NewTicker(progress.every())
	defer look.Stop()
	defer show.Stop()
	soon := time.After(0)
	for {
		asked := false
		select {
		case err := <-ended:
			return err
		case <-running.Done():
			return <-ended
		case <-w.moved:
			soon = time.After(2 * commitWithin) // what was settled is committed a moment later
		case <-soon:
			asked = true
		case <-look.C:
			asked = true
		case <-show.C:
			state.worker, state.waiting = w.job.Report(), w.waits(state.look)
			progress.show(state)
		}
		if !asked {
			continue
		}
		o, err := w.open.look(running)
		switch {
		case running.Err() != nil:
			continue
		case err != nil:
			w.log.Warn("asking how far the case has come fails, trying again", "err", err)
			continue
		}
		state.look = o
		speed.add(o.at, o.done, int64(o.counts.Read))
		state.offsets, state.records = speed.rates()
		state.left, state.known = speed.left(o.total - o.done)
		if o.all() {
			state.worker, state.waiting = w.job.Report(), ""
			if progress.terminal == nil {
				progress.show(state)
			}
			w.stop(errAllDone)
		}
	}
}

// commitWithin is how long after it was settled an offset is committed.
const commitWithin = 200 * time.Millisecond

// waits says what is waited for, "" for nothing.
func (w *worker) waits(o *overview) string {
	s := w.group.Status()
	if s.State != kafka.StateJoined {
		return "joining the group; after a worker that was killed this takes up to 20s"
	}
	for _, p := range s.Partitions {
		if p.Err != nil {
			return fmt.Sprintf("%s/%d: %v", p.Topic, p.Partition, p.Err)
		}
	}
	if len(s.Faults) > 0 {
		return s.Faults[0].What + ": " + s.Faults[0].Err.Error()
	}
	busy := false
	for _, p := range w.job.Report().Partitions {
		busy = busy || p.Ours
	}
	if !busy && o != nil && !o.all() {
		return "waiting for the other workers: what is left is theirs"
	}
	return ""
}

// yieldEvery is how often the live connector's lag is looked at.
const yieldEvery = 3 * time.Second

// yield makes the worker pause while the lag of a live connector grows.
func (w *worker) yield(ctx context.Context, cfg *config.Config) {
	live := cfg.Connectors[slices.IndexFunc(cfg.Connectors, func(c config.Connector) bool { return c.Name == w.yieldTo })]
	ledger := kafka.OpenLedger(ctx, w.open.options, live.Group)
	defer ledger.Close()
	y := replay.NewYield(live.Name)
	tick := time.NewTicker(yieldEvery)
	defer tick.Stop()
	said := ""
	for {
		lag, err := w.lag(ctx, ledger, live)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			w.log.Warn("the lag of the connector to make way for is not known", "connector", live.Name, "err", err)
		default:
			why := y.Look(lag)
			if (why == "") != (said == "") {
				w.log.Info("making way", "for", live.Name, "lag", lag, "paused", why != "")
			}
			said = why
			w.throttle.Pause(why)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (w *worker) lag(ctx context.Context, ledger *kafka.Ledger, live config.Connector) (int64, error) {
	m, err := w.open.options.Metadata(ctx, live.Topics...) // all of them, for a pattern
	if err != nil {
		return 0, err
	}
	pattern, err := regexp.Compile(live.TopicsPattern)
	if err != nil {
		return 0, err
	}
	topics := map[string][]int32{}
	for name, t := range m.Topics {
		if t.Err == nil && (live.TopicsPattern == "" || !t.Internal && pattern.MatchString(name)) {
			topics[name] = t.Partitions
		}
	}
	return ledger.Lag(ctx, topics)
}

// report says how far the case has come when the worker ends.
func (w *worker) report() error {
	w.mu.Lock()
	fault := w.fault
	w.mu.Unlock()
	if fault != nil {
		return nil // it is said already
	}
	// The connections of before ended with the context.
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	ledger := kafka.OpenLedger(ctx, w.open.options, w.open.plan.Group())
	defer ledger.Close()
	after := *w.open
	after.ledger = ledger
	o, err := after.look(ctx)
	if err != nil {
		return err
	}
	printCase(w.errs, w.open.plan, o)
	return nil
}

// printCase says in words how far a case has come.
func printCase(out io.Writer, p *replay.Plan, o *overview) {
	say(out, "Case %s: %s of %s offsets (%s), %d of %d partitions done", p.Case, grouped(o.done), grouped(o.total), strings.TrimSpace(percent(o.done, o.total)), o.finished, len(o.partitions))
	row := func(n uint64, what string) { fmt.Fprintf(out, "  %14s  %s\n", grouped(int64(n)), what) }
	c := &o.counts
	row(c.Read, "records read")
	row(c.Outside, "of them outside of the time range")
	if c.Filtered > 0 || c.FilterErrors > 0 {
		row(c.Filtered, "left out by the filter")
		row(c.FilterErrors, "on which the filter failed: they count as wanted")
	}
	row(c.Matched, "matched")
	row(c.Delivered, "delivered")
	row(c.Duplicates, "were in the destination already")
	if c.Quarantined > 0 {
		row(c.Quarantined, "stored aside by the destination")
	}
	row(c.DeadLettered, "dead-lettered")
	if c.Dropped > 0 {
		row(c.Dropped, "dropped by the connector's own transforms")
	}
	for class, n := range o.gaps {
		if n > 0 {
			row(n, "offsets without a record: "+gapWords[class])
		}
	}
	for i := range o.partitions {
		s := &o.partitions[i]
		for _, g := range s.gaps.Listed {
			say(out, "  ! %s: offsets %s to %s: %s", s.name(), grouped(g.From), grouped(g.To-1), gapWords[g.Class])
		}
		if n := s.gaps.Unlisted; n > 0 {
			say(out, "  ! %s: and %d more such gaps", s.name(), n)
		}
	}
}

// gapWords say why offsets hold no record.
var gapWords = [evidence.Classes]string{
	evidence.Unexplained: "nobody knows why",
	evidence.Control:     "markers of transactions",
	evidence.Aborted:     "aborted transactions",
	evidence.Compacted:   "compaction",
	evidence.Retention:   "retention had removed them",
}
