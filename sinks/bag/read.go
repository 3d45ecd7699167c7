package bag

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"weir/buffer"
	"weir/sinks/archive"
)

// Problem is what is wrong with a file of a bag.
type Problem struct{ File, What string }

// Bag is a finished bag that is read.
type Bag struct {
	dir  string
	root *os.Root
	// After a Check.
	payload []entry
	files   int
}

// OpenBag opens a finished bag. Nothing is checked yet but that it is one.
func OpenBag(dir string) (*Bag, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("bag %q: %w", dir, err)
	}
	if _, err := root.Lstat(declaration); err != nil {
		_ = root.Close()
		if errors.Is(err, fs.ErrNotExist) {
			err = errors.New("there is no bagit.txt: it is no bag, or one that is not finished")
		}
		return nil, fmt.Errorf("bag %q: %w", dir, err)
	}
	return &Bag{dir: dir, root: root}, nil
}

// Close closes the bag's folder.
func (b *Bag) Close() { _ = b.root.Close() }

// maxTag bounds a tag file that is read.
const maxTag = 64 << 20

// Tag reads a tag file, named relative to the folder weir.
func (b *Bag) Tag(name string) ([]byte, error) {
	return readFile(b.root, path.Join(tagFolder, name), maxTag)
}

// Tags are the names of the tag files below weir, in their order.
func (b *Bag) Tags() ([]string, error) {
	var names []string
	err := fs.WalkDir(b.root.FS(), tagFolder, func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, strings.TrimPrefix(name, tagFolder+"/"))
		}
		return err
	})
	return names, err
}

// Check checks the bag as RFC 8493 says, and more strictly: it must be complete and
// valid, hold nothing that no manifest lists, and be written as Finish writes it to
// the last byte. Each file is read once.
//
// Errors: of the disk, and of ctx. What is wrong with the bag is no error.
func (b *Bag) Check(ctx context.Context) ([]Problem, error) {
	var found []Problem
	problem := func(file, format string, args ...any) {
		found = append(found, Problem{file, fmt.Sprintf(format, args...)})
	}
	if text, err := readFile(b.root, declaration, maxTag); err != nil {
		return nil, err
	} else if string(text) != declared {
		problem(declaration, "it does not say what it should: version 1.0 and UTF-8")
	}
	listed := map[string]entry{}
	for _, name := range []string{payloadList, tagList} {
		text, err := readFile(b.root, name, maxTag)
		if errors.Is(err, fs.ErrNotExist) {
			problem(name, "it is missing")
			continue
		} else if err != nil {
			return nil, err
		}
		entries, err := parseList(text)
		if err != nil {
			problem(name, "%v", err)
		}
		for _, e := range entries {
			if (name == payloadList) != strings.HasPrefix(e.name, dataFolder+"/") || e.name == tagList {
				problem(name, "it lists %q, which does not belong there", e.name)
				continue
			}
			listed[e.name] = e
		}
	}
	there := map[string]bool{}
	b.payload, b.files = nil, 0
	err := fs.WalkDir(b.root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir():
			return nil
		case !e.Type().IsRegular():
			problem(name, "it is not a regular file")
			return nil
		}
		b.files++
		if name == tagList {
			return nil // nothing lists it: it is judged by what it says
		}
		there[name] = true
		want, ok := listed[name]
		if !ok {
			problem(name, "no manifest lists it: it was put there later, or its name was changed")
			return nil
		}
		got, err := hashFile(ctx, b.root, name)
		if err != nil {
			return err
		}
		if got.sum != want.sum {
			problem(name, "its SHA-256 is %x, the manifest says %x: the file, or the line about it, was changed", got.sum, want.sum)
		}
		if strings.HasPrefix(name, dataFolder+"/") {
			b.payload = append(b.payload, got)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for name := range listed {
		if !there[name] {
			problem(name, "a manifest lists it, and it is not there")
		}
	}
	slices.SortFunc(found, func(x, y Problem) int {
		return strings.Compare(x.File+"\x00"+x.What, y.File+"\x00"+y.What)
	})
	return found, nil
}

// CheckInfo says whether bag-info.txt has these fields, after a Check.
func (b *Bag) CheckInfo(fields []Field) []Problem {
	text, err := readFile(b.root, infoFile, maxTag)
	if err != nil {
		return []Problem{{infoFile, err.Error()}}
	}
	if !bytes.Equal(text, info(fields, b.payload)) {
		return []Problem{{infoFile, "it does not say what follows from the signed manifest and the payload"}}
	}
	return nil
}

// CheckPlaces says which files of the payload belong to none of these partitions,
// after a Check.
func (b *Bag) CheckPlaces(origins []*buffer.Origin) []Problem {
	folders := map[string][]*buffer.Origin{}
	for _, o := range origins {
		folders[Folder(o)] = append(folders[Folder(o)], o)
	}
	var found []Problem
	for _, e := range b.payload {
		if !slices.ContainsFunc(folders[path.Dir(e.name)], func(o *buffer.Origin) bool { return archive.Ours(o, path.Base(e.name)) }) {
			found = append(found, Problem{e.name, "it is not a file of a partition of the case"})
		}
	}
	return found
}

// Records yields the records of a partition as they were stored. Errors name the
// file and the line, and stand in the place of what they are about.
func (b *Bag) Records(o *buffer.Origin) iter.Seq2[*buffer.Record, error] { return Records(b.dir, o) }

// Records is Bag.Records of a bag that need not be finished.
func Records(dir string, o *buffer.Origin) iter.Seq2[*buffer.Record, error] {
	return func(yield func(*buffer.Record, error) bool) {
		folder := Folder(o)
		path := filepath.Join(dir, filepath.FromSlash(folder))
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return // a partition without a record
		}
		for r, err := range archive.Read(path) {
			if err != nil {
				err = fmt.Errorf("%s: %w", folder, err)
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// parseList reads a manifest as list writes it.
func parseList(text []byte) ([]entry, error) {
	var all []entry
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		var e entry
		sum, name, ok := strings.Cut(line, "  ")
		raw, err := hex.DecodeString(sum)
		name, whole := strings.CutSuffix(name, "\n")
		e.name = unescaped.Replace(name)
		if !ok || err != nil || len(raw) != len(e.sum) || !whole || !fs.ValidPath(e.name) || e.name == "." {
			return all, fmt.Errorf("line %d is not a SHA-256, two spaces and the name of a file in the bag", number)
		}
		copy(e.sum[:], raw)
		if n := len(all); n > 0 && all[n-1].name >= e.name {
			return all, fmt.Errorf("line %d is not in its place: lines are in the order of the names, each once", number)
		}
		all = append(all, e)
	}
	if !bytes.Equal(list(slices.Clone(all)), text) {
		return all, errors.New("it is not written as weir writes it")
	}
	return all, nil
}

// openRegular opens a file that is one, and waits for nobody.
func openRegular(root *os.Root, name string) (*os.File, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		_ = f.Close()
		return nil, errors.Join(err, fmt.Errorf("%q is not a regular file", name))
	}
	return f, nil
}

// readFile reads a file of at most so many bytes.
func readFile(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := openRegular(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = fmt.Errorf("%q is longer than %d bytes", name, limit)
	}
	return content, err
}

// Files is how many files the bag has, after a Check.
func (b *Bag) Files() int { return b.files }
