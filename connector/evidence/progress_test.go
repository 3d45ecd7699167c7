package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"weir/buffer"
)

func someOrigin() *buffer.Origin {
	return &buffer.Origin{Cluster: "MkU3OEVBNTcwNTJENDM2Qg", Topic: "edr.events", TopicID: "Jb3KpkzXQ7qFbOQ1Cq9wMA", Partition: 3}
}

const somePlan = "0123456789abcdef"

// The encoding is in every proof that was ever given out: this text must not
// change.
func TestLeafIsEncodedAsItIsWrittenDown(t *testing.T) {
	o := &buffer.Origin{Cluster: "C", Topic: "top", TopicID: "ID", Partition: 3}
	r := &buffer.Record{Origin: o, Offset: 258, Time: time.UnixMilli(1), Appended: true, Key: []byte{}, Value: nil,
		Headers: []buffer.Header{{Key: "h", Value: nil}, {Key: "h", Value: []byte{0xff}}}}
	want := "00" + "5201" +
		"00000001" + "43" + "00000002" + "4944" + "00000003" + "746f70" + "00000003" +
		"0000000000000102" + "01" + "0000000000000001" +
		"00000000" +
		"00000002" + "00000001" + "68" + "ffffffff" + "00000001" + "68" + "00000001" + "ff" +
		"ffffffff"
	b, err := hex.DecodeString(want)
	if err != nil {
		t.Fatal(err)
	}
	e := NewEncoder(o)
	if got := e.Record(r); got != Hash(sha256.Sum256(b)) {
		t.Errorf("encoded as\n%x, want\n%s", e.buf, want)
	}
	want = "00" + "4701" + "00000001" + "43" + "00000002" + "4944" + "00000003" + "746f70" + "00000003" +
		"0000000000000005" + "0000000000000009" + "02"
	if b, err = hex.DecodeString(want); err != nil {
		t.Fatal(err)
	}
	if got := e.Gap(Gap{5, 9, Aborted}); got != Hash(sha256.Sum256(b)) {
		t.Errorf("encoded as\n%x, want\n%s", e.buf, want)
	}
}

// Each of these is another record, though much of them reads the same.
func TestNoTwoRecordsHaveOneLeaf(t *testing.T) {
	o := someOrigin()
	base := func() *buffer.Record {
		return &buffer.Record{Origin: o, Offset: 7, Time: time.UnixMilli(1715937693518), Key: []byte("k"), Value: []byte("v"),
			Headers: []buffer.Header{{Key: "a", Value: []byte("b")}, {Key: "c", Value: []byte("d")}}}
	}
	seen := map[Hash]string{}
	for name, change := range map[string]func(r *buffer.Record){
		"as it is":            func(*buffer.Record) {},
		"offset":              func(r *buffer.Record) { r.Offset++ },
		"time":                func(r *buffer.Record) { r.Time = r.Time.Add(time.Millisecond) },
		"no time":             func(r *buffer.Record) { r.Time = time.Time{} },
		"1970":                func(r *buffer.Record) { r.Time = time.UnixMilli(0) },
		"the broker's time":   func(r *buffer.Record) { r.Appended = true },
		"null key":            func(r *buffer.Record) { r.Key = nil },
		"empty key":           func(r *buffer.Record) { r.Key = []byte{} },
		"tombstone":           func(r *buffer.Record) { r.Value = nil },
		"empty value":         func(r *buffer.Record) { r.Value = []byte{} },
		"key and value shift": func(r *buffer.Record) { r.Key, r.Value = []byte("kv"), []byte{} },
		"headers swapped":     func(r *buffer.Record) { r.Headers[0], r.Headers[1] = r.Headers[1], r.Headers[0] },
		"one header less":     func(r *buffer.Record) { r.Headers = r.Headers[:1] },
		"no header":           func(r *buffer.Record) { r.Headers = nil },
		"null header":         func(r *buffer.Record) { r.Headers[0].Value = nil },
		"empty header":        func(r *buffer.Record) { r.Headers[0].Value = []byte{} },
		"header name shifts":  func(r *buffer.Record) { r.Headers[0] = buffer.Header{Key: "ab", Value: []byte{}} },
		"header in the value": func(r *buffer.Record) { r.Headers = r.Headers[:1]; r.Value = []byte("cdv") },
		"another partition":   func(r *buffer.Record) { c := *o; c.Partition++; r.Origin = &c },
		"another topic":       func(r *buffer.Record) { c := *o; c.Topic += "s"; r.Origin = &c },
		"topic made again":    func(r *buffer.Record) { c := *o; c.TopicID = "x"; r.Origin = &c },
		"another cluster":     func(r *buffer.Record) { c := *o; c.Cluster = ""; r.Origin = &c },
		"names shifted":       func(r *buffer.Record) { c := *o; c.Cluster, c.TopicID = c.Cluster+c.TopicID, ""; r.Origin = &c },
	} {
		r := base()
		change(r)
		h := NewEncoder(r.Origin).Record(r)
		if other, ok := seen[h]; ok {
			t.Errorf("%q has the leaf of %q", name, other)
		}
		seen[h] = name
	}
	r := base()
	r.Shape = buffer.ShapeObject
	if seen[NewEncoder(o).Record(r)] != "as it is" {
		t.Error("what weir found out about the value changes the leaf")
	}
}

