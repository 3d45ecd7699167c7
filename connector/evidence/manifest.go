package evidence

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"weir/buffer"
)

// Manifest is what is said of a case when it is sealed, and signed.
type Manifest struct {
	Version  int    `json:"version"` // 1
	Case     string `json:"case"`
	Examiner string `json:"examiner"`
	Purpose  string `json:"purpose"`

	Tool    Tool    `json:"tool"`
	Cluster string  `json:"cluster"` // id, as the brokers report it
	Plan    Hash    `json:"plan_sha256"`
	Request Request `json:"request"`

	// Created is when the plan was made, Started when the first worker of it that is
	// known of began, Sealed when this was written.
	Created time.Time `json:"created"`
	Started time.Time `json:"started,omitzero"`
	Sealed  time.Time `json:"sealed"`

	Topics List[Topic] `json:"topics"`

	// Trouble is what the custody logs say of errors and waits.
	Trouble Trouble `json:"trouble"`
	// Custody are the custody logs as they were when the case was sealed.
	Custody List[CustodyHead] `json:"custody"`
}

// Tool is what did the work.
type Tool struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Host    string `json:"host"`
	// Config is the SHA-256 of the configuration file, secrets not resolved.
	Config Hash `json:"config_sha256"`
}

// Request is what was asked for.
type Request struct {
	From time.Time `json:"from"` // inclusive
	To   time.Time `json:"to"`   // exclusive
	// Filter is the expression that records had to match; empty: all did.
	Filter string `json:"filter"`
	// Connector and Destination are where the records went; empty: into a bag only.
	Connector   string `json:"connector"`
	Destination string `json:"destination"`
}

// Trouble sums up what went wrong and was overcome.
type Trouble struct {
	Errors    uint64 `json:"errors"`       // failed requests, to brokers and to the destination
	Throttled uint64 `json:"throttled_ms"` // waited because a broker's quota asked for it
}

// Topic is a topic of the case.
type Topic struct {
	Name string `json:"name"`
	ID   string `json:"id"` // "" below Kafka 2.8
	// Config is the topic's configuration when the plan was made: at least what
	// decides what may be missing (cleanup.policy, retention.*, message.timestamp.*).
	Config     map[string]string   `json:"config"`
	Partitions List[PartitionSeal] `json:"partitions"`
}

// PartitionSeal is what is said of one partition.
type PartitionSeal struct {
	Partition int32 `json:"partition"`
	// Start and End are the range that was read, End exclusive: everything in it is
	// a record that is counted below, or lies in a gap.
	Start int64 `json:"start"`
	End   int64 `json:"end"`
	// StartBy and EndBy say how they were found.
	StartBy string `json:"start_by"`
	EndBy   string `json:"end_by"`
	// Before and After are the log's bounds when the plan was made and when the case
	// was sealed.
	Before Bounds `json:"before"`
	After  Bounds `json:"after"`

	Counts Counts `json:"counts"`
	// First and Last are the earliest and latest timestamps of the matched records;
	// missing when none has one.
	First   *time.Time `json:"first,omitempty"`
	Last    *time.Time `json:"last,omitempty"`
	Records TreeHead   `json:"records"`
	Gaps    GapSeal    `json:"gaps"`
	// Rescued is the tree of records that a bag holds in offsets that are listed as
	// gaps: a worker stored them and died before its commit, and when the next one came
	// they were gone. Nil: there are none, or there is no bag.
	Rescued *TreeHead `json:"rescued,omitempty"`
}

// LastOffset is the last one of the range; below Start when it is empty.
func (p PartitionSeal) LastOffset() int64 { return p.End - 1 }

// Bounds are those of a log.
type Bounds struct {
	Start int64 `json:"log_start"`
	High  int64 `json:"high_watermark"`
}

// GapSeal is what is said of a partition's gaps.
type GapSeal struct {
	TreeHead
	Offsets ClassCounts `json:"offsets"`
	// Listed are the first of those that may hide records that were there once;
	// Unlisted is how many more there are.
	Listed   List[Gap] `json:"listed"`
	Unlisted uint64    `json:"unlisted"`
}

// Seal is what a partition's finished progress says; the caller adds where it
// began and ended, and the log's bounds.
func (p *Progress) Seal(o *buffer.Origin) PartitionSeal {
	gaps := p.gaps.Closed(NewEncoder(o))
	s := PartitionSeal{
		Partition: o.Partition, End: p.Next, Counts: p.Counts, Records: p.records.Head(),
		Gaps: GapSeal{gaps.tree.Head(), gaps.Offsets, append([]Gap{}, gaps.Listed...), gaps.Unlisted},
	}
	if first, last, ok := p.Times(); ok {
		s.First, s.Last = &first, &last
	}
	return s
}

