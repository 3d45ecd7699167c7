package file

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"weir/buffer"
)

// FuzzOpen: whatever is under the file's name, it is left alone, or it is ours:
// then no whole line of it is touched, and what is appended can be read.
func FuzzOpen(f *testing.F) {
	line, err := appendLine(nil, &buffer.Record{Origin: &buffer.Origin{Topic: "t"}, Offset: 1, Value: []byte("v")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
	f.Add(line)
	f.Add(append(bytes.Clone(line), line[:20]...))
	f.Add(line[:3])
	f.Add([]byte("\x00\x00\x00"))
	f.Add([]byte("root:x:0:0::/root:/bin/sh\n"))
	f.Add(append(bytes.Clone(line), "root:x:0:0"...))
	f.Add(bytes.Repeat([]byte("\n"), 70_000))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, was []byte) {
		path := filepath.Join(dir, "dead.jsonl")
		if err := os.WriteFile(path, was, 0o600); err != nil {
			t.Fatal(err)
		}
		whole := was[:bytes.LastIndexByte(was, '\n')+1]
		s, err := New(path, slog.New(slog.DiscardHandler))
		if err != nil {
			if now, _ := os.ReadFile(path); !bytes.Equal(now, was) {
				t.Fatalf("refused, and yet changed from %q to %q", was, now)
			}
			return
		}
		r := &buffer.Record{Origin: &buffer.Origin{Topic: "t"}, Offset: 7, Value: []byte("new")}
		var b buffer.Batch
		b.Add(r)
		if _, err := s.Deliver(t.Context(), &b, nil); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		now, err := os.ReadFile(path)
		if err != nil || !bytes.HasPrefix(now, whole) {
			t.Fatalf("%q became %q", was, now)
		}
		var last *buffer.Record
		for r, err := range Read(path) {
			if last = r; err != nil {
				last = nil
			}
		}
		if last == nil || last.Offset != 7 || string(last.Value) != "new" {
			t.Fatalf("what was appended to %q is not read", was)
		}
	})
}
