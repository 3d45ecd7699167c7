package evidence

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"weir/buffer"
)

// Proof shows that one record is a leaf of the tree of its partition, without any
// other record. It is checked with the signed manifest, or with the signed
// checkpoint that it may hold.
type Proof struct {
	Version   int         `json:"version"` // 1
	Case      string      `json:"case"`
	Cluster   string      `json:"cluster"`
	Topic     string      `json:"topic"`
	TopicID   string      `json:"topic_id"`
	Partition int32       `json:"partition"`
	Offset    int64       `json:"offset"`
	Record    ProofRecord `json:"record"`
	// Index is the record's place among the matched ones, from 0; Size is how many
	// there are; Path are the hashes beside it, from the leaf up (RFC 6962, 2.1.1).
	Index uint64     `json:"index"`
	Size  uint64     `json:"size"`
	Path  List[Hash] `json:"path"`
	// Checkpoint is that of the tree; empty: the manifest is needed.
	Checkpoint string `json:"checkpoint,omitempty"`
}

// ProofRecord is what a record holds. Null is a null; everything else is base64.
type ProofRecord struct {
	Timestamp     *int64            `json:"timestamp_ms"` // since 1970
	TimestampType string            `json:"timestamp_type"`
	Key           *[]byte           `json:"key"`
	Headers       List[ProofHeader] `json:"headers"`
	Value         *[]byte           `json:"value"`
}

// ProofHeader is one header.
type ProofHeader struct {
	Key   []byte  `json:"key"`
	Value *[]byte `json:"value"`
}

// The types of timestamps, in Kafka's own words (message.timestamp.type).
const (
	createTime = "CreateTime"
	appendTime = "LogAppendTime"
)

// proofVersion is that of the format.
const proofVersion = 1

// ErrNotInCase says that the record is none of the matched ones.
var ErrNotInCase = errors.New("no such record is in the case")

