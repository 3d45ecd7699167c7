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

func TestCompactFreesWhatTheOthersHeld(t *testing.T) {
	run := make([]Record, 100)
	for i := range run {
		run[i] = Record{Offset: int64(i), Key: []byte{}, Value: bytes.Repeat([]byte{byte(i)}, 1000), Headers: []Header{{Key: "h", Value: []byte{byte(i)}}}}
	}
	const charged = 130_000
	c := NewChunk(run, charged)
	waiting := []*Record{&c.Records[7], &c.Records[42]}
	freed := Compact(waiting)
	if freed != 0 || waiting[0] != &c.Records[7] {
		t.Fatalf("%d bytes freed while others need the chunk", freed)
	}
	for i := range c.Records {
		if i != 7 && i != 42 {
			if n := c.Records[i].Release(); n != 0 {
				t.Fatalf("%d given back while records wait", n)
			}
		}
	}
	size := waiting[0].Size() + waiting[1].Size()
	if freed = Compact(waiting); freed != charged-size {
		t.Errorf("%d freed of %d by two records of %d in all", freed, charged, size)
	}
	clear(c.Records[7].Value)
	for i, offset := range []int64{7, 42} {
		r := waiting[i]
		if r.Offset != offset || r.Key == nil || len(r.Value) != 1000 || r.Value[999] != byte(offset) || r.Headers[0].Value[0] != byte(offset) {
			t.Errorf("record %d became %+v", offset, r)
		}
	}
	if again := Compact(waiting); again != 0 {
		t.Errorf("%d freed by what has its own memory", again)
	}
	if got := waiting[0].Release() + waiting[1].Release(); got != size {
		t.Errorf("%d given back at last, want %d", got, size)
	}
	defer func() {
		if recover() == nil {
			t.Error("the old place of a record was released once more")
		}
	}()
	c.Records[42].Release()
}
