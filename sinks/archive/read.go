package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"strings"
	"syscall"

	"weir/buffer"
)

// ErrTorn is under the error about a file that does not end with a whole frame:
// one that is being written just now, or that a killed process left. What is torn
// was not acknowledged.
var ErrTorn = errors.New("the file is torn or damaged")

// Read yields the records of all files below the folder dir, folder by folder and
// file by file in the order of their names, and of each file in the order they
// were written; their Shape is not found out. The files are read as they are, without
// a lock: a process may be appending, and what it had stored before is all there. Of a
// frame that is torn or damaged nothing is shown.
//
// An error about a line, a file or a folder, which names it and quotes no event,
// stands in its place, and what follows is read if the caller goes on.
func Read(dir string) iter.Seq2[*buffer.Record, error] {
	return func(yield func(*buffer.Record, error) bool) {
		root, err := os.OpenRoot(dir)
		if err != nil {
			yield(nil, fmt.Errorf("archive %q: %w", dir, err))
			return
		}
		defer func() { _ = root.Close() }()
		r := reader{root, yield}
		r.folder(".", 0)
	}
}

type reader struct {
	root  *os.Root
	yield func(*buffer.Record, error) bool
}

// folder reads a folder. It reports whether the caller goes on.
//
// It is listed twice: a file that is finished meanwhile, and so renamed, may be
// listed under neither name, or be gone under the one that was listed. Its second
// name it keeps.
func (r reader) folder(name string, depth int) bool {
	read := map[uint64]bool{} // inodes
	var folders []string
	for range 2 {
		entries, err := fs.ReadDir(r.root.FS(), name)
		if err != nil {
			return r.yield(nil, fmt.Errorf("archive folder %q: %w", name, err))
		}
		folders = folders[:0]
		for _, e := range entries {
			c, ours := codecOf(e.Name())
			switch {
			case e.IsDir():
				folders = append(folders, path.Join(name, e.Name()))
			case ours && e.Type().IsRegular() && !r.file(path.Join(name, e.Name()), c, read):
				return false
			}
		}
	}
	for _, f := range folders {
		if depth < maxFolders && !r.folder(f, depth+1) {
			return false
		}
	}
	return true
}

// codecOf says by its name how a file is compressed; false: it is none of an
// archive.
func codecOf(name string) (codec, bool) {
	name = strings.TrimSuffix(name, openSuffix)
	for c, ext := range extensions {
		if strings.HasSuffix(name, ext) {
			return codec(c), true
		}
	}
	return plain, false
}

// file reads a file unless it is gone or was read before, under whatever name. It
// reports whether the caller goes on.
func (r reader) file(name string, c codec, read map[uint64]bool) bool {
	fail := func(err error) bool {
		return r.yield(nil, fmt.Errorf("archive file %q: %w", name, err))
	}
	f, err := r.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	} else if err != nil {
		return fail(err)
	}
	defer f.Close()
	if err := regular(f); err != nil {
		return fail(err)
	}
	info, err := f.Stat()
	if err != nil {
		return fail(err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		if read[st.Ino] {
			return true
		}
		read[st.Ino] = true
	}
	// Once to find out what is whole, and once to read that.
	e, err := walk(f, info.Size(), c, maxLine, func([]byte) error { return nil }, func() {})
	if err != nil {
		return fail(err)
	}
	if !readRecords(f, e.good, c, name, r.yield) {
		return false
	}
	if e.why != nil {
		return fail(fmt.Errorf("%w at byte %d: %w", ErrTorn, e.good, e.why))
	}
	return true
}

// readRecords yields the records of a file that is whole up to size. It reports
// whether the caller goes on.
func readRecords(f io.ReaderAt, size int64, c codec, name string, yield func(*buffer.Record, error) bool) bool {
	stop := errors.New("stop")
	number := 0
	_, err := walk(f, size, c, maxLine, func(line []byte) error {
		number++
		r, err := parseLine(line)
		if err != nil {
			r, err = nil, fmt.Errorf("archive file %q: line %d: %w", name, number, err)
		}
		if !yield(r, err) {
			return stop
		}
		return nil
	}, func() {})
	if err != nil && !errors.Is(err, stop) {
		return yield(nil, fmt.Errorf("archive file %q: %w", name, err))
	}
	return err == nil
}

// Folder is where below an archive the records of o are, if path, the template of
// its folders, depends on nothing but the topic and the partition.
//
// Errors: path does, or is none.
func Folder(path string, o *buffer.Origin) (string, error) {
	l, err := parseLayout(path)
	if err != nil {
		return "", fmt.Errorf("archive: %w", err)
	}
	dir, err := l.append(nil, &buffer.Record{Origin: o})
	if err != nil {
		return "", fmt.Errorf("archive: path %q: %w", path, err)
	}
	return string(dir), nil
}

// Ours reports whether a file of that name, without its folder, can be a finished
// file of o's records, or what was cut off one.
func Ours(o *buffer.Origin, name string) bool {
	rest, ok := strings.CutPrefix(name, filePrefix(o))
	if !ok || strings.HasSuffix(name, tornSuffix) {
		return ok
	}
	n, err := parseFileName(rest)
	return err == nil && !n.open
}
