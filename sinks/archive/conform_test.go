package archive

import (
	"testing"

	"weir/sinks/sinktest"
)

func TestConformance(t *testing.T) {
	for _, compression := range []string{"zstd", "none"} {
		t.Run(compression, func(t *testing.T) {
			sinktest.Conform(t, sinktest.Subject{Once: true, Open: func(t *testing.T) sinktest.Place {
				cfg := testConfig(t.TempDir())
				cfg.Compression, cfg.RotateBytes = compression, 20_000
				return sinktest.Place{Sink: mustNew(t, cfg), Stored: func() map[int]int {
					var texts [][]byte
					for r, err := range Read(cfg.Dir) {
						if err == nil { // another Deliver may be in the middle of a frame
							texts = append(texts, r.Value)
						}
					}
					return sinktest.Numbers(texts...)
				}}
			}})
		})
	}
}
