package bag

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"weir/buffer"
	"weir/sinks"
	"weir/sinks/archive"
	"weir/sinks/sinktest"
)

var _ sinks.Sink = (*Sink)(nil)

var somePlan = []byte(`{"case":"A-1"}` + "\n")

func mustOpen(t testing.TB, dir string) *Sink {
	t.Helper()
	s, err := Open(Config{Dir: dir, Plan: somePlan, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func someOrigin(topic string, partition int32) *buffer.Origin {
	return &buffer.Origin{Cluster: "c", Topic: topic, TopicID: "Jb3KpkzXQ7qFbOQ1Cq9wMA", Partition: partition}
}

func batchOf(o *buffer.Origin, offsets ...int64) *buffer.Batch {
	b := &buffer.Batch{}
	for _, at := range offsets {
		b.Add(&buffer.Record{Origin: o, Offset: at, Time: time.UnixMilli(1715937693518), Value: fmt.Appendf(nil, "value \xff %d", at)})
	}
	return b
}

func deliver(t testing.TB, s *Sink, b *buffer.Batch) {
	t.Helper()
	outcomes, err := s.Deliver(t.Context(), b, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range outcomes {
		if o.Verdict != sinks.Ack {
			t.Fatalf("%+v", o)
		}
	}
}

var someFields = []Field{{"External-Identifier", "A-1"}, {"Contact-Name", "Jane\nBagging-Date: 1970-01-01"}}

func finish(t testing.TB, dir string) {
	t.Helper()
	tags := map[string][]byte{"manifest.json": []byte("{}\n"), "checkpoints/t/0/records.txt": []byte("o\n")}
	if err := Finish(t.Context(), dir, somePlan, someFields, tags, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
}

// someBag is a finished one.
func someBag(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "bag")
	s := mustOpen(t, dir)
	deliver(t, s, batchOf(someOrigin("t", 0), 1, 2, 3))
	deliver(t, s, batchOf(someOrigin("t", 1), 7))
	deliver(t, s, batchOf(someOrigin("t.2", 0), 5, 6))
	s.Close()
	finish(t, dir)
	return dir
}

// all is more than there is.
var all = archive.Bounds{Records: 100, Content: 10_000}

func check(t testing.TB, dir string) []Problem {
	t.Helper()
	b, err := OpenBag(dir)
	if err != nil {
		return []Problem{{dir, err.Error()}}
	}
	defer b.Close()
	found, err := b.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return append(found, b.CheckInfo(someFields)...)
}

func TestConformance(t *testing.T) {
	sinktest.Conform(t, sinktest.Subject{Once: true, Open: func(t *testing.T) sinktest.Place {
		dir := filepath.Join(t.TempDir(), "bag")
		return sinktest.Place{Sink: mustOpen(t, dir), Stored: func() map[int]int {
			var texts [][]byte
			for r, err := range archive.Read(filepath.Join(dir, dataFolder)) {
				if err == nil {
					texts = append(texts, r.Value)
				}
			}
			return sinktest.Numbers(texts...)
		}}
	}})
}

func TestFinishedBagHolds(t *testing.T) {
	dir := someBag(t)
	if found := check(t, dir); found != nil {
		t.Fatal(found)
	}
	b, err := OpenBag(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, err := range b.Records(t.Context(), someOrigin("t", 0), all) {
		if err == nil {
			t.Fatal("it was not checked")
		}
	}
	if found, err := b.CheckRecords(t.Context(), someOrigin("t", 0)); err != nil || found != nil {
		t.Fatal(found, err)
	}
	var got []int64
	for r, err := range b.Records(t.Context(), someOrigin("t", 0), all) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r.Offset)
	}
	if !slices.Equal(got, []int64{1, 2, 3}) {
		t.Errorf("%d", got)
	}
	if found, err := b.CheckRecords(t.Context(), someOrigin("t", 9)); err != nil || found != nil {
		t.Fatal(found, err)
	}
	for r, err := range b.Records(t.Context(), someOrigin("t", 9), all) {
		t.Errorf("a partition that is not there has records: %v, %v", r, err)
	}
	names, err := b.Tags()
	if err != nil || !slices.Equal(names, []string{"checkpoints/t/0/records.txt", "manifest.json", "plan.json"}) {
		t.Errorf("%q, %v", names, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, infoFile))
	if err != nil || !strings.Contains(string(text), "Contact-Name: Jane Bagging-Date: 1970-01-01\n") || !strings.Contains(string(text), ".3\n") {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := b.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p := b.CheckPlaces([]*buffer.Origin{someOrigin("t", 0), someOrigin("t", 1), someOrigin("t.2", 0)}); p != nil {
		t.Error(p)
	}
	if p := b.CheckPlaces([]*buffer.Origin{someOrigin("t", 0), someOrigin("t.2", 0)}); len(p) != 1 || !strings.Contains(p[0].File, "data/t/1/") {
		t.Error(p)
	}
}

// One bit of any file, at any place of the short ones and at many of the others.
func TestEveryChangedBitIsFoundAndNamed(t *testing.T) {
	dir := someBag(t)
	r := rand.New(rand.NewPCG(1, 2))
	files := 0
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		files++
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		for i := 0; i < len(content); i += 1 + r.IntN(1+len(content)/60) {
			b := bytes.Clone(content)
			b[i] ^= 1 << r.IntN(8)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				return err
			}
			found := check(t, dir)
			// Of a changed list it is said that it was changed, or of a file in it.
			if !slices.ContainsFunc(found, func(p Problem) bool { return p.File == name }) && name != payloadList && name != tagList || found == nil {
				t.Errorf("%s, byte %d of %d: found %v", name, i, len(content), found)
			}
		}
		return os.WriteFile(path, content, 0o600)
	})
	if err != nil || files != 10 {
		t.Errorf("%d files: %v", files, err)
	}
	if found := check(t, dir); found != nil {
		t.Error(found)
	}
}

func TestFilesThatCameOrWentAreFound(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"added to the payload": func(dir string) error { return os.WriteFile(filepath.Join(dir, "data", "x"), nil, 0o600) },
		"added to the tags":    func(dir string) error { return os.WriteFile(filepath.Join(dir, "weir", "x"), nil, 0o600) },
		"added at the top":     func(dir string) error { return os.WriteFile(filepath.Join(dir, "fetch.txt"), nil, 0o600) },
		"a link":               func(dir string) error { return os.Symlink("/etc/passwd", filepath.Join(dir, "weir", "x")) },
		"a pipe":               func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "data", "x"), 0o600) },
		"payload gone":         func(dir string) error { return os.RemoveAll(filepath.Join(dir, "data", "t", "1")) },
		"tag gone":             func(dir string) error { return os.Remove(filepath.Join(dir, "weir", "manifest.json")) },
		"list gone":            func(dir string) error { return os.Remove(filepath.Join(dir, payloadList)) },
		"tag list gone":        func(dir string) error { return os.Remove(filepath.Join(dir, tagList)) },
		"info gone":            func(dir string) error { return os.Remove(filepath.Join(dir, infoFile)) },
		"no bag":               func(dir string) error { return os.Remove(filepath.Join(dir, declaration)) },
		"moved": func(dir string) error {
			return os.Rename(filepath.Join(dir, "data", "t", "1"), filepath.Join(dir, "data", "t", "2"))
		},
	} {
		dir := someBag(t)
		if err := change(dir); err != nil {
			t.Fatal(err)
		}
		if found := check(t, dir); found == nil {
			t.Errorf("%s: the bag holds", name)
		}
	}
}

