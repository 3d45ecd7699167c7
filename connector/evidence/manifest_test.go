package evidence

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// someCase is a sealed case with what was read of it.
func someCase(t testing.TB) (*Manifest, ed25519.PrivateKey, []byte) {
	t.Helper()
	r := rand.New(rand.NewPCG(11, 12))
	p := Start(someOrigin(), somePlan, 100)
	feed(t, r, p, someLog(r, 200))
	p.Counts.Delivered = p.Counts.Matched
	o := someOrigin()
	seal := p.Seal(o)
	seal.Start, seal.StartBy, seal.EndBy = 100, "timestamp index", "high watermark"
	seal.Before, seal.After = Bounds{0, 300}, Bounds{50, 900}
	m := &Manifest{
		Case: "A-1", Examiner: "Jane <Doe>", Purpose: "incident", Cluster: o.Cluster,
		Tool:    Tool{Name: "weir", Version: "v1"},
		Request: Request{From: time.UnixMilli(1e12).UTC(), To: time.UnixMilli(2e12).UTC()},
		Created: time.UnixMilli(2e12).UTC(), Sealed: time.UnixMilli(2e12 + 1).UTC(),
		Topics:  []Topic{{Name: o.Topic, ID: o.TopicID, Config: map[string]string{"cleanup.policy": "delete"}, Partitions: []PartitionSeal{seal}}},
		Custody: []CustodyHead{},
	}
	key, _ := someKey(t)
	text, err := m.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	return m, key, text
}

func TestManifestIsReadAsItWasSigned(t *testing.T) {
	m, key, text := someCase(t)
	public := key.Public().(ed25519.PublicKey)
	got, err := OpenManifest(public, text)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := EncodeJSON(m)
	b, _ := EncodeJSON(got)
	if !bytes.Equal(a, b) || got.Examiner != "Jane <Doe>" || !strings.Contains(string(a), "Jane <Doe>") {
		t.Errorf("%s\nbecame\n%s", a, b)
	}
	checkpoints, err := got.Checkpoints(key)
	if err != nil || len(checkpoints) != 2 {
		t.Fatalf("%d checkpoints: %v", len(checkpoints), err)
	}
	for i, c := range checkpoints {
		if err := got.CheckCheckpoint(public, c); err != nil {
			t.Error(err)
		}
		wrong := c
		wrong.Text = checkpoints[1-i].Text
		if got.CheckCheckpoint(public, wrong) == nil {
			t.Error("the checkpoint of another tree is taken")
		}
		got.Topics[0].Partitions[0].Records.Size++
		got.Topics[0].Partitions[0].Gaps.Size++
		if got.CheckCheckpoint(public, c) == nil {
			t.Error("of another size it is taken")
		}
		got.Topics[0].Partitions[0].Records.Size--
		got.Topics[0].Partitions[0].Gaps.Size--
	}
}

// Two trees can be alike, two empty ones always are: what tells their checkpoints
// apart is the origin.
func TestCheckpointOfATreeThatIsAlikeIsNotTaken(t *testing.T) {
	m, key := caseOf(t, nil)
	second := m.Topics[0].Partitions[0]
	second.Partition++
	m.Topics[0].Partitions = append(m.Topics[0].Partitions, second)
	checkpoints, err := m.Checkpoints(key)
	if err != nil || len(checkpoints) != 4 {
		t.Fatal(len(checkpoints), err)
	}
	for i := range checkpoints {
		for j := range checkpoints {
			c := checkpoints[i]
			c.Text = checkpoints[j].Text
			if err := m.CheckCheckpoint(key.Public().(ed25519.PublicKey), c); (err == nil) != (i == j) {
				t.Errorf("checkpoint %d in the place of %d: %v", j, i, err)
			}
		}
	}
}

