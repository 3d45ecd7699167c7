package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"weir/testbed/bridge"
	"weir/testbed/broker"
	"weir/testbed/torture/account"
	"weir/testbed/torture/front"
	"weir/testbed/torture/logbook"
)

// replayPlan is what is drawn for a round in which weir replays a case.
type replayPlan struct {
	records int  // in the log
	filter  bool // a fifth of the records of the range is not wanted
	live    bool // a weir delivers the same topics meanwhile, to a folder
	taken   bool // retention had taken something when the plan was made
}

// words are what is drawn, for a list of what was done.
func (p *replayPlan) words() (words []string) {
	for _, w := range []struct {
		is   bool
		word string
	}{{p.filter, "filter"}, {p.live, "live connector"}, {p.taken, "range before the log"}} {
		if w.is {
			words = append(words, w.word)
		}
	}
	return words
}

// retentionKind overtakes a replay. It is drawn apart from the others: in half of
// the rounds nothing must be missing.
var retentionKind = &kind{"retention overtakes", "retention", 200 * msec, 2 * sec, kept, retentionOvertakes}

// replay draws the rest of a plan in which weir replays a case.
func (d *deck) replay(rng *rand.Rand, p *plan) *replayPlan {
	r := &replayPlan{
		records: pick(rng, 12_000, 24_000), filter: pick(rng, true, false, false),
		live: pick(rng, true, false), taken: pick(rng, true, false, false),
	}
	p.topics = min(p.topics, 2)
	p.preload = 0
	wanted := len(d.kinds) == 0 || slices.Contains(d.kinds, retentionKind.name)
	for n := rng.IntN(4); n > 1 && wanted; n-- { // none, none, one, two
		p.faults = append(p.faults, fault{
			kind: retentionKind, at: time.Duration(rng.Int64N(int64(d.length))),
			last: retentionKind.least + time.Duration(rng.Int64N(int64(retentionKind.most-retentionKind.least))), seed: rng.Uint64(),
		})
	}
	return r
}

const (
	// interrupted is the exit code of a worker that was told to stop and did so in
	// order.
	interrupted = 130
	// workFor is how long the workers together would take for the log, were they left
	// alone: longer than the faults begin.
	workFor = 20
	begins  = "a worker of the case begins"
	// commandWithin ends a command that hangs.
	commandWithin = 3 * time.Minute
)

// replay is a case: the log that it is of, and what its workers are told.
type replay struct {
	r        *round
	from, to time.Time
	books    []*book
	file     string // the plan's
	key      string
	done     atomic.Bool // a worker says so
	closing  atomic.Bool // workers that cannot begin are not started again
	fast     atomic.Bool // without a rate

	live       *bridge.Process
	stood      map[string]string // what the live connector's group had committed, by topic
	generation int32

	mu     sync.Mutex
	places map[int]bool // where there were workers
}

// book is one partition of the case.
type book struct {
	logbook.Partition
	topic *topic
	// Of its log when the plan was made: its start, and the end.
	start, end int64
	// cuts are the offsets that retention has moved the log's start to, To, in their
	// order, and what was committed before, From: nothing below that can be missing.
	cuts []logbook.Span
}

func newReplay(r *round) *replay {
	to := time.Now().Add(-3 * time.Hour).Truncate(time.Second)
	return &replay{r: r, from: to.Add(-5 * time.Hour), to: to, places: map[int]bool{}}
}

func (p *replay) path(name string) string { return filepath.Join(p.r.dir, name) }

// over reports whether the case is done. Nil is no case, and never over.
func (p *replay) over() bool { return p != nil && p.done.Load() }

// begun reports whether a worker has begun to work or has ended.
func (p *replay) begun(w *bridge.Process) bool {
	select {
	case <-w.Exited():
		return true
	default:
		return strings.Contains(w.Log(), begins)
	}
}

// mayEnd reports whether an ended weir is a worker that found nothing left to do.
func (p *replay) mayEnd(w *bridge.Process) bool {
	if p == nil || w.ExitCode() != 0 {
		return false
	}
	p.done.Store(true) // judged at the end
	return true
}

// mayFail reports whether an ended weir is a worker that did not get to work since
// the broker was away: it is a command, and says so to who called it.
func (p *replay) mayFail(w *bridge.Process) bool {
	return p != nil && !p.closing.Load() && w.ExitCode() == 1 && !strings.Contains(w.Log(), begins) && strings.Contains(w.Log(), "kafka")
}

