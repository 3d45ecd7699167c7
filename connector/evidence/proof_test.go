package evidence

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/buffer"
)

// someRecords are n matched records with all that a record can have, and gaps
// between some.
func someRecords(n int) []*buffer.Record {
	r := rand.New(rand.NewPCG(21, 22))
	var all []*buffer.Record
	offset := int64(100)
	bytesOrNull := func() []byte {
		switch r.IntN(3) {
		case 0:
			return nil
		case 1:
			return []byte{}
		}
		return []byte(fmt.Sprintf("%d\xff<&>", r.IntN(1000)))
	}
	for range n {
		rec := &buffer.Record{Origin: someOrigin(), Offset: offset, Time: time.UnixMilli(1e12 + r.Int64N(1e9)), Appended: r.IntN(2) == 0,
			Key: bytesOrNull(), Value: bytesOrNull()}
		for range r.IntN(3) {
			rec.Headers = append(rec.Headers, buffer.Header{Key: "h\xfe", Value: bytesOrNull()})
		}
		if r.IntN(20) == 0 {
			rec.Time = time.Time{}
		}
		all = append(all, rec)
		offset += 1 + int64(r.IntN(2)*r.IntN(3))
	}
	return all
}

func streamOf(records []*buffer.Record) Stream {
	return func() iter.Seq2[*buffer.Record, error] {
		return func(yield func(*buffer.Record, error) bool) {
			for _, r := range records {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

// caseOf is a sealed case of these records.
func caseOf(t testing.TB, records []*buffer.Record) (*Manifest, ed25519.PrivateKey) {
	t.Helper()
	p := Start(someOrigin(), somePlan, 100)
	for _, r := range records {
		var err error
		if r.Offset > p.Next {
			err = p.Gap(Gap{p.Next, r.Offset, Class(r.Offset%2) * Retention})
		}
		if err = errors.Join(err, p.Match(r)); err != nil {
			t.Fatal(err)
		}
	}
	p.Counts.Delivered = p.Counts.Matched
	s := p.Seal(someOrigin())
	s.Start = 100
	o := someOrigin()
	m := &Manifest{Case: "A-1", Cluster: o.Cluster, Request: Request{From: time.UnixMilli(1e12).UTC(), To: time.UnixMilli(1e12 + 1e9).UTC()},
		Topics: []Topic{{Name: o.Topic, ID: o.TopicID, Partitions: []PartitionSeal{s}}}}
	key, _ := someKey(t)
	if _, err := m.Sign(key); err != nil {
		t.Fatal(err)
	}
	return m, key
}

// shuffled has the records in blocks that a late retry moved.
func shuffled(r *rand.Rand, records []*buffer.Record) []*buffer.Record {
	s := slices.Clone(records)
	for range 1 + r.IntN(10) {
		from, n := r.IntN(len(s)), 1+r.IntN(20)
		block := slices.Clone(s[from:min(from+n, len(s))])
		s = slices.Delete(s, from, from+len(block))
		s = slices.Insert(s, r.IntN(len(s)+1), block...)
	}
	return s
}

func TestRecordsHoldInWhateverOrderTheyWereStored(t *testing.T) {
	records := someRecords(500)
	m, _ := caseOf(t, records)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 100 {
		s := slices.Clone(records)
		switch {
		case i == 1:
			slices.Reverse(s)
		case i > 1:
			s = shuffled(r, records)
		}
		seen := 0
		if faults := m.Check("edr.events", 3, streamOf(s), func(*buffer.Record) { seen++ }); faults != nil || seen != len(records) {
			t.Fatalf("order %d: %d seen, %v", i, seen, faults)
		}
	}
}

func TestWhatWasDoneToRecordsIsFound(t *testing.T) {
	m, _ := caseOf(t, someRecords(200))
	at := 77
	for name, test := range map[string]struct {
		change func(s []*buffer.Record) []*buffer.Record
		want   string
	}{
		"value":     {func(s []*buffer.Record) []*buffer.Record { s[at].Value = append([]byte("x"), s[at].Value...); return s }, "was changed"},
		"type":      {func(s []*buffer.Record) []*buffer.Record { s[at].Appended = !s[at].Appended; return s }, "was changed"},
		"taken out": {func(s []*buffer.Record) []*buffer.Record { return slices.Delete(s, at, at+1) }, "199 records"},
		"cut off":   {func(s []*buffer.Record) []*buffer.Record { return s[:150] }, "150 records"},
		"nothing":   {func(s []*buffer.Record) []*buffer.Record { return nil }, "0 records"},
		"twice":     {func(s []*buffer.Record) []*buffer.Record { return append(s, s[at]) }, "is there twice"},
		"swapped":   {func(s []*buffer.Record) []*buffer.Record { s[3].Value, s[4].Value = []byte("a"), []byte("b"); return s }, "was changed"},
		"other log": {func(s []*buffer.Record) []*buffer.Record {
			o := *s[at].Origin
			o.TopicID = "x"
			s[at].Origin = &o
			return s
		}, "another log"},
		"range":      {func(s []*buffer.Record) []*buffer.Record { s[199].Offset = 1e6; return s }, "not in the range"},
		"time range": {func(s []*buffer.Record) []*buffer.Record { s[at].Time = time.UnixMilli(1); return s }, "time range"},
	} {
		faults := m.Check("edr.events", 3, streamOf(test.change(someRecords(200))), nil)
		if !strings.Contains(fmt.Sprint(faults), test.want) {
			t.Errorf("%s: %v", name, faults)
		}
	}
	if faults := m.Check("edr.events", 4, streamOf(nil), nil); faults == nil {
		t.Error("a partition that is none of the case's holds")
	}
	unread := func() iter.Seq2[*buffer.Record, error] {
		return func(yield func(*buffer.Record, error) bool) {
			for i, r := range someRecords(200) {
				if i == at {
					if !yield(nil, errors.New("line 78 cannot be read")) {
						return
					}
					continue
				}
				if !yield(r, nil) {
					return
				}
			}
		}
	}
	if faults := m.Check("edr.events", 3, unread, nil); len(faults) != 2 || !strings.Contains(faults[0].Problem, "line 78 cannot be read (behind the record at offset ") {
		t.Errorf("%v", faults)
	}
}

// A worker stores records and dies before its commit; when the next one comes,
// retention has taken them.
func TestRecordsThatOnlyTheBagStillHas(t *testing.T) {
	records := someRecords(200)
	p := Start(someOrigin(), somePlan, 100)
	var lost []*buffer.Record
	err := p.Gap(Gap{100, records[20].Offset, Retention})
	for i, r := range records {
		switch {
		case i < 20:
			if i%3 == 0 { // what got into the bag
				lost = append(lost, r)
			}
			continue
		case r.Offset > p.Next:
			err = errors.Join(err, p.Gap(Gap{p.Next, r.Offset, Control}))
		}
		err = errors.Join(err, p.Match(r))
	}
	if err != nil {
		t.Fatal(err)
	}
	p.Counts.Delivered = p.Counts.Matched
	m, key := caseOf(t, records)
	s := p.Seal(someOrigin())
	s.Start = 100
	m.Topics[0].Partitions[0] = s
	inBag := slices.Concat(lost[3:], records[20:], lost[:3])

	check := func() string { return fmt.Sprint(m.Check("edr.events", 3, streamOf(inBag), nil)) }
	if got := check(); !strings.Contains(got, "lists as gaps") {
		t.Errorf("nobody signed for them: %s", got)
	}
	if err := m.Rescue("edr.events", 3, streamOf(inBag)); err != nil || m.Topics[0].Partitions[0].Rescued.Size != uint64(len(lost)) {
		t.Fatal(err, m.Topics[0].Partitions[0].Rescued)
	}
	if _, err := m.Sign(key); err != nil {
		t.Fatal(err)
	}
	if got := check(); got != "[]" {
		t.Error(got)
	}
	lost[2].Value = append(lost[2].Value, 'x')
	if got := check(); !strings.Contains(got, "lists as gaps") {
		t.Errorf("a change of one is not found: %s", got)
	}
	// One that was matched is proven as ever; for these there is no proof.
	lost[2].Value = lost[2].Value[:len(lost[2].Value)-1]
	if _, err := m.Prove("edr.events", 3, records[50].Offset, streamOf(inBag), ""); err != nil {
		t.Error(err)
	}
	if _, err := m.Prove("edr.events", 3, lost[0].Offset, streamOf(inBag), ""); !errors.Is(err, ErrNotInCase) {
		t.Error(err)
	}
	if err := m.Rescue("edr.events", 3, streamOf(records[20:])); err != nil || m.Topics[0].Partitions[0].Rescued != nil {
		t.Error("rescued out of nothing")
	}
}

func TestProofHoldsWithNothingButTheManifestAndTheRecord(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for _, n := range []int{1, 2, 3, 7, 8, 9, 100, 255} {
		records := someRecords(n)
		m, key := caseOf(t, records)
		public := key.Public().(ed25519.PublicKey)
		checkpoints, err := m.Checkpoints(key)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range records {
			stream := streamOf(records)
			if n > 8 {
				stream = streamOf(shuffled(r, records))
			}
			made, err := m.Prove("edr.events", 3, want.Offset, stream, string(checkpoints[0].Text))
			if err != nil {
				t.Fatal(err)
			}
			text, err := EncodeJSON(made)
			if err != nil {
				t.Fatal(err)
			}
			p, err := DecodeProof(text)
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Held()
			if err = errors.Join(err, p.VerifyIn(m), p.VerifyAlone(public)); err != nil {
				t.Fatalf("%d of %d: %v", want.Offset, n, err)
			}
			if NewEncoder(got.Origin).Record(got) != NewEncoder(want.Origin).Record(want) || got.Offset != want.Offset {
				t.Fatalf("offset %d became another record", want.Offset)
			}
			if len(p.Path) > 8 {
				t.Fatalf("%d hashes for %d records", len(p.Path), n)
			}
		}
		if _, err := m.Prove("edr.events", 3, 99, streamOf(records), ""); !errors.Is(err, ErrNotInCase) {
			t.Errorf("a record that is none: %v", err)
		}
		if n > 1 {
			if _, err := m.Prove("edr.events", 3, 100, streamOf(records[:n-1]), ""); err == nil {
				t.Error("proven from less than there was")
			}
		}
	}
}

func TestEveryChangedBitOfAProofIsNoticed(t *testing.T) {
	records := someRecords(100)
	m, key := caseOf(t, records)
	public := key.Public().(ed25519.PublicKey)
	checkpoints, err := m.Checkpoints(key)
	if err != nil {
		t.Fatal(err)
	}
	made, err := m.Prove("edr.events", 3, records[60].Offset, streamOf(records), string(checkpoints[0].Text))
	if err != nil {
		t.Fatal(err)
	}
	text, err := EncodeJSON(made)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(text) {
		b := bytes.Clone(text)
		b[i] ^= 1 << (i * 3 % 8)
		p, err := DecodeProof(b)
		if err == nil {
			err = p.VerifyAlone(public)
			if p.Checkpoint == made.Checkpoint && p.VerifyIn(m) == nil {
				err = nil
			}
		}
		if err == nil {
			t.Fatalf("bit %d of byte %d may change: %q", i*3%8, i, text[max(0, i-20):i+1])
		}
	}
	made.Checkpoint = ""
	if made.VerifyAlone(public) == nil {
		t.Error("without a checkpoint it holds alone")
	}
	made.Checkpoint = string(checkpoints[1].Text)
	if made.VerifyAlone(public) == nil {
		t.Error("the checkpoint of the gaps is taken")
	}
	other, _ := someKey(t)
	made.Checkpoint = string(checkpoints[0].Text)
	if err := made.VerifyAlone(other.Public().(ed25519.PublicKey)); !errors.Is(err, ErrSignature) {
		t.Errorf("another key: %v", err)
	}
}

func FuzzDecodeProof(f *testing.F) {
	records := someRecords(20)
	m, _ := caseOf(f, records)
	made, err := m.Prove("edr.events", 3, records[7].Offset, streamOf(records), "")
	if err != nil {
		f.Fatal(err)
	}
	text, err := EncodeJSON(made)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodeProof(b)
		if err != nil {
			return
		}
		err = p.VerifyIn(m)
		if err == nil && (p.Offset != made.Offset || p.Index != made.Index) {
			t.Fatalf("%s holds", b)
		}
	})
}
