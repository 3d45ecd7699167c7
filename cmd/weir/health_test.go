package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"weir/connector"
)

// lanes runs laneTroubles and gives the texts.
func lanes(now time.Time, s connector.Stats) (texts []string) {
	(&bridge{}).laneTroubles(s, now, func(_, format string, args ...any) { texts = append(texts, fmt.Sprintf(format, args...)) })
	return texts
}

func TestPartitionThatDoesNotMoveWhileItsLogDoesIsTrouble(t *testing.T) {
	now := time.Now()
	stuck := connector.LaneStats{Topic: "t", Partition: 7, Live: true, Committed: 5, End: 9, Moved: now.Add(-2 * time.Minute)}
	got := lanes(now, connector.Stats{Lanes: []connector.LaneStats{stuck}})
	if len(got) != 1 || !strings.Contains(got[0], "t/7 is stuck at offset 5 for 2m0s while its log ends at 9") {
		t.Errorf("%q", got)
	}
	for what, l := range map[string]connector.LaneStats{
		"no lag":             {Live: true, Committed: 9, End: 9, Moved: now.Add(-time.Hour)},
		"moved lately":       {Live: true, Committed: 5, End: 9, Moved: now.Add(-10 * time.Second)},
		"not ours any more":  {Committed: 5, End: 9, Moved: now.Add(-time.Hour)},
		"the end is unknown": {Live: true, Committed: 5, End: -1, Moved: now.Add(-time.Hour)},
	} {
		if got := lanes(now, connector.Stats{Lanes: []connector.LaneStats{l}}); len(got) != 0 {
			t.Errorf("%s: %q", what, got)
		}
	}
	// While the sink is down that is the trouble, and one line is enough.
	if got := lanes(now, connector.Stats{Down: errors.New("refused"), Lanes: []connector.LaneStats{stuck}}); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

func TestPartitionsThatStandStillForOneReasonAreOneLine(t *testing.T) {
	now := time.Now()
	refused := errors.New("the dead-letter destination does not take a rejected record")
	var s connector.Stats
	for p := range int32(48) {
		s.Lanes = append(s.Lanes, connector.LaneStats{Topic: "t", Partition: p, Live: true, Committed: int64(p), Blocked: refused, BlockedSince: now.Add(-time.Minute)})
	}
	s.Lanes = append(s.Lanes, connector.LaneStats{Topic: "u", Live: true, Blocked: errors.New("status 403"), BlockedSince: now})
	got := lanes(now, s)
	if len(got) != 2 || !strings.Contains(strings.Join(got, "\n"), "t/0 (and 47 more partitions) stands still at offset 0 since 1m0s: the dead-letter") {
		t.Errorf("%q", got)
	}
}
