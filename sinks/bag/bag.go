// Package bag is the sink that keeps the records of a case in a bag: the folder
// layout of RFC 8493 (BagIt), which other tools check, around the files of package
// archive. While it is filled it looks like this
//
//	data/TOPIC/PARTITION/...ndjson.zst    the records
//	weir/plan.json                        whose bag it is
//
// and Finish adds the rest: bagit.txt, bag-info.txt, the manifests of the payload
// and of the tag files, and the tag files that it is given. bagit.txt comes last: a
// folder without it is no bag yet.
package bag

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"weir/buffer"
	"weir/buffer/regular"
	"weir/sinks"
	"weir/sinks/archive"
)

// The names in a bag.
const (
	dataFolder  = "data"
	tagFolder   = "weir"
	declaration = "bagit.txt"
	infoFile    = "bag-info.txt"
	payloadList = "manifest-sha256.txt"
	tagList     = "tagmanifest-sha256.txt"

	// PlanFile is the tag file that says whose bag it is.
	PlanFile = tagFolder + "/plan.json"
	// TagFolder is where the tag files are that Finish is given.
	TagFolder = tagFolder

	// layout is that of the archive below data.
	layout = "{topic}/{partition}"
)

// declared is what bagit.txt says (RFC 8493, 2.1.1).
const declared = "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"

// Config says where a bag is filled.
type Config struct {
	// Dir is the bag's folder. It is made when only it is missing.
	Dir string
	// Plan is the plan whose records are put into it: another one cannot be.
	Plan []byte
	// RotateBytes is how long a file gets, compressed, before another one is begun.
	RotateBytes int64
	Log         *slog.Logger
	// Observe is called once for every Deliver: 200 when all was stored, else 0, and
	// how long it took. Nil: not called.
	Observe func(status int, took time.Duration)
}

// Sink stores records in a bag. It is a sink of grade A.
type Sink struct {
	archive *archive.Sink
	dir     string
	told    teller
}

// DefaultRotateBytes is a size that can be copied and hashed at ease.
const DefaultRotateBytes = 256 << 20

// Open makes the bag, or goes on with one that is being filled according to the
// same plan.
//
// Errors: the folder holds something else; the bag is finished; of the disk.
func Open(cfg Config) (*Sink, error) {
	if err := claim(cfg.Dir, cfg.Plan); err != nil {
		return nil, err
	}
	if cfg.RotateBytes == 0 {
		cfg.RotateBytes = DefaultRotateBytes
	}
	a, err := archive.New(archive.Config{
		Dir: filepath.Join(cfg.Dir, dataFolder), Path: layout, Compression: "zstd",
		// A bag is finished by Finish and not by the clock.
		RotateBytes: cfg.RotateBytes, RotateAfter: 10 * 365 * 24 * time.Hour,
		Log: cfg.Log, Observe: cfg.Observe,
	})
	if err != nil {
		return nil, err
	}
	return &Sink{archive: a, dir: cfg.Dir}, nil
}

// Deliver stores the records of b that are not stored yet, and returns when all
// are durable: see archive.Sink.
func (s *Sink) Deliver(ctx context.Context, b *buffer.Batch, answered func(sinks.Note)) ([]sinks.Outcome, error) {
	return s.archive.Deliver(ctx, b, answered)
}

// Grade is what the sink can promise, and why in a sentence.
func (s *Sink) Grade() (sinks.Grade, string) {
	return sinks.GradeA, "durable, and a record that is sent twice is stored once in this bag"
}

// Check looks whether the bag can be written to.
func (s *Sink) Check(ctx context.Context) []sinks.Finding { return s.archive.Check(ctx) }

// Close waits for what is being written, and unlocks the bag.
func (s *Sink) Close() { s.archive.Close() }