// manifestVersion is that of the format.
const manifestVersion = 1

var caseID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// CheckCase says whether a text can name a case.
func CheckCase(id string) error {
	if !caseID.MatchString(id) {
		return fmt.Errorf("%q cannot name a case: 1 to 64 of A-Z a-z 0-9 . _ - are needed", id)
	}
	return nil
}

// check says what in m contradicts itself.
func (m *Manifest) check() error {
	if m.Version != manifestVersion {
		return fmt.Errorf("it is of version %d, and this weir knows version %d", m.Version, manifestVersion)
	}
	if err := CheckCase(m.Case); err != nil {
		return err
	}
	if !m.Request.From.Before(m.Request.To) {
		return errors.New("the time range ends before it begins")
	}
	if len(m.Topics) == 0 {
		return errors.New("it has no topics")
	}
	names := map[string]bool{}
	for _, t := range m.Topics {
		if t.Name == "" || names[t.Name] {
			return fmt.Errorf("topic %q is there twice, or has no name", t.Name)
		}
		names[t.Name] = true
		last := int32(-1)
		for i := range t.Partitions {
			p := &t.Partitions[i]
			if p.Partition <= last {
				return fmt.Errorf("topic %q: partition %d is not in its place", t.Name, p.Partition)
			}
			last = p.Partition
			if err := p.check(); err != nil {
				return fmt.Errorf("topic %q, partition %d: %w", t.Name, p.Partition, err)
			}
		}
	}
	return nil
}

// check says whether every offset of the range is accounted for, and once.
func (p *PartitionSeal) check() error {
	c := p.Counts
	var gaps uint64
	for _, n := range p.Gaps.Offsets {
		gaps += n
	}
	var listed ClassCounts
	for _, g := range p.Gaps.Listed {
		if g.From < p.Start || g.To > p.End || g.To <= g.From || !g.Class.Lost() {
			return fmt.Errorf("the gap from %d to %d cannot be", g.From, g.To)
		}
		listed[g.Class] += uint64(g.To - g.From)
	}
	switch {
	case p.Start < 0 || p.End < p.Start:
		return fmt.Errorf("it ends at %d, before it begins at %d", p.End, p.Start)
	case c.Read != c.Matched+c.Outside+c.Filtered:
		return fmt.Errorf("%d records were read, and %d matched, %d were outside and %d filtered out", c.Read, c.Matched, c.Outside, c.Filtered)
	case c.Matched != p.Records.Size:
		return fmt.Errorf("%d records matched, and the tree has %d", c.Matched, p.Records.Size)
	case c.Settled() != c.Matched:
		return fmt.Errorf("%d records matched, and of %d it is said what became of them", c.Matched, c.Settled())
	case c.Read+gaps != uint64(p.End-p.Start):
		return fmt.Errorf("of its %d offsets %d were records and %d are in gaps", p.End-p.Start, c.Read, gaps)
	}
	if r := p.Rescued; r != nil && (r.Size == 0 || r.Size > listed[Unexplained]+listed[Retention]) {
		return fmt.Errorf("%d records are rescued out of gaps of %d offsets", r.Size, listed[Unexplained]+listed[Retention])
	}
	for _, class := range []Class{Unexplained, Retention} {
		if n := p.Gaps.Offsets[class]; listed[class] > n || p.Gaps.Unlisted == 0 && listed[class] < n {
			return fmt.Errorf("%d offsets are in gaps of the class %s, and %d in those that are listed", n, class, listed[class])
		}
	}
	return nil
}

// Complete reports whether nothing of the range is missing for a reason that may
// hide records.
func (m *Manifest) Complete() bool {
	for _, t := range m.Topics {
		for _, p := range t.Partitions {
			if p.Gaps.Offsets[Unexplained]+p.Gaps.Offsets[Retention] > 0 {
				return false
			}
		}
	}
	return true
}

// Find returns a partition of the case; nil: it is none.
func (m *Manifest) Find(topic string, partition int32) (*Topic, *PartitionSeal) {
	for i := range m.Topics {
		t := &m.Topics[i]
		if t.Name != topic {
			continue
		}
		for j := range t.Partitions {
			if t.Partitions[j].Partition == partition {
				return t, &t.Partitions[j]
			}
		}
	}
	return nil, nil
}

