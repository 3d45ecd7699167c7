package archive

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"weir/buffer"
	"weir/sinks"
)

// A Sink is a sinks.Sink.
var _ sinks.Sink = (*Sink)(nil)

func testConfig(dir string) Config {
	return Config{Dir: dir, Compression: "zstd", RotateBytes: 128 << 20, RotateAfter: time.Hour, Log: slog.New(slog.DiscardHandler)}
}

func mustNew(tb testing.TB, cfg Config) *Sink {
	tb.Helper()
	s, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

func record(offset int64) *buffer.Record {
	return &buffer.Record{
		Origin: &buffer.Origin{Cluster: "c", Topic: "edr.events", TopicID: "Jb3KpkzXQ7qFbOQ1Cq9wMA", Partition: 3},
		Offset: offset, Time: time.UnixMilli(1715937693518), Value: fmt.Appendf(nil, `{"n":%d}`, offset), Shape: buffer.ShapeObject,
	}
}

func batch(offsets ...int64) *buffer.Batch {
	b := &buffer.Batch{}
	for _, o := range offsets {
		b.Add(record(o))
	}
	return b
}

func deliver(t *testing.T, s *Sink, b *buffer.Batch) []sinks.Outcome {
	t.Helper()
	outcomes, err := s.Deliver(t.Context(), b, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range outcomes {
		if o.Verdict != sinks.Ack {
			t.Errorf("offset %d: %+v, want an ack", b.Records[i].Offset, o)
		}
	}
	return outcomes
}

// stored is the offsets in the folder. Anything wrong there fails the test.
func stored(t *testing.T, dir string) []int64 {
	t.Helper()
	var got []int64
	for r, err := range Read(dir) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r.Offset)
	}
	slices.Sort(got)
	return got
}

