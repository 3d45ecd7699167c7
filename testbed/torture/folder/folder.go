// Package folder reads the archives of weir's file sink as docs/file.md describes
// them, and shares no code with weir: it finds what writer and reader of weir get
// wrong together.
package folder

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Record is what a line says. A slice that is nil is null.
type Record struct {
	Topic, TopicID, Cluster string
	Partition               int32
	Offset                  int64
	Timestamp               *int64 // ms since 1970; nil: none
	Appended                bool   // the broker set it
	Key, Value              []byte
	Headers                 []Header
}

// Header is one header of a record.
type Header struct {
	Key, Value []byte
}

// Read yields the records of all files below dir, while somebody may write to them,
// and errors about what is not as it should be. What a file that is still written to
// has behind its last whole frame counts as not there.
func Read(dir string) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
		if err != nil {
			yield(nil, err)
			return
		}
		defer z.Close()
		r := &reader{zstd: z, yield: yield}
		// A file that gets its last name meanwhile may be listed under none. The last
		// one it keeps.
		for range 2 {
			paths, err := list(dir)
			if err != nil && !yield(nil, err) {
				return
			}
			for _, path := range paths {
				err := r.file(path)
				if errors.Is(err, errEnough) || err != nil && !yield(nil, fmt.Errorf("%s: %w", path, err)) {
					return
				}
			}
		}
	}
}

var errEnough = errors.New("enough")

// list is the files below dir, but for the lock and what was cut off files.
func list(dir string) (paths []string, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && e.Name() != ".weir.lock" && !strings.HasSuffix(path, ".torn") {
			paths = append(paths, path)
		}
		return err
	})
	return paths, err
}

type reader struct {
	zstd  *zstd.Decoder
	read  []fs.FileInfo // so far
	yield func(*Record, error) bool
}

// file yields the records of a file that was not read before, under whatever name.
func (r *reader) file(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	for _, other := range r.read {
		if os.SameFile(info, other) {
			return nil
		}
	}
	r.read = append(r.read, info)
	n, err := parseName(filepath.Base(path))
	if err != nil {
		return err
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	return r.frames(n, data)
}

// frames yields the records of the whole frames of a file.
func (r *reader) frames(n *name, data []byte) error {
	held := span{1, 0}
	for at := 0; at < len(data); {
		lines, size, err := r.frame(n.extension, data[at:])
		if err != nil && n.open {
			break // it is being written, or who wrote it was killed
		} else if err != nil {
			return fmt.Errorf("the frame at byte %d: %w", at, err)
		}
		for line := range bytes.Lines(lines) {
			rec, err := parseLine(line)
			if err == nil {
				err = n.fits(rec)
			}
			if err != nil {
				return fmt.Errorf("in the frame at byte %d: %w", at, err)
			}
			held = held.with(rec.Offset)
			if !r.yield(rec, nil) {
				return errEnough
			}
		}
		at += size
	}
	if !n.open && held != n.span {
		return fmt.Errorf("it holds the offsets %d to %d", held.first, held.last)
	}
	return nil
}