// claim makes dir the bag of a plan, unless it is that already.
//
// The plan is written under another name first: one that is there is whole. A
// process that dies before leaves an empty folder, or one that is as good as
// empty.
func claim(dir string, plan []byte) error {
	if len(plan) == 0 {
		return errors.New("bag: a plan is needed")
	}
	if err := os.Mkdir(dir, 0o700); err == nil {
		if err := syncDir(filepath.Dir(filepath.Clean(dir))); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("bag %q: %w (only the last folder is made)", dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("bag %q: %w", dir, err)
	}
	defer func() { _ = root.Close() }()
	if err := mine(root, plan); err != nil {
		return fmt.Errorf("bag %q: %w", dir, err)
	}
	if _, err := root.Lstat(PlanFile); err == nil {
		return nil
	}
	err = write(root, PlanFile, plan)
	if err == nil {
		err = syncRoot(root, ".")
	}
	if err != nil {
		return fmt.Errorf("bag %q: %w", dir, err)
	}
	return nil
}

// errForeign: what is in the folder is not ours to add to.
var errForeign = errors.New("it is not empty, and not a bag that is being filled according to this plan; name a folder that is empty or not there")

// mine says whether a folder is empty, or the unfinished bag of the plan.
func mine(root *os.Root, plan []byte) error {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return err
	}
	empty := true
	for _, e := range entries {
		switch e.Name() {
		case declaration:
			return errors.New("it is a bag that is finished: nothing is added to it")
		case dataFolder, tagFolder:
			if !e.IsDir() {
				return errForeign
			}
		case infoFile, payloadList, tagList: // Finish was interrupted
			if !e.Type().IsRegular() {
				return errForeign
			}
		case infoFile + partSuffix, payloadList + partSuffix, tagList + partSuffix, declaration + partSuffix:
		default:
			return errForeign
		}
		empty = empty && e.Name() == tagFolder
	}
	there, err := regular.ReadIn(root, PlanFile, int64(len(plan))+1)
	switch {
	case errors.Is(err, fs.ErrNotExist) && empty:
		return onlyPart(root)
	case errors.Is(err, fs.ErrNotExist):
		return errForeign
	case err != nil:
		return err
	case !bytes.Equal(there, plan):
		return errors.New("it is being filled according to another plan; every plan needs a bag of its own")
	}
	return nil
}

// onlyPart says whether nothing was put into the folder of the tag files but a
// part of a plan.
func onlyPart(root *os.Root) error {
	entries, err := fs.ReadDir(root.FS(), tagFolder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != path.Base(PlanFile)+partSuffix {
			return errForeign
		}
	}
	return nil
}

// partSuffix marks a file that is not yet written to its end.
const partSuffix = ".part"

// write writes a file, and the folders above it, durably and in one go: it is
// there as a whole or not at all.
func write(root *os.Root, name string, content []byte) error {
	if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	part := name + partSuffix
	f, err := root.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = root.Rename(part, name)
	}
	if err != nil {
		return errors.Join(err, root.Remove(part))
	}
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		if err := syncRoot(root, dir); err != nil || dir == "." {
			return err
		}
	}
}

func syncRoot(root *os.Root, name string) error {
	d, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Folder is where in a bag the records of o are.
func Folder(o *buffer.Origin) string {
	dir, err := archive.Folder(dataFolder+"/"+layout, o)
	if err != nil {
		panic("bag: " + err.Error()) // the layout is ours, and needs no event
	}
	return path.Clean(dir)
}

// Field is one line of bag-info.txt.
type Field struct{ Name, Value string }

// info is the content of bag-info.txt (RFC 8493, 2.2.2): one line a field,
// whatever is in it.
func info(fields []Field, payload []entry) []byte {
	var size int64
	for _, e := range payload {
		size += e.size
	}
	var b bytes.Buffer
	fields = append(slices.Clone(fields), Field{"Payload-Oxum", strconv.FormatInt(size, 10) + "." + strconv.Itoa(len(payload))})
	for _, f := range fields {
		fmt.Fprintf(&b, "%s: %s\n", f.Name, oneLine(f.Value))
	}
	return b.Bytes()
}
