package main

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/buffer"
	"weir/connector/evidence"
	"weir/connector/kafka"
	"weir/connector/replay"
	"weir/sinks/bag"
)

func rehydrateSealCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "seal",
		Short: "Sign what was read of a case that is done",
		Long: `Sign what was read of a case that is done.

The evidence is in the commits of the group weir.rehydrate.CASE: counts, gaps and the
Merkle root of each partition. seal writes them into a manifest, signs it with an
Ed25519 key (weir keygen) and puts it into a new folder, with a signed checkpoint a
partition, the plan and the custody logs; or, with --bag, into the bag, which is then
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
	f.StringVarP(&s.dir, "output", "o", "", "the new `folder` to write to. Without it: CASE.sealed")
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
	if s.bag != "" && s.dir != "" {
		return errors.New("--bag or --output: the one puts the manifest into the bag, the other into a folder")
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
	// The entry comes before what it is about: the manifest holds the log's hash.
	chain := custody(s.custody[0], s.plan, c.plan.Case)
	if err := chain.Add(evidence.ActionSeal, map[string]any{
		"plan_sha256": c.hash.String(), "examiner": s.examiner, "purpose": s.purpose,
		"key": evidence.KeyID(key.Public().(ed25519.PublicKey)), "matched": o.counts.Matched,
	}); err != nil {
		return err
	}
	logs, err := s.logs(m)
	if err != nil {
		return err
	}
	files, err := m.Files(key, c.text, logs)
	if err != nil {
		return err
	}
	where, err := s.write(ctx, c, m, files, newLogOf(cmd))
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	say(out, "Case %s is sealed in %s: %s records of %d partition(s), signed with key %s", c.plan.Case, where,
		grouped(int64(o.counts.Matched)), len(o.partitions), evidence.KeyID(key.Public().(ed25519.PublicKey)))
	if !m.Complete() {
		say(out, "  ! not all of the range was there to be read: the manifest says which offsets are missing, and why")
	}
	return nil
}

func newLogOf(cmd *cobra.Command) *slog.Logger {
	return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
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
	v, toolchain := buildVersion()
	host, _ := os.Hostname()
	m := &evidence.Manifest{
		Version: 1, Case: c.plan.Case, Examiner: s.examiner, Purpose: s.purpose,
		Tool:    evidence.Tool{Name: "weir", Version: v, Go: toolchain, OS: runtime.GOOS + "/" + runtime.GOARCH, Host: host, Config: sha256.Sum256(text)},
		Cluster: c.plan.Cluster, Plan: c.hash,
		Request: evidence.Request{From: c.plan.From, To: c.plan.To, Filter: s.filter},
		Created: c.plan.Made, Sealed: time.Now().UTC().Truncate(time.Millisecond),
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

// logs reads the custody logs, and sums up in m what they say of the workers.
func (s *sealer) logs(m *evidence.Manifest) (logs [][]byte, err error) {
	destinations := map[string]bool{}
	connectors := map[string]bool{}
	for _, name := range s.custody {
		head, err := evidence.ReadCustody(name, m.Case, func(e *evidence.Entry) error {
			switch e.Action {
			case evidence.ActionStart:
				if m.Started.IsZero() || e.Time.Before(m.Started) {
					m.Started = e.Time
				}
				connectors[text(e.Details[detailConnector])] = true
				destinations[text(e.Details[detailDestination])] = true
			case evidence.ActionStop:
				m.Trouble.Errors += number(e.Details[detailErrors])
				m.Trouble.Throttled += number(e.Details[detailThrottled])
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("custody log %q: %w", name, err)
		}
		log, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		m.Custody = append(m.Custody, head)
		logs = append(logs, log)
	}
	m.Request.Connector, m.Request.Destination = names(connectors), names(destinations)
	return logs, nil
}

func text(v any) string { s, _ := v.(string); return s }

func number(v any) uint64 {
	switch n := v.(type) {
	case float64:
		return uint64(max(n, 0))
	case json.Number:
		i, _ := n.Int64()
		return uint64(max(i, 0))
	}
	return 0
}

func names(set map[string]bool) string {
	delete(set, "")
	var all []string
	for name := range set {
		all = append(all, name)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// write puts the files of the sealed case where they belong.
func (s *sealer) write(ctx context.Context, c *openCase, m *evidence.Manifest, files map[string][]byte, log *slog.Logger) (string, error) {
	if s.bag != "" {
		delete(files, evidence.FilePlan) // it is there already
		return s.bag, bag.Finish(ctx, s.bag, c.text, bagFields(m), files, log)
	}
	dir := s.dir
	if dir == "" {
		dir = c.plan.Case + ".sealed"
	}
	if err := os.Mkdir(dir, 0o755); errors.Is(err, fs.ErrExist) {
		return "", usageError{fmt.Errorf("%s exists already, and is not written over", dir)}
	} else if err != nil {
		return "", err
	}
	for name, content := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Join(dir, filepath.FromSlash(path.Dir(name))), 0o755); err != nil {
			return "", err
		}
		if err := createNew(file, content); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// bagFields are what bag-info.txt says of a case.
func bagFields(m *evidence.Manifest) []bag.Field {
	return []bag.Field{
		{Name: "External-Identifier", Value: m.Case},
		{Name: "Contact-Name", Value: m.Examiner},
		{Name: "External-Description", Value: m.Purpose},
		{Name: "Bagging-Date", Value: m.Sealed.Format(time.DateOnly)},
		{Name: "Bag-Software-Agent", Value: m.Tool.Name + " " + m.Tool.Version},
	}
}
