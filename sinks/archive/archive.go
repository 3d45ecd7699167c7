// Package archive is the sink that keeps records in files below a folder.
//
// A file belongs to one partition, is NDJSON, one line a record, and loses nothing
// of it (here broken over several lines for reading):
//
//	{"topic":"edr.events","topic_id":"Jb3KpkzXQ7qFbOQ1Cq9wMA","cluster":"MkU3OEVBNTcwNTJENDM2Qg",
//	 "partition":3,"offset":1741,"timestamp":1715937693518,"key":"ws-0173",
//	 "headers":[{"key":"trace","value_base64":"/wA="}],"event":{"kind":"alert"}}
//
// Of its members:
//
//   - The first five are always there, in this order. timestamp is in milliseconds
//     since 1970, as Kafka holds it, and missing when the record has none. Behind it
//     stands "timestamp_type":"LogAppendTime" where the broker set it, not the producer.
//   - event is the value, byte for byte, when it is a JSON object on one line
//     without white space around it. Any other value is text in value, or, where it
//     is not valid UTF-8, in base64 in value_base64. A line with none of the three is
//     a tombstone.
//   - key, and a header's key and value, are text, or in base64 under the same name
//     with _base64 behind it. A null is a missing member; an empty text is "".
//   - Headers keep their order, and a name may come twice.
//
// # What an Ack means
//
// The record is in a file, once, and file and folder were fsynced. A record that
// comes again is looked up and not written again: this is GradeA. What makes that
// possible:
//
//   - The folder is locked (flock): one process writes to it.
//   - A record's place (folder, partition) follows from the record alone, and a
//     file's name says between which offsets it holds records. Whether a record is
//     stored is known from memory for the file that is being written to, and found
//     out by reading for finished ones, which do not change any more.
//   - A file is appended to in whole frames, with an fsync behind each. What a
//     failed attempt left is cut off before the next. What a killed process left is
//     mended before anything else is done with that partition: see mend.
//
// The grade holds within the folder. After a rebalance another weir may be sent what
// this one has stored and not yet committed, and if it has another folder, the
// record is in both. It holds while Path stays as it is, too: under another one
// records have other places.
package archive

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"weir/buffer"
	"weir/sinks"
)

// Config says where and how to write. New checks it.
type Config struct {
	// Dir is the archive's folder. It is made when only it is missing.
	Dir string
	// Path is the template of the folders below Dir, with slashes between them;
	// {topic}, {partition}, {time:GO LAYOUT} and {field.path} are replaced for every
	// record. Empty: no folders.
	Path string
	// Compression of the files: zstd, gzip or none.
	Compression string
	// RotateBytes is how long a file gets, compressed, before it is finished. It can
	// be longer by what was appended last.
	RotateBytes int64
	// RotateAfter is how old a file gets before it is finished.
	RotateAfter time.Duration
	// Log is told of files that had to be mended.
	Log *slog.Logger
	// Observe is called once for every Deliver: 200 when all was stored, else 0, and
	// how long it took. Nil: not called.
	Observe func(status int, took time.Duration)
}

// What runs at a time, and what is remembered.
const (
	// maxCommits bounds the files that are written to and synced at a time, and so
	// the files that are open.
	maxCommits = 32
	// maxSeries bounds the files that are not finished. Beyond that the one that
	// was not written to for the longest is.
	maxSeries = 1024
	// maxGroup is how many bytes of records go into one frame; a larger part of a
	// batch goes alone.
	maxGroup = 32 << 20
)

// Sink appends to the files of an archive. It is safe for concurrent use:
// deliveries to one partition that wait at the same time share one fsync.
type Sink struct {
	cfg      Config
	log      *slog.Logger
	codec    codec
	layout   layout
	open     func() (disk, error)
	encoders chan *encoder // as many as may work; nil where none was made yet
	commits  chan struct{} // a place each
	frames   sync.Pool     // of *bytes.Buffer

	mu     sync.Mutex // held for moments only, never while the disk works
	series map[seriesKey]*series
	used   list.List // of *series, the last used in front
	closed bool
	ticker *time.Timer // runs while there are series
	works  sync.WaitGroup

	mountMu sync.Mutex // held while the folder is opened: by goroutines that nobody waits for without an end
	mounted *mount
}

// part is what one Deliver wants in one series.
type part struct {
	records []*buffer.Record
	at      []int // in the batch
	bytes   int64

	start   []byte  // of the records' lines
	offsets []int64 // of the records
	there   []bool  // stored before
	err     error
	done    chan struct{} // closed when there and err are final
	// state says who may touch records: the Deliver that waits, or who encodes.
	state   atomic.Int32
	encoded chan struct{} // closed when nobody touches records any more
}

const (
	partWaits int32 = iota
	partEncodes
	partLeft // the Deliver has gone
)

