package replay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/buffer"
)

func samplePlan() *Plan {
	return &Plan{
		Version: PlanVersion, Case: "acme-7", Made: testTo, Tool: "weir", Cluster: "c", From: testFrom, To: testTo,
		Topics: []Topic{{Name: "edr", ID: testTopic, Config: map[string]string{"cleanup.policy": "delete"}, Partitions: []Partition{
			{Number: 0, First: 10, End: 20, Found: FoundIndex, Ended: EndHigh},
			{Number: 1, First: 5, End: 5, Found: FoundStart, Ended: EndHigh, Taken: &Span{To: 5}},
		}}},
	}
}

func TestAPlanIsReadAsItWasWritten(t *testing.T) {
	text, err := samplePlan().Encode()
	must(t, err)
	path := filepath.Join(t.TempDir(), "plan.json")
	must(t, os.WriteFile(path, text, 0o600))
	p, read, err := ReadPlan(path)
	must(t, err)
	hash := sha256.Sum256(read)
	again, err := p.Encode()
	must(t, err)
	if !bytes.Equal(text, again) {
		t.Errorf("written\n%s\nand read\n%s", text, again)
	}
	if Mark(hash, "") == Mark(hash, "true") {
		t.Error("another filter has the same mark")
	}
}

func TestWhatIsNoPlanIsRefused(t *testing.T) {
	text, err := samplePlan().Encode()
	must(t, err)
	for _, c := range []struct{ from, to, says string }{
		{`"version": 1`, `"version": 2`, "version 2"},
		{`"case": "acme-7"`, `"case": "../7"`, "name a case"},
		{`"scan": false`, `"scan": false, "skip": true`, "skip"},
		{`"first_offset": 10`, `"first_offset": 21`, "no offsets"},
		{`"first_offset": 10`, `"first_offset": -1`, "no offsets"},
		{`"partition": 1`, `"partition": 0`, "twice"},
		{`"to": "2026-03-01T01:00:00Z"`, `"to": "2026-02-01T01:00:00Z"`, "empty"},
		{`"slack": ""`, `"slack": "soon"`, "slack"},
		{`"to": 5`, `"to": 4`, "retention"},
		{"\n}\n", "\n}{}\n", "no plan"},
		{"{", "", "no plan"},
	} {
		altered := strings.Replace(string(text), c.from, c.to, 1)
		if altered == string(text) {
			t.Fatalf("%q is not in the plan", c.from)
		}
		if _, err := DecodePlan([]byte(altered)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want one that says %q", c.to, err, c.says)
		}
	}
}

// A plan says itself how many partitions it has: what is none is refused at once.
func TestAPlanOfEmptyPartitionsIsRefused(t *testing.T) {
	text, err := samplePlan().Encode()
	must(t, err)
	for _, list := range []string{"topics", "partitions"} {
		altered := strings.Replace(string(text), `"`+list+`": [`, `"`+list+`": [{},`, 1)
		if _, err := DecodePlan([]byte(altered)); err == nil || !strings.Contains(err.Error(), "cannot be whole") {
			t.Errorf("%s: %v", list, err)
		}
	}
}