// An event is something at an offset: a record, or a gap.
type event struct {
	offset int64
	class  Class // of a gap
	gap    bool
	kind   int // of a record: 0 matches, 1 is outside, 2 is filtered out
}

func someLog(r *rand.Rand, n int) []event {
	var log []event
	class, gap := Class(0), false
	for i := range n {
		if r.IntN(3) == 0 {
			gap, class = r.IntN(2) == 0, Class(r.IntN(Classes))
		}
		log = append(log, event{offset: 100 + int64(i), class: class, gap: gap, kind: r.IntN(3)})
	}
	return log
}

// feed gives p one run of the log, with gaps cut as the run happens to cut them.
func feed(t testing.TB, r *rand.Rand, p *Partition, log []event) {
	t.Helper()
	for i := 0; i < len(log); {
		e := log[i]
		var err error
		n := 1
		if e.gap {
			for i+n < len(log) && log[i+n].gap && log[i+n].class == e.class && r.IntN(4) > 0 {
				n++
			}
			err = p.Gap(Gap{e.offset, e.offset + int64(n), e.class})
		} else {
			rec := &buffer.Record{Origin: someOrigin(), Offset: e.offset, Time: time.UnixMilli(1e12 + 1000*(e.offset%7)), Value: []byte(fmt.Sprint(e.offset))}
			err = []func(*buffer.Record) error{p.Match, p.Outside, p.Filter}[e.kind](rec)
		}
		if err != nil {
			t.Fatal(err)
		}
		i += n
	}
}

// Wherever the reading was cut, and whoever went on: the evidence is the same.
func TestEvidenceDoesNotDependOnHowItWasRead(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		log := someLog(r, 1+r.IntN(300))
		whole := Start(someOrigin(), somePlan, 100)
		feed(t, rand.New(rand.NewPCG(0, 0)), whole, log)

		parts := Start(someOrigin(), somePlan, 100)
		for rest := log; len(rest) > 0; {
			n := 1 + r.IntN(len(rest))
			feed(t, r, parts, rest[:n])
			rest = rest[n:]
			mark, progress, err := DecodeProgress(parts.Encode("weir1 Jb3KpkzXQ7qFbOQ1Cq9wMA"))
			if err != nil || mark != "weir1 Jb3KpkzXQ7qFbOQ1Cq9wMA" {
				t.Fatalf("seed %d: mark %q: %v", seed, mark, err)
			}
			parts = Resume(someOrigin(), progress)
		}
		if a, b := whole.Encode(""), parts.Encode(""); a != b {
			t.Fatalf("seed %d: read in one go\n%s\nin parts\n%s", seed, a, b)
		}
		a, b := whole.Gaps().Closed(whole.enc), parts.Gaps().Closed(parts.enc)
		if !reflect.DeepEqual(a.Listed, b.Listed) || a.Root() != b.Root() || a.Size() != b.Size() {
			t.Fatalf("seed %d: gaps differ", seed)
		}

		// And it is what the log holds.
		var leaves, gaps []Hash
		var offsets ClassCounts
		enc := NewEncoder(someOrigin())
		for i := 0; i < len(log); i++ {
			e := log[i]
			switch {
			case e.gap:
				g := Gap{e.offset, e.offset + 1, e.class}
				for i+1 < len(log) && log[i+1].gap && log[i+1].class == e.class {
					i++
					g.To++
				}
				offsets[g.Class] += uint64(g.To - g.From)
				gaps = append(gaps, enc.Gap(g))
			case e.kind == 0:
				leaves = append(leaves, enc.Record(&buffer.Record{Offset: e.offset, Time: time.UnixMilli(1e12 + 1000*(e.offset%7)), Value: []byte(fmt.Sprint(e.offset))}))
			}
		}
		if whole.Records().Root() != mth(leaves) || a.Root() != mth(gaps) || a.Offsets != offsets || a.Size() != uint64(len(gaps)) {
			t.Fatalf("seed %d: the evidence is not of that log", seed)
		}
		c := whole.Counts
		if c.Read != c.Matched+c.Outside+c.Filtered || c.Matched != uint64(len(leaves)) || whole.Next != 100+int64(len(log)) {
			t.Fatalf("seed %d: %+v", seed, c)
		}
	}
}

