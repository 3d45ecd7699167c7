package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// errNotOurs is under every error that says what is at the path is not a
// dead-letter file this process may append to.
var errNotOurs = errors.New("not a dead-letter file of this process")

// openFile opens or makes the file at path, locks it, and cuts off an incomplete
// last line. It returns the size that is left.
func openFile(path string, log *slog.Logger) (handle, int64, error) {
	f, err := openRegular(path, os.O_RDWR|os.O_CREATE|os.O_APPEND)
	if err != nil {
		return nil, 0, err
	}
	size, err := prepare(f, log)
	if err != nil {
		_ = f.Close() // unlocks it, too
		return nil, 0, err
	}
	return f, size, nil
}

// openRegular opens a regular file. O_NONBLOCK keeps the opening of a pipe from
// waiting for its other end; for a regular file it means nothing.
func openRegular(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("a symbolic link, which is not followed: %w", errNotOurs)
	} else if errors.Is(err, syscall.EISDIR) {
		return nil, fmt.Errorf("a folder: %w", errNotOurs)
	} else if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("not a regular file (%s): %w", info.Mode(), errNotOurs)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func prepare(f *os.File, log *slog.Logger) (int64, error) {
	// The lock goes with the open file, so it ends with the process however that
	// ends: no stale lock can be left.
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return 0, fmt.Errorf("locked by another process or connector; each needs a file of its own: %w", errNotOurs)
	} else if err != nil {
		return 0, fmt.Errorf("locking it: %w", err)
	}
	size, whole, err := wholeLines(f)
	if err != nil {
		return 0, err
	}
	if whole < size {
		if err := f.Truncate(whole); err != nil {
			return 0, fmt.Errorf("cutting off its incomplete last line: %w", err)
		}
		log.Warn("dead-letter file ended in an incomplete line, whose record was never acknowledged and comes again: cut off",
			"path", f.Name(), "at", whole, "bytes", size-whole)
	}
	// A file is only there after a power loss if its folder was synced as well.
	// Always, since the process that made it may have died before it did.
	folder, err := os.Open(filepath.Dir(f.Name()))
	if err != nil {
		return 0, fmt.Errorf("syncing its folder: %w", err)
	}
	if err := errors.Join(folder.Sync(), folder.Close()); err != nil {
		return 0, fmt.Errorf("syncing its folder: %w", err)
	}
	return whole, nil
}

// lineStart is how every line begins.
const lineStart = `{"topic":`

// wholeLines is the size of f, and up to where it consists of whole lines.
//
// Errors: errNotOurs, when the first line or the incomplete one does not look
// like ours. What a power loss leaves of an unsynced line can also be zeros.
func wholeLines(f *os.File) (size, whole int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	size = info.Size()
	whole = size
	chunk := make([]byte, 64<<10)
	for whole > 0 {
		from := max(0, whole-int64(len(chunk)))
		part := chunk[:whole-from]
		if _, err := f.ReadAt(part, from); err != nil {
			return 0, 0, fmt.Errorf("looking for its last line: %w", err)
		}
		end := bytes.LastIndexByte(part, '\n') + 1
		whole = from + int64(end)
		if end > 0 {
			break
		}
	}
	for _, at := range []int64{0, whole} {
		start := make([]byte, len(lineStart))
		n, err := f.ReadAt(start, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, fmt.Errorf("looking at a line of it: %w", err)
		}
		if start = start[:n]; !strings.HasPrefix(lineStart, string(bytes.TrimRight(start, "\x00"))) {
			return 0, 0, fmt.Errorf("the line at byte %d does not begin with %s: %w", at, lineStart, errNotOurs)
		}
	}
	return size, whole, nil
}
