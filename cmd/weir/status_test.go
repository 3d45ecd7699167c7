package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"weir/connector"
)

func TestStatusOfAPartitionSaysWhyItStandsStill(t *testing.T) {
	now := time.Now()
	l := connector.LaneStats{Topic: "t", Partition: 3, Live: true, Committed: 10, End: 25, Oldest: now.Add(-time.Minute), Blocked: errors.New("no right to write")}
	b, err := json.Marshal(newLaneStatus(l, now))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"lag":15`, `"committed":10`, `"end":25`, `"oldest_unsettled_seconds":60`, `"blocked":"no right to write"`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%s lacks %s", b, want)
		}
	}
}

func TestStatusOfAPartitionThatIsNoLongerOursHasTotalsOnly(t *testing.T) {
	b, err := json.Marshal(newLaneStatus(connector.LaneStats{Topic: "t", End: -1, Counts: connector.Counts{Delivered: 7}}, time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), `"delivered":7`) || strings.Contains(string(b), "lag") {
		t.Errorf("%s", b)
	}
}
