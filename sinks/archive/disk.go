package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// disk is what the archive asks of a file system. Names are relative to the
// archive's folder, with slashes.
type disk interface {
	// Open opens a regular file, for reading and writing.
	Open(name string) (handle, error)
	// Create makes a file that must not be there yet.
	Create(name string) (handle, error)
	// List calls each with the names of everything in a folder, and which of them
	// are folders.
	List(folder string, each func(name string, isFolder bool)) error
	// Mkdir makes a folder, and those above it, and makes sure that they are there
	// after a power loss.
	Mkdir(folder string) error
	// Sync makes sure that the names in a folder are there after a power loss.
	Sync(folder string) error
	Rename(from, to string) error
	Remove(name string) error
	// Exists reports whether anything has that name.
	Exists(name string) (bool, error)
	Close() error
}

// handle is an open file.
type handle interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	Sync() error
}

// LockFile is the file in the archive's folder whose lock says whose it is.
const LockFile = ".weir.lock"

// errLocked: another process, or another connector of this one, has the folder.
var errLocked = errors.New("in use by another connector or process; each needs a folder of its own")

// folder is the disk of an operating system. All names are resolved below the
// root: neither .. nor a symbolic link leads out of it.
type folder struct {
	root *os.Root
	lock *os.File
}

// openFolder opens the archive's folder, makes it if only it is missing, and
// locks it.
func openFolder(dir string) (*folder, error) {
	if err := os.Mkdir(dir, 0o700); err == nil {
		if err := syncFolder(path.Dir(path.Clean(dir)), os.Open); err != nil {
			return nil, err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	lock, err := root.OpenFile(LockFile, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		// The lock goes with the open file, so it ends with the process however that
		// ends: no stale lock can be left.
		if err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			return &folder{root, lock}, nil
		}
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = errLocked
		} else {
			err = fmt.Errorf("locking it: %w", err)
		}
	}
	_ = root.Close()
	return nil, err
}

// still reports whether dir is the folder that was opened: it can have been
// deleted, or another file system be mounted there by now.
func (f *folder) still(dir string) bool {
	here, err := f.root.Stat(".")
	if err != nil {
		return false
	}
	there, err := os.Stat(dir)
	return err == nil && os.SameFile(here, there)
}

func (f *folder) Close() error {
	return errors.Join(f.lock.Close(), f.root.Close())
}

func (f *folder) Open(name string) (handle, error) {
	return f.open(name, os.O_RDWR)
}

func (f *folder) Create(name string) (handle, error) {
	return f.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

// open: O_NONBLOCK keeps the opening of a pipe from waiting for its other end; for
// a regular file it means nothing.
func (f *folder) open(name string, flags int) (handle, error) {
	file, err := f.root.OpenFile(name, flags|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	if err := regular(file); err != nil {
		_ = file.Close()
		return nil, err
	}
	return &osFile{file}, nil
}

func regular(f *os.File) error {
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("not a regular file (%s)", info.Mode())
	}
	return err
}

type osFile struct{ *os.File }

func (f *osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f *folder) List(name string, each func(string, bool)) error {
	d, err := f.root.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		entries, err := d.ReadDir(1024) // a folder can hold any number
		for _, e := range entries {
			each(e.Name(), e.IsDir())
		}
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (f *folder) Mkdir(name string) error {
	if err := f.root.MkdirAll(name, 0o700); err != nil {
		return err
	}
	// Always, since who made them may have died, or not have come to this yet.
	for name != "." {
		name = path.Dir(name)
		if err := f.Sync(name); err != nil {
			return err
		}
	}
	return nil
}

func (f *folder) Sync(name string) error { return syncFolder(name, f.root.Open) }

func syncFolder(name string, open func(string) (*os.File, error)) error {
	d, err := open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (f *folder) Rename(from, to string) error { return f.root.Rename(from, to) }
func (f *folder) Remove(name string) error     { return f.root.Remove(name) }

func (f *folder) Exists(name string) (bool, error) {
	_, err := f.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
