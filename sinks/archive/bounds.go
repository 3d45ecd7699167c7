package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"weir/buffer"
)

// Bounds are how much is read of files that somebody else may have made. What was
// read is taken off them.
type Bounds struct {
	Records int64 // lines
	Content int64 // bytes of keys, values, and headers with their names
	Faults  int   // lines that hold no record, and files that are damaged
}

// errStop: the caller wants no more. errSpent: the bounds allow no more.
var (
	errStop  = errors.New("stop")
	errSpent = errors.New("the rest is not read")
)

// ReadFile yields the records of one file in the order they were written, as far
// as b allows. Nobody may be writing to it, and its name, which stands in errors,
// ends as those of an archive's files do. It reports whether to go on with another
// file.
//
// A line that is longer than its record needs is a fault: it could be of any length.
// The file is read once, so that the records of a frame that turns out to be damaged
// are yielded before the error: they are for somebody who holds the whole against
// something.
//
// Errors stand in the place of what they are about, quote no event, and end with
// that of ctx, or with the one that says why the rest is not read.
func ReadFile(ctx context.Context, f *os.File, name string, b *Bounds, yield func(*buffer.Record, error) bool) bool {
	fail := func(err error) bool { return yield(nil, fmt.Errorf("archive file %q: %w", name, err)) }
	c, _ := codecOf(name)
	info, err := f.Stat()
	if err != nil {
		return fail(err)
	}
	number := 0
	e, err := walk(interruptible{ctx, f}, info.Size(), c, maxLine, func(text []byte) error {
		number++
		if b.Records--; b.Records < 0 {
			return fmt.Errorf("line %d: there are more records than there should be, and %w", number, errSpent)
		}
		r, err := parseLine(text)
		if err == nil && len(text) > longest(r) {
			err = errors.New("longer than weir writes it")
		}
		if err != nil {
			if b.Faults--; b.Faults < 0 {
				return fmt.Errorf("line %d: %w: there are too many faults, and %w", number, err, errSpent)
			}
			if !fail(fmt.Errorf("line %d: %w", number, err)) {
				return errStop
			}
			return nil
		}
		if b.Content -= int64(contentBytes(r)); b.Content < 0 {
			return fmt.Errorf("line %d: the records hold more than they should, and %w", number, errSpent)
		}
		if !yield(r, nil) {
			return errStop
		}
		return nil
	}, func() {})
	switch {
	case err == nil && e.why == nil:
		return true
	case err == nil:
		b.Faults--
		err = fmt.Errorf("%w at byte %d: %w", ErrTorn, e.good, e.why)
	case errors.Is(err, errStop):
		return false
	case ctx.Err() != nil:
		yield(nil, ctx.Err())
		return false
	}
	return fail(err) && !errors.Is(err, errSpent) && b.Faults >= 0
}

// Holds reports whether a file of that name is one that holds records.
func Holds(name string) bool {
	_, ours := codecOf(name)
	return ours
}

// longest is how long r's line can be: any byte takes at most six.
func longest(r *buffer.Record) int {
	const names, header = 512, len(`{"key_base64":"","value_base64":""},`)
	return 6*(len(r.Topic)+len(r.TopicID)+len(r.Cluster)+contentBytes(r)) + header*len(r.Headers) + names
}

// contentBytes is the length of r's key, value and headers.
func contentBytes(r *buffer.Record) int {
	n := len(r.Key) + len(r.Value)
	for i := range r.Headers {
		n += len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	return n
}

// interruptible is a file that is read until ctx is done.
type interruptible struct {
	ctx context.Context
	io.ReaderAt
}

func (f interruptible) ReadAt(p []byte, at int64) (int, error) {
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	return f.ReaderAt.ReadAt(p, at)
}