// Origin is where the records of a partition of t come from.
func (m *Manifest) Origin(t *Topic, partition int32) *buffer.Origin {
	return &buffer.Origin{Cluster: m.Cluster, Topic: t.Name, TopicID: t.ID, Partition: partition}
}

// Sign checks m and signs it.
//
// Errors: m contradicts itself; none is signed that does.
func (m *Manifest) Sign(key ed25519.PrivateKey) (envelope []byte, err error) {
	m.Version = manifestVersion
	for i := range m.Topics {
		slices.SortFunc(m.Topics[i].Partitions, func(a, b PartitionSeal) int { return int(a.Partition) - int(b.Partition) })
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("the case cannot be sealed: %w", err)
	}
	payload, err := EncodeJSON(m)
	if err != nil {
		return nil, err
	}
	envelope, err = EncodeJSON(Seal(key, ManifestType, payload))
	if err == nil && len(envelope) > MaxManifest {
		err = fmt.Errorf("the case cannot be sealed: a manifest of %d bytes is longer than the %d that are read", len(envelope), MaxManifest)
	}
	return envelope, err
}

// MaxManifest bounds a signed manifest: some thirty thousand partitions.
const MaxManifest = 64 << 20

// OpenManifest checks the signature of a signed manifest, and that it does not
// contradict itself.
func OpenManifest(key ed25519.PublicKey, envelope []byte) (*Manifest, error) {
	e, err := DecodeEnvelope(envelope)
	if err != nil {
		return nil, err
	}
	if err := e.Verify(key, ManifestType); err != nil {
		return nil, err
	}
	m := new(Manifest)
	if err := DecodeJSON(e.Payload, m); err != nil {
		return nil, fmt.Errorf("not a manifest: %w", err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("the manifest contradicts itself: %w", err)
	}
	return m, nil
}

// A NamedCheckpoint is a checkpoint of one tree of a case.
type NamedCheckpoint struct {
	Topic     string
	Partition int32
	Tree      string // records or gaps
	Text      []byte
}

// Checkpoints signs the head of every tree of m, in the order of its partitions.
func (m *Manifest) Checkpoints(key ed25519.PrivateKey) ([]NamedCheckpoint, error) {
	var all []NamedCheckpoint
	err := m.trees(func(c NamedCheckpoint, head TreeHead) (err error) {
		c.Text, err = Checkpoint(key, m.KeyName(), m.originOf(c), head)
		all = append(all, c)
		return err
	})
	return all, err
}

// CheckCheckpoint says whether c is what m says.
func (m *Manifest) CheckCheckpoint(key ed25519.PublicKey, c NamedCheckpoint) error {
	_, p := m.Find(c.Topic, c.Partition)
	switch {
	case p != nil && c.Tree == treeRecords:
		return m.checkCheckpoint(key, c, p.Records)
	case p != nil && c.Tree == treeGaps:
		return m.checkCheckpoint(key, c, p.Gaps.TreeHead)
	}
	return errors.New("the manifest has no such tree")
}

// checkCheckpoint says whether c is that of a tree of m whose head is want.
func (m *Manifest) checkCheckpoint(key ed25519.PublicKey, c NamedCheckpoint, want TreeHead) error {
	origin, head, err := OpenCheckpoint(key, m.KeyName(), c.Text)
	switch {
	case err != nil:
		return err
	case origin != m.originOf(c):
		return fmt.Errorf("it is of %q", origin)
	case head != want:
		return fmt.Errorf("it has %d leaves and the root %s, the manifest says %d and %s", head.Size, head.Root, want.Size, want.Root)
	}
	return nil
}

// KeyName is the name of the signer of m's checkpoints.
func (m *Manifest) KeyName() string { return KeyName(m.Cluster, m.Case) }

func (m *Manifest) originOf(c NamedCheckpoint) string {
	return checkpointOrigin(m.KeyName(), c.Topic, c.Partition, c.Tree)
}

// trees visits all trees of m.
func (m *Manifest) trees(visit func(c NamedCheckpoint, head TreeHead) error) error {
	for _, t := range m.Topics {
		for _, p := range t.Partitions {
			err := visit(NamedCheckpoint{Topic: t.Name, Partition: p.Partition, Tree: treeRecords}, p.Records)
			if err == nil {
				err = visit(NamedCheckpoint{Topic: t.Name, Partition: p.Partition, Tree: treeGaps}, p.Gaps.TreeHead)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
