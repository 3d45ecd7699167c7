// Package regular reads regular files that somebody else may have put there: what
// is none is refused and waits for nobody, and no more is read than was said.
package regular

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// ErrLong is under the error about a file that is longer than it may be.
var ErrLong = errors.New("the file is too long")

// Open opens the regular file at path for reading. The opening of a pipe would
// wait for its other end; for a regular file O_NONBLOCK means nothing.
//
// Errors: those of the file system; it is no regular file.
func Open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if _, err := look(f, path); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// OpenIn opens a regular file below root, by its name with slashes, for reading.
// Neither it nor a folder on the way may be a link, wherever that leads.
//
// Errors: those of the file system; it is no regular file.
func OpenIn(root *os.Root, name string) (*os.File, error) {
	if err := Folder(root, path.Dir(name)); err != nil {
		return nil, err
	}
	there, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !there.Mode().IsRegular() {
		return nil, irregular(name, there)
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	opened, err := look(f, name)
	if err == nil && !os.SameFile(there, opened) {
		err = fmt.Errorf("%q was replaced while it was opened", name)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// Folder says whether name, below root, and all that is on the way to it are
// folders and no links.
//
// Errors: those of the file system; one is no folder.
func Folder(root *os.Root, name string) error {
	for ; name != "."; name = path.Dir(name) {
		info, err := root.Lstat(name)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return fmt.Errorf("%q is not a folder (%s)", name, info.Mode())
		}
	}
	return nil
}

// Read is the content of the regular file at path, of at most limit bytes.
//
// Errors: as Open; ErrLong.
func Read(path string, limit int64) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return read(f, path, limit)
}

// ReadIn is the content of a regular file below root, of at most limit bytes.
//
// Errors: as OpenIn; ErrLong.
func ReadIn(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := OpenIn(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return read(f, name, limit)
}

func read(f *os.File, name string, limit int64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// What is known to be too long is not read at all, and what grows meanwhile not
	// any further.
	content := make([]byte, 0, min(info.Size(), limit)+1)
	for info.Size() <= limit {
		n, err := f.Read(content[len(content):cap(content)])
		content = content[:len(content)+n]
		switch {
		case int64(len(content)) > limit:
			return nil, fmt.Errorf("%q: %w: no more than %d bytes are read", name, ErrLong, limit)
		case errors.Is(err, io.EOF):
			return content, nil
		case err != nil:
			return nil, err
		case len(content) == cap(content):
			content = append(content, 0)[:len(content)]
		}
	}
	return nil, fmt.Errorf("%q: %w: no more than %d bytes are read, and it has %d", name, ErrLong, limit, info.Size())
}

// look is what f is, if that is a regular file.
func look(f *os.File, name string) (fs.FileInfo, error) {
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = irregular(name, info)
	}
	return info, err
}

func irregular(name string, info fs.FileInfo) error {
	return fmt.Errorf("%q is not a regular file (%s)", name, info.Mode())
}