func TestFoldersThatAreNotOurBag(t *testing.T) {
	open := func(dir string) error {
		s, err := Open(Config{Dir: dir, Plan: somePlan, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			s.Close()
		}
		return err
	}
	for name, prepare := range map[string]func(dir string) error{
		"a file in it":  func(dir string) error { return os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600) },
		"a data folder": func(dir string) error { return os.Mkdir(filepath.Join(dir, "data"), 0o700) },
		"tags of others": func(dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, "weir"), 0o700), os.WriteFile(filepath.Join(dir, "weir", "x"), nil, 0o600))
		},
		"another plan": func(dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, "weir"), 0o700), os.WriteFile(filepath.Join(dir, PlanFile), []byte("{}"), 0o600))
		},
		"a longer plan": func(dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, "weir"), 0o700), os.WriteFile(filepath.Join(dir, PlanFile), append(somePlan, ' '), 0o600))
		},
		"data is a link": func(dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, "weir"), 0o700), os.WriteFile(filepath.Join(dir, PlanFile), somePlan, 0o600), os.Symlink("/tmp", filepath.Join(dir, "data")))
		},
	} {
		dir := t.TempDir()
		if err := prepare(dir); err != nil {
			t.Fatal(err)
		}
		before, _ := os.ReadDir(dir)
		if err := open(dir); err == nil {
			t.Errorf("%s: taken for our bag", name)
		}
		if after, _ := os.ReadDir(dir); len(after) != len(before) {
			t.Errorf("%s: something was written", name)
		}
	}
	if err := open(filepath.Join(t.TempDir(), "a", "b")); err == nil {
		t.Error("two folders are made")
	}
	finished := someBag(t)
	if err := open(finished); err == nil || !strings.Contains(err.Error(), "finished") {
		t.Errorf("a finished bag: %v", err)
	}
	if err := Finish(t.Context(), finished, somePlan, nil, nil, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a finished bag is finished again")
	}
	if found := check(t, finished); found != nil {
		t.Error(found)
	}
}

