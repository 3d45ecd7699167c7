package archive

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"weir/buffer"
)

// aFile is a file of an archive with what lines say.
func aFile(t *testing.T, name, content string) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestNoMoreOfAFileIsReadThanItsBoundsSay(t *testing.T) {
	const line = `{"topic":"t","topic_id":"","cluster":"","partition":0,"offset":1,"value":"12345"}` + "\n"
	padded := strings.Replace(line, ",", ","+strings.Repeat(" ", 600), 1)
	const most = math.MaxInt64
	for name, c := range map[string]struct {
		content         string
		bounds          Bounds
		records, faults int
		says            string
		goesOn          bool
	}{
		"all":          {strings.Repeat(line, 5), Bounds{5, 25, 0}, 5, 0, "", true},
		"records":      {strings.Repeat(line, 5), Bounds{4, most, 9}, 4, 1, "line 5: there are more records than there should be, and the rest is not read", false},
		"content":      {strings.Repeat(line, 5), Bounds{most, 24, 9}, 4, 1, "line 5: the records hold more than they should, and the rest is not read", false},
		"padded":       {line + padded + line, Bounds{most, most, 9}, 2, 1, "line 2: longer than weir writes it", true},
		"faults":       {line + strings.Repeat(padded, 5) + line, Bounds{most, most, 3}, 1, 4, "the rest is not read", false},
		"no more left": {line + padded + line, Bounds{most, most, 0}, 1, 1, "the rest is not read", false},
		"torn":         {line + line[:9], Bounds{most, most, 9}, 1, 1, "torn or damaged at byte", true},
		"torn again":   {line + line[:9], Bounds{most, most, 0}, 1, 1, "torn or damaged at byte", false},
	} {
		t.Run(name, func(t *testing.T) {
			var records int
			var faults []string
			more := ReadFile(t.Context(), aFile(t, "x.ndjson", c.content), "x.ndjson", &c.bounds, func(_ *buffer.Record, err error) bool {
				if err != nil {
					faults = append(faults, err.Error())
				} else {
					records++
				}
				return true
			})
			if records != c.records || len(faults) != c.faults || more != c.goesOn || c.faults > 0 && !strings.Contains(faults[c.faults-1], c.says) {
				t.Errorf("%d records, %q, goes on %v", records, faults, more)
			}
		})
	}
}

// A file that is small can take hours to decompress: nobody can wait for its first
// line.
func TestAnInterruptedReadingEndsBeforeTheNextLine(t *testing.T) {
	bomb := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0x38}
	const block = 128 << 10 // one byte stands for it; no line ever ends
	for range 1 << 18 {
		header := uint32(block<<3 | 1<<1)
		bomb = append(bomb, byte(header), byte(header>>8), byte(header>>16), ' ')
	}
	for name, content := range map[string]string{"x.ndjson": strings.Repeat("{}\n", 1000), "x.ndjson.zst": string(bomb)} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var got []error
		more := ReadFile(ctx, aFile(t, name, content), name, &Bounds{Faults: 9}, func(_ *buffer.Record, err error) bool { got = append(got, err); return true })
		if len(got) != 1 || !errors.Is(got[0], context.Canceled) || more {
			t.Errorf("%s: %v, %v", name, got, more)
		}
	}
}
