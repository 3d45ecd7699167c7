package bag

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"syscall"

	"weir/buffer/regular"
)

// teller keeps texts that are told piece by piece while a bag is filled.
type teller struct {
	mu    sync.Mutex
	known map[string]bool // of which the end is whole
}

// Tell appends whole lines to a tag file, named relative to the folder weir, and
// returns when they are durable. It is for what is found out while the bag is
// filled; Told reads it, and Finish drops it unless it is given it back. Not to be
// called for one name twice at a time.
//
// A process that is killed leaves a part of a line: it was not told, and is cut
// off by the next.
func (s *Sink) Tell(name string, lines []byte) error {
	if !fs.ValidPath(name) || path.Join(tagFolder, name) == PlanFile || !bytes.HasSuffix(lines, []byte("\n")) {
		return fmt.Errorf("bag: %q cannot be told of %d bytes that are no lines", name, len(lines))
	}
	if err := s.tell(path.Join(tagFolder, name), lines); err != nil {
		return fmt.Errorf("bag %q: %w", s.dir, err)
	}
	return nil
}

func (s *Sink) tell(name string, lines []byte) (err error) {
	// Nobody else may be writing.
	if err := s.archive.Lock(); err != nil {
		return err
	}
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	s.told.mu.Lock()
	known := s.told.known[name]
	s.told.mu.Unlock()
	if !known {
		if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
			return err
		}
	}
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%q is not a regular file", name)
	}
	end := info.Size()
	if !known {
		if end, err = wholeLines(f, end); err != nil {
			return err
		}
		if err := f.Truncate(end); err != nil {
			return err
		}
	}
	if _, err = f.WriteAt(lines, end); err == nil {
		err = f.Sync()
	}
	if err == nil && !known {
		for dir := path.Dir(name); ; dir = path.Dir(dir) {
			if err = syncRoot(root, dir); err != nil || dir == "." {
				break
			}
		}
	}
	s.told.mu.Lock()
	defer s.told.mu.Unlock()
	if s.told.known == nil {
		s.told.known = map[string]bool{}
	}
	s.told.known[name] = err == nil // what a failed attempt left is cut off by the next
	return err
}

// wholeLines is up to where a file of that size consists of whole lines.
func wholeLines(f io.ReaderAt, size int64) (int64, error) {
	piece := make([]byte, 64<<10)
	for size > 0 {
		from := max(size-int64(len(piece)), 0)
		n, err := f.ReadAt(piece[:size-from], from)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if at := bytes.LastIndexByte(piece[:n], '\n'); at >= 0 {
			return from + int64(at) + 1, nil
		}
		size = from
	}
	return 0, nil
}

// Told is what was told under a name, in whole lines; nil when nothing was.
func Told(dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("bag %q: %w", dir, err)
	}
	defer func() { _ = root.Close() }()
	text, err := regular.ReadIn(root, path.Join(tagFolder, name), maxTag)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("bag %q: %w", dir, err)
	}
	return text[:bytes.LastIndexByte(text, '\n')+1], nil
}
