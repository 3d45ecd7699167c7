// Package file is the sink that appends records to a file on the local disk:
// the dead-letter file.
//
// The file is NDJSON, one line a record, and loses nothing of it (here broken
// over several lines for reading):
//
//	{"topic":"edr.events","topic_id":"Jb3KpkzXQ7qFbOQ1Cq9wMA","cluster":"MkU3OEVBNTcwNTJENDM2Qg",
//	 "partition":3,"offset":1741,"timestamp":1715937693518,
//	 "key":"ws-0173","value":"{\"event\":1}",
//	 "headers":[{"key":"trace","value_base64":"/wA="},{"key":"weir.reason","value":"mapper_parsing_exception"}]}
//
// Of its members:
//
//   - partition and offset are numbers; timestamp is in milliseconds since 1970,
//     as Kafka holds it, and missing when the record has none.
//   - key, value, and a header's key and value are text. What is not valid UTF-8
//     stands in base64 under the same name with _base64 behind it.
//   - A null is a missing member: a line with neither value nor value_base64 is a
//     tombstone. An empty value is "".
//   - Headers keep their order, and a name may come twice. Why a record is here
//     is told by its weir.* headers.
//
// # What an Ack means
//
// The line was written and fsynced, and so was the folder that names the file.
// Nothing else is an Ack: after any error the lines of that attempt are cut off
// again as far as possible, and are written anew by the next.
//
// When weir dies, or the caller stops waiting, between the writing and the
// settling of a record, the record is written once more: this sink is GradeB. A
// reader gets one of each by (topic id, partition, offset), or by (topic,
// partition, offset) where the topic id is empty; the copies differ at most in
// the weir.* headers.
//
// # Whose file it is
//
// The file is made with mode 0600, in a folder that has to be there. A symbolic
// link, a folder, a device or a pipe under its name is refused: weir cuts off
// incomplete lines, and must not be led to do that to another file. For the same
// reason a file that does not begin as a dead-letter file is refused. The file
// is locked (flock) while it is open, so that a second process fails instead of
// mixing its lines in.
//
// It may be moved away or deleted while weir runs (to redrive it, to archive it):
// the next record makes a new one.
package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"syscall"

	"weir/buffer"
	"weir/sinks"
	"weir/sinks/ndjson"
)

// Grade is what a Sink promises: a durable acknowledgement, duplicates possible.
const Grade = sinks.GradeB

// Sink appends records to one file. It is safe for concurrent use: deliveries
// that wait at the same time share one fsync.
type Sink struct {
	path    string
	log     *slog.Logger
	open    func(path string, log *slog.Logger) (f handle, size int64, err error)
	maxLine int

	mu      sync.Mutex // held for moments only, never while the disk works
	waiting []*write
	writing bool // a goroutine commits, and is the only one to use file
	closed  bool
	commits sync.WaitGroup

	file handle // nil after an error
	size int64  // of file, as we left it
}

// handle is the part of *os.File that a commit needs.
type handle interface {
	io.WriteCloser
	Stat() (fs.FileInfo, error)
	Sync() error
	Truncate(size int64) error
}

// write is what one Deliver wants in the file.
type write struct {
	lines []byte
	done  chan error // has room for the one answer
}

// New opens the file at path, or makes it, and cuts off an incomplete last line,
// which a process that was killed may have left: that record was never
// acknowledged.
//
// Errors: those of the file system; that another process has the file locked;
// that what is there is not a dead-letter file.
func New(path string, log *slog.Logger) (*Sink, error) {
	s := &Sink{path: path, log: log, open: openFile, maxLine: maxLine}
	var err error
	if s.file, s.size, err = s.open(path, log); err != nil {
		return nil, fmt.Errorf("dead-letter file %q: %w", path, err)
	}
	return s, nil
}

