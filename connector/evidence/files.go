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
	left := MaxCustody
	for i, log := range custody {
		if left -= len(log); left < 0 {
			return nil, fmt.Errorf("the custody logs are longer than the %d bytes that are read", MaxCustody)
		}
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

// maxPlan bounds a plan that is read, maxGapList a list of gaps.
const (
	maxPlan    = 256 << 20
	maxGapList = 64 << 20
)

// A Reader reads a file of a sealed case, of at most limit bytes.
type Reader func(name string, limit int64) ([]byte, error)

// CheckFiles checks the files of a sealed case, which are there under those names,
// against each other, and the signatures with key. The signed manifest comes first,
// and nothing is read that it does not speak of; one file at a time is held. m is nil
// when it cannot be believed.
func CheckFiles(key ed25519.PublicKey, names []string, read Reader) (m *Manifest, faults []Fault) {
	more := 0
	fault := func(name string, err error) {
		if len(faults) == maxFaults {
			more++
			return
		}
		faults = append(faults, Fault{name, err.Error()})
	}
	missing := errors.New("it is missing")
	there := map[string]bool{}
	for _, name := range names {
		there[name] = true
	}
	if !there[FileEnvelope] {
		fault(FileEnvelope, missing)
		return nil, faults
	}
	text, err := read(FileEnvelope, MaxManifest)
	if err != nil {
		fault(FileEnvelope, err)
		return nil, faults
	}
	if m, err = OpenManifest(key, text); err != nil {
		fault(FileEnvelope, err)
		return nil, faults
	}
	payload, err := EncodeJSON(m) // its one form, and so what was signed
	if err != nil {
		fault(FileEnvelope, err)
	}
	vkey, err := VerifierKey(key, m.KeyName())
	if err != nil {
		fault(FileVerifierKey, err)
	}
	for _, c := range m.fileChecks(key, payload, vkey+"\n") {
		if !there[c.name] {
			if !c.may {
				fault(c.name, missing)
			}
			continue
		}
		delete(there, c.name)
		content, err := read(c.name, c.limit)
		if err == nil {
			err = c.check(content)
		}
		if err != nil {
			fault(c.name, err)
		}
	}
	delete(there, FileEnvelope)
	for _, name := range slices.Sorted(maps.Keys(there)) {
		fault(name, errors.New("the manifest does not speak of it"))
	}
	if more > 0 {
		faults = append(faults, Fault{faults[0].Place, fmt.Sprintf("and %d more", more)})
	}
	return m, faults
}

// fileCheck is what a file of a case has to be.
type fileCheck struct {
	name  string
	may   bool // it need not be there
	limit int64
	check func(content []byte) error
}

// fileChecks are those of m's case, but for the signed manifest.
func (m *Manifest) fileChecks(key ed25519.PublicKey, payload []byte, vkey string) []fileCheck {
	same := func(name string, want []byte, what string) fileCheck {
		return fileCheck{name, false, int64(len(want)), func(content []byte) error {
			if !bytes.Equal(content, want) {
				return fmt.Errorf("it is not %s", what)
			}
			return nil
		}}
	}
	all := []fileCheck{
		same(FileManifest, payload, "what is signed in "+FileEnvelope),
		same(FilePublicKey, EncodePublicKey(key), "the key that the signatures were checked with"),
		same(FileVerifierKey, []byte(vkey), "the key that the signatures were checked with"),
		{FilePlan, false, maxPlan, func(content []byte) error {
			if sum := Hash(sha256.Sum256(content)); sum != m.Plan {
				return fmt.Errorf("its SHA-256 is %s, the manifest says %s", sum, m.Plan)
			}
			return nil
		}},
	}
	for i, want := range m.Custody {
		all = append(all, fileCheck{CustodyFile(i), false, MaxCustody, func(content []byte) error {
			head, err := DecodeCustody(bytes.NewReader(content), m.Case, nil)
			if err == nil && head != want {
				err = fmt.Errorf("it ends with entry %d and the hash %s, the manifest says %d and %s", head.Entries, head.Head, want.Entries, want.Head)
			}
			return err
		}})
	}
	_ = m.trees(func(c NamedCheckpoint, head TreeHead) error {
		all = append(all, fileCheck{c.file(), false, MaxCheckpoint, func(content []byte) error {
			c.Text = content
			return m.checkCheckpoint(key, c, head)
		}})
		if c.Tree == treeGaps {
			all = append(all, fileCheck{GapFile(c.Topic, c.Partition), true, maxGapList, func(list []byte) error {
				return m.CheckGaps(c.Topic, c.Partition, list)
			}})
		}
		return nil
	})
	return all
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
