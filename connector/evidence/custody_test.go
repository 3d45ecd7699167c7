package evidence

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func someCustody(t testing.TB) *Custody {
	t.Helper()
	c := OpenCustody(filepath.Join(t.TempDir(), "custody.ndjson"), "A-1", "jane", "host", "weir v1")
	at := time.UnixMilli(1e12)
	c.now = func() time.Time { at = at.Add(time.Second); return at }
	return c
}

func mustAdd(t testing.TB, c *Custody, action Action, details map[string]any) {
	t.Helper()
	if err := c.Add(action, details); err != nil {
		t.Fatal(err)
	}
}

func entries(t testing.TB, c *Custody) (all []Entry, head CustodyHead) {
	t.Helper()
	head, err := ReadCustody(c.path, "A-1", func(e *Entry) error { all = append(all, *e); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return all, head
}

func TestEveryChangedBitOfACustodyLogIsNoticed(t *testing.T) {
	c := someCustody(t)
	mustAdd(t, c, ActionPlan, map[string]any{"plan": somePlan, "big": uint64(1<<63 + 1), "list": []int{1, 2}})
	mustAdd(t, c, ActionStart, nil)
	mustAdd(t, c, ActionSeal, map[string]any{"html": "<&>"})
	text, err := os.ReadFile(c.path)
	if err != nil {
		t.Fatal(err)
	}
	all, head := entries(t, c)
	if len(all) != 3 || all[1].Action != ActionStart || all[2].Number != 3 || head.Entries != 3 {
		t.Fatalf("%+v", all)
	}
	heads := []CustodyHead{{99, Hash{}}, head}
	if err := CheckCustody(bytes.NewReader(text), "A-1", heads); err != nil {
		t.Fatal(err)
	}
	for i := range len(text) * 8 {
		b := bytes.Clone(text)
		b[i/8] ^= 1 << (i % 8)
		if CheckCustody(bytes.NewReader(b), "A-1", heads) == nil {
			t.Fatalf("bit %d of byte %d may change", i%8, i/8)
		}
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	for name, b := range map[string][][]byte{
		"without the first": lines[1:], "without the second": {lines[0], lines[2]}, "without the last": lines[:2],
		"swapped": {lines[1], lines[0], lines[2]}, "twice": {lines[0], lines[0], lines[1], lines[2]}, "nothing": nil,
		"torn": {text[:len(text)-1]},
	} {
		if CheckCustody(bytes.NewReader(bytes.Join(b, nil)), "A-1", heads) == nil {
			t.Errorf("%s: it holds", name)
		}
	}
	if CheckCustody(bytes.NewReader(text), "B-2", heads) == nil {
		t.Error("it is the log of another case")
	}
	// What comes after the seal changes nothing of what was before.
	mustAdd(t, c, ActionVerify, nil)
	if text, err = os.ReadFile(c.path); err != nil {
		t.Fatal(err)
	}
	if err := CheckCustody(bytes.NewReader(text), "A-1", heads); err != nil {
		t.Error(err)
	}
}

// A process that is killed while it writes leaves a part of a line.
func TestTornEntryOfACustodyLog(t *testing.T) {
	c := someCustody(t)
	mustAdd(t, c, ActionPlan, nil)
	whole, err := os.ReadFile(c.path)
	if err != nil {
		t.Fatal(err)
	}
	mustAdd(t, c, ActionStart, map[string]any{"worker": 1})
	both, err := os.ReadFile(c.path)
	if err != nil {
		t.Fatal(err)
	}
	for n := len(whole) + 1; n < len(both); n += 7 {
		if err := os.WriteFile(c.path, both[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadCustody(c.path, "A-1", nil); err == nil {
			t.Fatal("a torn log holds")
		}
		mustAdd(t, c, ActionStart, nil)
		all, _ := entries(t, c)
		if len(all) != 3 || all[1].Action != ActionTorn || all[2].Action != ActionStart {
			t.Fatalf("torn after %d bytes: %+v", n, all)
		}
		text, err := os.ReadFile(c.path)
		if err != nil || !bytes.HasPrefix(text, whole) {
			t.Fatalf("what was before has changed: %v", err)
		}
	}
}

func TestNothingIsAddedToADamagedCustodyLog(t *testing.T) {
	c := someCustody(t)
	mustAdd(t, c, ActionPlan, nil)
	mustAdd(t, c, ActionSeal, nil)
	text, err := os.ReadFile(c.path)
	if err != nil {
		t.Fatal(err)
	}
	text[20] ^= 1
	if err := os.WriteFile(c.path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	err = c.Add(ActionVerify, nil)
	if _, ok := errors.AsType[*CustodyError](err); !ok || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("%v", err)
	}
	if after, err := os.ReadFile(c.path); err != nil || !bytes.Equal(after, text) {
		t.Error("it was changed")
	}
	other := OpenCustody(filepath.Join(t.TempDir(), "c"), "B-2", "", "", "")
	mustAdd(t, other, ActionPlan, nil)
	other.base.Case = "A-1"
	if other.Add(ActionPlan, nil) == nil {
		t.Error("the log of another case is gone on with")
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(other.path, link); err != nil {
		t.Fatal(err)
	}
	if OpenCustody(link, "B-2", "", "", "").Add(ActionPlan, nil) == nil {
		t.Error("a link was followed")
	}
}

func TestManyProcessesAddToOneCustodyLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "custody.ndjson")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			c := OpenCustody(path, "A-1", "jane", "host", "weir")
			for range 10 {
				if err := c.Add(ActionVerify, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	head, err := ReadCustody(path, "A-1", nil)
	if err != nil || head.Entries != 40 {
		t.Errorf("%d entries: %v", head.Entries, err)
	}
}

func FuzzDecodeCustody(f *testing.F) {
	c := someCustody(f)
	mustAdd(f, c, ActionPlan, map[string]any{"a": 1.5, "b": []string{"x"}})
	mustAdd(f, c, ActionSeal, nil)
	text, err := os.ReadFile(c.path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		var n uint64
		head, err := DecodeCustody(bytes.NewReader(text), "", func(*Entry) error { n++; return nil })
		if err == nil && (head.Entries != n || n != uint64(bytes.Count(text, []byte("\n")))) {
			t.Fatalf("%d entries, %d lines", head.Entries, n)
		}
	})
}
