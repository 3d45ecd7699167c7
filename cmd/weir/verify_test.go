package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/buffer"
	"weir/connector/evidence"
	"weir/sinks"
	"weir/sinks/bag"
)

// testCase is a sealed case: two topics, one of them with gaps and records that
// did not match, a partition without a record, and a bag of it.
type testCase struct {
	dir      string // with all of it
	bag      string
	key      string // file
	custody  string
	manifest *evidence.Manifest
}

// caseText is in all that people wrote of the case.
const caseText = `<script>alert("1")</script> & Grüße`

func newTestCase(t testing.TB) *testCase {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	c := &testCase{dir: dir, bag: filepath.Join(dir, "bag"), key: filepath.Join(dir, "case.key"), custody: filepath.Join(dir, "A-1.custody.ndjson")}
	_, err := evidence.GenerateKey(c.key)
	must(err)
	key, err := evidence.LoadKey(c.key)
	must(err)
	plan := []byte("{\n  \"case\": \"A-1\"\n}\n")
	planHash := evidence.Hash(sha256.Sum256(plan))
	log := slog.New(slog.DiscardHandler)
	from := time.Date(2026, 5, 1, 8, 0, 0, 0, time.UTC)
	m := &evidence.Manifest{
		Case: "A-1", Examiner: "Jane Doe", Purpose: caseText, Cluster: "MkU3OEVBNTcwNTJENDM2Qg", Plan: planHash,
		Request: evidence.Request{From: from, To: from.Add(6 * time.Hour), Filter: `event.kind == "alert"`, Connector: "siem", Destination: "elasticsearch case-a-1"},
		Created: from.Add(500 * time.Hour),
	}
	custody := openCustody(c.custody, m.Case)
	must(custody.Add(evidence.ActionPlan, map[string]any{"plan_sha256": planHash.String()}))
	must(custody.Add(evidence.ActionStart, nil))

	sink, err := bag.Open(bag.Config{Dir: c.bag, Plan: plan, RotateBytes: 2 << 10, Log: log})
	must(err)
	r := rand.New(rand.NewPCG(1, 2))
	for i, name := range []string{"edr.events", "win.security"} {
		topic := evidence.Topic{Name: name, ID: fmt.Sprintf("Jb3KpkzXQ7qFbOQ1Cq9wM%d", i), Config: map[string]string{"cleanup.policy": "delete", "retention.ms": "604800000"}}
		for partition := range int32(2) {
			o := m.Origin(&topic, partition)
			p := evidence.Start(o, evidence.PlanMark(planHash), 50)
			if partition == 0 { // the other one's worker did not tell of its gaps
				p.OnGap = func(g evidence.Gap) {
					must(sink.Tell(evidence.GapFile(name, partition), evidence.AppendGap(nil, g)))
				}
			}
			var batches []*buffer.Batch
			for n := range int64(200) {
				offset := 50 + n
				rec := &buffer.Record{Origin: o, Offset: offset, Time: from.Add(time.Duration(r.Int64N(int64(6 * time.Hour)))).Truncate(time.Millisecond), Appended: n%9 == 0,
					Key: fmt.Appendf(nil, "ws-%d", n%5), Value: fmt.Appendf(nil, `{"kind":"alert","n":%d,"noise":"%x"}`, n, r.Uint64()), Shape: buffer.ShapeObject}
				switch {
				case i == 0 && n < 30:
					must(p.Gap(evidence.Gap{From: offset, To: offset + 1, Class: evidence.Retention}))
					if n%6 == 0 { // a worker stored it, and died before its commit
						batches = append(batches, batchOf(rec))
					}
					continue
				case i == 0 && n%7 == 0:
					must(p.Gap(evidence.Gap{From: offset, To: offset + 1, Class: evidence.Control}))
					continue
				case i == 0 && n%11 == 0:
					must(p.Outside(rec))
					continue
				case i == 1 && partition == 1:
					must(p.Filter(rec))
					continue
				case n%13 == 0:
					rec.Key, rec.Value = nil, []byte("not <json> \xff")
					rec.Headers = []buffer.Header{{Key: "trace", Value: nil}, {Key: "trace", Value: []byte{}}}
				}
				must(p.Match(rec))
				if len(batches) == 0 || len(batches[len(batches)-1].Records) == 20 {
					batches = append(batches, &buffer.Batch{})
				}
				batches[len(batches)-1].Add(rec)
			}
			// They are stored in another order than they were read.
			r.Shuffle(len(batches), func(i, j int) { batches[i], batches[j] = batches[j], batches[i] })
			for _, b := range batches {
				outcomes, err := sink.Deliver(t.Context(), b, nil)
				must(err)
				for _, o := range outcomes {
					if o.Verdict != sinks.Ack {
						t.Fatalf("%+v", o)
					}
				}
			}
			p.Counts.Delivered = p.Counts.Matched
			s := p.Seal(o)
			s.Start, s.StartBy, s.EndBy = 50, "timestamp index", "high watermark"
			s.Before, s.After = evidence.Bounds{Start: 20, High: 250}, evidence.Bounds{Start: 80, High: 900}
			topic.Partitions = append(topic.Partitions, s)
		}
		m.Topics = append(m.Topics, topic)
	}
	sink.Close()
	tearLast(t, filepath.Join(c.bag, "data", "edr.events", "1"))
	must(custody.Add(evidence.ActionStop, map[string]any{detailErrors: 3, detailThrottled: 1200}))
	must((&sealing{manifest: m, plan: plan, key: key, custody: []string{c.custody}, bag: c.bag, out: filepath.Join(dir, "case"), log: log}).run(t.Context()))
	c.manifest = m
	return c
}

