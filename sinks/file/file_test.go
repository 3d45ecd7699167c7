package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"weir/buffer"
	"weir/sinks"
	"weir/sinks/ndjson"
)

// A Sink is a sinks.Sink.
var _ sinks.Sink = (*Sink)(nil)

var quiet = slog.New(slog.DiscardHandler)

func record(offset int64) *buffer.Record {
	return &buffer.Record{
		Origin: &buffer.Origin{Cluster: "c", Topic: "edr.events", TopicID: "Jb3KpkzXQ7qFbOQ1Cq9wMA", Partition: 3},
		Offset: offset, Time: time.UnixMilli(1715937693518), Value: fmt.Appendf(nil, `{"n":%d}`, offset),
	}
}

func batch(offsets ...int64) *buffer.Batch {
	b := &buffer.Batch{}
	for _, o := range offsets {
		b.Add(record(o))
	}
	return b
}

func open(t *testing.T, path string) *Sink {
	t.Helper()
	s, err := New(path, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func deliver(t *testing.T, s *Sink, b *buffer.Batch) {
	t.Helper()
	outcomes, err := s.Deliver(t.Context(), b, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(outcomes) != len(b.Records) {
		t.Fatalf("%d outcomes for %d records", len(outcomes), len(b.Records))
	}
	for i, o := range outcomes {
		if o.Verdict != sinks.Ack {
			t.Errorf("offset %d: %v, want an ack", b.Records[i].Offset, o)
		}
	}
}

func refused(t *testing.T, s *Sink, b *buffer.Batch, want error) *sinks.RequestError {
	t.Helper()
	outcomes, err := s.Deliver(t.Context(), b, nil)
	var request *sinks.RequestError
	if !errors.As(err, &request) || !errors.Is(err, want) || outcomes != nil {
		t.Fatalf("outcomes %v and error %v, want a RequestError of %v", outcomes, err, want)
	}
	if request.Endpoint != s.path {
		t.Errorf("the error names %q, not the file", request.Endpoint)
	}
	return request
}

// offsets are those of the whole lines at path. Any bad line fails the test.
func offsets(t *testing.T, path string) []int64 {
	t.Helper()
	var got []int64
	for r, err := range Read(path) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r.Offset)
	}
	return got
}

func wantOffsets(t *testing.T, path string, want ...int64) {
	t.Helper()
	if got := offsets(t, path); !slices.Equal(got, want) {
		t.Errorf("offsets %v in the file, want %v", got, want)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// faulty is a file whose writes and syncs can be made to fail, and that counts
// what was asked of it.
type faulty struct {
	handle
	write, sync, truncate func() error // before the real thing; may be nil
	partial               int          // bytes that a failing write leaves
	syncs                 int
	broken, closed        bool
}

func (f *faulty) Write(p []byte) (int, error) {
	if f.write != nil {
		if err := f.write(); err != nil {
			n, _ := f.handle.Write(p[:min(len(p), f.partial)])
			return n, err
		}
	}
	return f.handle.Write(p)
}

func (f *faulty) Sync() error {
	f.syncs++
	if f.broken {
		return nil // as the kernel does: it tells of an error once
	}
	if f.sync != nil {
		if err := f.sync(); err != nil {
			f.broken = true
			return err
		}
	}
	return f.handle.Sync()
}

func (f *faulty) Truncate(size int64) error {
	if f.truncate != nil {
		return f.truncate()
	}
	return f.handle.Truncate(size)
}

func (f *faulty) Close() error {
	f.closed = true
	return f.handle.Close()
}

// fault opens a sink whose first open file is f; those after it are healthy.
func fault(t *testing.T, path string, f *faulty) *Sink {
	t.Helper()
	s := open(t, path)
	f.handle = s.file
	s.file = f
	return s
}

func once(err error) func() error {
	done := false
	return func() error {
		if done {
			return nil
		}
		done = true
		return err
	}
}

func TestDeliverAppendsToWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.dlq")
	s := open(t, path)
	deliver(t, s, batch(1, 2))
	deliver(t, s, batch(3))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	deliver(t, open(t, path), batch(4))
	wantOffsets(t, path, 1, 2, 3, 4)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("mode %s, want only the owner to read it", info.Mode())
	}
}

func TestDeliverOfManyAtATimeKeepsEveryLineWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.dlq")
	s := open(t, path)
	var all sync.WaitGroup
	var want []int64
	for i := range int64(40) {
		b := &buffer.Batch{}
		for j := range int64(5) {
			b.Add(record(i*5 + j))
			b.Records[j].Value = bytes.Repeat([]byte("<"), int(i*j)*20)
			want = append(want, i*5+j)
		}
		all.Go(func() { deliver(t, s, b) })
	}
	all.Wait()
	got := offsets(t, path)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%d records are in the file, want each of %d once", len(got), len(want))
	}
}

