package logbook

import (
	"encoding/hex"
	"fmt"
	"testing"
)

// The trees that Certificate Transparency's own tests have.
func TestKnownTrees(t *testing.T) {
	var leaves [][]byte
	for _, text := range []string{"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"} {
		leaf, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, leaf)
	}
	for n, want := range map[int]string{
		0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	} {
		if got := head(leaves[:n]); got.Root != want || got.Size != uint64(n) {
			t.Errorf("%d leaves: %v, want %s", n, got, want)
		}
	}
}

func TestEveryOffsetIsAccountedFor(t *testing.T) {
	p := &Partition{Cluster: "c", TopicID: "i", Topic: "t", Number: 3}
	add := func(offset, time int64, change func(*Record)) {
		r := &Record{Time: time, Value: []byte("v"), Number: offset}
		if change != nil {
			change(r)
		}
		p.Add(offset, r)
	}
	add(0, 10, nil) // before the range of offsets
	add(1, 9, nil)  // outside
	add(2, 20, nil) // outside: To is exclusive
	add(3, 10, func(r *Record) { r.Key, r.Headers = []byte{}, []Header{{"h", nil}} })
	add(4, 19, func(r *Record) { r.Filtered = true })
	add(5, 12, func(r *Record) { r.Aborted = true })
	add(6, 12, func(r *Record) { r.Aborted = true })
	// 7 and 8 are markers
	add(9, 12, nil)
	add(10, 12, nil)
	add(11, 19, nil)
	of := Range{Span: Span{1, 12}, FromTime: 10, ToTime: 20, Gone: []Span{{9, 11}}}
	e := p.Evidence(of)
	got := fmt.Sprint(e.Read, e.Matched, e.Outside, e.Filtered, e.Bytes, e.First, e.Last, e.Events, e.Offsets, e.Records.Size, e.Gaps.Size)
	if want := fmt.Sprint(5, 2, 2, 1, 3, 10, 19, []int64{3, 11}, map[Class]uint64{Control: 2, Aborted: 2, Retention: 2}, 2, 3); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	of.Gone = nil
	if whole := p.Evidence(of); whole.Records == e.Records || whole.Gaps == e.Gaps || whole.Matched != 4 {
		t.Errorf("the gap makes no difference: %+v", whole)
	}
}
