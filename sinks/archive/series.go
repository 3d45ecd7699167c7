package archive

import (
	"bytes"
	"cmp"
	"container/list"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// series is the files of one partition in one folder: finished ones, and at most
// one that is written to. No record is in it twice.
type series struct {
	key seriesKey

	// Under the sink's lock.
	waiting []*part
	busy    bool // a goroutine works on it: only that one uses what follows below
	seal    bool // it is asked to finish its file
	due     time.Time
	used    *list.Element

	mount  *mount // where it was loaded from; nil: it has to be
	sealed []sealedFile
	high   int64 // no record above is stored
	active *active
}

// distrust has everything about the files found out anew if err says that they
// are not what we know of them.
func (se *series) distrust(err error) {
	for _, e := range []error{fs.ErrNotExist, fs.ErrExist, fs.ErrClosed, errChanged} {
		if errors.Is(err, e) {
			se.mount, se.sealed, se.active = nil, nil, nil
			return
		}
	}
}

// seriesKey is what a series is found by.
type seriesKey struct {
	folder string // with a slash at the end; empty: the archive's own
	prefix string
}

// sealedFile is a finished file.
type sealedFile struct {
	fileName
	reach int64 // the highest offset of this file and of all before it
}

// active is the file that is written to.
type active struct {
	name    fileName
	size    int64 // up to here all is durable
	records int
	opened  time.Time
	// span is the lowest and highest offset that is stored.
	span span
	// stored has all offsets from floor on, and some below.
	stored offsets
	floor  int64
	// dirty: an attempt failed, and left anything behind size.
	dirty bool
	// named: the name is there after a power loss.
	named bool
}

// The bounds of what is remembered of a file: its records, and, while it is
// written to, the spans of their offsets.
const (
	maxRecords = 1 << 20
	maxSpans   = 4 << 10
	// maxFrame bounds the records of one frame when it is read. None that is written
	// comes near it.
	maxFrame = 8 << 20
)

func (se *series) path(n fileName) string { return se.key.folder + se.key.prefix + n.String() }

// dir is the folder's name.
func (se *series) dir() string { return path.Clean(se.key.folder + ".") }

// load finds out which files there are, and finishes those that another process
// left open.
func (se *series) load(m *mount, log *slog.Logger) error {
	se.mount, se.sealed, se.high, se.active = nil, nil, -1, nil
	if err := m.Mkdir(se.dir()); err != nil {
		return err
	}
	var open []fileName
	err := m.List(se.dir(), func(name string, _ bool) {
		rest, ours := strings.CutPrefix(name, se.key.prefix)
		if !ours {
			return
		}
		n, err := parseFileName(rest)
		switch {
		case err != nil: // a torn tail, or what somebody else put there
		case n.open:
			open = append(open, n)
		default:
			se.sealed = append(se.sealed, sealedFile{fileName: n})
		}
	})
	if err != nil {
		return err
	}
	for _, n := range open {
		finished, err := se.mend(m, n, log)
		if err != nil {
			return fmt.Errorf("mending %s%s: %w", se.key.prefix, n, err)
		}
		if finished != nil {
			se.sealed = append(se.sealed, sealedFile{fileName: *finished})
		}
	}
	slices.SortFunc(se.sealed, func(a, b sealedFile) int { return cmp.Compare(a.span.first, b.span.first) })
	for i := range se.sealed {
		f := &se.sealed[i]
		se.high = max(se.high, f.span.last)
		f.reach = se.high
	}
	// Who finished a file may have died before its new name was synced.
	if err := m.Sync(se.dir()); err != nil {
		return err
	}
	se.mount = m
	return nil
}

// mend finishes a file that was left open, by a process that was killed or by a
// power loss. It is nil when the file held no record.
//
// A torn tail is cut off, and kept under another name: it was never
// acknowledged, but who is to tell that from a damage to what was? The rest is
// written once more where it stands, from the last frame on. It can be in the
// kernel's memory only, after an fsync that failed the kernel takes such pages
// for clean, and what is found here counts as stored.
func (se *series) mend(d disk, n fileName, log *slog.Logger) (*fileName, error) {
	name := se.path(n)
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	stored, e, err := readOffsets(f, size, n.codec, se.key.prefix)
	if err != nil {
		return nil, err
	}
	if e.good < size {
		torn := fmt.Sprintf("%s-%d%s", name, e.good, tornSuffix)
		if err := keep(d, torn, f, e.good, size); err != nil {
			return nil, fmt.Errorf("keeping its torn tail: %w", err)
		}
		if err := d.Sync(se.dir()); err != nil {
			return nil, err
		}
		if err := f.Truncate(e.good); err != nil {
			return nil, err
		}
		log.Warn("an archive file ended in what was not written to its end and never acknowledged: it was cut off",
			"file", path.Base(name), "kept_as", path.Base(torn), "at", e.good, "bytes", size-e.good, "because", e.why)
	}
	if len(stored.spans) == 0 {
		return nil, d.Remove(name)
	}
	if err := copyRange(f, e.last, f, e.last, e.good); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	return se.finish(d, n, span{stored.lowest(), stored.highest()})
}

// keep copies a part of a file to another, durably. One that is there is of an
// attempt that failed.
func keep(d disk, name string, from handle, start, end int64) error {
	to, err := d.Create(name)
	if errors.Is(err, fs.ErrExist) {
		to, err = d.Open(name)
	}
	if err != nil {
		return err
	}
	defer to.Close()
	if err := copyRange(to, 0, from, start, end); err != nil {
		return err
	}
	if err := to.Truncate(end - start); err != nil {
		return err
	}
	return to.Sync()
}

// copyRange copies what is from start to end.
func copyRange(to handle, at int64, from handle, start, end int64) error {
	piece := make([]byte, min(end-start, 1<<20))
	for start < end {
		piece = piece[:min(end-start, int64(len(piece)))]
		if _, err := from.ReadAt(piece, start); err != nil {
			return err
		}
		if _, err := to.WriteAt(piece, at); err != nil {
			return err
		}
		start += int64(len(piece))
		at += int64(len(piece))
	}
	return nil
}

// finish gives an open file, whose content is durable, the name it keeps.
func (se *series) finish(d disk, n fileName, held span) (*fileName, error) {
	finished := fileName{span: held, codec: n.codec}
	// A rename would replace what is there.
	there, err := d.Exists(se.path(finished))
	if err == nil && there {
		err = fmt.Errorf("%s%s is there already", se.key.prefix, finished)
	}
	if err == nil {
		err = d.Rename(se.path(n), se.path(finished))
	}
	if err != nil {
		return nil, err
	}
	return &finished, d.Sync(se.dir())
}

// sealActive finishes the file that is written to.
func (se *series) sealActive() error {
	a := se.active
	if a == nil {
		return nil
	}
	if a.dirty {
		f, err := se.openActive()
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	if a.records == 0 {
		se.active = nil
		return se.mount.Remove(se.path(a.name))
	}
	n, err := se.finish(se.mount, a.name, a.span)
	if n == nil {
		return err
	}
	se.active = nil
	at, _ := slices.BinarySearchFunc(se.sealed, n.span.first, func(f sealedFile, first int64) int { return cmp.Compare(f.span.first, first) })
	se.sealed = slices.Insert(se.sealed, at, sealedFile{fileName: *n})
	for i := at; i < len(se.sealed); i++ {
		f := &se.sealed[i]
		f.reach = f.span.last
		if i > 0 {
			f.reach = max(f.reach, se.sealed[i-1].reach)
		}
	}
	return err
}

// openActive opens the file that is written to, mended after a failed attempt.
//
// Errors: those of the file system; the file is not as it was left.
func (se *series) openActive() (handle, error) {
	a := se.active
	f, err := se.mount.Open(se.path(a.name))
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	switch {
	case err != nil:
	case size < a.size || size > a.size && !a.dirty:
		err = errChanged
	case a.dirty:
		// What the failed attempt left may be on the disk, in part or wholly, or in
		// the kernel's memory only. It has to be gone before the same records are
		// written again, for which this fsync has to be told of no error.
		if err = f.Truncate(a.size); err == nil {
			err = f.Sync()
		}
		a.dirty = err != nil
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

var errChanged = errors.New("the file is not as long as it was left: somebody else changed it")

// has reports whether the record at o is stored.
//
// Errors: a file that could hold it cannot be read, so nobody knows.
func (se *series) has(o int64) (bool, error) {
	if o > se.high {
		return false, nil
	}
	if a := se.active; a != nil && a.records > 0 && o >= a.span.first && o <= a.span.last {
		switch {
		case a.stored.has(o):
			return true, nil
		case o < a.floor:
			// It could be in there all the same. A finished file can be looked through
			// and be remembered.
			if err := se.sealActive(); err != nil {
				return false, err
			}
		}
	}
	at, _ := slices.BinarySearchFunc(se.sealed, o, func(f sealedFile, o int64) int {
		if f.span.first <= o {
			return -1
		}
		return 1
	})
	for i := at - 1; i >= 0 && se.sealed[i].reach >= o; i-- {
		if se.sealed[i].span.last < o {
			continue
		}
		n := se.sealed[i].fileName
		stored, err := se.mount.shelf.get(se.path(n), func() (*offsets, error) { return se.look(n) })
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // taken away, and its records with it
		case err != nil:
			return false, fmt.Errorf("looking whether it is in %s%s already: %w", se.key.prefix, n, err)
		case stored.has(o):
			return true, nil
		}
	}
	return false, nil
}

// look finds out which offsets a finished file holds.
func (se *series) look(n fileName) (*offsets, error) {
	f, err := se.mount.Open(se.path(n))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	stored, e, err := readOffsets(f, size, n.codec, se.key.prefix)
	if err == nil && e.why != nil {
		err = fmt.Errorf("the file is damaged at byte %d: %w; move it out of the archive, and what it held is stored anew where it comes again", e.good, e.why)
	}
	return stored, err
}

// readOffsets is the offsets of the whole frames of a file whose name has that
// prefix.
//
// Errors: of reading it; it holds what such a file does not.
func readOffsets(f handle, size int64, c codec, prefix string) (*offsets, extent, error) {
	stored := new(offsets)
	var start []byte  // of all lines
	var frame []int64 // of a frame that is not yet known to be whole
	keep := 4 << 10
	if c == plain {
		keep = maxLine // there the line itself is the proof
	}
	e, err := walk(f, size, c, keep, func(line []byte) error {
		if start == nil {
			start = startOf(line, prefix)
		}
		o, ok := offsetOf(line, start)
		if !ok || start == nil {
			return errors.New("the file holds a line that does not belong there")
		}
		if len(frame) > maxFrame {
			return fmt.Errorf("the file holds more than %d records at once", maxFrame)
		}
		frame = append(frame, o)
		return nil
	}, func() {
		for _, o := range frame {
			stored.add(o)
		}
		frame = frame[:0]
	})
	return stored, e, err
}

// startOf is what line, the first of a file, and all behind it begin with, up to
// the offset; nil when a file of that prefix cannot have such a line. The text
// that is looked for cannot be inside of a JSON string.
func startOf(line []byte, prefix string) []byte {
	const offset = `,"offset":`
	at := bytes.Index(line, []byte(offset))
	if at < 0 {
		return nil
	}
	start := line[:at+len(offset)]
	r, err := parseLine(append(bytes.Clone(start), "0}"...))
	if err != nil || filePrefix(r.Origin) != prefix || !bytes.Equal(lineStart(r.Origin), start) {
		return nil
	}
	return bytes.Clone(start)
}

// offsetOf is the offset in a line that begins with start.
func offsetOf(line, start []byte) (int64, bool) {
	rest, ok := bytes.CutPrefix(line, start)
	end := bytes.IndexAny(rest, ",}")
	if !ok || end < 0 {
		return 0, false
	}
	o, err := strconv.ParseUint(string(rest[:end]), 10, 63)
	return int64(o), err == nil
}
