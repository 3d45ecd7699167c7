package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"weir/buffer"
	"weir/config"
	"weir/connector/evidence"
	"weir/connector/kafka"
	"weir/connector/replay"
)

// openCase is a plan with the cluster that it is of.
type openCase struct {
	plan    *replay.Plan
	file    string
	text    []byte // of the file
	hash    evidence.Hash
	mark    string // of the plan and the filter; "": whatever the commits say
	logs    config.Log
	options kafka.Options
	ledger  *kafka.Ledger
}

// loadCase reads a plan file, and the configuration with what holds for a case: a
// client id of its own, so that a quota can be set for it and the brokers' logs
// tell it apart.
func loadCase(path, plan string, errs io.Writer) (*config.Config, *openCase, *slog.Logger, error) {
	if plan == "" {
		return nil, nil, nil, usageError{errors.New("--plan is needed: the file that weir rehydrate plan wrote")}
	}
	p, text, err := replay.ReadPlan(plan)
	if err != nil {
		return nil, nil, nil, usageError{err}
	}
	cfg, log, err := openConfig(path, errs)
	if err != nil {
		return nil, nil, nil, err
	}
	cfg.Kafka.ClientID = caseClientID(p.Case)
	return cfg, &openCase{plan: p, file: plan, logs: cfg.Log, text: text, hash: sha256.Sum256(text)}, log, nil
}

func caseClientID(id string) string { return "weir-rehydrate-" + id }

// custodyFlag adds the flag for where a case's custody log is.
func custodyFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("custody", "", "the custody log, a `file` that an entry is appended to for each thing done with the case. Without it: CASE.custody.ndjson beside the plan")
}

// custody is the custody log of a case on this machine.
func custody(path, plan, caseID string) *evidence.Custody {
	if path == "" {
		path = custodyBeside(plan, caseID)
	}
	return openCustody(path, caseID)
}

func custodyBeside(plan, caseID string) string {
	return filepath.Join(filepath.Dir(plan), caseID+".custody.ndjson")
}

// connect connects to the cluster, and checks that it is the one that the plan is
// of.
//
// Errors: it is another cluster; a topic is gone or was made again.
func (c *openCase) connect(ctx context.Context, cfg *config.Config, log *slog.Logger) (err error) {
	if c.options, err = kafkaOptions(cfg.Kafka, log); err != nil {
		return err
	}
	m, err := c.options.Metadata(ctx, c.plan.Names()...)
	if err != nil {
		return err
	}
	if m.ClusterID != c.plan.Cluster {
		return fmt.Errorf("this is cluster %q, and the plan is of cluster %q: the configuration has to name the brokers that the plan was made with", m.ClusterID, c.plan.Cluster)
	}
	for i := range c.plan.Topics {
		want := &c.plan.Topics[i]
		t, ok := m.Topics[want.Name]
		switch {
		case !ok:
			return fmt.Errorf("the brokers say nothing about topic %q", want.Name)
		case t.Absent():
			return fmt.Errorf("topic %q is not there any more: it was deleted since the plan was made, and what the plan is of is gone", want.Name)
		case t.Err != nil:
			return fmt.Errorf("topic %q: %w", want.Name, c.options.Explain(t.Err))
		case t.ID != want.ID:
			return fmt.Errorf("topic %q has the id %s now, and %s in the plan: it was deleted and made again, and what the plan is of is gone", want.Name, t.ID, want.ID)
		}
	}
	c.ledger = kafka.OpenLedger(ctx, c.options, c.plan.Group())
	return nil
}

func (c *openCase) close() {
	if c.ledger != nil {
		c.ledger.Close()
	}
}

// partitions are those of the plan, as the ledger is asked for them.
func (c *openCase) partitions() map[string][]int32 {
	all := make(map[string][]int32, len(c.plan.Topics))
	for i := range c.plan.Topics {
		for j := range c.plan.Topics[i].Partitions {
			all[c.plan.Topics[i].Name] = append(all[c.plan.Topics[i].Name], c.plan.Topics[i].Partitions[j].Number)
		}
	}
	return all
}

// overview is how far a case has come, by what its group has committed.
type overview struct {
	at         time.Time
	total      int64 // offsets
	done       int64
	finished   int // partitions
	counts     evidence.Counts
	gaps       evidence.ClassCounts
	partitions []standing // as in the plan
}

