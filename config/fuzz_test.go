package config

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// FuzzLoad: whatever the file holds, it is a configuration that can be printed,
// or Faults with a text.
func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yaml")
	bad, _ := filepath.Glob("testdata/bad/*.yaml")
	for _, file := range append(files, bad...) {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(good))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := load(data, dir, []string{"WORD=a"})
		if err == nil {
			if err := cfg.Print(io.Discard); err != nil {
				t.Error(err)
			}
			return
		}
		var faults Faults
		if !errors.As(err, &faults) || len(faults) == 0 || err.Error() == "" {
			t.Errorf("%T: %v", err, err)
		}
	})
}