// tearLast leaves the last file of a folder as a killed worker does: open, and torn.
func tearLast(t testing.TB, folder string) {
	t.Helper()
	files, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(folder, files[len(files)-1].Name())
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	open := name[:strings.LastIndexByte(name, '-')] + ".ndjson.zst.open"
	if err := errors.Join(os.Remove(name), os.WriteFile(open, append(content, content[:30]...), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func batchOf(r *buffer.Record) *buffer.Batch {
	b := &buffer.Batch{}
	b.Add(r)
	return b
}

func weir(t testing.TB, args ...string) (out, errs string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	code = execute(t.Context(), args, &o, &e)
	return o.String(), e.String(), code
}

func TestVerifySaysThatASealedCaseHolds(t *testing.T) {
	c := newTestCase(t)
	if m := c.manifest; m.Trouble != (evidence.Trouble{Errors: 3, Throttled: 1200}) || m.Started.IsZero() || m.Custody[0].Entries != 4 {
		t.Errorf("the custody log says otherwise: %+v %v %v", m.Trouble, m.Started, m.Custody)
	}
	for _, args := range [][]string{
		{"--bag", c.bag, "--key", c.key + ".pub"},
		{"--bag", c.bag},
		{"--bag", c.bag, "--custody", c.custody},
		{"--manifest", filepath.Join(c.dir, "case"), "--key", c.key + ".pub"},
		{"--manifest", filepath.Join(c.bag, "weir", evidence.FileEnvelope), "--key", c.key + ".pub"},
	} {
		out, errs, code := weir(t, append([]string{"verify"}, args...)...)
		if code != exitDone || !strings.Contains(out, "everything holds") {
			t.Fatalf("%q: %d %s%s", args, code, out, errs)
		}
		if inBag := strings.Contains(out, "from the bag itself"); inBag == slices.Contains(args, "--key") {
			t.Errorf("%q: %s", args, out)
		}
	}
	out, _, _ := weir(t, "verify", "--bag", c.bag, "--json")
	var d verdict
	if err := json.Unmarshal([]byte(out), &d); err != nil || !d.Holds || d.Complete || len(d.Partitions) != 4 || d.Partitions[0].Missing[evidence.Retention] != 30 || d.Partitions[0].Rescued != 5 ||
		!d.Partitions[0].GapsRecomputed || d.Partitions[1].GapsRecomputed || d.KeyOf != keyInBag {
		t.Errorf("%s: %v", out, err)
	}
	// What verify did is in the log, and the log still holds.
	var actions []evidence.Action
	if _, err := evidence.ReadCustody(c.custody, "A-1", func(e *evidence.Entry) error { actions = append(actions, e.Action); return nil }); err != nil || actions[len(actions)-1] != evidence.ActionVerify {
		t.Errorf("%v, %v", actions, err)
	}
}

// One bit anywhere in the bag: it is found, and named.
func TestVerifyFindsEveryChangedBit(t *testing.T) {
	c := newTestCase(t)
	r := rand.New(rand.NewPCG(3, 4))
	files := 0
	err := filepath.WalkDir(c.bag, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		files++
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(c.bag, path)
		places := 4
		if testing.Short() {
			places = 2
		}
		for range places {
			i := r.IntN(len(content))
			b := bytes.Clone(content)
			b[i] ^= 1 << r.IntN(8)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				return err
			}
			out, _, code := weir(t, "verify", "--bag", c.bag, "--key", c.key+".pub")
			list := strings.HasPrefix(name, "manifest-") || strings.HasPrefix(name, "tagmanifest-")
			if code != exitFailed || !strings.Contains(out, "FAULT") || !list && !strings.Contains(out, name) {
				t.Errorf("%s, byte %d of %d (%d): %s", name, i, len(content), code, out)
			}
		}
		return os.WriteFile(path, content, 0o600)
	})
	if err != nil || files < 20 {
		t.Errorf("%d files: %v", files, err)
	}
	if out, _, code := weir(t, "verify", "--bag", c.bag, "--key", c.key+".pub"); code != exitDone {
		t.Error(out)
	}
}

// Whoever can change the payload can write its checksums anew, too. The roots
// they cannot.
func TestVerifyFindsAChangeThatTheChecksumsWereMadeToFit(t *testing.T) {
	c := newTestCase(t)
	folder := filepath.Join(c.bag, "data", "win.security", "0")
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	// A whole file is taken out, and everything is listed anew.
	if err := os.Remove(filepath.Join(folder, entries[0].Name())); err != nil {
		t.Fatal(err)
	}
	relist(t, c.bag)
	out, _, code := weir(t, "verify", "--bag", c.bag, "--key", c.key+".pub")
	if code != exitFailed || strings.Contains(out, "SHA-256") || !strings.Contains(out, `topic "win.security", partition 0: it has`) {
		t.Errorf("%d %s", code, out)
	}
	if out, _, code := weir(t, "verify", "--bag", c.bag, "--record", "win.security/0/55"); code != exitFailed {
		t.Errorf("something was proven from it: %s", out)
	}
}

// relist writes the manifests of a bag anew, as an attacker would.
func relist(t *testing.T, dir string) {
	t.Helper()
	sums := map[bool]string{}
	size, files := 0, 0
	list := func(payload bool) {
		var b strings.Builder
		var names []string
		_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, _ error) error {
			name, _ := filepath.Rel(dir, path)
			if !e.IsDir() && strings.HasPrefix(name, "data/") == payload && name != "tagmanifest-sha256.txt" {
				names = append(names, name)
			}
			return nil
		})
		slices.Sort(names)
		for _, name := range names {
			content, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if payload {
				size, files = size+len(content), files+1
			}
			fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(content), name)
		}
		sums[payload] = b.String()
	}
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list(true)
	write("manifest-sha256.txt", sums[true])
	info, err := os.ReadFile(filepath.Join(dir, "bag-info.txt"))
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := strings.Cut(string(info), "Payload-Oxum")
	write("bag-info.txt", fmt.Sprintf("%sPayload-Oxum: %d.%d\n", before, size, files))
	list(false)
	write("tagmanifest-sha256.txt", sums[false])
}

