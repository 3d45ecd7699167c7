package buffer

import (
	"bytes"
	"testing"
)

func TestChunkKeepsItsOwnCopy(t *testing.T) {
	value, key, hv := []byte("value"), []byte("key"), []byte("hv")
	run := []Record{
		{Offset: 1, Value: value, Key: key, Headers: []Header{{Key: "h", Value: hv}, {Key: "nil"}}},
		{Offset: 2, Value: nil, Key: []byte{}},
	}
	c := NewChunk(run, 999)
	for _, b := range [][]byte{value, key, hv} {
		clear(b)
	}
	r := c.Records[0]
	if string(r.Value) != "value" || string(r.Key) != "key" || string(r.Headers[0].Value) != "hv" {
		t.Errorf("the copy changed with the original: %q %q %q", r.Value, r.Key, r.Headers[0].Value)
	}
	if r.Headers[1].Value != nil || c.Records[1].Value != nil || c.Records[1].Key == nil {
		t.Error("nil and empty were mixed up")
	}
	if r.Value = append(r.Value, 'x'); !bytes.Equal(c.Records[0].Key, []byte("key")) {
		t.Error("one field grew into the next")
	}
}

func TestChunkGivesItsBytesBackWithItsLastRecord(t *testing.T) {
	c := NewChunk(make([]Record, 3), 300)
	if got := c.Records[1].Release() + c.Records[0].Release(); got != 0 {
		t.Errorf("%d given back while a record is kept", got)
	}
	if got := c.Records[2].Release(); got != 300 {
		t.Errorf("%d given back, want 300", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("a record was released twice")
		}
	}()
	c.Records[2].Release()
}
