package main

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"weir/buffer"
	"weir/connector/evidence"
	"weir/connector/kafka"
	"weir/connector/replay"
)

func rehydrateSealCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "seal",
		Short: "Sign what was read of a case that is done",
		Long: `Sign what was read of a case that is done.

The evidence is in the commits of the group weir.rehydrate.CASE: counts, gaps and the
Merkle root of each partition. seal writes them into a manifest, signs it with an
Ed25519 key (weir keygen) and puts it into a new folder, with a signed checkpoint a
partition, the plan and the custody logs; with --bag into the bag, which is then
finished. It refuses while a partition is not done.

Kafka forgets the commits of a group that has no members after
offsets.retention.minutes (7 days if nothing else was said): seal before.`,
		Args: noArgs,
	}
	path := configFlag(cmd)
	f := cmd.Flags()
	var s sealer
	f.StringVar(&s.plan, "plan", "", "the plan `file`; needed")
	f.StringVar(&s.filter, "filter", "", "the filter `expression` of the run, if it had one")
	f.StringVar(&s.key, "key", "", "the private key `file` to sign with; needed")
	f.StringVar(&s.examiner, "examiner", "", "`who` answers for the case; needed")
	f.StringVar(&s.purpose, "purpose", "", "`what` it is for; needed")
	f.StringSliceVar(&s.custody, "custody", nil, "the custody log `files` of all machines that worked on the case; the last entry is added to the first one. Without it: CASE.custody.ndjson beside the plan")
	f.StringVar(&s.bag, "bag", "", "finish the bag in this `folder` with it")
	f.StringVarP(&s.dir, "output", "o", "", "the new `folder` to write to. Without it and --bag: CASE.sealed")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := s.check(); err != nil {
			return usageError{err}
		}
		s.config = *path
		return withCase(cmd, *path, s.plan, func(ctx context.Context, c *openCase) error { return s.seal(ctx, cmd, c) })
	}
	return cmd
}

// sealer is one run of the command.
type sealer struct {
	config, plan, filter, key, examiner, purpose, bag, dir string
	custody                                                []string
}

func (s *sealer) check() error {
	for _, f := range []struct{ name, value string }{{"key", s.key}, {"examiner", s.examiner}, {"purpose", s.purpose}} {
		if strings.TrimSpace(f.value) == "" {
			return fmt.Errorf("--%s is needed", f.name)
		}
	}
	return nil
}

func (s *sealer) seal(ctx context.Context, cmd *cobra.Command, c *openCase) error {
	key, err := evidence.LoadKey(s.key)
	if err != nil {
		return err
	}
	c.mark = replay.Mark(c.hash, s.filter)
	o, err := c.look(ctx)
	if err != nil {
		return err
	}
	if !o.all() {
		return notDone(c.plan, o)
	}
	after, err := c.ledger.Bounds(ctx, c.partitions())
	if err != nil {
		return err
	}
	if len(s.custody) == 0 {
		s.custody = []string{custodyBeside(s.plan, c.plan.Case)}
	}
	m, err := s.manifest(c, o, after)
	if err != nil {
		return err
	}
	if s.dir == "" && s.bag == "" {
		s.dir = c.plan.Case + ".sealed"
	}
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	job := &sealing{manifest: m, plan: c.text, key: key, custody: s.custody, bag: s.bag, out: s.dir, log: log}
	trail, err := openAudit(c.logs, s.config, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer trail.close()
	into, keyID := strings.TrimSpace(s.bag+" "+s.dir), evidence.KeyID(key.Public().(ed25519.PublicKey))
	change, err := trail.begin(sealCase, fmt.Sprintf("%s, plan %x, in %s, signed with key %s", c.plan.Case, c.hash[:8], into, keyID))
	if err != nil {
		return err
	}
	if err := change.end("", job.run(ctx)); err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	say(out, "Case %s is sealed in %s: %s records of %d partition(s), signed with key %s", c.plan.Case, into, grouped(int64(o.counts.Matched)), len(o.partitions), keyID)
	if !m.Complete() {
		say(out, "  ! not all of the range was there to be read: the manifest says which offsets are missing, and why")
	}
	return nil
}

// notDone says what keeps a case from being sealed.
func notDone(p *replay.Plan, o *overview) error {
	var left []string
	for i := range o.partitions {
		if one := &o.partitions[i]; !one.done() {
			left = append(left, fmt.Sprintf("%s is at %d of %d", one.name(), one.next(), one.plan.End))
		}
	}
	more := ""
	if len(left) > 5 {
		more = fmt.Sprintf(" and %d more", len(left)-5)
		left = left[:5]
	}
	return fmt.Errorf("case %s is not done: %s%s. Nothing is sealed; weir rehydrate run goes on with it", p.Case, strings.Join(left, ", "), more)
}

// manifest is what is said of the case, but for the custody logs.
func (s *sealer) manifest(c *openCase, o *overview, after map[kafka.PartitionID]kafka.Extent) (*evidence.Manifest, error) {
	text, err := os.ReadFile(s.config)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	m := &evidence.Manifest{
		Version: 1, Case: c.plan.Case, Examiner: s.examiner, Purpose: s.purpose,
		Tool: evidence.Tool{Config: sha256.Sum256(text)}, Cluster: c.plan.Cluster, Plan: c.hash, Created: c.plan.Made,
	}
	if m.Request, err = s.request(c); err != nil {
		return nil, err
	}
	for i := range o.partitions {
		p := &o.partitions[i]
		if n := len(m.Topics); n == 0 || m.Topics[n-1].Name != p.topic.Name {
			m.Topics = append(m.Topics, evidence.Topic{Name: p.topic.Name, ID: p.topic.ID, Config: p.topic.Config})
		}
		t := &m.Topics[len(m.Topics)-1]
		one := p.progress.Seal(&buffer.Origin{Cluster: c.plan.Cluster, Topic: p.topic.Name, TopicID: p.topic.ID, Partition: p.plan.Number})
		one.Start, one.StartBy, one.EndBy = p.plan.First, p.plan.Found, p.plan.Ended
		if p.plan.Taken != nil {
			one.Start = p.plan.Taken.From
		}
		one.Before = evidence.Bounds{Start: p.plan.LogStart, High: p.plan.HighWatermark}
		now := after[kafka.PartitionID{Topic: p.topic.Name, Partition: p.plan.Number}]
		one.After = evidence.Bounds{Start: now.First, High: now.End}
		t.Partitions = append(t.Partitions, one)
	}
	for i := range m.Topics {
		slices.SortFunc(m.Topics[i].Partitions, func(a, b evidence.PartitionSeal) int { return int(a.Partition - b.Partition) })
	}
	return m, nil
}

// request is what was asked for, and where the workers say that the records went.
func (s *sealer) request(c *openCase) (evidence.Request, error) {
	connectors, destinations := map[string]bool{}, map[string]bool{}
	for _, path := range s.custody {
		_, err := evidence.ReadCustody(path, c.plan.Case, func(e *evidence.Entry) error {
			if e.Action == evidence.ActionStart {
				connector, _ := e.Details[detailConnector].(string)
				destination, _ := e.Details[detailDestination].(string)
				connectors[connector], destinations[destination] = true, true
			}
			return nil
		})
		if err != nil {
			return evidence.Request{}, fmt.Errorf("custody log %q: %w", path, err)
		}
	}
	return evidence.Request{From: c.plan.From, To: c.plan.To, Filter: s.filter, Connector: sorted(connectors), Destination: sorted(destinations)}, nil
}

func sorted(set map[string]bool) string {
	delete(set, "")
	var all []string
	for name := range set {
		all = append(all, name)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}
