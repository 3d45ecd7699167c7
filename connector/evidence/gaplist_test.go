package evidence

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// Whatever was told by workers that died before their commits: the list makes the
// tree that was committed.
func TestListOfGapsMakesTheirTree(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		n := 1 + r.IntN(200)
		log := someLog(r, n)
		var list []byte
		p := Start(someOrigin(), somePlan, 100)
		p.OnGap = func(g Gap) { list = AppendGap(list, g) }
		for committed := 0; committed < n; {
			from := committed
			to := from + 1 + r.IntN(n-from)
			before := p.Snapshot()
			feed(t, r, p, log[from:to])
			if r.IntN(3) == 0 {
				// It dies, with a line that is not whole; and meanwhile gaps became others.
				list = append(list, "123 45"...)
				list = list[:bytes.LastIndexByte(list, '\n')+1]
				p = Resume(someOrigin(), before)
				p.OnGap = func(g Gap) { list = AppendGap(list, g) }
				for i := from; i < n; i++ {
					if log[i].gap && r.IntN(4) == 0 {
						log[i].class = Class(r.IntN(Classes))
					}
				}
				continue
			}
			committed = to
		}
		gaps := p.Gaps().Closed(p.enc)
		head, err := GapTree(someOrigin(), append(list, "9 1"...))
		if err != nil || head != gaps.tree.Head() {
			t.Fatalf("seed %d: the list has %d gaps, committed were %d: %v\n%s", seed, head.Size, gaps.Size(), err, list)
		}
	}
}

func TestListsThatAreNone(t *testing.T) {
	for _, list := range []string{"1 2\n", "1 2 control \n", "1 2  control\n", "2 1 control\n", "1 1 control\n", "-1 2 control\n", "1 02 control\n", "1 2 Control\n", "\n", "1 2 control\r\n"} {
		if _, err := GapTree(someOrigin(), []byte(list)); err == nil {
			t.Errorf("%q was read", list)
		}
	}
	if head, err := GapTree(someOrigin(), nil); err != nil || head != (Tree{}).Head() {
		t.Errorf("of nothing: %v, %v", head, err)
	}
}

func FuzzGapTree(f *testing.F) {
	f.Add([]byte("1 5 control\n3 4 retention\n2 9 aborted\n"))
	f.Add([]byte("0 9223372036854775807 control\n1 2 aborted\n"))
	f.Fuzz(func(t *testing.T, list []byte) {
		gaps, err := parseGaps(list)
		if err != nil {
			return
		}
		at := int64(0)
		for _, g := range gaps {
			if g.From < at || g.To <= g.From {
				t.Fatalf("%v", gaps)
			}
			at = g.To
		}
		if _, err := GapTree(someOrigin(), list); err != nil {
			t.Fatal(err)
		}
	})
}
