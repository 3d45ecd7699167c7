package transform

import (
	"strings"
	"testing"

	"weir/buffer"
)

func TestDecodeKeepsEveryRecordAsItIs(t *testing.T) {
	for _, format := range []string{"json", "raw"} {
		t.Run(format, func(t *testing.T) {
			transform, err := Decode(format)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range values {
				r := &buffer.Record{Value: []byte(v.value)}
				keep, err := transform(r)
				if !keep || err != nil {
					t.Errorf("%s: keep %v, error %v", v.name, keep, err)
				}
				if string(r.Value) != v.value {
					t.Errorf("%s: the value became %.100q", v.name, r.Value)
				}
				want := v.want
				if format == "raw" {
					want = 0
				}
				if r.Shape != want {
					t.Errorf("%s: shape %05b, want %05b", v.name, r.Shape, want)
				}
			}
			tombstone := &buffer.Record{}
			if keep, err := transform(tombstone); !keep || err != nil || tombstone.Value != nil || tombstone.Shape != 0 {
				t.Errorf("a tombstone became %+v (keep %v, error %v)", tombstone, keep, err)
			}
		})
	}
}

func TestDecodeRefusesAnUnknownFormat(t *testing.T) {
	transform, err := Decode("avro")
	if transform != nil || err == nil || !strings.Contains(err.Error(), `"avro"`) {
		t.Errorf("got %v", err)
	}
}