// A bag that somebody else signed is not the examiner's.
func TestVerifyWithTheKeyOfAnother(t *testing.T) {
	c := newTestCase(t)
	other := filepath.Join(c.dir, "other.key")
	if _, _, code := weir(t, "keygen", "--out", other); code != exitDone {
		t.Fatal("no key")
	}
	out, _, code := weir(t, "verify", "--bag", c.bag, "--key", other+".pub")
	if code != exitFailed || !strings.Contains(out, "there is none of the key") {
		t.Errorf("%d %s", code, out)
	}
}

func TestProofOfOneRecord(t *testing.T) {
	c := newTestCase(t)
	public := c.key + ".pub"
	proof, errs, code := weir(t, "verify", "--bag", c.bag, "--key", public, "--record", "win.security/0/63", "--custody", c.custody)
	if code != exitDone {
		t.Fatal(errs)
	}
	path := filepath.Join(t.TempDir(), "proof.json")
	if err := os.WriteFile(path, []byte(proof), 0o600); err != nil {
		t.Fatal(err)
	}
	manifest := filepath.Join(c.dir, "case", evidence.FileEnvelope)
	for _, args := range [][]string{{}, {"--manifest", manifest}, {"--manifest", filepath.Dir(manifest)}} {
		out, errs, code := weir(t, append([]string{"verify", "--proof", path, "--key", public}, args...)...)
		if code != exitDone || !strings.Contains(out, `"not <json> \xff"`) || !strings.Contains(out, "everything holds") {
			t.Errorf("%q: %d %s%s", args, code, out, errs)
		}
	}
	changed := strings.Replace(proof, `"offset": 63`, `"offset": 64`, 1)
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _, code := weir(t, "verify", "--proof", path, "--key", public, "--manifest", manifest); code != exitFailed || !strings.Contains(out, "was changed") {
		t.Errorf("%d %s", code, out)
	}
	for record, want := range map[string]string{
		"edr.events/0/51": "may lie in a gap", "edr.events/7/51": "no topic", "x/0/1": "no topic",
	} {
		if out, errs, code := weir(t, "verify", "--bag", c.bag, "--record", record); code != exitFailed || !strings.Contains(errs, want) {
			t.Errorf("%s: %d %s%s", record, code, out, errs)
		}
	}
}