// files are the names below dir, but for the lock.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != LockFile {
			name, err = filepath.Rel(dir, name)
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	texts := [][]byte{
		nil, {}, []byte("plain"), []byte("<&>\u2028\u2029\ufffd"), []byte("line\nbreak\r\t\"quoted\\\""), {0}, {0x7f, 0x1b}, {0xff, 0xfe},
		[]byte("half \xe6\x97"), []byte("日本語😀"), {0xed, 0xa0, 0x80}, bytes.Repeat([]byte("long \xff"), 20_000), bytes.Repeat([]byte("long\n日"), 20_000),
	}
	random := rand.New(rand.NewPCG(1, 2))
	text := func() []byte { return bytes.Clone(texts[random.IntN(len(texts))]) }
	times := []time.Time{{}, time.UnixMilli(0), time.UnixMilli(-1), time.UnixMilli(1715937693518), time.UnixMilli(math.MaxInt64), time.UnixMilli(math.MinInt64)}
	objects := []string{`{}`, `{"a":1}`, ` {"a":1} `, "{\n\"a\":1}", `{"a":"<\u003c>","b":1.0e+400,"a":2}`, `{"offset":1,"x":",\"offset\":"}`}
	for _, compression := range []string{"zstd", "gzip", "none"} {
		t.Run(compression, func(t *testing.T) {
			cfg := testConfig(t.TempDir())
			cfg.Compression, cfg.RotateBytes = compression, 100_000
			s := mustNew(t, cfg)
			want := map[int64]*buffer.Record{}
			for i := range int64(20) {
				b := &buffer.Batch{}
				for k := range int64(10) {
					r := record(i*10 + k)
					r.Origin.Cluster, r.Origin.Topic, r.Time = "c\u00e9\"", `t."1",\`, times[random.IntN(len(times))]
					r.Key, r.Value, r.Shape, r.Appended = text(), text(), 0, random.IntN(2) == 0
					if k%2 == 0 {
						r.Value, r.Shape = []byte(objects[random.IntN(len(objects))]), buffer.ShapeObject
					}
					for range random.IntN(4) {
						r.Headers = append(r.Headers, buffer.Header{Key: string(text()), Value: text()})
					}
					want[r.Offset] = r
					b.Add(r)
				}
				deliver(t, s, b)
			}
			s.Close()
			n := 0
			for r, err := range Read(cfg.Dir) {
				if err != nil {
					t.Fatal(err)
				}
				if n++; !same(r, want[r.Offset]) {
					t.Errorf("offset %d: got %+v, want %+v", r.Offset, r, want[r.Offset])
				}
			}
			if n != len(want) {
				t.Errorf("%d records, want %d", n, len(want))
			}
		})
	}
}

func TestOrdinaryToolsReadTheFiles(t *testing.T) {
	for compression, tool := range map[string]string{"zstd": "zstd", "gzip": "gzip"} {
		t.Run(tool, func(t *testing.T) {
			if _, err := exec.LookPath(tool); err != nil {
				t.Skip(tool + " is not installed")
			}
			cfg := testConfig(t.TempDir())
			cfg.Compression = compression
			s := mustNew(t, cfg)
			deliver(t, s, batch(1, 2))
			deliver(t, s, batch(3))
			s.Close()
			out, err := exec.Command(tool, "-dc", filepath.Join(cfg.Dir, files(t, cfg.Dir)[0])).Output()
			const head = `{"topic":"edr.events","topic_id":"Jb3KpkzXQ7qFbOQ1Cq9wMA","cluster":"c","partition":3,"offset":`
			const middle = `,"timestamp":1715937693518,"event":{"n":`
			want := head + "1" + middle + "1}}\n" + head + "2" + middle + "2}}\n" + head + "3" + middle + "3}}\n"
			if err != nil || string(out) != want {
				t.Errorf("%v, got\n%s\nwant\n%s", err, out, want)
			}
		})
	}
}

func TestRecordSentAgainIsADuplicate(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.RotateBytes = 1 // each frame is a file
	s := mustNew(t, cfg)
	again := func(want string, offsets ...int64) {
		t.Helper()
		got := ""
		for _, o := range deliver(t, s, batch(offsets...)) {
			got += map[bool]string{false: "n", true: "d"}[o.Note == sinks.Duplicate]
		}
		if got != want {
			t.Errorf("offsets %v: new and duplicate are %s, want %s", offsets, got, want)
		}
	}
	again("nnnnn", 6, 7, 8, 9, 10)
	again("nn", 5, 3) // late, and out of order
	again("dnddnd", 3, 4, 5, 6, 11, 11)
	s.Close()
	s = mustNew(t, cfg)
	again("dddn", 4, 11, 9, 12)
	s.Close()
	if got, want := stored(t, cfg.Dir), []int64{3, 4, 5, 6, 7, 8, 9, 10, 11, 12}; !slices.Equal(got, want) {
		t.Errorf("stored %v, want %v", got, want)
	}
}

// What is remembered of a file with gaps everywhere is bounded, and what was
// forgotten is looked up.
func TestRecordsAreFoundBeyondWhatIsRemembered(t *testing.T) {
	cfg := testConfig(t.TempDir())
	s := mustNew(t, cfg)
	b := &buffer.Batch{}
	for i := range int64(3 * maxSpans) {
		b.Add(record(2 * i))
	}
	deliver(t, s, b)
	deliver(t, s, batch(6*maxSpans+10))
	key := seriesKey{"", filePrefix(b.Records[0].Origin)}
	if n := len(s.series[key].active.stored.spans); n > maxSpans {
		t.Errorf("%d spans are remembered", n)
	}
	for i, o := range deliver(t, s, batch(0, 1, 2, 5, 6*maxSpans-2, 6*maxSpans+10)) {
		if fresh := o.Note != sinks.Duplicate; fresh != (i == 1 || i == 3) {
			t.Errorf("record %d: %+v", i, o)
		}
	}
	s.Close()
	if got := stored(t, cfg.Dir); len(got) != 3*maxSpans+3 {
		t.Errorf("%d records are stored", len(got))
	}
}

func TestTopicThatWasMadeAnewIsAnotherOne(t *testing.T) {
	cfg := testConfig(t.TempDir())
	s := mustNew(t, cfg)
	deliver(t, s, batch(1))
	again := batch(1)
	again.Records[0].Origin.TopicID = "AAAAAAAAAAAAAAAAAAAAAA"
	if o := deliver(t, s, again); o[0].Note == sinks.Duplicate {
		t.Error("its record is taken for the old topic's")
	}
}

func TestFilesAreFinishedBySizeAndAge(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig(dir)
		cfg.Compression, cfg.RotateBytes, cfg.RotateAfter = "none", 400, time.Minute
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		prefix := filePrefix(record(0).Origin)
		want := func(names ...string) {
			t.Helper()
			for i := range names {
				names[i] = prefix + names[i]
			}
			if got := files(t, dir); !slices.Equal(got, names) {
				t.Errorf("got %q, want %q", got, names)
			}
		}
		deliver(t, s, batch(1))
		want("0000000000000000001.ndjson.open")
		deliver(t, s, batch(2, 3))
		want("0000000000000000001-0000000000000000003.ndjson")
		deliver(t, s, batch(4))
		want("0000000000000000001-0000000000000000003.ndjson", "0000000000000000004.ndjson.open")
		time.Sleep(2 * time.Minute) // of the bubble's clock: nothing comes any more
		synctest.Wait()
		want("0000000000000000001-0000000000000000003.ndjson", "0000000000000000004-0000000000000000004.ndjson")
		if len(s.series) != 0 {
			t.Errorf("%d series are remembered without an open file", len(s.series))
		}
		deliver(t, s, batch(5))
		s.Close()
		want("0000000000000000001-0000000000000000003.ndjson", "0000000000000000004-0000000000000000004.ndjson", "0000000000000000005-0000000000000000005.ndjson")
	})
}

func TestUnfinishedFilesAndOpenOnesAreBounded(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.Path = "{time:2006-01-02}"
	s := mustNew(t, cfg)
	b := &buffer.Batch{}
	for i := range int64(maxSeries + 50) { // a producer sets any timestamp
		r := record(i)
		r.Time = time.UnixMilli(i * 86_400_000)
		b.Add(r)
	}
	for at := 0; at < len(b.Records); at += 100 {
		deliver(t, s, &buffer.Batch{Records: b.Records[at:min(at+100, len(b.Records))]})
	}
	s.mu.Lock()
	n := len(s.series)
	s.mu.Unlock()
	if n > maxSeries+1 {
		t.Errorf("%d series are remembered", n)
	}
	s.Close()
	if got := stored(t, cfg.Dir); len(got) != len(b.Records) {
		t.Errorf("%d records are stored, want %d", len(got), len(b.Records))
	}
}

func TestTornTailIsCutOffAndKept(t *testing.T) {
	for _, compression := range []string{"zstd", "gzip", "none"} {
		t.Run(compression, func(t *testing.T) {
			cfg := testConfig(t.TempDir())
			cfg.Compression = compression
			s := mustNew(t, cfg)
			deliver(t, s, batch(1, 2))
			deliver(t, s, batch(3))
			s.Close()
			name := filepath.Join(cfg.Dir, files(t, cfg.Dir)[0])
			whole, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			torn := bytes.TrimSuffix(whole, whole[len(whole)-20:])
			open := strings.Replace(name, "-0000000000000000003.", ".", 1) + openSuffix
			if err := errors.Join(os.WriteFile(open, torn, 0o600), os.Remove(name)); err != nil {
				t.Fatal(err)
			}
			s = mustNew(t, cfg)
			o := deliver(t, s, batch(1, 2, 3))
			if o[0].Note != sinks.Duplicate || o[1].Note != sinks.Duplicate || o[2].Note == sinks.Duplicate {
				t.Errorf("%+v", o)
			}
			s.Close()
			if got := stored(t, cfg.Dir); !slices.Equal(got, []int64{1, 2, 3}) {
				t.Errorf("stored %v", got)
			}
			kept := 0
			for _, f := range files(t, cfg.Dir) {
				if strings.HasSuffix(f, tornSuffix) {
					kept++
				}
			}
			if kept != 1 {
				t.Errorf("files %q", files(t, cfg.Dir))
			}
		})
	}
}

func TestDamagedFileIsNotTakenForAnswer(t *testing.T) {
	cfg := testConfig(t.TempDir())
	s := mustNew(t, cfg)
	deliver(t, s, batch(1, 2))
	s.Close()
	name := filepath.Join(cfg.Dir, files(t, cfg.Dir)[0])
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 0xff
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	s = mustNew(t, cfg)
	if _, err := s.Deliver(t.Context(), batch(2), nil); err == nil || !strings.Contains(err.Error(), filepath.Base(name)) {
		t.Errorf("%v, want an error that names the file", err)
	}
	deliver(t, s, batch(3)) // nobody needs it for that
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if o := deliver(t, s, batch(2)); o[0].Note == sinks.Duplicate {
		t.Error("a record whose file was taken away counts as stored")
	}
}

func TestFullDiskLeavesNothingHalf(t *testing.T) {
	cfg := testConfig("/archive")
	s := mustNew(t, cfg)
	d := newFakeDisk(1)
	p := &fullDisk{disk: d.process()}
	s.open = func() (disk, error) { return p, nil }
	deliver(t, s, batch(1))
	p.full.Store(true)
	_, err := s.Deliver(t.Context(), batch(2, 3), nil)
	var re *sinks.RequestError
	if !errors.As(err, &re) || !errors.Is(err, syscall.ENOSPC) || re.Endpoint != cfg.Dir || re.Misconfigured {
		t.Errorf("%v", err)
	}
	p.full.Store(false)
	deliver(t, s, batch(3, 2))
	s.Close()
	for name, f := range d.files() {
		if strings.HasSuffix(name, tornSuffix) {
			t.Errorf("%s was kept of a failed write that this process knows of", name)
		}
		e, err := walk(f, f.Size(), zst, maxLine, func([]byte) error { return nil }, func() {})
		if err != nil || e.why != nil {
			t.Errorf("%s: %v, %v", name, e.why, err)
		}
	}
}

// fullDisk has room for half a write.
type fullDisk struct {
	disk
	full atomic.Bool
}

func (d *fullDisk) Open(name string) (handle, error) {
	h, err := d.disk.Open(name)
	return &fullHandle{h, d}, err
}

type fullHandle struct {
	handle
	d *fullDisk
}

func (h *fullHandle) WriteAt(b []byte, at int64) (int, error) {
	if !h.d.full.Load() {
		return h.handle.WriteAt(b, at)
	}
	n, _ := h.handle.WriteAt(b[:len(b)/2], at)
	return n, syscall.ENOSPC
}

// hungDisk does not come back from a write.
type hungDisk struct {
	disk
	gate chan struct{}
}

func (d *hungDisk) Create(name string) (handle, error) {
	<-d.gate
	return d.disk.Create(name)
}

func TestDeliverReturnsWhenItsContextEndsThoughTheDiskHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(testConfig("/archive"))
		if err != nil {
			t.Fatal(err)
		}
		d := &hungDisk{newFakeDisk(1).process(), make(chan struct{})}
		s.open = func() (disk, error) { return d, nil }
		for i := range int64(3) { // the first hangs, two wait behind it
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			b := batch(i)
			if _, err := s.Deliver(ctx, b, nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
			b.Records[0].Origin, b.Records[0].Value = nil, nil // ours again
			cancel()
		}
		close(d.gate)
		for i, o := range deliver(t, s, batch(0, 1, 2)) {
			if fresh := o.Note != sinks.Duplicate; fresh != (i > 0) {
				t.Errorf("record %d: %+v; only the first could not be taken back", i, o)
			}
		}
		s.Close()
	})
}

func TestOnePartitionsTroubleIsItsOwn(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.Path = "{partition}"
	if err := os.WriteFile(filepath.Join(cfg.Dir, "3"), nil, 0o600); err != nil { // where its folder would be
		t.Fatal(err)
	}
	s := mustNew(t, cfg)
	b := batch(1, 2)
	b.Records[1].Origin.Partition = 4
	outcomes, err := s.Deliver(t.Context(), b, nil)
	if err != nil || outcomes[0].Verdict != sinks.Retry || outcomes[0].Reason == "" || outcomes[1].Verdict != sinks.Ack {
		t.Errorf("%+v, %v", outcomes, err)
	}
}

func TestFolderBelongsToOne(t *testing.T) {
	cfg := testConfig(filepath.Join(t.TempDir(), "archive"))
	first, second := mustNew(t, cfg), mustNew(t, cfg)
	deliver(t, first, batch(1))
	_, err := second.Deliver(t.Context(), batch(2), nil)
	var re *sinks.RequestError
	if !errors.As(err, &re) || !re.Misconfigured || !errors.Is(err, errLocked) {
		t.Errorf("%v", err)
	}
	if got := second.Check(t.Context()); got[1].State != sinks.Doubtful {
		t.Errorf("check: %+v", got)
	}
	first.Close()
	deliver(t, second, batch(1, 2))
	if got := stored(t, cfg.Dir); !slices.Equal(got, []int64{1, 2}) {
		t.Errorf("stored %v", got)
	}
}

func TestFolderThatIsReplacedIsOpenedAnew(t *testing.T) {
	cfg := testConfig(filepath.Join(t.TempDir(), "archive"))
	s := mustNew(t, cfg)
	deliver(t, s, batch(1))
	if err := os.Rename(cfg.Dir, cfg.Dir+".old"); err != nil {
		t.Fatal(err)
	}
	deliver(t, s, batch(1, 2))
	s.Close()
	if got := stored(t, cfg.Dir); !slices.Equal(got, []int64{1, 2}) {
		t.Errorf("stored %v", got)
	}
}

func TestDeliverAfterCloseIsRefused(t *testing.T) {
	s := mustNew(t, testConfig(t.TempDir()))
	s.Close()
	if _, err := s.Deliver(t.Context(), batch(1), nil); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestRecordWithoutAPlaceIsRejected(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.Path = "{host}"
	s := mustNew(t, cfg)
	b := batch(1, 2)
	b.Records[1].Value = []byte(`{"host":"../../etc"}`)
	outcomes, err := s.Deliver(t.Context(), b, nil)
	if err != nil || outcomes[0].Verdict != sinks.Reject || outcomes[1].Verdict != sinks.Ack {
		t.Errorf("%+v, %v", outcomes, err)
	}
	s.Close()
	if got := files(t, cfg.Dir); len(got) != 1 || !strings.HasPrefix(got[0], "%2e.%2f..%2fetc/") {
		t.Errorf("%q", got)
	}
}

func TestCheckSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]sinks.State{dir: sinks.Good, filepath.Join(dir, "new"): sinks.Good, filepath.Join(dir, "a", "b"): sinks.Bad, file: sinks.Bad} {
		if got := mustNew(t, testConfig(path)).Check(t.Context()); got[0].State != want {
			t.Errorf("%s: %+v", path, got)
		}
	}
	if got := files(t, dir); len(got) != 1 {
		t.Errorf("check wrote %q", got)
	}
}

// A real process that is really killed: the child stores until it is, and tells of
// each acknowledgement.
func TestNothingAcknowledgedIsMissingAfterAKill(t *testing.T) {
	if flag.NArg() == 2 && flag.Arg(0) == "child" {
		cfg := testConfig(flag.Arg(1))
		cfg.RotateBytes = 2000
		s := mustNew(t, cfg)
		for o := int64(0); ; o += 3 {
			if _, err := s.Deliver(t.Context(), batch(o, o+1, o+2), nil); err == nil {
				_, _ = fmt.Fprintln(os.Stdout, "acked", o)
			}
		}
	}
	dir := t.TempDir()
	acked := int64(-1)
	for range 3 {
		child := exec.Command(os.Args[0], "-test.run=^TestNothingAcknowledgedIsMissingAfterAKill$", "child", dir)
		out, err := child.StdoutPipe()
		if err == nil {
			err = child.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		for range 60 {
			var o int64
			if _, err := fmt.Fscanf(out, "acked %d\n", &o); err != nil {
				t.Fatal(err)
			}
			acked = max(acked, o+2)
		}
		_ = child.Process.Kill()
		_, _ = io.Copy(io.Discard, out)
		_ = child.Wait()
	}
	cfg := testConfig(dir)
	s := mustNew(t, cfg)
	deliver(t, s, batch(acked))
	s.Close()
	got := stored(t, dir)
	for o := range acked + 1 {
		if int64(len(got)) <= o || got[o] != o {
			t.Fatalf("offset %d is missing or there twice: %v", o, got)
		}
	}
}