func TestDeliveriesThatWaitShareOneSync(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.dlq")
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		f := &faulty{sync: func() error { <-gate; return nil }}
		s := fault(t, path, f)
		var all sync.WaitGroup
		for i := range int64(10) {
			all.Go(func() { deliver(t, s, batch(i)) })
		}
		synctest.Wait() // the first syncs, nine wait
		gate <- struct{}{}
		close(gate)
		all.Wait()
		if f.syncs != 2 {
			t.Errorf("%d syncs for ten deliveries, want 2", f.syncs)
		}
		if got := offsets(t, path); len(got) != 10 {
			t.Errorf("%v are in the file, want all ten", got)
		}
	})
}

func TestNothingIsAcknowledgedBeforeTheSync(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.dlq")
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		s := fault(t, path, &faulty{sync: func() error { <-gate; return nil }})
		answered := false
		var all sync.WaitGroup
		all.Go(func() { deliver(t, s, batch(1)); answered = true })
		synctest.Wait()
		if answered {
			t.Error("an answer while the sync is under way")
		}
		close(gate)
		all.Wait()
	})
}

// A second sync on the same file would say that all is well.
func TestFailedSyncIsNotForgotten(t *testing.T) {
	for _, truncate := range []error{nil, syscall.EIO} {
		t.Run(fmt.Sprintf("truncate %v", truncate), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "weir.dlq")
			f := &faulty{}
			s := fault(t, path, f)
			deliver(t, s, batch(1))
			f.sync = func() error { return syscall.EIO }
			if truncate != nil {
				f.truncate = func() error { return truncate }
			}
			_ = refused(t, s, batch(2, 3), syscall.EIO)
			if !f.closed || f.syncs != 2 {
				t.Errorf("closed %v after %d syncs, want the file given up after the failed one", f.closed, f.syncs)
			}
			deliver(t, s, batch(2, 3))
			if truncate == nil {
				wantOffsets(t, path, 1, 2, 3)
			} else { // what could not be cut off was never acknowledged, and comes twice
				wantOffsets(t, path, 1, 2, 3, 2, 3)
			}
		})
	}
}

func TestFullDiskLeavesNoHalfLine(t *testing.T) {
	for _, truncate := range []error{nil, syscall.EIO} {
		t.Run(fmt.Sprintf("truncate %v", truncate), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "weir.dlq")
			f := &faulty{partial: 30}
			s := fault(t, path, f)
			deliver(t, s, batch(1))
			before := content(t, path)
			f.write = func() error { return syscall.ENOSPC }
			if truncate != nil {
				f.truncate = func() error { return truncate }
			}
			_ = refused(t, s, batch(2), syscall.ENOSPC)
			if after := content(t, path); truncate == nil && after != before {
				t.Errorf("the disk's space was not given back: %d bytes, %d before", len(after), len(before))
			}
			deliver(t, s, batch(2))
			wantOffsets(t, path, 1, 2)
		})
	}
}