// launch starts a worker.
func (p *replay) launch(place int, cfg *bridge.Config) (*bridge.Process, error) {
	name := fmt.Sprintf("weir-%d", place+1)
	config := p.path(name + ".yaml")
	if err := cfg.Write(config); err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.places[place] = true
	p.mu.Unlock()
	args := []string{"rehydrate", "run", "-c", config, "--plan", p.file, "--connector", front.Rehydrate.Name, "--custody", p.custody(place)}
	if !p.fast.Load() {
		args = append(args, "--rate-records", fmt.Sprintf("%d/s", p.r.plan.replay.records/p.r.plan.members/workFor))
	}
	return bridge.Command(p.r.bed.bin, p.r.dir, name, append(args, p.filter()...))
}

func (p *replay) custody(place int) string { return p.path(fmt.Sprintf("custody-%d.ndjson", place+1)) }

func (p *replay) filter() []string {
	if p.r.plan.replay.filter {
		return []string{"--filter", "event.drop != 1"}
	}
	return nil
}

// command runs a command of weir to its end.
func (p *replay) command(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.r.bed.bin, args...)
	cmd.Env = bridge.Environ()
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("weir %s: %w: %s", strings.Join(args, " "), err, lastLines(string(out), 12))
	}
	return string(out), err
}

// prepare writes the log and makes the plan, while nothing is done to anybody.
func (p *replay) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, flowWithin)
	defer cancel()
	rng := rand.New(rand.NewPCG(p.r.plan.seed, uint64(p.r.plan.round)+1<<40))
	cluster, err := admin{p.r.admin}.clusterID(ctx)
	if err != nil {
		return err
	}
	for _, t := range p.r.topics {
		for n := range t.partitions {
			p.books = append(p.books, &book{Partition: logbook.Partition{Cluster: cluster, TopicID: t.logs[0].ID, Topic: t.name, Number: n}, topic: t})
		}
		if err := p.write(ctx, t, rng); err != nil {
			return fmt.Errorf("writing the log of %s: %w", t.name, err)
		}
		ends, err := p.settledEnds(ctx, t.name)
		if err != nil {
			return err
		}
		for n, end := range ends {
			p.book(t.name, n).end = end
		}
	}
	if p.r.plan.replay.taken {
		b := p.books[rng.IntN(len(p.books))]
		if _, err := p.cut(ctx, b, 0.1+0.4*rng.Float64(), 0); err != nil {
			return err
		}
		for _, c := range b.cuts {
			b.start = c.To // none, if there is hardly anything in it
		}
	}
	if p.r.plan.replay.live {
		if err := p.goLive(ctx); err != nil {
			return err
		}
	}
	config := p.path("plan.yaml")
	if err := p.r.config(0, 0).Write(config); err != nil {
		return err
	}
	p.file = p.path("plan.json")
	names := make([]string, len(p.r.topics))
	for i, t := range p.r.topics {
		names[i] = t.name
	}
	_, err = p.command(ctx, "rehydrate", "plan", "-c", config, "--topics", strings.Join(names, ","), "--case", p.r.name, "-o", p.file,
		"--from", p.from.UTC().Format(time.RFC3339), "--to", p.to.UTC().Format(time.RFC3339))
	return err
}

// settledEnds are the ends of a topic once all markers of its transactions are in
// it.
func (p *replay) settledEnds(ctx context.Context, topic string) (ends map[int32]int64, err error) {
	err = persist(ctx, func() error {
		stable, err := p.r.admin.StableEnds(ctx, topic)
		if err != nil {
			return err
		}
		if ends, err = p.r.admin.Ends(ctx, topic); err == nil && !maps.Equal(ends, stable) {
			err = fmt.Errorf("transactions are open up to %v, before %v", stable, ends)
		}
		return err
	})
	return ends, err
}

func (p *replay) book(topic string, partition int32) *book {
	i := slices.IndexFunc(p.books, func(b *book) bool { return b.Topic == topic && b.Number == partition })
	if i < 0 {
		return nil // it was added meanwhile
	}
	return p.books[i]
}

