package front

import (
	"fmt"
	"strings"
	"testing"

	"weir/testbed/torture/account"
)

// array are the events of those numbers as weir sends them.
func array(numbers ...int64) string {
	var events []string
	for _, n := range numbers {
		events = append(events, fmt.Sprintf(`{"topic":"t","partition":3,"offset":%d,"event":%s}`, n-1, account.Value("r", n)))
	}
	return "[" + strings.Join(events, ",") + "]"
}

func TestIntakeStoresTheWholeOfARequestOrNone(t *testing.T) {
	f := func(body string, wantStatus int, wantAnswer string, told int) {
		t.Helper()
		s := &script{}
		status, answer, err := send(t, play(t, HTTP, s)+"/intake", "", body, 0)
		if err != nil || status != wantStatus || answer != wantAnswer {
			t.Errorf("%d %s %v", status, answer, err)
		}
		if s.count() != told {
			t.Errorf("the account was told of %d, want %d", s.count(), told)
		} else if told > 0 && !<-s.answered {
			t.Error("the answer that was given counts as lost")
		}
	}
	const refused = `{"error":"an event has a kind that is not known"}`
	f(array(39, 40), 200, `{"accepted":2}`, 2)
	f(array(40, 41), 400, refused, 0)
	f(array(41), 400, refused, 1)
}

func TestIntakeKnowsEachEvent(t *testing.T) {
	s := &script{}
	if status, body, err := send(t, play(t, HTTP, s)+"/intake", "", array(39, 40), 0); err != nil || status != 200 {
		t.Fatal(status, body, err)
	}
	if d := s.stored[1]; d.Number != 40 || d.Topic != "t" || d.Partition != 3 || d.Offset != 39 || !d.Whole ||
		string(d.Event) != string(account.Value("r", 40)) {
		t.Errorf("stored %+v", d)
	}
}

func TestIntakesSpoiltAnswers(t *testing.T) {
	f := func(p Plan, wantStatus int, wantBody string) {
		t.Helper()
		s := &script{plan: p}
		status, body, err := send(t, play(t, HTTP, s)+"/intake", "", array(1), 0)
		// A reset can overtake what was said before it.
		if (status != wantStatus || !strings.Contains(body, wantBody)) && (p.After != Half || status != 0) {
			t.Errorf("%+v: %d %s %v", p, status, body, err)
		}
		if stored := p.Before == Well; stored != (s.count() == 1) {
			t.Errorf("%+v: stored %d", p, s.count())
		} else if stored && <-s.answered {
			t.Errorf("%+v: counts as answered", p)
		}
		if p.After == Half && err == nil {
			t.Errorf("%+v: the answer is whole: %s", p, body)
		}
	}
	f(Plan{Before: Busy}, 429, `{"error":"Too Many Requests"}`)
	f(Plan{Before: Unavailable}, 503, `{"error":"Service Unavailable"}`)
	f(Plan{Before: Error}, 500, `{"error":"Internal Server Error"}`)
	f(Plan{Before: Forbidden}, 401, `{"error":"Unauthorized"}`)
	f(Plan{Before: HTML}, 200, "<html>")
	f(Plan{Before: Reset}, 0, "")
	f(Plan{After: Error}, 500, `{"error":"Internal Server Error"}`)
	f(Plan{After: HTML}, 200, "<html>")
	f(Plan{After: Reset}, 0, "")
	f(Plan{After: Half}, 200, `{"accep`)
}