// What comes later does not reach a snapshot: it may be committed any time after.
func TestSnapshotStaysAsItIs(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	p := Start(someOrigin(), somePlan, 100)
	log := someLog(r, 400)
	var snapshots []Progress
	var texts []string
	for len(log) > 0 {
		n := min(7, len(log))
		feed(t, r, p, log[:n])
		log = log[n:]
		s := p.Snapshot()
		snapshots, texts = append(snapshots, s), append(texts, s.Encode(""))
	}
	for i, s := range snapshots {
		if s.Encode("") != texts[i] {
			t.Fatalf("snapshot %d has become\n%s\nand was\n%s", i, s.Encode(""), texts[i])
		}
	}
}

func TestOffsetsThatGoBackAreRefused(t *testing.T) {
	p := Start(someOrigin(), somePlan, 10)
	at := func(o int64) *buffer.Record { return &buffer.Record{Offset: o} }
	for what, err := range map[string]error{
		"below the start": p.Match(at(9)),
		"gap below it":    p.Gap(Gap{9, 11, Control}),
		"empty gap":       p.Gap(Gap{12, 12, Control}),
		"unknown class":   p.Gap(Gap{12, 13, Classes}),
	} {
		if err == nil {
			t.Errorf("%s: taken", what)
		}
	}
	before := p.Encode("")
	if err := errors.Join(p.Match(at(10)), p.Gap(Gap{11, 13, Control}), p.Outside(at(15)), p.Filter(at(16))); err != nil {
		t.Fatal(err)
	}
	after := p.Encode("")
	if before == after {
		t.Fatal("nothing was added")
	}
	for _, o := range []int64{10, 12, 16} {
		if p.Match(at(o)) == nil || p.Outside(at(o)) == nil || p.Filter(at(o)) == nil || p.Gap(Gap{o, 20, Control}) == nil {
			t.Errorf("%d was taken again", o)
		}
	}
	if p.Encode("") != after {
		t.Error("what was refused left something behind")
	}
}

// largest is a progress that is as long as one of that many offsets can be.
func largest(n int64) Progress {
	p := Progress{Plan: somePlan, Next: math.MaxInt64, First: math.MaxInt64, Last: math.MaxInt64}
	for _, c := range p.Counts.fields() {
		*c = math.MaxUint64
	}
	half := uint64(1)
	for half*2-1 <= uint64(n/2) {
		half *= 2
	}
	full := func() Tree {
		var b strings.Builder
		fmt.Fprintf(&b, "%d:", half-1)
		var hashes []byte
		for m := half - 1; m > 0; m >>= 1 {
			hashes = append(hashes, bytes.Repeat([]byte{0xfe}, 32)...)
		}
		tree, err := ParseTree(b.String() + encoding.EncodeToString(hashes))
		if err != nil {
			panic(err)
		}
		return tree
	}
	p.records, p.gaps.tree = full(), full()
	for i := range p.gaps.Offsets {
		p.gaps.Offsets[i] = math.MaxUint64
	}
	for range maxListed {
		p.gaps.Listed = append(p.gaps.Listed, Gap{math.MaxInt64, math.MaxInt64, Retention})
	}
	p.gaps.Unlisted = math.MaxUint64
	p.gaps.open = Gap{math.MaxInt64, math.MaxInt64, Retention}
	return p
}

