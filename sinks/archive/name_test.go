package archive

import (
	"bytes"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"weir/buffer"
	"weir/sinks/splice"
)

// hostile are texts that a producer could choose to get out of the folder.
var hostile = []string{"", ".", "..", "...", "/", "//", "/etc/passwd", "../../../etc/passwd", "..\\..", "a/../..", "a\x00b", "a\nb", "\x1b[2J", "C:",
	"-rf", "~", "$HOME", "*", "con", "\xff\xfe", "日本語", strings.Repeat("a", 5000), strings.Repeat("../", 5000), "%2e%2e", ".weir.lock", ".hidden"}

func TestNamesStayInTheirFolder(t *testing.T) {
	for _, text := range hostile {
		checkName(t, text)
	}
}

func FuzzName(f *testing.F) {
	for _, text := range hostile {
		f.Add(text)
	}
	f.Fuzz(checkName)
}

func checkName(t *testing.T, text string) {
	got := string(appendName(nil, []byte(text)))
	if len(got) == 0 || len(got) > maxName || got[0] == '.' || path.Base(path.Clean("/"+got)) != got {
		t.Errorf("%.60q becomes %q", text, got)
	}
	for _, c := range []byte(got) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`/\:*?"<>|`, c) >= 0 {
			t.Errorf("%.60q becomes %q", text, got)
		}
	}
	o := &buffer.Origin{Topic: text, Partition: 2}
	prefix := filePrefix(o)
	for _, n := range []fileName{{span{1, 1 << 40}, zst, false}, {span{7, 7}, gz, true}, {span{0, 0}, plain, false}} {
		if back, err := parseFileName(n.String()); err != nil || back != n {
			t.Errorf("%v comes back as %v, %v", n, back, err)
		}
		if len(prefix+n.String())+30 > 255 {
			t.Errorf("a name of %d bytes", len(prefix+n.String()))
		}
		if n.open && openPrefix(prefix+n.String()) != prefix {
			t.Errorf("the prefix of %q", prefix+n.String())
		}
	}
	other := *o
	other.Topic += "x"
	if filePrefix(&other) == prefix {
		t.Errorf("%.60q and another topic have the same files", text)
	}
}

func FuzzParseFileName(f *testing.F) {
	f.Add("0000000000000000001-0000000000000000003.ndjson.zst")
	f.Add("0000000000000000001.ndjson.open")
	f.Add("9999999999999999999.ndjson.gz.open")
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseFileName(s)
		if err == nil && n.String() != s {
			t.Errorf("%q is read as %q", s, n)
		}
		_ = openPrefix(s)
	})
}

func TestLayoutsThatLeaveTheFolderAreRefused(t *testing.T) {
	for _, s := range []string{"/", "/a", "a/", "a//b", "..", "a/../b", ".", "a/.b", "{topic", "topic}", "{time:2006/01/02}", "a b", "a\x00", "{x..y}",
		strings.Repeat("a/", 16) + "a", strings.Repeat("a", 200)} {
		if _, err := parseLayout(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
	for _, s := range []string{"", "{topic}", "{topic}/{time:2006-01-02}", "year={time:2006}/a.b/{partition}", "{a.b}"} {
		if _, err := parseLayout(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// Topics and fields that point out of the folder, and a symbolic link that
// somebody put into it.
func TestNothingIsWrittenOutsideOfTheFolder(t *testing.T) {
	parent := t.TempDir()
	cfg := testConfig(filepath.Join(parent, "archive"))
	cfg.Path = "{topic}/{a}"
	outside := filepath.Join(parent, "outside")
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(outside, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(cfg.Dir, "link")); err != nil {
		t.Fatal(err)
	}
	s := mustNew(t, cfg)
	b := &buffer.Batch{}
	for i, text := range hostile {
		r := record(int64(i))
		r.Origin.Topic = text
		r.Value = splice.AppendEscaped([]byte(`{"a":"`), bytes.ToValidUTF8([]byte(text), nil))
		r.Value = append(r.Value, `"}`...)
		b.Add(r)
	}
	link := record(1000)
	link.Origin.Topic, link.Value = "link", []byte(`{"a":"x"}`)
	b.Add(link)
	_, _ = s.Deliver(t.Context(), b, nil) // some are longer than a field may be
	s.Close()
	var found []string
	err := filepath.WalkDir(parent, func(name string, _ fs.DirEntry, err error) error {
		if !strings.HasPrefix(name, cfg.Dir) {
			found = append(found, name)
		}
		return err
	})
	if err != nil || !slices.Equal(found, []string{parent, outside}) {
		t.Errorf("outside of the archive: %q, %v", found, err)
	}
	if len(files(t, cfg.Dir)) < 10 {
		t.Errorf("in it: %q", files(t, cfg.Dir))
	}
}
