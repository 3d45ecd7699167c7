package regular

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// beside is a folder with a file, and links and a pipe that are none.
func beside(t *testing.T) (dir string, root *os.Root) {
	dir = t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "a/b/file"), []byte("12345"), 0o600))
	must(t, os.Symlink("file", filepath.Join(dir, "a/b/link")))
	must(t, os.Symlink("a", filepath.Join(dir, "folder")))
	must(t, os.Symlink("/etc", filepath.Join(dir, "outside")))
	must(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	root, err := os.OpenRoot(dir)
	must(t, err)
	t.Cleanup(func() { _ = root.Close() })
	return dir, root
}

func TestNoLinkIsFollowedAndNoPipeWaitedFor(t *testing.T) {
	dir, root := beside(t)
	if content, err := ReadIn(root, "a/b/file", 5); err != nil || string(content) != "12345" {
		t.Errorf("%q, %v", content, err)
	}
	for _, name := range []string{"a/b/link", "folder/b/file", "outside/passwd", "pipe", "a/b", "a/b/file/x", "none"} {
		if f, err := OpenIn(root, name); err == nil {
			t.Errorf("%q was opened: %v", name, f.Name())
		}
	}
	for _, name := range []string{"pipe", "a", "none"} {
		if f, err := Open(filepath.Join(dir, name)); err == nil {
			t.Errorf("%q was opened: %v", name, f.Name())
		}
	}
	if err := Folder(root, "folder/b"); err == nil || !strings.Contains(err.Error(), `"folder"`) {
		t.Error(err)
	}
}

func TestNoMoreIsReadThanWasSaid(t *testing.T) {
	dir, root := beside(t)
	for _, limit := range []int64{0, 4} {
		if content, err := ReadIn(root, "a/b/file", limit); !errors.Is(err, ErrLong) {
			t.Errorf("%q, %v", content, err)
		}
	}
	for _, limit := range []int64{5, 6, 1 << 40} {
		if content, err := Read(filepath.Join(dir, "a/b/file"), limit); err != nil || string(content) != "12345" {
			t.Errorf("%q, %v", content, err)
		}
	}
	if _, err := os.Stat("/proc/self/status"); err != nil {
		return
	}
	// Its size says nothing of what it holds.
	if content, err := Read("/proc/self/status", 10); err == nil {
		t.Errorf("%q", content)
	}
	if content, err := Read("/proc/self/status", 1<<20); err != nil || len(content) < 100 {
		t.Errorf("%q, %v", content, err)
	}
}