// standing is how far a partition has come.
type standing struct {
	topic    *replay.Topic
	plan     *replay.Partition
	progress *evidence.Progress // nil: no worker has begun with it
	gaps     evidence.Gaps      // of progress, as far as it goes
}

func (s *standing) next() int64 {
	if s.progress == nil {
		return s.plan.First
	}
	return min(s.progress.Next, s.plan.End)
}

func (s *standing) done() bool { return s.progress != nil && s.progress.Next >= s.plan.End }

func (s *standing) name() string { return fmt.Sprintf("%s/%d", s.topic.Name, s.plan.Number) }

func (o *overview) all() bool { return o.finished == len(o.partitions) }

// look asks how far the case has come.
//
// Errors: the ledger's; what was committed is not of this plan.
func (c *openCase) look(ctx context.Context) (*overview, error) {
	committed, err := c.ledger.Committed(ctx, c.partitions())
	if err != nil {
		return nil, err
	}
	o := &overview{at: time.Now()}
	for i := range c.plan.Topics {
		t := &c.plan.Topics[i]
		for j := range t.Partitions {
			s := standing{topic: t, plan: &t.Partitions[j]}
			if at, ok := committed[kafka.PartitionID{Topic: t.Name, Partition: s.plan.Number}]; ok {
				_, p, err := evidence.DecodeProgress(at.Metadata)
				switch {
				case errors.Is(err, evidence.ErrNoProgress) && at.Offset == s.plan.First:
					// A worker is about to begin.
				case err != nil:
					return nil, fmt.Errorf("group %q, %s: %w", c.plan.Group(), s.name(), err)
				case !c.fits(p.Plan):
					return nil, fmt.Errorf("group %q, %s: the case was begun with another plan or another filter (%s)", c.plan.Group(), s.name(), p.Plan)
				case p.Next != at.Offset:
					return nil, fmt.Errorf("group %q, %s: it is at offset %d, but its evidence ends at %d: it was set by something else than a replay", c.plan.Group(), s.name(), at.Offset, p.Next)
				default:
					s.progress = &p
					s.gaps = p.Gaps().Closed(evidence.NewEncoder(&buffer.Origin{Cluster: c.plan.Cluster, Topic: t.Name, TopicID: t.ID, Partition: s.plan.Number}))
				}
			}
			o.add(s)
		}
	}
	return o, nil
}

func (c *openCase) fits(mark string) bool { return c.mark == "" || c.mark == mark }

func (o *overview) add(s standing) {
	o.total += s.plan.Offsets()
	o.done += s.next() - s.plan.First
	if s.done() {
		o.finished++
	}
	if s.progress != nil {
		o.counts.Add(s.progress.Counts)
		for class, n := range s.gaps.Offsets {
			o.gaps[class] += n
		}
	}
	o.partitions = append(o.partitions, s)
}

// pace estimates how fast a case goes, from how far it had come when.
type pace struct{ points []point }

type point struct {
	at            time.Time
	done, records int64
}

// paceOver is how far back it looks.
const paceOver = 30 * time.Second

func (p *pace) add(at time.Time, done, records int64) {
	p.points = append(p.points, point{at, done, records})
	if i := slices.IndexFunc(p.points, func(q point) bool { return at.Sub(q.at) <= paceOver }); i > 1 {
		p.points = slices.Delete(p.points, 0, i-1)
	}
}

// rates are offsets and records a second; 0 while nothing is known.
func (p *pace) rates() (offsets, records float64) {
	if len(p.points) < 2 {
		return 0, 0
	}
	first, last := p.points[0], p.points[len(p.points)-1]
	seconds := last.at.Sub(first.at).Seconds()
	if seconds <= 0 {
		return 0, 0
	}
	return float64(last.done-first.done) / seconds, float64(last.records-first.records) / seconds
}

// left is how long what is left takes at that pace; false: not known.
func (p *pace) left(offsets int64) (time.Duration, bool) {
	rate, _ := p.rates()
	if rate <= 0 {
		return 0, offsets == 0
	}
	return time.Duration(float64(offsets) / rate * float64(time.Second)), true
}