// New checks cfg. It opens nothing: the folder is opened and locked by the first
// Deliver.
func New(cfg Config) (*Sink, error) {
	s := &Sink{cfg: cfg, log: cfg.Log, series: map[seriesKey]*series{}, commits: make(chan struct{}, maxCommits)}
	switch cfg.Compression {
	case "zstd":
		s.codec = zst
	case "gzip":
		s.codec = gz
	case "none":
		s.codec = plain
	default:
		return nil, fmt.Errorf("archive: compression %q is none of zstd, gzip, none", cfg.Compression)
	}
	var err error
	if s.layout, err = parseLayout(cfg.Path); err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	if cfg.Dir == "" || cfg.RotateBytes <= 0 || cfg.RotateAfter <= 0 {
		return nil, errors.New("archive: a folder, and a size and an age to finish files at, are needed")
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.open = func() (disk, error) { return openFolder(cfg.Dir) }
	s.encoders = make(chan *encoder, min(runtime.GOMAXPROCS(0), 8))
	for range cap(s.encoders) {
		s.encoders <- nil
	}
	return s, nil
}

// Grade is what the sink promises, and why in a sentence.
func (s *Sink) Grade() (sinks.Grade, string) {
	return sinks.GradeA, "durable, and a record that is sent twice is stored once in this folder; " +
		"another weir with a folder of its own can store it too, after a rebalance"
}

// Lock opens and locks the folder, as the first Deliver would.
//
// Errors: another process has it; of the disk.
func (s *Sink) Lock() error {
	_, err := s.mount()
	if err != nil {
		err = s.requestError(err)
	}
	return err
}

// Deliver stores the records of b that are not stored yet and returns when all are
// durable. Partitions do not wait for each other: where one fails, its records are
// a Retry, and the error is for a batch of which nothing was stored. A record that
// there is no folder for (a {field} of the path is missing), or that is too large, is
// rejected.
func (s *Sink) Deliver(ctx context.Context, b *buffer.Batch, _ func(sinks.Note)) ([]sinks.Outcome, error) {
	begun := time.Now()
	outcomes, err := s.deliver(ctx, b)
	if s.cfg.Observe != nil {
		status := 200
		if err != nil {
			status = 0
		}
		s.cfg.Observe(status, time.Since(begun))
	}
	return outcomes, err
}

func (s *Sink) deliver(ctx context.Context, b *buffer.Batch) ([]sinks.Outcome, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, s.requestError(err)
	}
	outcomes := make([]sinks.Outcome, len(b.Records))
	parts := s.sort(b.Records, outcomes)
	for key, p := range parts {
		if err := s.enqueue(key, p); err != nil {
			for _, p := range parts {
				p.leave()
			}
			return nil, s.requestError(err)
		}
	}
	var failed error
	stored := false
	for _, p := range parts {
		select {
		case <-p.done:
		case <-ctx.Done():
			// The disk may hang for long. What is being written cannot be taken back,
			// and is found when it comes again.
			for _, p := range parts {
				p.leave()
			}
			return nil, s.requestError(context.Cause(ctx))
		}
		if p.err != nil {
			failed = p.err
		}
		stored = stored || p.err == nil
		for i, at := range p.at {
			switch {
			case p.err != nil:
				outcomes[at] = sinks.Outcome{Verdict: sinks.Retry, Reason: p.err.Error()}
				if misconfigured(p.err) {
					outcomes[at].Note = sinks.Misconfigured
				}
			case p.there[i]:
				outcomes[at] = sinks.Outcome{Verdict: sinks.Ack, Note: sinks.Duplicate}
			default:
				outcomes[at].Verdict = sinks.Ack
			}
		}
	}
	if failed != nil && !stored {
		return nil, s.requestError(failed)
	}
	return outcomes, nil
}

// leave returns when nobody touches p's records any more.
func (p *part) leave() {
	if !p.state.CompareAndSwap(partWaits, partLeft) && p.state.Load() == partEncodes {
		<-p.encoded
	}
}

// sort sorts records by their series. Those that cannot be stored are rejected.
func (s *Sink) sort(records []*buffer.Record, outcomes []sinks.Outcome) map[seriesKey]*part {
	parts := map[seriesKey]*part{}
	prefixes := map[*buffer.Origin]string{}
	var last *buffer.Record // whose part is p
	var p *part
	var folder []byte
	for i, r := range records {
		if r.Offset < 0 || r.Offset == math.MaxInt64 || content(r) > maxRecord {
			outcomes[i] = sinks.Outcome{Verdict: sinks.Reject,
				Reason: fmt.Sprintf("longer than the %d bytes that a record of an archive may have, or its offset is none", maxRecord)}
			continue
		}
		if last == nil || !s.layout.same(last, r) {
			var err error
			if folder, err = s.layout.append(folder[:0], r); err != nil {
				outcomes[i] = sinks.Outcome{Verdict: sinks.Reject, Reason: "path: " + err.Error()}
				continue
			}
			prefix, ok := prefixes[r.Origin]
			if !ok {
				prefix = filePrefix(r.Origin)
				prefixes[r.Origin] = prefix
			}
			key := seriesKey{string(folder), prefix}
			if p = parts[key]; p == nil {
				p = &part{start: lineStart(r.Origin), done: make(chan struct{}), encoded: make(chan struct{})}
				parts[key] = p
			}
			last = r
		}
		p.records = append(p.records, r)
		p.offsets = append(p.offsets, r.Offset)
		p.at = append(p.at, i)
		p.bytes += int64(content(r))
	}
	return parts
}

// requestError is err about the whole batch.
func (s *Sink) requestError(err error) error {
	return &sinks.RequestError{Endpoint: s.cfg.Dir, Err: err, Misconfigured: misconfigured(err)}
}

func misconfigured(err error) bool {
	for _, e := range []error{fs.ErrPermission, fs.ErrNotExist, syscall.EROFS, syscall.ENOTDIR, errLocked} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
