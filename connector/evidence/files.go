package evidence

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// The files of a sealed case, beside its records.
const (
	FileEnvelope    = "manifest.dsse.json" // the signed manifest
	FileManifest    = "manifest.json"      // what is signed in it, to read
	FilePublicKey   = "public-key.pem"
	FileVerifierKey = "verifier-key.txt" // for tools that check signed notes
	FilePlan        = "plan.json"
	custodyFolder   = "custody/"
	checkpointsIn   = "checkpoints/"
	gapsIn          = "gaps/"
)

// Files signs m and makes all files of the sealed case. plan is the plan file, and
// custody are the custody logs that m speaks of.
//
// Errors: the plan or the logs are not those of m; m contradicts itself.
func (m *Manifest) Files(key ed25519.PrivateKey, plan []byte, custody [][]byte) (map[string][]byte, error) {
	if Hash(sha256.Sum256(plan)) != m.Plan {
		return nil, fmt.Errorf("the plan is not the one of the case, whose SHA-256 is %s", m.Plan)
	}
	envelope, err := m.Sign(key)
	if err != nil {
		return nil, err
	}
	e, err := DecodeEnvelope(envelope)
	if err != nil {
		return nil, err
	}
	public := key.Public().(ed25519.PublicKey)
	vkey, err := VerifierKey(public, m.KeyName())
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{
		FileEnvelope: envelope, FileManifest: e.Payload, FilePlan: plan,
		FilePublicKey: EncodePublicKey(public), FileVerifierKey: []byte(vkey + "\n"),
	}
	checkpoints, err := m.Checkpoints(key)
	if err != nil {
		return nil, err
	}
	for _, c := range checkpoints {
		files[c.file()] = c.Text
	}
	if len(custody) != len(m.Custody) {
		return nil, fmt.Errorf("%d custody logs, and the manifest speaks of %d", len(custody), len(m.Custody))
	}
	for i, log := range custody {
		if head, err := DecodeCustody(bytes.NewReader(log), m.Case, nil); err != nil || head != m.Custody[i] {
			return nil, fmt.Errorf("custody log %d is not the one that the manifest speaks of (%w)", i+1, err)
		}
		files[CustodyFile(i)] = log
	}
	return files, nil
}

// CustodyFile is where the custody log at a place in the manifest is.
func CustodyFile(i int) string { return fmt.Sprintf("%s%d.ndjson", custodyFolder, i+1) }

// file is where c is.
func (c NamedCheckpoint) file() string {
	return fmt.Sprintf("%s%s/%d/%s.txt", checkpointsIn, escape(c.Topic), c.Partition, c.Tree)
}

// CheckpointFile is where the checkpoint of a partition's records is.
func CheckpointFile(topic string, partition int32) string {
	return NamedCheckpoint{Topic: topic, Partition: partition, Tree: treeRecords}.file()
}

// CheckFiles checks the files of a sealed case against each other, and the
// signatures with key. m is nil when the manifest cannot be believed.
func CheckFiles(key ed25519.PublicKey, files map[string][]byte) (m *Manifest, faults []Fault) {
	fault := func(name string, err error) { faults = append(faults, Fault{name, err.Error()}) }
	missing := fmt.Errorf("it is missing")
	text, ok := files[FileEnvelope]
	if !ok {
		fault(FileEnvelope, missing)
		return nil, faults
	}
	m, err := OpenManifest(key, text)
	if err != nil {
		fault(FileEnvelope, err)
		return nil, faults
	}
	e, err := DecodeEnvelope(text)
	if err != nil {
		fault(FileEnvelope, err)
		return nil, faults
	}
	vkey, err := VerifierKey(key, m.KeyName())
	if err != nil {
		fault(FileVerifierKey, err)
	}
	checks := map[string]func(content []byte) error{
		FileEnvelope:    func([]byte) error { return nil },
		FileManifest:    sameAs(e.Payload, "what is signed in "+FileEnvelope),
		FilePublicKey:   sameAs(EncodePublicKey(key), "the key that the signatures were checked with"),
		FileVerifierKey: sameAs([]byte(vkey+"\n"), "the key that the signatures were checked with"),
		FilePlan: func(content []byte) error {
			if sum := Hash(sha256.Sum256(content)); sum != m.Plan {
				return fmt.Errorf("its SHA-256 is %s, the manifest says %s", sum, m.Plan)
			}
			return nil
		},
	}
	_ = m.trees(func(c NamedCheckpoint, _ TreeHead) error {
		checks[c.file()] = func(content []byte) error {
			c.Text = content
			return m.CheckCheckpoint(key, c)
		}
		return nil
	})
	for i, want := range m.Custody {
		checks[CustodyFile(i)] = func(content []byte) error {
			head, err := DecodeCustody(bytes.NewReader(content), m.Case, nil)
			if err == nil && head != want {
				err = fmt.Errorf("it ends with entry %d and the hash %s, the manifest says %d and %s", head.Entries, head.Head, want.Entries, want.Head)
			}
			return err
		}
	}
	for i := range m.Topics {
		t := &m.Topics[i]
		for j := range t.Partitions {
			name := GapFile(t.Name, t.Partitions[j].Partition)
			if _, ok := files[name]; ok {
				checks[name] = func(list []byte) error { return m.CheckGaps(t.Name, t.Partitions[j].Partition, list) }
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(checks)) {
		content, ok := files[name]
		if !ok {
			fault(name, missing)
		} else if err := checks[name](content); err != nil {
			fault(name, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if checks[name] == nil {
			faults = append(faults, Fault{name, "the manifest does not speak of it"})
		}
	}
	return m, faults
}

// CheckGaps says whether a list of gaps is that of the tree that m has.
func (m *Manifest) CheckGaps(topic string, partition int32, list []byte) error {
	t, p := m.Find(topic, partition)
	if p == nil {
		return errors.New("the manifest has no such partition")
	}
	head, err := GapTree(m.Origin(t, partition), list)
	if err == nil && head != p.Gaps.TreeHead {
		err = fmt.Errorf("its %d gaps have the root %s, the manifest says %d and %s", head.Size, head.Root, p.Gaps.Size, p.Gaps.Root)
	}
	return err
}

func sameAs(want []byte, what string) func([]byte) error {
	return func(content []byte) error {
		if !bytes.Equal(content, want) {
			return fmt.Errorf("it is not %s", what)
		}
		return nil
	}
}
