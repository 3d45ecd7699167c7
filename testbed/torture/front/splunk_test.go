package front

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/testbed/torture/account"
)

// envelopes are the events of those numbers as weir sends them.
func envelopes(numbers ...int64) string {
	var b strings.Builder
	for _, n := range numbers {
		fmt.Fprintf(&b, `{"time":1,"fields":{"kafka_topic":"t","kafka_partition":"3","kafka_offset":"%d"},"event":%s}`+"\n", n-1, account.Value("r", n))
	}
	return b.String()
}

const events = "/services/collector/event"

func TestCollectorTakesWhatIsBeforeTheBadEvent(t *testing.T) {
	s := &script{}
	status, body, err := send(t, play(t, Splunk, s)+events, "", envelopes(39, 40, 41, 42), 0)
	if err != nil || status != 400 || body != `{"text":"Event field is required","code":12,"invalid-event-number":2}` {
		t.Errorf("%d %s %v", status, body, err)
	}
	if !<-s.answered {
		t.Error("the answer that was given counts as lost")
	}
	if len(s.stored) != 3 || s.stored[2].Number != 41 || s.stored[2].Offset != 40 || s.stored[0].Topic != "t" || s.stored[0].Partition != 3 ||
		string(s.stored[0].Event) != string(account.Value("r", 39)) {
		t.Errorf("stored %+v", s.stored)
	}
}

func TestCollectorsRefusals(t *testing.T) {
	f := func(p Plan, wantStatus int, wantCode string) {
		t.Helper()
		s := &script{plan: p}
		status, body, err := send(t, play(t, Splunk, s)+events, "", envelopes(1), 0)
		if err != nil || status != wantStatus || !strings.Contains(body, wantCode) {
			t.Errorf("%+v: %d %s %v", p, status, body, err)
		}
		if stored := p.Before == Well; stored != (s.count() == 1) {
			t.Errorf("%+v: stored %d", p, s.count())
		} else if stored && <-s.answered != (p.After == NearlyFull) {
			t.Errorf("%+v: counts as answered", p)
		}
	}
	f(Plan{Before: Busy}, 429, `"code":26`)
	f(Plan{Before: Unavailable}, 503, `"code":9`)
	f(Plan{Before: Error}, 500, `"code":8`)
	f(Plan{Before: Forbidden}, 403, `"code":4`)
	f(Plan{Before: AcksFull}, 429, `"code":27`)
	f(Plan{Before: HTML}, 200, "<html>")
	f(Plan{After: Error}, 500, `"code":8`)
	f(Plan{After: NearlyFull}, 200, `"code":24`)
}

// acks plays a collector with acknowledgements and returns how to ask it.
func acks(t *testing.T, s *script) (send3 func(body string) string, ask func(ids string) string) {
	s.indexed = make(chan int64, 10)
	url := play(t, SplunkAcks, s)
	to := func(path, body string) string {
		_, answer, _ := send(t, url+path, "A", body, 0)
		return answer
	}
	return func(body string) string { return to(events, body) }, func(ids string) string {
		return to("/services/collector/ack", `{"acks":[`+ids+`]}`)
	}
}

func TestAcknowledgementComesOnceItIsIndexed(t *testing.T) {
	s := &script{}
	post, ask := acks(t, s)
	if got := post(envelopes(1, 2)); got != `{"text":"Success","code":0,"ackId":0}` {
		t.Errorf("answered %s", got)
	}
	<-s.indexed
	if d := s.accepted[0]; d.Sender != "process-1" || d.Channel != "A" || len(d.Documents) != 2 {
		t.Errorf("accepted %+v", d)
	}
	for ask("0,7") != `{"acks":{"0":true,"7":false}}` {
	}
	if !<-s.answered {
		t.Error("the acknowledgement that was given counts as lost")
	}
	if got := ask("0"); got != `{"acks":{"0":false}}` {
		t.Errorf("what was told is not forgotten: %s", got)
	}
}

func TestAcknowledgementsAreSpoilt(t *testing.T) {
	f := func(p Plan, want string) {
		t.Helper()
		s := &script{ackPlan: p}
		post, ask := acks(t, s)
		post(envelopes(1))
		post(envelopes(2))
		<-s.indexed
		<-s.indexed
		time.Sleep(20 * time.Millisecond) // not to be told of them by mistake
		if got := ask("0,1"); got != want {
			t.Errorf("%+v: answered %s", p, got)
		}
		if len(s.answered) > 0 {
			t.Errorf("%+v: counts as told", p)
		}
		if len(s.doubted()) > 0 {
			t.Errorf("%+v: the channel is in doubt: weir knows what was accepted", p)
		}
	}
	f(Plan{After: False}, `{"acks":{"0":false,"1":false}}`)
	f(Plan{After: Short}, `{"acks":{"0":true}}`)
	f(Plan{After: Reset}, "")
	f(Plan{Before: HTML}, "<html><body><h1>It works!</h1></body></html>")
	f(Plan{Before: Forbidden}, `{"text":"Invalid token","code":4}`)
}

func TestEventsBeforeABadOneAreNeverConfirmed(t *testing.T) {
	s := &script{}
	post, ask := acks(t, s)
	if got := post(envelopes(40, 41)); got != `{"text":"Event field is required","code":12,"invalid-event-number":1}` {
		t.Errorf("answered %s", got)
	}
	if <-s.answered {
		t.Error("they count as confirmed")
	}
	if got := ask("0"); got != `{"acks":{"0":false}}` {
		t.Errorf("answered %s", got)
	}
}

func TestAnswerThatMayBeLostPutsItsChannelInDoubt(t *testing.T) {
	f := func(p Plan, doubt bool) {
		t.Helper()
		s := &script{plan: p}
		post, _ := acks(t, s)
		post(envelopes(1))
		if slices.Equal(s.doubted(), []string{"A"}) != doubt {
			t.Errorf("%+v: doubts %q", p, s.doubted())
		}
	}
	f(Plan{}, false)
	f(Plan{Before: Busy}, false)
	f(Plan{Before: AcksFull}, false)
	f(Plan{After: NoID}, false)
	f(Plan{Before: Reset}, true)
	f(Plan{Before: Error}, true)
	f(Plan{After: HTML}, true)
	f(Plan{After: Half}, true)
}

// weir has given up by then, and sends elsewhere again what it waits for in the
// channel: the account has to know before that comes.
func TestLateAnswerPutsItsChannelInDoubtWhileItIsLate(t *testing.T) {
	const long = 30 * time.Second
	s := &script{plan: Plan{Wait: long, Before: HTML}}
	s.indexed = make(chan int64, 10)
	url, began := play(t, SplunkAcks, s), time.Now()
	if _, _, err := send(t, url+events, "A", envelopes(1), patience); err == nil {
		t.Fatal("it was answered")
	}
	for len(s.doubted()) == 0 {
		if time.Since(began) > long/2 {
			t.Fatal("the request is as good as given up, and its channel not in doubt")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestLostEventsAreNeverIndexed(t *testing.T) {
	s := &script{plan: Plan{Lose: true}}
	post, _ := acks(t, s)
	if got := post(envelopes(1)); got != `{"text":"Success","code":0,"ackId":0}` {
		t.Errorf("answered %s", got)
	}
	s.mu.Lock()
	s.plan = Plan{}
	s.mu.Unlock()
	post(envelopes(2))
	if n := <-s.indexed; n != 2 {
		t.Errorf("indexed %d", n)
	}
}