// A run that was interrupted goes on, wherever it was.
func TestBagIsGoneOnWith(t *testing.T) {
	dir := t.TempDir() // empty, and there
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "weir"), 0o700), os.WriteFile(filepath.Join(dir, PlanFile+partSuffix), somePlan[:4], 0o600)); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, dir)
	deliver(t, s, batchOf(someOrigin("t", 0), 1, 2))
	// The lock ends with the process, and another worker goes on where it was.
	s.Close()
	s = mustOpen(t, dir)
	deliver(t, s, batchOf(someOrigin("t", 0), 2, 3))
	if err := Finish(t.Context(), dir, somePlan, nil, nil, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("finished while it is being filled")
	}
	s.Close()
	if err := Finish(t.Context(), dir, []byte("{}"), nil, nil, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("finished as another plan's")
	}
	// Finishing was interrupted before bagit.txt, with other tags.
	if err := errors.Join(os.WriteFile(filepath.Join(dir, payloadList), []byte("x"), 0o600), os.WriteFile(filepath.Join(dir, "weir", "old.txt"), nil, 0o600),
		os.WriteFile(filepath.Join(dir, infoFile+partSuffix), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, dir).Close()
	finish(t, dir)
	if found := check(t, dir); found != nil {
		t.Error(found)
	}
	n := 0
	for r, err := range archive.Read(filepath.Join(dir, dataFolder)) {
		if n++; err != nil || r.Offset != int64(n) {
			t.Errorf("%v, %v", r, err)
		}
	}
	if n != 3 {
		t.Errorf("%d records", n)
	}
}