func TestFailedWriteSettlesNobodyOfItsGroup(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.dlq")
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		f := &faulty{sync: func() error { <-gate; return nil }}
		s := fault(t, path, f)
		var all sync.WaitGroup
		all.Go(func() { deliver(t, s, batch(0)) })
		synctest.Wait()
		f.write = once(syscall.ENOSPC)
		for i := range int64(3) {
			all.Go(func() { _ = refused(t, s, batch(i+1), syscall.ENOSPC) })
		}
		synctest.Wait()
		close(gate)
		all.Wait()
		wantOffsets(t, path, 0)
	})
}

func TestDeliverReturnsWhenItsContextEndsThoughTheDiskHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.dlq")
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		s := fault(t, path, &faulty{sync: func() error { <-gate; return nil }})
		for i := range int64(3) { // the first hangs in its sync, two wait behind it
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			outcomes, err := s.Deliver(ctx, batch(i), nil)
			if outcomes != nil || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("outcomes %v, error %v, want the context's", outcomes, err)
			}
		}
		if len(s.waiting) != 0 {
			t.Errorf("%d writes wait that nobody waits for", len(s.waiting))
		}
		close(gate)
		deliver(t, s, batch(9))
		wantOffsets(t, path, 0, 9)
	})
}

func TestDeliverWritesNothingWhenItsContextHasEnded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.dlq")
	s := open(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 { // a write that is withdrawn in time would hide most of them
		if _, err := s.Deliver(ctx, batch(1), nil); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantOffsets(t, path)
}

func TestDeliverAfterCloseIsRefused(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "weir.dlq"))
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_ = refused(t, s, batch(1), fs.ErrClosed)
}

func TestFileThatWasMovedAwayIsMadeAnew(t *testing.T) {
	for name, move := range map[string]func(path string) error{
		"renamed": func(path string) error { return os.Rename(path, path+".1") },
		"deleted": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "weir.dlq")
			s := open(t, path)
			deliver(t, s, batch(1))
			if err := move(path); err != nil {
				t.Fatal(err)
			}
			deliver(t, s, batch(2))
			wantOffsets(t, path, 2)
		})
	}
}

func TestFileThatWasChangedUnderneathIsCheckedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.dlq")
	s := open(t, path)
	deliver(t, s, batch(1, 2))
	// An editor that saves in place, and without the last line break.
	whole := content(t, path)
	if err := os.WriteFile(path, []byte(strings.TrimSuffix(whole, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	deliver(t, s, batch(3))
	wantOffsets(t, path, 1, 3)
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	deliver(t, s, batch(4))
	wantOffsets(t, path, 4)
}

func TestFolderThatIsGoneIsASettingToMend(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dlq")
	path := filepath.Join(dir, "weir.dlq")
	if _, err := New(path, quiet); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("New in a folder that is not there: %v", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := refused(t, s, batch(1), fs.ErrNotExist); !err.Misconfigured {
		t.Error("the error does not say that a setting is wrong")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	deliver(t, s, batch(1))
	wantOffsets(t, path, 1)
}

func TestRecordTooLongToBeReadBackIsRejectedAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.dlq")
	s := open(t, path)
	s.maxLine = 1000
	b := batch(1, 2, 3)
	b.Records[1].Value = make([]byte, 200) // \u0000 each
	outcomes, err := s.Deliver(t.Context(), b, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []sinks.Verdict{sinks.Ack, sinks.Reject, sinks.Ack} {
		if outcomes[i].Verdict != want {
			t.Errorf("record %d: %v, want %v", i, outcomes[i], want)
		}
	}
	wantOffsets(t, path, 1, 3)
}

func TestRecordWithTooManyHeadersToBeReadBackIsRejectedAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.dlq")
	b := batch(1, 2, 3)
	b.Records[1].Headers = make([]buffer.Header, ndjson.MaxHeaders+1)
	outcomes, err := open(t, path).Deliver(t.Context(), b, nil)
	if err != nil || outcomes[0].Verdict != sinks.Ack || outcomes[1].Verdict != sinks.Reject || outcomes[2].Verdict != sinks.Ack {
		t.Fatalf("%+v %v", outcomes, err)
	}
	wantOffsets(t, path, 1, 3)
}
