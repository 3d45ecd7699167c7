package file

import (
	"path/filepath"
	"testing"

	"weir/sinks/sinktest"
)

func TestConformance(t *testing.T) {
	sinktest.Conform(t, sinktest.Subject{Open: func(t *testing.T) sinktest.Place {
		path := filepath.Join(t.TempDir(), "letters.ndjson")
		return sinktest.Place{Sink: open(t, path), Stored: func() map[int]int {
			var texts [][]byte
			for r, err := range Read(path) {
				if err == nil { // another Deliver may be in the middle of a line
					texts = append(texts, r.Value)
				}
			}
			return sinktest.Numbers(texts...)
		}}
	}})
}