// Deliver appends one line a record and returns when they are durable. Every
// outcome is an Ack, but a Reject for a record whose line would be longer than
// Read takes. The error is a *sinks.RequestError, after which the file is opened
// anew by the next attempt.
func (s *Sink) Deliver(ctx context.Context, b *buffer.Batch, _ func(sinks.Note)) ([]sinks.Outcome, error) {
	outcomes := make([]sinks.Outcome, len(b.Records))
	w := &write{done: make(chan error, 1)}
	for i, r := range b.Records {
		before := len(w.lines)
		lines, err := appendLine(w.lines, r)
		if err != nil {
			return nil, s.requestError(fmt.Errorf("topic %q partition %d offset %d: %w", r.Topic, r.Partition, r.Offset, err))
		}
		outcomes[i].Verdict = sinks.Ack
		if n := len(lines) - before; n > s.maxLine || len(r.Headers) > ndjson.MaxHeaders {
			outcomes[i] = sinks.Outcome{Verdict: sinks.Reject,
				Reason: fmt.Sprintf("its line of %d bytes, with %d headers, is longer than the %d, with %d, that a dead-letter file may hold", n, len(r.Headers), s.maxLine, ndjson.MaxHeaders)}
			lines = lines[:before]
		}
		w.lines = lines
	}
	if err := s.enqueue(ctx, w); err != nil {
		return nil, s.requestError(err)
	}
	select {
	case err := <-w.done:
		if err != nil {
			return nil, s.requestError(err)
		}
		return outcomes, nil
	case <-ctx.Done():
		// The disk may hang for long. What is being written cannot be taken back
		// and may be there twice in the end; what only waits is withdrawn, or
		// attempts would pile up behind a disk that hangs.
		s.mu.Lock()
		s.waiting = slices.DeleteFunc(s.waiting, func(other *write) bool { return other == w })
		s.mu.Unlock()
		return nil, s.requestError(context.Cause(ctx))
	}
}

// Close waits for what is being written, unlocks the file and closes it. A
// Deliver after it fails. The error tells of nothing that was acknowledged.
func (s *Sink) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.commits.Wait()
	s.mu.Lock()
	f := s.file
	s.file = nil
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	return f.Close()
}

// enqueue hands w to the goroutine that commits, and starts one if there is none.
func (s *Sink) enqueue(ctx context.Context, w *write) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fs.ErrClosed
	}
	s.waiting = append(s.waiting, w)
	if !s.writing {
		s.writing = true
		s.commits.Go(s.commitAll)
	}
	return nil
}

// commitAll commits until nothing waits. What comes in during one commit goes
// into the next together.
func (s *Sink) commitAll() {
	for {
		s.mu.Lock()
		group := s.waiting
		s.waiting = nil
		s.writing = len(group) > 0
		s.mu.Unlock()
		if len(group) == 0 {
			return
		}
		err := s.commit(group)
		for _, w := range group {
			w.done <- err
		}
	}
}

// commit makes the lines of group durable, all or none.
//
// A failed fsync is not tried again: the kernel marks the pages it could not
// write as clean and reports that once, so that the next fsync would succeed
// with the data lost. After any error the file is closed instead, and the lines,
// which nobody was told to be there, are written anew to a file that was opened,
// locked and checked anew.
func (s *Sink) commit(group []*write) error {
	if err := s.ready(); err != nil {
		return err
	}
	size, err := s.append(group)
	if err != nil {
		// Best effort: it gives a full disk its space back, and spares the reader
		// copies. An incomplete line that it leaves is cut off on opening.
		_ = s.file.Truncate(s.size)
		_ = s.file.Close()
		s.file = nil
		return err
	}
	s.size = size
	return nil
}

// append writes and syncs the lines of group, and returns the file's size then.
func (s *Sink) append(group []*write) (int64, error) {
	size := s.size
	for _, w := range group {
		n, err := s.file.Write(w.lines)
		if err != nil {
			return 0, err
		}
		size += int64(n)
	}
	return size, s.file.Sync()
}

// ready sees to it that file is open, still the one at path, and as we left it.
// Lines in a file that was deleted would be lost, and a line behind half a line
// of somebody else's would not be one.
func (s *Sink) ready() error {
	if s.file != nil {
		here, err := s.file.Stat()
		if err == nil {
			var there fs.FileInfo
			if there, err = os.Lstat(s.path); err == nil && os.SameFile(here, there) && here.Size() == s.size {
				return nil
			}
		}
		s.log.Info("dead-letter file was moved or changed by another; opening it anew", "path", s.path)
		_ = s.file.Close()
		s.file = nil
	}
	f, size, err := s.open(s.path, s.log)
	if err != nil {
		return err
	}
	s.file, s.size = f, size
	return nil
}

func (s *Sink) requestError(err error) error {
	return &sinks.RequestError{
		Endpoint: s.path,
		Err:      err,
		Misconfigured: errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) ||
			errors.Is(err, syscall.EROFS) || errors.Is(err, errNotOurs),
	}
}
