package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestReportSaysWhatItsRowsWereMeasuredWith(t *testing.T) {
	const old = `{"Machine": {"Weir": "1111111", "Date": "2026-01-01"}, "Runs": [{"Case": "idle", "Group": "idle"}]}`
	var r Report
	if err := json.Unmarshal([]byte(old), &r); err != nil {
		t.Fatal(err)
	}
	a := Setup{Machine: "2 x CPU", Weir: "weir 2222222", Memory: "64MiB", Date: "2026-02-02", Busy: "0.1 0.2 0.3"}
	b := a
	b.Weir = "weir 3333333"
	show := func(runs ...Result) string {
		var text strings.Builder
		Report{Runs: append(runs, r.Runs...)}.markdown(&text)
		return text.String()
	}

	mixed := show(Result{Case: "plain", Group: throughput, Setup: a}, Result{Case: "gzip", Group: throughput, Setup: b}, Result{Case: "hec", Group: others, Setup: b})
	for _, want := range []string{
		"\n\nplain: 2 x CPU; weir 2222222, memory: 64MiB; 2026-02-02, load average before the first run 0.1 0.2 0.3. gzip: 2 x CPU; weir 3333333, ",
		"| hec | 0 M x 0 B, 0 p | 1 | 0.00 | 0 | 0 | 0 | 0 |\n\n2 x CPU; weir 3333333, ",
		"| idle | 0 | 1 | 0.00 | 0 |\n\nwhat this was measured with is not recorded.\n",
	} {
		if !strings.Contains(mixed, want) {
			t.Errorf("no %q in\n%s", want, mixed)
		}
	}

	r.Runs = nil
	if text := show(Result{Case: "plain", Group: throughput, Setup: a}, Result{Case: "hec", Group: others, Setup: a}); !strings.HasPrefix(text, "2 x CPU; ") || strings.Count(text, "weir 2222222") != 1 {
		t.Errorf("said more or less than once:\n%s", text)
	}
}