func TestLongestTextIsTheLongest(t *testing.T) {
	const mark = "weir1 Jb3KpkzXQ7qFbOQ1Cq9wMA truncated"
	for _, n := range []int64{0, 1, 2, 3, 100, 1e6, 1e9, 1 << 40, math.MaxInt64} {
		p := largest(n)
		text := p.Encode(mark)
		if limit := LongestText(len(mark), n); len(text) > limit || len(text) < limit*2/3 {
			t.Errorf("for %d offsets: %d bytes, said were at most %d", n, len(text), limit)
		}
		if _, again, err := DecodeProgress(text); err != nil || again.Encode(mark) != text {
			t.Errorf("for %d offsets: not read again: %v", n, err)
		}
	}
	if LongestText(len(mark), math.MaxInt64) > MaxText {
		t.Error("a progress can be longer than is read")
	}
	// A broker that was left as it is takes a range of a billion offsets.
	if n := LongestText(len(mark), 1e9); n > 4096 {
		t.Errorf("a billion offsets may need %d bytes", n)
	}
}

// The mark in front is read by those who know nothing of evidence.
func TestProgressLeavesTheMarkReadable(t *testing.T) {
	p := Start(someOrigin(), somePlan, 0).Snapshot()
	for _, mark := range []string{"weir1 Jb3KpkzXQ7qFbOQ1Cq9wMA", "weir1 Jb3KpkzXQ7qFbOQ1Cq9wMA truncated", "weir1 ", ""} {
		text := p.Encode(mark)
		got, _, err := DecodeProgress(text)
		if err != nil || got != mark || !strings.HasPrefix(text, mark+" e1 ") {
			t.Errorf("%q: read %q: %v", text, got, err)
		}
	}
	for _, text := range []string{"", "weir1 Jb3KpkzXQ7qFbOQ1Cq9wMA", "set by hand"} {
		if mark, _, err := DecodeProgress(text); !errors.Is(err, ErrNoProgress) || mark != text {
			t.Errorf("%q: %q, %v", text, mark, err)
		}
	}
}

// One bit that changed on the broker's disk, or by hand, is noticed.
func TestEveryChangedBitOfAProgressIsNoticed(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	p := Start(someOrigin(), somePlan, 100)
	feed(t, r, p, someLog(r, 300))
	const mark = "weir1 Jb3KpkzXQ7qFbOQ1Cq9wMA"
	text := p.Encode(mark)
	for i := range len(text) * 8 {
		b := []byte(text)
		b[i/8] ^= 1 << (i % 8)
		if _, _, err := DecodeProgress(string(b)); err == nil {
			t.Fatalf("bit %d of %q may change", i, text)
		}
	}
	for i := range text {
		if _, _, err := DecodeProgress(text[:i]); err == nil {
			t.Fatalf("cut off after %d bytes it is read", i)
		}
	}
}

func FuzzDecodeProgress(f *testing.F) {
	r := rand.New(rand.NewPCG(7, 8))
	seal := func(s string) string { return fmt.Sprintf("%s s=%08x", s, crc32.Checksum([]byte(s), castagnoli)) }
	for range 5 {
		p := Start(someOrigin(), somePlan, 100)
		feed(f, r, p, someLog(r, r.IntN(60)+1))
		text, _, _ := cutLast(p.Encode("weir1 x"), progressEnd)
		f.Add(text)
	}
	p := largest(1e6)
	text, _, _ := cutLast(p.Encode("weir1 x"), progressEnd)
	f.Add(text)
	f.Fuzz(func(t *testing.T, s string) {
		for _, text := range []string{s, seal(s)} {
			mark, p, err := DecodeProgress(text)
			if err != nil {
				continue
			}
			if again := p.Encode(mark); again != text {
				t.Fatalf("%q has another form, %q", text, again)
			}
			o := someOrigin()
			w := Resume(o, p)
			if w.Next < math.MaxInt64 {
				if err := w.Match(&buffer.Record{Origin: o, Offset: w.Next}); err != nil {
					t.Fatal(err)
				}
			}
			c := w.Gaps().Closed(w.enc)
			c.Root()
		}
	})
}

func BenchmarkLeafAndTree(b *testing.B) {
	o := someOrigin()
	r := &buffer.Record{Origin: o, Time: time.UnixMilli(1e12), Key: []byte("ws-0173"), Value: bytes.Repeat([]byte("v"), 505),
		Headers: []buffer.Header{{Key: "trace", Value: []byte("0123456789abcdef")}}}
	p := Start(o, somePlan, 0)
	b.SetBytes(512)
	b.ReportAllocs()
	for b.Loop() {
		r.Offset = p.Next
		if err := p.Match(r); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