func TestVerifySaysHowItIsCalled(t *testing.T) {
	for _, args := range []string{"", "--bag b --manifest m", "--manifest m", "--proof p", "--proof p --record t/0/1 --key k", "--bag b --record t/0", "--bag b --record t/x/1", "--bag b --record t/0/-1 ", "--bag b --record t/0/1 --json"} {
		if out, errs, code := weir(t, append([]string{"verify"}, strings.Fields(args)...)...); code != exitUsage {
			t.Errorf("%q: %d %s%s", args, code, out, errs)
		}
	}
	for _, args := range []string{"--bag /nowhere", "--bag " + t.TempDir(), "--manifest /nowhere --key /nowhere"} {
		if out, errs, code := weir(t, append([]string{"verify"}, strings.Fields(args)...)...); code != exitFailed || strings.Contains(out, "holds") {
			t.Errorf("%q: %d %s%s", args, code, out, errs)
		}
	}
}

// A worker that was not told of the bag leaves a hole in it.
func TestBagThatLacksARecordIsNotSealed(t *testing.T) {
	dir := t.TempDir()
	path, folder, out := filepath.Join(dir, "case.key"), filepath.Join(dir, "bag"), filepath.Join(dir, "case")
	plan := []byte("{}\n")
	log := slog.New(slog.DiscardHandler)
	if _, err := evidence.GenerateKey(path); err != nil {
		t.Fatal(err)
	}
	key, err := evidence.LoadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	m := &evidence.Manifest{Case: "A-1", Cluster: "c", Plan: sha256.Sum256(plan), Request: evidence.Request{From: time.UnixMilli(0), To: time.UnixMilli(100)}, Topics: []evidence.Topic{{Name: "t", ID: "x"}}}
	o := m.Origin(&m.Topics[0], 0)
	p := evidence.Start(o, "", 0)
	var all []*buffer.Record
	for i := range int64(3) {
		r := &buffer.Record{Origin: o, Offset: i, Time: time.UnixMilli(i), Value: []byte("v")}
		if err := p.Match(r); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	p.Counts.Delivered = 3
	m.Topics[0].Partitions = []evidence.PartitionSeal{p.Seal(o)}
	fill := func(records ...*buffer.Record) {
		sink, err := bag.Open(bag.Config{Dir: folder, Plan: plan, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		defer sink.Close()
		b := &buffer.Batch{}
		for _, r := range records {
			b.Add(r)
		}
		if _, err := sink.Deliver(t.Context(), b, nil); err != nil {
			t.Fatal(err)
		}
	}
	seal := func() error {
		return (&sealing{manifest: m, plan: plan, key: key, bag: folder, out: out, log: log}).run(t.Context())
	}
	fill(all[0], all[2])
	if err := seal(); err == nil || !strings.Contains(err.Error(), "it has 2 records, the manifest says 3") {
		t.Fatalf("%v", err)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("the case was written all the same")
	}
	if _, _, code := weir(t, "verify", "--bag", folder); code != exitFailed {
		t.Error("a bag was left that looks finished")
	}
	fill(all[1])
	if err := seal(); err != nil {
		t.Fatal(err)
	}
	if out, _, code := weir(t, "verify", "--bag", folder, "--key", path+".pub"); code != exitDone {
		t.Error(out)
	}
}

func TestCaseIsNotWrittenAmongOtherFiles(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "x"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := writeCase(dir, map[string][]byte{"a": nil}); err == nil {
		t.Error("written")
	}
}

// A disk that is full leaves no half of a case behind, which would be in the way
// when it is sealed again.
func TestCaseThatCannotBeWrittenLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "case")
	if err := writeCase(dir, map[string][]byte{"a": nil, "a/b": nil}); err == nil {
		t.Fatal("written")
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := writeCase(dir, map[string][]byte{"a": nil, "b/c": nil}); err != nil {
		t.Error(err)
	}
}