func TestTimesAreReadAsPeopleWriteThem(t *testing.T) {
	now := time.Date(2026, 3, 22, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2026-03-01T00:00:00Z":      testFrom,
		"2026-03-01T02:00:00+02:00": testFrom,
		"-72h":                      now.Add(-72 * time.Hour),
		"-21d":                      now.Add(-21 * 24 * time.Hour),
		"-1.5d":                     now.Add(-36 * time.Hour),
		"now":                       now,
	} {
		if got, err := ParseTime(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%s is %v (%v), want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "yesterday", "-", "-3", "72h", "-1e9d", "2026-03-01"} {
		if got, err := ParseTime(text, now); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
	for _, c := range []struct {
		from, to time.Time
		says     string
	}{
		{now, now.Add(-time.Hour), "not before"},
		{now.Add(-time.Hour), now.Add(time.Minute), "future"},
		{now, now, "not before"},
		{time.Unix(-5, 0), now, "1970"},
	} {
		if err := CheckRange(c.from, c.to, now); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("from %v to %v: error %v, want one that says %q", c.from, c.to, err, c.says)
		}
	}
}

func TestAFilterChoosesByWhatARecordHolds(t *testing.T) {
	r := &buffer.Record{
		Origin: &buffer.Origin{Topic: "edr", Partition: 3}, Offset: 17, Time: testFrom, Key: []byte("host-1"),
		Value:   []byte(`{"user":{"name":"eve"},"bytes":1200,"ratio":0.5,"tags":["a","b"]}`),
		Headers: []buffer.Header{{Key: "source", Value: []byte("sysmon")}},
	}
	for text, want := range map[string]bool{
		`event.user.name == "eve"`:                       true,
		`event.user.name == "bob"`:                       false,
		`event.user?.missing?.deep == nil`:               true,
		`event.bytes % 7 == 3`:                           true,
		`event.ratio * 2 == 1.0`:                         true,
		`event.bytes > 1000 && "b" in event.tags`:        true,
		`topic == "edr" and partition == 3`:              true,
		`offset < 10`:                                    false,
		`key startsWith "host-"`:                         true,
		`headers["source"] == "sysmon"`:                  true,
		`headers["none"] == "sysmon"`:                    false,
		`text contains "eve"`:                            true,
		`time < date("2026-03-01T00:00:01Z")`:            true,
		`any(event.tags, # == "b")`:                      true,
		`$env.event.bytes == 1200`:                       true,
		`let u = event.user; u.name matches "^e.e$"`:     true,
		`event.bytes == 1200 ? time.Year() == 2026 : no`: true,
	} {
		f, err := ParseFilter(strings.Replace(text, ": no", ": false", 1))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := f.Match(r); err != nil || got != want {
			t.Errorf("%s is %v (%v), want %v", text, got, err, want)
		}
	}
	for _, text := range []string{`event.user.name =`, `nothing == 1`, `topic == 3`} {
		if _, err := ParseFilter(text); err == nil || !strings.Contains(err.Error(), "(1:") {
			t.Errorf("%s: error %v, want one with the place", text, err)
		}
	}
	if _, err := ParseFilter("1 + 1"); err == nil {
		t.Error("a number is taken for a filter")
	}
	// What fails on a record has said nothing.
	r.Value = []byte("no JSON")
	f, err := ParseFilter(`event.user.name == "eve"`)
	must(t, err)
	if _, err := f.Match(r); err == nil {
		t.Error("a value that is no JSON is judged")
	}
	r.Value = []byte(`{"user":7}`)
	if _, err := f.Match(r); err == nil {
		t.Error("a number has a name")
	}
}

func TestRatesHoldLanesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := NewThrottle(Rates{Bytes: 1000, Records: 100})
		began := time.Now()
		for range 20 {
			must(t, th.after(t.Context(), 50, 100))
		}
		// 1000 records at 100 a second, of which a tenth of a second's come at once.
		if took := time.Since(began); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("1000 records at 100/s took %v", took)
		}
		began = time.Now()
		must(t, th.after(t.Context(), 1, 20_000))
		if took := time.Since(began); took < 19*time.Second || took > 21*time.Second {
			t.Errorf("20,000 bytes at 1000/s took %v", took)
		}
	})
}

func TestWhatRetentionThreatensGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := NewThrottle(Rates{})
		soon, later := time.Now().Add(time.Hour), time.Now().Add(100*time.Hour)
		threatened, calm := &Partition{Number: 0, Expires: &soon}, &Partition{Number: 1, Expires: &later}
		must(t, th.before(t.Context(), "t", threatened))
		passed := make(chan time.Time, 1)
		began := time.Now()
		go func() {
			_ = th.before(context.Background(), "t", calm)
			passed <- time.Now()
		}()
		for range 8 {
			time.Sleep(5 * time.Second)
			must(t, th.before(t.Context(), "t", threatened))
		}
		th.done("t", threatened)
		if took := (<-passed).Sub(began); took < 40*time.Second {
			t.Errorf("the other one went on after %v, while a threatened one was read", took)
		}
		// One that is stuck stops nobody.
		must(t, th.before(t.Context(), "t", threatened))
		began = time.Now()
		must(t, th.before(t.Context(), "t", calm))
		if took := time.Since(began); took > urgentIdle+time.Second {
			t.Errorf("a partition that does not move kept the others for %v", took)
		}
	})
}

func TestAPauseIsForAllAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := NewThrottle(Rates{})
		th.Pause("makes way")
		began := time.Now()
		time.AfterFunc(5*time.Minute, func() { th.Pause("") })
		must(t, th.before(t.Context(), "t", &Partition{}))
		if took := time.Since(began); took != 5*time.Minute {
			t.Errorf("it went on after %v", took)
		}
	})
}

func TestALagThatGrowsIsMadeWayFor(t *testing.T) {
	y := NewYield("live")
	for i, c := range []struct {
		lag   int64
		pause bool
	}{
		{500, false}, {900, false}, {300, false}, // as always
		{5000, true}, {20_000, true}, {30_000, true}, // it grows
		{28_000, true}, {21_000, true}, // it shrinks, and is far from where it was
		{13_000, false}, // more than half of it is gone
		{12_500, false}, {900, false},
		{90_000, true}, {1000, false}, // back at once
	} {
		if got := y.Look(c.lag) != ""; got != c.pause {
			t.Errorf("look %d, lag %d: pause %v, want %v", i, c.lag, got, c.pause)
		}
	}
}
