package bag

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"math"
	"os"
	"path"
	"slices"
	"strings"

	"weir/buffer"
	"weir/buffer/regular"
	"weir/sinks/archive"
)

// Problem is what is wrong with a file of a bag.
type Problem struct{ File, What string }

// Bag is a finished bag that is read.
type Bag struct {
	root *os.Root
	// After a check.
	checked string             // the folder; empty: nothing was checked
	payload map[string][]entry // by folder
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
	return &Bag{root: root}, nil
}

// Close closes the bag's folder.
func (b *Bag) Close() { _ = b.root.Close() }

// maxTag bounds a tag file that is read.
const maxTag = 64 << 20

// Tag reads a tag file of at most limit bytes, named relative to the folder weir.
func (b *Bag) Tag(name string, limit int64) ([]byte, error) {
	return regular.ReadIn(b.root, path.Join(tagFolder, name), limit)
}

// Tags are the names of the tag files below weir, in their order.
func (b *Bag) Tags() ([]string, error) {
	if err := regular.Folder(b.root, tagFolder); err != nil {
		return nil, err
	}
	var names []string
	err := fs.WalkDir(b.root.FS(), tagFolder, func(name string, e fs.DirEntry, err error) error {
		if len(names) == maxFiles {
			return fmt.Errorf("there are more than %d files in %q", maxFiles, tagFolder)
		}
		if err == nil && !e.IsDir() {
			names = append(names, strings.TrimPrefix(name, tagFolder+"/"))
		}
		return err
	})
	slices.Sort(names)
	return names, err
}

// maxFiles bounds the files of a bag that are looked at: each is remembered.
const maxFiles = 1 << 20

// Check checks the bag as RFC 8493 says, and more strictly: it must be complete and
// valid, hold nothing that no manifest lists, and be written as Finish writes it to
// the last byte. Each file is read once.
//
// Errors: of the disk, and of ctx. What is wrong with the bag is no error.
func (b *Bag) Check(ctx context.Context) ([]Problem, error) { return b.check(ctx, ".") }

// CheckRecords is Check of nothing but the files with the records of o, and of the
// lists.
func (b *Bag) CheckRecords(ctx context.Context, o *buffer.Origin) ([]Problem, error) {
	return b.check(ctx, Folder(o))
}

func (b *Bag) check(ctx context.Context, folder string) ([]Problem, error) {
	var found []Problem
	problem := func(file, format string, args ...any) {
		found = append(found, Problem{file, fmt.Sprintf(format, args...)})
	}
	if text, err := regular.ReadIn(b.root, declaration, maxTag); err != nil {
		return nil, err
	} else if string(text) != declared {
		problem(declaration, "it does not say what it should: version 1.0 and UTF-8")
	}
	listed := map[string]entry{}
	for _, name := range []string{payloadList, tagList} {
		text, err := regular.ReadIn(b.root, name, maxTag)
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
			if folder == "." || strings.HasPrefix(e.name, folder+"/") {
				listed[e.name] = e
			}
		}
	}
	there := map[string]bool{}
	b.checked, b.payload, b.files = folder, map[string][]entry{}, 0
	look := func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir():
			return nil
		case !e.Type().IsRegular():
			problem(name, "it is not a regular file")
			return nil
		case b.files == maxFiles:
			problem(name, "it is one more than the %d files that are looked at", maxFiles)
			return fs.SkipAll
		}
		b.files++
		if name == tagList {
			return nil // nothing lists it: it is judged by what it says
		}
		there[name] = true
		want, ok := listed[name]
		if !ok {
			problem(name, "no manifest lists it: it was put there later, or its name was changed")
		}
		payload := strings.HasPrefix(name, dataFolder+"/")
		if !ok && !payload {
			return nil
		}
		got, err := hashFile(ctx, b.root, name)
		if err != nil {
			return err
		}
		got.whole = ok && got.sum == want.sum
		if ok && !got.whole {
			problem(name, "its SHA-256 is %x, the manifest says %x: the file, or the line about it, was changed", got.sum, want.sum)
		}
		if payload {
			b.payload[path.Dir(name)] = append(b.payload[path.Dir(name)], got)
		}
		return nil
	}
	err := regular.Folder(b.root, folder)
	switch {
	case err == nil:
		if err := fs.WalkDir(b.root.FS(), folder, look); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrNotExist): // else as what is listed in it
		problem(folder, "%v", err)
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
	text, err := regular.ReadIn(b.root, infoFile, maxTag)
	if err != nil {
		return []Problem{{infoFile, err.Error()}}
	}
	var payload []entry
	for _, files := range b.payload {
		payload = append(payload, files...)
	}
	if !bytes.Equal(text, info(fields, payload)) {
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
	for _, folder := range slices.Sorted(maps.Keys(b.payload)) {
		for _, e := range b.payload[folder] {
			if !slices.ContainsFunc(folders[folder], func(o *buffer.Origin) bool { return archive.Ours(o, path.Base(e.name)) }) {
				found = append(found, Problem{e.name, "it is not a file of a partition of the case"})
			}
		}
	}
	return found
}

// Records yields the records of a partition as they were stored, as far as bounds
// allow, after a check of its files: one whose checksum is not right is not read.
// Errors name the file and the line, and stand in the place of what they are about;
// see archive.ReadFile.
func (b *Bag) Records(ctx context.Context, o *buffer.Origin, bounds archive.Bounds) iter.Seq2[*buffer.Record, error] {
	return func(yield func(*buffer.Record, error) bool) {
		folder := Folder(o)
		if b.checked != "." && b.checked != folder {
			yield(nil, fmt.Errorf("%s was not checked", folder))
			return
		}
		records(ctx, b.root, b.payload[folder], &bounds, yield)
	}
}

// Records is Bag.Records of a bag of ours that need not be finished, and of which
// nothing was checked.
func Records(ctx context.Context, dir string, o *buffer.Origin) iter.Seq2[*buffer.Record, error] {
	return func(yield func(*buffer.Record, error) bool) {
		root, err := os.OpenRoot(dir)
		if err != nil {
			yield(nil, fmt.Errorf("bag %q: %w", dir, err))
			return
		}
		defer func() { _ = root.Close() }()
		folder := Folder(o)
		if err = regular.Folder(root, folder); errors.Is(err, fs.ErrNotExist) {
			return // a partition without a record
		}
		var found []fs.DirEntry
		if err == nil {
			found, err = fs.ReadDir(root.FS(), folder)
		}
		if err != nil {
			yield(nil, fmt.Errorf("bag %q: %w", dir, err))
			return
		}
		var files []entry
		for _, e := range found {
			files = append(files, entry{name: path.Join(folder, e.Name()), whole: true})
		}
		records(ctx, root, files, &archive.Bounds{Records: math.MaxInt64, Content: math.MaxInt64}, yield)
	}
}

// records yields the records of those of the files that have some.
func records(ctx context.Context, root *os.Root, files []entry, bounds *archive.Bounds, yield func(*buffer.Record, error) bool) {
	for _, e := range files {
		if !archive.Holds(e.name) {
			continue
		}
		f, err := regular.OpenIn(root, e.name)
		if err == nil && !e.whole {
			_ = f.Close()
			err = fmt.Errorf("%q: its checksum is wrong, or it has none, so its records are not read", e.name)
		}
		if err != nil {
			if !yield(nil, err) {
				return
			}
			continue
		}
		more := archive.ReadFile(ctx, f, e.name, bounds, yield)
		_ = f.Close()
		if !more {
			return
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

// Files is how many files the bag has, after a Check.
func (b *Bag) Files() int { return b.files }