// Lines that were told are there, whoever was killed in between, and the last part
// of one that was not is not.
func TestLinesThatAreToldAreKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bag")
	const name = "gaps/t/0.txt"
	file := filepath.Join(dir, "weir", name)
	tell := func(lines string) {
		t.Helper()
		s := mustOpen(t, dir)
		defer s.Close()
		for line := range strings.Lines(lines) {
			if err := s.Tell(name, []byte(line)); err != nil {
				t.Fatal(err)
			}
		}
	}
	told := func(want string) {
		t.Helper()
		if got, err := Told(dir, name); err != nil || string(got) != want {
			t.Errorf("told %q, want %q: %v", got, want, err)
		}
	}
	mustOpen(t, dir).Close()
	told("")
	tell("1\n2\n")
	for _, torn := range []string{"3", strings.Repeat("x", 200_000)} {
		whole, err := Told(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(whole, torn...), 0o600); err != nil {
			t.Fatal(err)
		}
		told(string(whole))
		tell("4\n")
		told(string(whole) + "4\n")
	}
	s := mustOpen(t, dir)
	for _, bad := range []struct{ name, lines string }{{"../x", "1\n"}, {"plan.json", "1\n"}, {name, "1"}, {name, ""}} {
		if s.Tell(bad.name, []byte(bad.lines)) == nil {
			t.Errorf("%q was told %q", bad.name, bad.lines)
		}
	}
	if err := s.Tell(name, []byte("5\n")); err != nil {
		t.Fatal(err)
	}
	second := mustOpen(t, dir)
	if err := second.Tell(name, []byte("6\n")); err == nil {
		t.Error("two write to one bag")
	}
	s.Close()
	told("1\n2\n4\n4\n5\n")
	finish(t, dir) // which is not given it
	told("")
	if found := check(t, dir); found != nil {
		t.Error(found)
	}
}

// A bag that turns out not to hold what it should is filled further.
func TestBagIsReopened(t *testing.T) {
	dir := someBag(t)
	if err := Reopen(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenBag(dir); err == nil {
		t.Error("it is still a bag")
	}
	s := mustOpen(t, dir)
	deliver(t, s, batchOf(someOrigin("t", 0), 3, 4))
	s.Close()
	finish(t, dir)
	if found := check(t, dir); found != nil {
		t.Error(found)
	}
	if Reopen(t.TempDir()) == nil {
		t.Error("what is no bag was reopened")
	}
}

// A worker that was killed leaves a file open; what was acknowledged is in the bag.
func TestFilesThatAKilledWorkerLeftAreFinished(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bag")
	s := mustOpen(t, dir)
	deliver(t, s, batchOf(someOrigin("t", 0), 1, 2))
	s.Close()
	folder := filepath.Join(dir, "data", "t", "0")
	files, err := os.ReadDir(folder)
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	name := files[0].Name()
	// As it was before it was finished, and torn.
	at := strings.LastIndexByte(name, '-')
	open := name[:at] + ".ndjson.zst.open"
	content, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(filepath.Join(folder, name)), os.WriteFile(filepath.Join(folder, open), append(content, content[:20]...), 0o600)); err != nil {
		t.Fatal(err)
	}
	finish(t, dir)
	if found := check(t, dir); found != nil {
		t.Error(found)
	}
	b, err := OpenBag(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range b.Records(t.Context(), someOrigin("t", 0), all) {
		if n++; err != nil {
			t.Error(err)
		}
	}
	if n != 2 {
		t.Errorf("%d records", n)
	}
	if p := b.CheckPlaces([]*buffer.Origin{someOrigin("t", 0)}); p != nil {
		t.Error(p)
	}
}

// Names in a manifest lead nowhere outside of the bag, and each has one form.
func FuzzParseList(f *testing.F) {
	f.Add(list([]entry{{name: "data/a"}, {name: "data/b%\r\n"}}))
	f.Add([]byte(strings.Repeat("0", 64) + "  ../x\n"))
	f.Add([]byte(strings.Repeat("0", 64) + "  data/%2e%2E/x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		entries, err := parseList(text)
		for _, e := range entries {
			if !filepath.IsLocal(e.name) {
				t.Fatalf("%q leads out of the bag", e.name)
			}
		}
		if err == nil && !bytes.Equal(list(entries), text) {
			t.Fatalf("%q has another form", text)
		}
	})
}