// Prove makes the proof for the record at an offset from all matched records of
// its partition. checkpoint may be empty.
//
// Errors: ErrNotInCase; the stream is not what m says, and so proves nothing.
func (m *Manifest) Prove(topic string, partition int32, offset int64, stream Stream, checkpoint string) (*Proof, error) {
	t, want := m.Find(topic, partition)
	if want == nil {
		return nil, fmt.Errorf("%w: it has no topic %q with a partition %d", ErrNotInCase, topic, partition)
	}
	p := &Proof{Version: proofVersion, Case: m.Case, Cluster: m.Cluster, Topic: topic, TopicID: t.ID, Partition: partition,
		Offset: offset, Size: want.Records.Size, Path: []Hash{}, Checkpoint: checkpoint}
	var tree Tree
	var need proof.Nodes
	var have map[compact.NodeID][]byte
	visit := func(id compact.NodeID, hash []byte) {
		if _, ok := have[id]; ok {
			have[id] = hash
		}
	}
	var found *buffer.Record
	keep := func() iter.Seq2[*buffer.Record, error] {
		return func(yield func(*buffer.Record, error) bool) {
			for r, err := range stream() {
				if err == nil && r.Offset == offset {
					found = &buffer.NewChunk([]buffer.Record{*r}, 0).Records[0] // r's memory is the stream's
				}
				if !yield(r, err) {
					return
				}
			}
		}
	}
	last := int64(-1)
	err := inOrder(m.Origin(t, partition), keep, func() { tree, have, last = Tree{}, nil, -1 }, func(l leafAt) error {
		if l.offset == last {
			return fmt.Errorf("offset %d is there twice", l.offset)
		}
		last = l.offset
		if want.inGap(l.offset) {
			return nil // rescued: of another tree
		}
		if l.offset == offset {
			p.Index = tree.Size()
			var err error
			if need, err = proof.Inclusion(p.Index, p.Size); err != nil {
				return fmt.Errorf("there are more records than the %d of the manifest", p.Size)
			}
			have = make(map[compact.NodeID][]byte, len(need.IDs))
			for _, id := range need.IDs {
				have[id] = nil
			}
			// Those on the left are complete: they are the tree's edge.
			for i, id := range compact.RangeNodes(0, p.Index, nil) {
				kept := tree.edge[i]
				visit(id, kept[:])
			}
		}
		tree.append(l.hash, visit)
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case tree.Head() != want.Records:
		return nil, fmt.Errorf("the %d records have the root %s, the manifest says %d and %s: what is there is not what was sealed, so nothing can be proven from it", tree.Size(), tree.Root(), want.Records.Size, want.Records.Root)
	case have == nil:
		return nil, ErrNotInCase
	}
	hashes := make([][]byte, len(need.IDs))
	for i, id := range need.IDs {
		hashes[i] = have[id]
	}
	path, err := need.Rehash(hashes, rfc6962.DefaultHasher.HashChildren)
	if err != nil {
		return nil, err
	}
	for _, h := range path {
		if len(h) != sha256.Size {
			return nil, errors.New("a hash of the path is missing")
		}
		p.Path = append(p.Path, Hash(h))
	}
	p.Record = proofRecord(found)
	if head, err := p.head(); err != nil || head != want.Records {
		return nil, errors.Join(errors.New("the proof does not hold"), err)
	}
	return p, nil
}

func proofRecord(r *buffer.Record) ProofRecord {
	keep := func(b []byte) *[]byte {
		if b == nil {
			return nil
		}
		return &b
	}
	p := ProofRecord{TimestampType: createTime, Key: keep(r.Key), Headers: []ProofHeader{}, Value: keep(r.Value)}
	if r.Appended {
		p.TimestampType = appendTime
	}
	if ms := millis(r); ms >= 0 {
		p.Timestamp = &ms
	}
	for _, h := range r.Headers {
		p.Headers = append(p.Headers, ProofHeader{[]byte(h.Key), keep(h.Value)})
	}
	return p
}

// Held is the record that p is about.
func (p *Proof) Held() (*buffer.Record, error) {
	r := &buffer.Record{
		Origin: &buffer.Origin{Cluster: p.Cluster, Topic: p.Topic, TopicID: p.TopicID, Partition: p.Partition},
		Offset: p.Offset,
	}
	switch p.Record.TimestampType {
	case createTime:
	case appendTime:
		r.Appended = true
	default:
		return nil, fmt.Errorf("its timestamp type is neither %s nor %s", createTime, appendTime)
	}
	if at := p.Record.Timestamp; at != nil {
		if *at < 0 {
			return nil, errors.New("its timestamp is below zero")
		}
		r.Time = time.UnixMilli(*at).UTC()
	}
	get := func(b *[]byte) []byte {
		if b == nil {
			return nil
		}
		return append([]byte{}, *b...)
	}
	r.Key, r.Value = get(p.Record.Key), get(p.Record.Value)
	for _, h := range p.Record.Headers {
		r.Headers = append(r.Headers, buffer.Header{Key: string(h.Key), Value: get(h.Value)})
	}
	return r, nil
}

// head is the head of the tree that p's record is a leaf of, if p is right.
func (p *Proof) head() (TreeHead, error) {
	r, err := p.Held()
	if err != nil {
		return TreeHead{}, err
	}
	leaf := NewEncoder(r.Origin).Record(r)
	path := make([][]byte, len(p.Path))
	for i := range p.Path {
		path[i] = p.Path[i][:]
	}
	root, err := proof.RootFromInclusionProof(rfc6962.DefaultHasher, p.Index, p.Size, leaf[:], path)
	if err != nil {
		return TreeHead{}, fmt.Errorf("the path does not fit record %d of %d: %w", p.Index, p.Size, err)
	}
	return TreeHead{p.Size, Hash(root)}, nil
}

// MaxProof bounds a proof: it holds all of a record that has room in a bag.
const MaxProof = 96 << 20

// DecodeProof reads a proof as weir writes it.
func DecodeProof(text []byte) (*Proof, error) {
	p := new(Proof)
	if err := DecodeJSON(text, p); err != nil {
		return nil, fmt.Errorf("not a proof: %w", err)
	}
	if p.Version != proofVersion {
		return nil, fmt.Errorf("the proof is of version %d, and this weir knows version %d", p.Version, proofVersion)
	}
	return p, nil
}

// VerifyIn checks p against a manifest whose signature was checked.
func (p *Proof) VerifyIn(m *Manifest) error {
	t, want := m.Find(p.Topic, p.Partition)
	switch {
	case p.Case != m.Case || p.Cluster != m.Cluster:
		return fmt.Errorf("the proof is of case %q in cluster %q, the manifest of %q in %q", p.Case, p.Cluster, m.Case, m.Cluster)
	case want == nil:
		return fmt.Errorf("the manifest has no topic %q with a partition %d", p.Topic, p.Partition)
	case t.ID != p.TopicID:
		return fmt.Errorf("topic %q has the id %q in the proof and %q in the manifest", p.Topic, p.TopicID, t.ID)
	}
	head, err := p.head()
	if err != nil {
		return err
	}
	if head != want.Records {
		return fmt.Errorf("the proof leads to the root %s of %d records, the manifest says %s and %d: the record or the proof was changed", head.Root, head.Size, want.Records.Root, want.Records.Size)
	}
	return nil
}

// VerifyAlone checks p against the checkpoint in it, which key must have signed.
func (p *Proof) VerifyAlone(key ed25519.PublicKey) error {
	if p.Checkpoint == "" {
		return errors.New("the proof holds no checkpoint: the manifest is needed")
	}
	if err := CheckCase(p.Case); err != nil {
		return err
	}
	name := KeyName(p.Cluster, p.Case)
	origin, want, err := OpenCheckpoint(key, name, []byte(p.Checkpoint))
	if err != nil {
		return err
	}
	if is := checkpointOrigin(name, p.Topic, p.Partition, treeRecords); origin != is {
		return fmt.Errorf("the checkpoint is of %q and not of %q", origin, is)
	}
	head, err := p.head()
	if err != nil {
		return err
	}
	if head != want {
		return fmt.Errorf("the proof leads to the root %s of %d records, the checkpoint says %s and %d: the record or the proof was changed", head.Root, head.Size, want.Root, want.Size)
	}
	return nil
}
