package replay

import (
	"bytes"
	"strings"
	"testing"
)

// What is taken for a plan says what can be done, and is read as the same when it is
// written anew.
func FuzzDecodePlan(f *testing.F) {
	text, err := samplePlan().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\n"), nil), []byte("  "), nil))
	f.Add([]byte(strings.Replace(string(text), `"partitions": [`, `"partitions": [{},`, 1)))
	f.Add([]byte(strings.Replace(string(text), `"slack": ""`, `"slack": "-1h"`, 1)))
	f.Add([]byte(`{"version":1,"case":"a","from":"2026-03-01T00:00:00Z","to":"2026-03-02T00:00:00Z","topics":[{"name":"t","partitions":null}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := DecodePlan(text)
		if err != nil {
			return
		}
		for i := range p.Topics {
			for _, one := range p.Topics[i].Partitions {
				if topic, found := p.Partition(p.Topics[i].Name, one.Number); topic == nil || found == nil || found.Offsets() < 0 || found.First < 0 {
					t.Errorf("partition %+v is found as %+v", one, found)
				}
			}
		}
		_, _ = p.Total(), p.Urgent()
		again, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		same, err := DecodePlan(again)
		if err != nil {
			t.Fatalf("%v: %s", err, again)
		}
		if once, err := same.Encode(); err != nil || !bytes.Equal(once, again) {
			t.Errorf("%s\nis read as\n%s\n%v", again, once, err)
		}
	})
}