// Nothing is signed, and nothing believed that was, in which an offset is not
// accounted for.
func TestManifestThatContradictsItselfIsNotSigned(t *testing.T) {
	for name, change := range map[string]func(m *Manifest, p *PartitionSeal){
		"an offset too many": func(_ *Manifest, p *PartitionSeal) { p.End++ },
		"an offset too few":  func(_ *Manifest, p *PartitionSeal) { p.Start++ },
		"read":               func(_ *Manifest, p *PartitionSeal) { p.Counts.Read++ },
		"not settled":        func(_ *Manifest, p *PartitionSeal) { p.Counts.Delivered-- },
		"settled twice":      func(_ *Manifest, p *PartitionSeal) { p.Counts.Duplicates++ },
		"tree":               func(_ *Manifest, p *PartitionSeal) { p.Records.Size-- },
		"gap count": func(_ *Manifest, p *PartitionSeal) {
			p.Gaps.Offsets[Control], p.Gaps.Offsets[Retention] = p.Gaps.Offsets[Control]+p.Gaps.Offsets[Retention], 0
		},
		"gap elsewhere":          func(_ *Manifest, p *PartitionSeal) { p.Gaps.Listed = []Gap{{0, 5, Retention}} },
		"gap not listed":         func(_ *Manifest, p *PartitionSeal) { p.Gaps.Unlisted, p.Gaps.Listed = 0, nil },
		"range":                  func(m *Manifest, _ *PartitionSeal) { m.Request.To = m.Request.From },
		"case":                   func(m *Manifest, _ *PartitionSeal) { m.Case = "../x" },
		"no topic":               func(m *Manifest, _ *PartitionSeal) { m.Topics = nil },
		"topic without a name":   func(m *Manifest, _ *PartitionSeal) { m.Topics[0].Name = "" },
		"topic twice":            func(m *Manifest, _ *PartitionSeal) { m.Topics = append(m.Topics, m.Topics[0]) },
		"partition twice":        func(m *Manifest, p *PartitionSeal) { m.Topics[0].Partitions = append(m.Topics[0].Partitions, *p) },
		"ends before it begins":  func(_ *Manifest, p *PartitionSeal) { p.End = p.Start - 1 },
		"partition that is none": func(_ *Manifest, p *PartitionSeal) { p.Partition = -1 },
	} {
		m, key, _ := someCase(t)
		change(m, &m.Topics[0].Partitions[0])
		if _, err := m.Sign(key); err == nil {
			t.Errorf("%s: signed", name)
		}
		payload, err := EncodeJSON(m)
		if err != nil {
			t.Fatal(err)
		}
		text, err := EncodeJSON(Seal(key, ManifestType, payload))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenManifest(key.Public().(ed25519.PublicKey), text); err == nil {
			t.Errorf("%s: believed", name)
		}
	}
}

func TestManifestOfALaterVersionIsNotRead(t *testing.T) {
	m, key, _ := someCase(t)
	m.Version = 2
	payload, err := EncodeJSON(m)
	if err != nil {
		t.Fatal(err)
	}
	text, err := EncodeJSON(Seal(key, ManifestType, payload))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenManifest(key.Public().(ed25519.PublicKey), text); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Error(err)
	}
}

func TestEveryChangedBitOfASignedManifestIsNoticed(t *testing.T) {
	_, key, text := someCase(t)
	public := key.Public().(ed25519.PublicKey)
	for i := 0; i < len(text); i += 3 {
		b := bytes.Clone(text)
		b[i] ^= 1 << (i * 5 % 8)
		if _, err := OpenManifest(public, b); err == nil {
			t.Fatalf("bit %d of byte %d may change", i*5%8, i)
		}
	}
	other, _ := someKey(t)
	if _, err := OpenManifest(other.Public().(ed25519.PublicKey), text); !errors.Is(err, ErrSignature) {
		t.Errorf("another key: %v", err)
	}
}

func FuzzDecodeManifest(f *testing.F) {
	m, _, _ := someCase(f)
	text, err := EncodeJSON(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		m := new(Manifest)
		if err := DecodeJSON(text, m); err != nil {
			return
		}
		if again, err := EncodeJSON(m); err != nil || !bytes.Equal(again, text) {
			t.Fatalf("%q has another form, %q (%v)", text, again, err)
		}
		_ = m.check()
	})
}
