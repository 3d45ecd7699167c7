package bag

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"weir/buffer/regular"
	"weir/sinks/archive"
)

// entry is a line of a manifest.
type entry struct {
	name string
	sum  [sha256.Size]byte
	// Not in the manifest.
	size  int64
	whole bool // the checksum is the one that is listed
}

// Finish makes a bag of what was filled according to plan, with tag files, named
// relative to the folder weir, and the fields of bag-info.txt. Everything is
// durable when it returns. Interrupted, it can be called again.
//
// Errors: somebody is filling the bag; it is another plan's, or finished; of the
// disk, or of ctx.
func Finish(ctx context.Context, dir string, plan []byte, fields []Field, tags map[string][]byte, log *slog.Logger) error {
	if err := claim(dir, plan); err != nil {
		return err
	}
	fail := func(err error) error { return fmt.Errorf("finishing bag %q: %w", dir, err) }
	release, err := archive.Finish(filepath.Join(dir, dataFolder), log)
	if err != nil {
		return fail(err)
	}
	released := false
	defer func() {
		if !released {
			_ = release()
		}
	}()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = root.Close() }()
	if err := clearTags(root); err != nil {
		return fail(err)
	}
	payload, err := hashAll(ctx, root, dataFolder)
	if err != nil {
		return fail(err)
	}
	payload = slices.DeleteFunc(payload, func(e entry) bool { return e.name == dataFolder+"/"+archive.LockFile })

	all := map[string][]byte{infoFile: info(fields, payload), payloadList: list(payload)}
	for name, content := range tags {
		full := path.Join(tagFolder, name)
		if !fs.ValidPath(name) || full == PlanFile || strings.HasSuffix(name, partSuffix) {
			return fail(fmt.Errorf("%q cannot be the name of a tag file", name))
		}
		all[full] = content
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if err := write(root, name, all[name]); err != nil {
			return fail(err)
		}
	}
	all[PlanFile], all[declaration] = plan, []byte(declared)
	var tagged []entry
	for name, content := range all {
		tagged = append(tagged, entry{name: name, sum: sha256.Sum256(content)})
	}
	if err := write(root, tagList, list(tagged)); err != nil {
		return fail(err)
	}
	released = true
	if err := release(); err != nil {
		return fail(err)
	}
	if err := write(root, declaration, []byte(declared)); err != nil {
		return fail(err)
	}
	return nil
}

// Settle finishes the files that killed workers left open, so that all records of a
// bag can be read. It can be filled further.
//
// Errors: as Finish.
func Settle(dir string, plan []byte, log *slog.Logger) error {
	if err := claim(dir, plan); err != nil {
		return err
	}
	release, err := archive.Finish(filepath.Join(dir, dataFolder), log)
	if err == nil {
		err = release()
	}
	if err != nil {
		return fmt.Errorf("settling bag %q: %w", dir, err)
	}
	return nil
}

// Reopen takes back that a bag was finished: it can be filled again, and Finish be
// called again.
func Reopen(dir string) error {
	root, err := os.OpenRoot(dir)
	if err == nil {
		err = root.Remove(declaration)
		if err == nil {
			err = syncRoot(root, ".")
		}
		err = errors.Join(err, root.Close())
	}
	if err != nil {
		return fmt.Errorf("reopening bag %q: %w", dir, err)
	}
	return nil
}

// clearTags removes what an earlier Finish left that was interrupted.
func clearTags(root *os.Root) error {
	entries, err := fs.ReadDir(root.FS(), tagFolder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if name := path.Join(tagFolder, e.Name()); name != PlanFile {
			if err := root.RemoveAll(name); err != nil {
				return err
			}
		}
	}
	for _, name := range []string{infoFile, payloadList, tagList, declaration} {
		if err := root.Remove(name + partSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// hashAll hashes all files below a folder, in the order of their names.
func hashAll(ctx context.Context, root *os.Root, folder string) ([]entry, error) {
	var all []entry
	err := fs.WalkDir(root.FS(), folder, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if !e.Type().IsRegular() {
			return fmt.Errorf("%q is not a regular file", name)
		}
		one, err := hashFile(ctx, root, name)
		all = append(all, one)
		return err
	})
	return all, err
}

func hashFile(ctx context.Context, root *os.Root, name string) (entry, error) {
	e := entry{name: name}
	f, err := regular.OpenIn(root, name)
	if err != nil {
		return e, err
	}
	defer f.Close()
	h := sha256.New()
	piece := make([]byte, 256<<10)
	for {
		n, err := f.Read(piece)
		h.Write(piece[:n])
		e.size += int64(n)
		if errors.Is(err, io.EOF) {
			h.Sum(e.sum[:0])
			return e, nil
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return e, fmt.Errorf("%q: %w", name, err)
		}
	}
}

// list is a manifest (RFC 8493, 2.1.3), in the order of the names.
func list(entries []entry) []byte {
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	var b bytes.Buffer
	for _, e := range entries {
		fmt.Fprintf(&b, "%s  %s\n", hex.EncodeToString(e.sum[:]), escaped.Replace(e.name))
	}
	return b.Bytes()
}

// What stands for itself nowhere in a manifest.
var (
	escaped   = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	unescaped = strings.NewReplacer("%25", "%", "%0D", "\r", "%0A", "\n")
)

// oneLine is s without what would end its line in bag-info.txt.
func oneLine(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == '\u0085' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD")))
}
