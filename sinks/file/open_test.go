package file

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestTornTailIsCutOffAndTold(t *testing.T) {
	long, err := appendLine(nil, record(3))
	if err != nil {
		t.Fatal(err)
	}
	long = bytes.Replace(long, []byte(`{\"n\":3}`), bytes.Repeat([]byte("x"), 200_000), 1)
	for name, tail := range map[string]string{
		"one byte":             `{`,
		"in its first name":    `{"top`,
		"in the middle":        `{"topic":"edr.events","topic_id":"","clu`,
		"all but a line break": strings.TrimSuffix(string(long), "\n"),
		"zeros":                strings.Repeat("\x00", 5000),
		"zeros from some byte": `{"topic":"edr` + strings.Repeat("\x00", 5000),
	} {
		for _, before := range [][]int64{nil, {1, 2}} {
			t.Run(name, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "weir.dlq")
				s := open(t, path)
				deliver(t, s, batch(before...))
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				whole := content(t, path)
				if err := os.WriteFile(path, []byte(whole+tail), 0o600); err != nil {
					t.Fatal(err)
				}
				var told bytes.Buffer
				s, err := New(path, slog.New(slog.NewTextHandler(&told, nil)))
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				if got := content(t, path); got != whole {
					t.Errorf("%d bytes are left, want the %d of the whole lines", len(got), len(whole))
				}
				deliver(t, s, batch(9))
				wantOffsets(t, path, append(before, 9)...)
				if log := told.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, path) || strings.Contains(log, "edr") {
					t.Errorf("want one log line with the path and without content, got %q", log)
				}
			})
		}
	}
}

func TestWholeFileIsNotToldAbout(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.dlq")
	s := open(t, path)
	deliver(t, s, batch(1))
	_ = s.Close()
	var told bytes.Buffer
	s, err := New(path, slog.New(slog.NewTextHandler(&told, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if told.Len() != 0 {
		t.Errorf("log %q", told.String())
	}
}

// Cutting off the last line of another file would destroy it.
func TestForeignFileIsRefusedAndLeftAlone(t *testing.T) {
	line, err := appendLine(nil, record(1))
	if err != nil {
		t.Fatal(err)
	}
	for name, was := range map[string]string{
		"text":                         "root:x:0:0\n",
		"text without a line break":    "secret",
		"other NDJSON":                 "{\"a\":1}\n",
		"other NDJSON, torn":           "{\"a\":",
		"our lines, a foreign last":    string(line) + "secret",
		"a foreign first, then ours":   "secret\n" + string(line),
		"a long line without an end":   strings.Repeat("x", 200_000),
		"an empty line before a line":  "\n" + string(line),
		"foreign with zeros behind it": "{\"a\"\x00\x00\x00\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "weir.dlq")
			if err := os.WriteFile(path, []byte(was), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := New(path, quiet)
			if !errors.Is(err, errNotOurs) || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v, want one that says it is not ours and not what is in it", err)
			}
			if got := content(t, path); got != was {
				t.Errorf("the file became %.40q", got)
			}
		})
	}
}

func TestOnlyARegularFileIsOpened(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func(path string) error{
		"symbolic link":          func(path string) error { return os.Symlink(other, path) },
		"dangling symbolic link": func(path string) error { return os.Symlink(other+".not", path) },
		"folder":                 func(path string) error { return os.Mkdir(path, 0o700) },
		"pipe":                   func(path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name)
			if err := make(path); err != nil {
				t.Fatal(err)
			}
			if _, err := New(path, quiet); !errors.Is(err, errNotOurs) {
				t.Errorf("New: %v", err)
			}
			if name == "folder" {
				return // opens for reading, as folders do, and is found out then
			}
			for r, err := range Read(path) {
				if r != nil || !errors.Is(err, errNotOurs) {
					t.Errorf("Read: %v, %v", r, err)
				}
			}
		})
	}
	if _, err := os.Lstat(other + ".not"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a file was made through the link")
	}
}

func TestLinkPutInThePlaceOfAnOpenFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.dlq")
	s := open(t, path)
	if err := errors.Join(os.Rename(path, path+".1"), os.Symlink(path+".1", path)); err != nil {
		t.Fatal(err)
	}
	if err := refused(t, s, batch(1), errNotOurs); !err.Misconfigured {
		t.Error("the error does not say that a setting is wrong")
	}
	wantOffsets(t, path+".1")
}

func TestOneFileHasOneWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.dlq")
	first := open(t, path)
	if _, err := New(path, quiet); !errors.Is(err, errNotOurs) || !strings.Contains(err.Error(), "locked") {
		t.Fatalf("the second opened: %v", err)
	}
	deliver(t, first, batch(1))
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	deliver(t, open(t, path), batch(2))
	wantOffsets(t, path, 1, 2)
}