// write fills a topic: records out of the order of their times, of which some are
// outside of the range and some exactly at its ends, alone and in transactions of
// which some are aborted.
func (p *replay) write(ctx context.Context, t *topic, rng *rand.Rand) error {
	tx, err := broker.Dial(p.r.bed.kafka.addr, kgo.TransactionalID(t.name))
	if err != nil {
		return err
	}
	defer tx.Close()
	const pieces = 12
	each := p.r.plan.replay.records / len(p.r.topics) / pieces
	for piece := range pieces {
		part := float64(piece) / pieces
		switch piece % 4 {
		case 1, 3:
			err = p.transaction(ctx, tx, p.draw(rng, t, part, each, false), kgo.TryCommit)
		case 2:
			if err = p.transaction(ctx, tx, p.draw(rng, t, part, each/8, true), kgo.TryAbort); err == nil {
				err = p.produce(ctx, t.cl, p.draw(rng, t, part, each, false))
			}
		default:
			err = p.produce(ctx, t.cl, p.draw(rng, t, part, each, false))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *replay) transaction(ctx context.Context, tx *broker.Client, records []drawn, end kgo.TransactionEndTry) error {
	if err := tx.BeginTransaction(); err != nil {
		return err
	}
	if err := p.produce(ctx, tx, records); err != nil {
		return err
	}
	return tx.EndTransaction(ctx, end)
}

// drawn is a record before Kafka has it.
type drawn struct {
	topic     *topic
	partition int32
	logbook.Record
}

// draw makes n records that belong to a part of the log. It begins an hour and a
// half before the range and ends half an hour behind it.
func (p *replay) draw(rng *rand.Rand, t *topic, part float64, n int, aborted bool) []drawn {
	records := make([]drawn, n)
	for i := range records {
		d := drawn{topic: t, partition: rng.Int32N(t.partitions)}
		at := p.from.Add(-90 * time.Minute).Add(time.Duration(part * float64(p.to.Sub(p.from)+2*time.Hour)))
		at = at.Add(time.Duration(rng.Int64N(int64(90*time.Minute))) - 45*time.Minute)
		edges := []time.Time{p.from, p.to, p.to.Add(-time.Millisecond), p.from.Add(-time.Millisecond)}
		if e := i % 40; part > 0.2 && e < len(edges) {
			at = edges[e]
		}
		d.Time = at.UnixMilli()
		switch rng.IntN(4) {
		case 0:
			d.Key = []byte{}
		case 1:
			d.Key = fmt.Appendf(nil, "host-%d", i)
		}
		switch rng.IntN(4) {
		case 0:
			d.Headers = []logbook.Header{{Key: "trace", Value: nil}, {Key: "source", Value: []byte("a")}}
		case 1:
			d.Headers = []logbook.Header{{Key: "", Value: []byte{}}}
		}
		inside := d.Time >= p.from.UnixMilli() && d.Time < p.to.UnixMilli()
		switch {
		case aborted:
			d.Aborted, d.Value = true, fmt.Appendf(nil, `{"n":-1,"aborted":%d}`, i)
		case !inside:
			d.Value = fmt.Appendf(nil, `{"n":-2,"outside":%d}`, i)
		case p.r.plan.replay.filter && rng.IntN(5) == 0:
			d.Filtered, d.Value = true, fmt.Appendf(nil, `{"n":-3,"drop":1,"i":%d}`, i)
		default:
			d.Number = p.r.connectors[0].account.Produce(t.logs[0], d.partition)
			d.Value = account.Value(p.r.name, d.Number)
		}
		records[i] = d
	}
	return records
}

func (p *replay) produce(ctx context.Context, cl *broker.Client, of []drawn) error {
	records := make([]*kgo.Record, len(of))
	for i, d := range of {
		r := &kgo.Record{Topic: d.topic.name, Partition: d.partition, Timestamp: time.UnixMilli(d.Time), Key: d.Key, Value: d.Value}
		for _, h := range d.Headers {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		records[i] = r
	}
	if err := cl.Write(ctx, records); err != nil {
		return err
	}
	for i, d := range of {
		p.book(d.topic.name, d.partition).Add(records[i].Offset, &d.Record)
		if d.Number > 0 {
			p.r.connectors[0].account.Acked(d.Number, records[i].Offset)
		}
	}
	return nil
}

// cut has retention take a share of what lies between from and the log's end, and
// returns how many offsets that is.
func (p *replay) cut(ctx context.Context, b *book, share float64, from int64) (taken int64, err error) {
	below := from + int64(share*float64(b.end-from))
	if below <= from {
		return 0, nil
	}
	p.mu.Lock()
	b.cuts = append(b.cuts, logbook.Span{From: from, To: below})
	p.mu.Unlock()
	// Whoever finds it gone may commit past it at once.
	p.r.connectors[0].account.Removed(b.topic.logs[0], b.Number, below)
	return below - from, persist(ctx, func() error {
		return admin{p.r.admin}.deleteRecords(ctx, b.Topic, b.Number, below)
	})
}

// retentionOvertakes has retention take what was not read yet of some partitions,
// in half of the cases while no worker is there.
func retentionOvertakes(ctx context.Context, r *round, c *connector, last time.Duration, rng *rand.Rand) (taken int64, err error) {
	p := r.replay
	var killed []int
	if rng.IntN(2) == 0 {
		for _, i := range r.members.running() {
			r.members.kill(i)
			killed = append(killed, i)
		}
	}
	var commits []commit
	err = persist(ctx, func() (err error) {
		commits, err = admin{r.admin}.commits(ctx, c.group)
		return err
	})
	if err != nil {
		return 0, err
	}
	for _, i := range rng.Perm(len(p.books))[:(len(p.books)+1)/2] {
		b, from := p.books[i], int64(0)
		for _, o := range commits {
			if o.topic == b.Topic && o.partition == b.Number {
				from = o.offset
			}
		}
		n, err := p.cut(ctx, b, 0.3+0.4*rng.Float64(), from)
		if taken += n; err != nil {
			return taken, err
		}
	}
	sleep(ctx, last)
	for _, i := range killed {
		if err := r.members.start(i); err != nil {
			return taken, err
		}
	}
	return taken, nil
}

// finish ends all workers in order, and has new ones do the rest at full speed,
// with nothing but the plan file.
func (p *replay) finish(ctx context.Context) error {
	p.r.members.endAll(false)
	p.fast.Store(true)
	for i := range p.r.plan.members {
		if err := p.r.members.start(maxMembers - 1 - i); err != nil {
			return err
		}
	}
	began := time.Now()
	moved, last := began, ""
	for ctx.Err() == nil && (!p.over() || len(p.r.members.running()) > 0) {
		now := fmt.Sprint(p.r.connectors[0].account.Counts(), p.over(), p.r.members.running())
		if commits, err := (admin{p.r.admin}).commits(ctx, p.r.connectors[0].group); err == nil {
			for _, c := range commits {
				now += fmt.Sprint(" ", c.topic, c.partition, c.offset)
			}
		}
		if now != last {
			moved, last = time.Now(), now
		}
		if time.Since(moved) > settleWithin || time.Since(began) > brokenWithin && p.r.violations() > 0 {
			p.r.violation("the case is not done %s after the last fault, and nothing moved for %s: %s", time.Since(began).Round(time.Second), time.Since(moved).Round(time.Second), last)
			break
		}
		sleep(ctx, 200*time.Millisecond)
	}
	p.closing.Store(true)
	return nil
}

// goLive starts a weir that delivers the topics as they come, and waits until it
// has them all. Nothing but the broker itself is in trouble for it.
func (p *replay) goLive(ctx context.Context) error {
	names := make([]string, len(p.r.topics))
	for i, t := range p.r.topics {
		names[i] = t.name
	}
	var err error
	p.live, err = bridge.Start(p.r.bed.bin, p.r.dir, "live", &bridge.Config{File: bridge.M{
		"kafka": bridge.M{"brokers": []string{p.r.bed.kafka.addr}},
		"connectors": []bridge.M{{
			"name": "live", "topics": names, "group": p.liveGroup(),
			"sink": front.File.Sink(front.Target{Dir: p.path("live")}),
		}},
	}})
	if err != nil {
		return err
	}
	for {
		stands, all := map[string]string{}, true
		for _, t := range p.r.topics {
			at, err := p.r.admin.Committed(ctx, p.liveGroup(), t.name)
			all = all && err == nil
			for _, b := range p.books {
				all = all && (b.Topic != t.name || at[b.Number] == b.end)
			}
			stands[t.name] = fmt.Sprint(at)
		}
		if p.stood = stands; all {
			break
		}
		if !sleep(ctx, 200*time.Millisecond) {
			return fmt.Errorf("the live connector does not get there: %w: %v: %s", ctx.Err(), stands, lastLines(p.live.Log(), 5))
		}
	}
	p.generation, err = p.r.admin.Generation(ctx, p.liveGroup())
	return err
}

func (p *replay) liveGroup() string { return p.r.name + ".live" }

// judgeLive judges whether the live connector has noticed anything.
func (p *replay) judgeLive(ctx context.Context) error {
	select {
	case <-p.live.Exited():
		p.r.violation("the live weir ended by itself: %s", lastLines(p.live.Log(), 5))
		return nil
	default:
	}
	for _, f := range p.r.plan.faults {
		switch f.kind.what {
		case "topic", "broker": // new partitions and a broker that was away concern it, too
			return nil
		}
	}
	for _, t := range p.r.topics {
		at, err := p.r.admin.Committed(ctx, p.liveGroup(), t.name)
		if err != nil {
			return err
		}
		if now := fmt.Sprint(at); now != p.stood[t.name] {
			p.r.violation("LIVE DISTURBED: its group is at %s of %s, and was at %s", now, t.name, p.stood[t.name])
		}
	}
	generation, err := p.r.admin.Generation(ctx, p.liveGroup())
	if err != nil {
		return err
	}
	if generation != p.generation {
		p.r.violation("LIVE DISTURBED: its group has generation %d, and had %d", generation, p.generation)
	}
	return nil
}

// end ends the live weir.
func (p *replay) end() {
	if p.live != nil {
		p.live.Kill()
	}
}

// seal is what the judge reads of a manifest.
type seal struct {
	Topics []struct {
		Name       string
		Partitions []sealed
	}
}

type treeHead struct {
	Size uint64
	Root string
}

type sealed struct {
	Partition  int32
	Start, End int64
	Counts     struct {
		Read, Matched, Outside, Filtered, Bytes uint64
		Delivered, Duplicates, Quarantined      uint64
		FilterErrors                            uint64 `json:"filter_errors"`
		DeadLettered                            uint64 `json:"dead_lettered"`
		Dropped                                 uint64
	}
	First, Last *time.Time
	Records     treeHead
	Gaps        struct {
		treeHead
		Offsets  map[string]uint64
		Unlisted uint64
		Listed   []struct {
			From, To int64
			Class    string
		}
	}
}

// judge has the case sealed and verified, and compares what is sealed with what
// was produced.
func (p *replay) judge(ctx context.Context) error {
	if !p.over() {
		return nil // said already
	}
	if p.live != nil {
		if err := p.judgeLive(ctx); err != nil {
			return err
		}
	}
	config, dir := p.path("plan.yaml"), p.path("sealed")
	p.key = p.path("examiner.key")
	if _, err := p.command(ctx, "keygen", "--out", p.key); err != nil {
		return err
	}
	args := append([]string{"rehydrate", "seal", "-c", config, "--plan", p.file, "--key", p.key, "--examiner", "the judge", "--purpose", "torture", "-o", dir}, p.filter()...)
	for place := range p.places {
		if exists(p.custody(place)) {
			args = append(args, "--custody", p.custody(place))
		}
	}
	if _, err := p.command(ctx, args...); err != nil {
		p.r.violation("NOT SEALED: %v", err)
		return nil
	}
	text, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		return err
	}
	var m seal
	if err := json.Unmarshal(text, &m); err != nil {
		return err
	}
	gone, seen := false, 0
	for _, t := range m.Topics {
		for i := range t.Partitions {
			b := p.book(t.Name, t.Partitions[i].Partition)
			if b == nil {
				p.r.violation("SEAL: there is %s/%d in it, which the plan cannot have had", t.Name, t.Partitions[i].Partition)
				continue
			}
			seen++
			gone = gone || len(b.cuts) > 0
			p.judgePartition(b, &t.Partitions[i])
		}
	}
	if seen != len(p.books) {
		p.r.violation("SEAL: it has %d partitions, of %d", seen, len(p.books))
	}
	verify := []string{"verify", "--manifest", dir, "--key", p.key + ".pub"}
	if _, err := p.command(ctx, verify...); err != nil {
		p.r.violation("VERIFY: %v", err)
	}
	if !gone {
		if _, err := p.command(ctx, append(verify, "--kafka", "-c", config)...); err != nil {
			p.r.violation("VERIFY: %v", err)
		}
	}
	return nil
}

// unseen is the offset below which nobody can know what there was: retention took it
// before the plan was made, and what it left begins before the range does. Had it
// begun within, weir would have to count all before as a gap.
func (p *replay) unseen(b *book) int64 {
	for o := b.start; b.start > 0 && o < b.end; o++ {
		if r := b.At(o); r != nil && r.Time < p.from.UnixMilli() {
			return b.start
		} else if r != nil {
			break
		}
	}
	return 0
}

// taken is where what retention had taken by a cut begins: gaps of one class that
// touch are one, so that what an earlier cut took belongs to it if nothing was read
// in between.
func (b *book) taken(cut logbook.Span) int64 {
	from := cut.From
	for _, c := range slices.Backward(b.cuts) {
		if c.To >= from {
			from = min(from, c.From)
		}
	}
	return from
}

// judgePartition compares what is sealed of a partition with its log.
func (p *replay) judgePartition(b *book, s *sealed) {
	wrong := func(format string, args ...any) {
		p.r.violation("SEAL of %s/%d: "+format, append([]any{b.Topic, b.Number}, args...)...)
	}
	acct := p.r.connectors[0].account
	of := logbook.Range{Span: logbook.Span{From: s.Start, To: s.End}, FromTime: p.from.UnixMilli(), ToTime: p.to.UnixMilli()}
	// Before and behind what is sealed there is nothing of the range.
	before := of
	before.Span = logbook.Span{From: p.unseen(b), To: min(s.Start, b.end)}
	if n := len(b.Evidence(before).Events); n > 0 {
		wrong("it begins at %d, and %d events of the range lie before", s.Start, n)
	}
	if s.End != b.end {
		wrong("it ends at %d, and the log ended at %d when the plan was made", s.End, b.end)
	}
	for _, g := range s.Gaps.Listed {
		span := logbook.Span{From: g.From, To: g.To}
		of.Gone = append(of.Gone, span)
		// The log began exactly at its end at some time, and nothing of it had been read.
		if g.Class != "retention" || !slices.ContainsFunc(b.cuts, func(c logbook.Span) bool { return c.To == span.To && b.taken(c) <= span.From }) {
			wrong("offsets %d up to %d are a gap of the class %s; retention moved the start from what was committed to: %v", g.From, g.To, g.Class, b.cuts)
		}
	}
	if s.Gaps.Unlisted > 0 {
		wrong("%d gaps are not listed", s.Gaps.Unlisted)
	}
	want := b.Evidence(of)
	dead := uint64(0)
	for _, n := range want.Events {
		if account.Rejected(account.Value(p.r.name, n)) {
			dead++
		}
		if !acct.Delivered(n) {
			acct.Violation("LOST: event %d of %s/%d is sealed as read, and is nowhere", n, b.Topic, b.Number)
		}
	}
	c := s.Counts
	for _, n := range []struct {
		what      string
		got, want uint64
	}{
		{"read", c.Read, want.Read},
		{"matched", c.Matched, want.Matched},
		{"outside", c.Outside, want.Outside},
		{"filtered", c.Filtered, want.Filtered},
		{"bytes", c.Bytes, want.Bytes},
		{"delivered and duplicates", c.Delivered + c.Duplicates, want.Matched - dead},
		{"dead-lettered", c.DeadLettered, dead},
		{"quarantined, dropped and filter errors", c.Quarantined + c.Dropped + c.FilterErrors, 0},
		{"control", s.Gaps.Offsets["control"], want.Offsets[logbook.Control]},
		{"aborted", s.Gaps.Offsets["aborted"], want.Offsets[logbook.Aborted]},
		{"retention", s.Gaps.Offsets["retention"], want.Offsets[logbook.Retention]},
		{"compacted and unexplained", s.Gaps.Offsets["compacted"] + s.Gaps.Offsets["unexplained"], 0},
	} {
		if n.got != n.want {
			wrong("%s: %d, should be %d", n.what, n.got, n.want)
		}
	}
	for _, h := range []struct {
		what string
		got  treeHead
		want logbook.Head
	}{{"records", s.Records, want.Records}, {"gaps", s.Gaps.treeHead, want.Gaps}} {
		if logbook.Head(h.got) != h.want {
			wrong("the tree of %s is %v, should be %v", h.what, h.got, h.want)
		}
	}
	ms := func(t *time.Time) int64 {
		if t == nil {
			return -1
		}
		return t.UnixMilli()
	}
	if ms(s.First) != want.First || ms(s.Last) != want.Last {
		wrong("its records are from %d to %d, should be from %d to %d", ms(s.First), ms(s.Last), want.First, want.Last)
	}
}
