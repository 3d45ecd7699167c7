package splunk

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/buffer"
	"weir/sinks"
	"weir/sinks/sinktest"
)

func TestDeliverStoresWhatItAcknowledges(t *testing.T) {
	for _, acks := range []bool{false, true} {
		for _, compression := range []string{"none", "gzip"} {
			t.Run(fmt.Sprint(acks, compression), func(t *testing.T) {
				hec := &sinktest.Splunk{Acks: acks, Token: testToken}
				s := serve(t, hec, func(c *Config) { c.Compression = compression })
				var rs []*buffer.Record
				for i := range 3000 {
					rs = append(rs, record(int64(i), fmt.Sprintf(`{"n":%d,"pad":%q}`, i, strings.Repeat("x", i%700))))
				}
				mustDeliver(t, s, rs...)
				for i := range rs {
					if n := hec.Copies(coordinate(fmt.Sprint(i))); n != 1 {
						t.Fatalf("offset %d is there %d times", i, n)
					}
				}
			})
		}
	}
}

func TestAcceptedIsNotDeliveredBeforeItIsIndexed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hec := &sinktest.Splunk{Acks: true, Delay: 20 * time.Second}
		var n network
		defer n.add("a", hec)()
		s := n.sink(t, nil, "a")
		defer s.Close()
		answered := false
		done := make(chan struct{})
		go func() {
			defer close(done)
			out, err := s.Deliver(t.Context(), batch(record(1, `{"a":1}`)), func(sinks.Note) { answered = true })
			if err != nil || verdicts(out) != "A" {
				t.Errorf("%v %v", out, err)
			}
			if len(hec.Events()) != 1 {
				t.Error("acknowledged, and not indexed")
			}
		}()
		time.Sleep(19 * time.Second)
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("delivered before it was indexed")
		default:
		}
		if !answered {
			t.Error("holds its place while it waits")
		}
		<-done
	})
}

// One question is asked for many requests, and the fewer the less there is to
// tell.
func TestQuestionsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hec := &sinktest.Splunk{Acks: true, Delay: time.Minute}
		var n network
		defer n.add("a", hec)()
		s := n.sink(t, nil, "a")
		defer s.Close()
		done := make(chan struct{})
		for i := range 50 {
			go func() {
				defer func() { done <- struct{}{} }()
				mustDeliver(t, s, record(int64(i), `{"a":1}`))
			}()
		}
		for range 50 {
			<-done
		}
		questions := 0
		for _, r := range hec.Requests() {
			if len(r.Acks) == 50 {
				questions++
			}
		}
		// 0.5 s, 1, 2, 4, 8 and then every 10.
		if questions < 5 || questions > 11 {
			t.Errorf("%d questions of 50 ids in a minute", questions)
		}
		time.Sleep(time.Minute)
		after := len(hec.Requests())
		time.Sleep(time.Hour)
		if len(hec.Requests()) != after {
			t.Error("asks on with nothing to wait for")
		}
	})
}

func TestLostAcknowledgementIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hec := &sinktest.Splunk{Acks: true}
		hec.Fail(sinktest.HECFault{Drop: true})
		var n network
		defer n.add("a", hec)()
		s := n.sink(t, nil, "a")
		defer s.Close()
		begun := time.Now()
		_, err := deliver(t, s, record(1, `{"a":1}`))
		re := requestError(t, err)
		if took := time.Since(begun); took < 5*time.Minute || took > 6*time.Minute {
			t.Errorf("gave up after %s", took)
		}
		if re.Split || re.Misconfigured || !strings.Contains(err.Error(), "no acknowledgement within 5m0s") {
			t.Errorf("%+v", re)
		}
		mustDeliver(t, s, record(1, `{"a":1}`))
	})
}

// An answer about acknowledgements that is anything but one word on each
// acknowledges nothing.
func TestStrangeAcknowledgements(t *testing.T) {
	answer := func(a string) sinktest.HECFault { return sinktest.HECFault{Fault: sinktest.Fault{Answer: &a}} }
	more := `{"acks":{"0":true}}` + strings.Repeat(" ", 30)
	for name, f := range map[string]sinktest.HECFault{
		"nothing":       answer(``),
		"not JSON":      answer(`<html>`),
		"empty":         answer(`{"acks":{}}`),
		"of others":     answer(`{"acks":{"1":true}}`),
		"and of others": answer(`{"acks":{"0":true,"1":true}}`),
		"no boolean":    answer(`{"acks":{"0":"true"}}`),
		"a number":      answer(`{"acks":{"0":1}}`),
		"null":          answer(`{"acks":null}`),
		"a list":        answer(`{"acks":[0]}`),
		"twice":         answer(`{"acks":{"0":false,"0":true}}`),
		"more behind":   answer(`{"acks":{"0":true}}{}`),
		"success":       answer(`{"text":"Success","code":0}`),
		"half":          {Fault: sinktest.Fault{Half: true}},
		"half of more":  {Fault: sinktest.Fault{Half: true, Answer: &more}},
		"endless":       {Fault: sinktest.Fault{Endless: true}},
		"400":           {Code: 11},
		"403":           {Code: 4},
		"404":           {Fault: sinktest.Fault{Status: 404, Body: `{"acks":{"0":true}}`}},
		"500":           {Fault: sinktest.Fault{Status: 500, Body: `{"acks":{"0":true}}`}},
		"503":           {Code: 9},
		"reset":         {Fault: sinktest.Fault{ResetBefore: true}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hec := &sinktest.Splunk{Acks: true}
				hec.Fail(sinktest.HECFault{Drop: true})
				hec.FailAcks(sinktest.HECFault{}) // the first question opens the channel
				for range 100 {
					hec.FailAcks(f)
				}
				var n network
				defer n.add("a", hec)()
				s := n.sink(t, nil, "a")
				defer s.Close()
				if out, err := deliver(t, s, record(1, `{"a":1}`)); err == nil {
					t.Errorf("%+v of what was not indexed", out)
				}
			})
		})
	}
}

// While one acknowledgement is lost the others are still asked for soon.
func TestLostAcknowledgementDoesNotDelayOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hec := &sinktest.Splunk{Acks: true}
		hec.Fail(sinktest.HECFault{Drop: true})
		var n network
		defer n.add("a", hec)()
		s := n.sink(t, nil, "a")
		defer s.Close()
		lost := make(chan error)
		go func() {
			_, err := deliver(t, s, record(1, `{"a":1}`))
			lost <- err
		}()
		time.Sleep(time.Minute)
		begun := time.Now()
		for i := range 20 {
			mustDeliver(t, s, record(int64(2+i), `{"a":1}`))
		}
		if took := time.Since(begun); took > 30*time.Second {
			t.Errorf("20 batches in %s", took)
		}
		if <-lost == nil {
			t.Error("acknowledged")
		}
	})
}

// A 200 that is not the collector's word for success, or not all of it.
func TestStrangeSuccessDeliversNothing(t *testing.T) {
	for name, body := range map[string]string{
		"nothing": "", "HTML": "<html>ok</html>", "no code": `{"text":"Success"}`, "other code": `{"text":"Success","code":17}`,
		"unknown code": `{"code":99,"ackId":0}`, "an error": `{"text":"No data","code":5}`, "code is text": `{"code":"0"}`, "two": `{"code":0}{"code":0}`,
	} {
		for _, acks := range []bool{false, true} {
			t.Run(fmt.Sprint(name, acks), func(t *testing.T) {
				hec := &sinktest.Splunk{Acks: acks}
				s := serve(t, hec, nil)
				hec.Fail(sinktest.HECFault{Fault: sinktest.Fault{Answer: &body}})
				_, err := deliver(t, s, record(1, `{"a":1}`))
				if re := requestError(t, err); re.Split {
					t.Errorf("splits: %v", err)
				}
				mustDeliver(t, s, record(1, `{"a":1}`))
			})
		}
	}
	for name, f := range map[string]sinktest.Fault{"half": {Half: true}, "endless": {Endless: true}} {
		t.Run(name, func(t *testing.T) {
			hec := &sinktest.Splunk{}
			s := serve(t, hec, nil)
			hec.Fail(sinktest.HECFault{Fault: f})
			_, err := deliver(t, s, record(1, `{"a":1}`))
			if re := requestError(t, err); re.Split || re.Misconfigured {
				t.Errorf("%+v", re)
			}
		})
	}
}

// Every line of the table of codes, for a request of three events.
func TestCodes(t *testing.T) {
	const misconfigured, split = "misconfigured", "split"
	for _, c := range []struct {
		code, status int
		want         string
	}{
		{0, 200, "AAA"}, {24, 200, "AAA"}, {25, 200, "AAA"}, {17, 200, ""},
		{1, 403, misconfigured}, {4, 403, misconfigured}, {2, 401, misconfigured}, {3, 401, misconfigured},
		{21, 400, misconfigured}, {22, 400, misconfigured}, {16, 400, misconfigured}, {14, 400, misconfigured},
		{10, 400, misconfigured}, {11, 400, misconfigured}, {28, 400, misconfigured}, {5, 400, misconfigured}, {7, 400, misconfigured},
		{6, 400, split}, {12, 400, split}, {13, 400, split}, {15, 400, split}, // without a number
		{8, 500, ""}, {9, 503, ""}, {18, 503, ""}, {19, 503, ""}, {20, 503, ""}, {23, 503, ""}, {26, 429, ""}, {27, 429, ""},
		{99, 400, misconfigured}, {99, 500, ""},
	} {
		for _, acks := range []bool{false, true} {
			t.Run(fmt.Sprint(c.code, " ", c.status, acks), func(t *testing.T) {
				hec := &sinktest.Splunk{Acks: acks}
				s := serve(t, hec, nil)
				mustDeliver(t, s, record(0, `{"a":1}`))
				f := sinktest.HECFault{Code: c.code}
				if c.code == 99 || c.code == 17 {
					body := fmt.Sprintf(`{"code":%d}`, c.code)
					f = sinktest.HECFault{Fault: sinktest.Fault{Status: c.status, Body: body}}
				}
				hec.Fail(f)
				out, err := deliver(t, s, record(1, `{"a":1}`), record(2, `{"a":1}`), record(3, `{"a":1}`))
				if c.want == "AAA" {
					if err != nil || verdicts(out) != c.want {
						t.Fatalf("%v %v", out, err)
					}
					return
				}
				re := requestError(t, err)
				if re.Status != c.status || re.Misconfigured != (c.want == misconfigured) || re.Split != (c.want == split) || re.Endpoint == "" {
					t.Errorf("%+v", re)
				}
				if !strings.Contains(err.Error(), fmt.Sprintf("code %d", c.code)) {
					t.Errorf("%q does not name the code", err)
				}
				mustDeliver(t, s, record(1, `{"a":1}`))
			})
		}
	}
}

// What is no collector's answer rejects nothing.
func TestStatusesOfOthers(t *testing.T) {
	for _, c := range []struct {
		status               int
		misconfigured, split bool
	}{
		{301, true, false}, {307, true, false}, {400, true, false}, {401, true, false}, {403, true, false}, {404, true, false},
		{405, true, false}, {408, false, false}, {413, false, true}, {415, true, false}, {425, false, false}, {429, false, false},
		{500, false, false}, {502, false, false}, {503, false, false}, {504, false, false}, {204, true, false},
	} {
		t.Run(fmt.Sprint(c.status), func(t *testing.T) {
			hec := &sinktest.Splunk{}
			s := serve(t, hec, nil)
			mustDeliver(t, s, record(0, `{"a":1}`))
			hec.Fail(sinktest.HECFault{Fault: sinktest.Fault{Status: c.status, Header: http.Header{"Retry-After": {"7"}, "Location": {"http://127.0.0.1:1/"}}}})
			_, err := deliver(t, s, record(1, `{"a":1}`))
			re := requestError(t, err)
			if re.Status != c.status || re.Misconfigured != c.misconfigured || re.Split != c.split || re.RetryAfter != 7*time.Second {
				t.Errorf("%+v", re)
			}
			mustDeliver(t, s, record(1, `{"a":1}`))
		})
	}
}

// bad refuses each event that says so with the code that it names.
func bad(e sinktest.HECEvent) int {
	for _, code := range []int{6, 12, 13, 15} {
		if strings.Contains(string(e.Event), fmt.Sprintf(`"bad":%d`, code)) {
			return code
		}
	}
	return 0
}

func TestOneBadEventIsIsolated(t *testing.T) {
	for _, c := range []string{"AJA", "JAA", "AAJ", "J", "JJ", "JJJJ", "AJJA", "AAAAAAAAJA", "AJAJAJAJAJ", "JAAAAAAJ", strings.Repeat("AAAAAAAAAAAAAAAAAAAJ", 10)} {
		for _, acks := range []bool{false, true} {
			t.Run(fmt.Sprint(c, acks), func(t *testing.T) {
				hec := &sinktest.Splunk{Acks: acks, Verdict: bad}
				s := serve(t, hec, func(c *Config) { c.IncludeReasons = true })
				var rs []*buffer.Record
				for i, v := range c {
					value := `{"good":1}`
					if v == 'J' {
						value = fmt.Sprintf(`{"bad":%d}`, []int{6, 12, 13, 15}[i%4])
					}
					rs = append(rs, record(int64(i), value))
				}
				out, err := deliver(t, s, rs...)
				if err != nil || verdicts(out) != c {
					t.Fatalf("%s %v, want %s", verdicts(out), err, c)
				}
				for i, v := range c {
					n := hec.Copies(coordinate(fmt.Sprint(i)))
					if v == 'J' && n != 0 || v == 'A' && n < 1 || !acks && n > 1 || n > 2 {
						t.Errorf("offset %d (%c) is there %d times", i, v, n)
					}
					if v == 'J' && !strings.Contains(out[i].Reason, fmt.Sprintf("code %d", []int{6, 12, 13, 15}[i%4])) {
						t.Errorf("reason %q", out[i].Reason)
					}
				}
			})
		}
	}
}

// An answer that came before the request was read says nothing of the events
// before the bad one.
func TestEarlyAnswerDeliversNothing(t *testing.T) {
	hec := &sinktest.Splunk{}
	s := serve(t, hec, nil)
	mustDeliver(t, s, record(9, `{"a":1}`)) // it is known that there are no acknowledgements
	hec.Fail(sinktest.HECFault{Fault: sinktest.Fault{Unread: true, Status: 400, Body: `{"text":"No data","code":12,"invalid-event-number":1}`}})
	big := `{"a":"` + strings.Repeat("x", 16<<20) + `"}`
	out, err := deliver(t, s, record(0, `{"a":1}`), record(1, `{"a":1}`), record(2, big))
	if err == nil && out[0].Verdict == sinks.Ack && hec.Copies(coordinate("0")) == 0 {
		t.Errorf("%s, and offset 0 is not there", verdicts(out))
	}
}

// A batch of nothing but bad events costs a bearable number of requests and
// bytes, and all of it is rejected in the end.
func TestOnlyBadEvents(t *testing.T) {
	hec := &sinktest.Splunk{Verdict: bad}
	s := serve(t, hec, nil)
	var rs []*buffer.Record
	for i := range 1000 {
		rs = append(rs, record(int64(i), `{"bad":13}`))
	}
	for rounds := 0; len(rs) > 0; rounds++ {
		if rounds > 20 {
			t.Fatalf("%d are left", len(rs))
		}
		out, err := deliver(t, s, rs...)
		if err != nil {
			t.Fatal(err)
		}
		var rest []*buffer.Record
		for i, o := range out {
			if o.Verdict != sinks.Reject {
				rest = append(rest, rs[i])
			}
		}
		rs = rest
	}
	sent := int64(0)
	for _, r := range hec.Requests() {
		sent += r.Bytes
	}
	if most := int64(20 * 1000 * 150); sent > most {
		t.Errorf("%d bytes for 1000 events", sent)
	}
}

func TestIncorrectIndexRejectsNothing(t *testing.T) {
	for _, acks := range []bool{false, true} {
		hec := &sinktest.Splunk{Acks: acks, Indices: []string{"good", "other"}}
		s := serve(t, hec, func(c *Config) { c.Index = "{to}" })
		var rs []*buffer.Record
		want := ""
		for i, to := range []string{"good", "bad", "other", "bad", "good", "worse"} {
			rs = append(rs, record(int64(i), fmt.Sprintf(`{"to":%q}`, to)))
			want += map[bool]string{true: "A", false: "M"}[to == "good" || to == "other"]
		}
		out, err := deliver(t, s, rs...)
		if err != nil || verdicts(out) != want {
			t.Fatalf("%s %v, want %s", verdicts(out), err, want)
		}
		if !strings.Contains(out[1].Reason, `index "bad"`) || out[1].Status != 400 {
			t.Errorf("%+v", out[1])
		}
	}
	// One for all: nothing to isolate.
	hec := &sinktest.Splunk{Indices: []string{"good"}}
	s := serve(t, hec, func(c *Config) { c.Index = "bad" })
	_, err := deliver(t, s, record(1, `{"a":1}`), record(2, `{"a":1}`))
	if re := requestError(t, err); !re.Misconfigured || re.Split || len(hec.Requests()) > 2 {
		t.Errorf("%+v", re)
	}
}

func TestTooLongABodyIsSplit(t *testing.T) {
	hec := &sinktest.Splunk{Most: largeBody + 1}
	s := serve(t, hec, func(c *Config) { c.Timeout = time.Minute })
	big := `{"a":"` + strings.Repeat("x", 2_600_000) + `"}`
	_, err := deliver(t, s, record(1, big), record(2, big))
	if re := requestError(t, err); !re.Split || re.Misconfigured {
		t.Errorf("%+v", re)
	}
	mustDeliver(t, s, record(1, big))
	// The same words about a short body are about its first event.
	short := &sinktest.Splunk{Most: 300}
	s = serve(t, short, nil)
	out, err := deliver(t, s, record(1, `{"a":"`+strings.Repeat("x", 300)+`"}`), record(2, `{"a":1}`))
	if err != nil || verdicts(out) != "JA" {
		t.Errorf("%v %v", out, err)
	}
}

func TestNumberOfAnEventThatWasNotSentIsNotBelieved(t *testing.T) {
	for _, n := range []string{"-1", "3", "99", "9999999999999999999", `"1"`, "1.5", "null"} {
		for _, code := range []int{6, 7, 12, 13, 15} {
			hec := &sinktest.Splunk{}
			s := serve(t, hec, func(c *Config) { c.Index = "{a}" })
			hec.Fail(sinktest.HECFault{Fault: sinktest.Fault{Status: 400, Body: fmt.Sprintf(`{"code":%d,"invalid-event-number":%s}`, code, n)}})
			if code == 7 && n == "3" {
				continue // that of the third one
			}
			out, err := deliver(t, s, record(1, `{"a":1}`), record(2, `{"a":1}`), record(3, `{"a":1}`))
			if err == nil {
				t.Errorf("code %d of event %s: %v", code, n, out)
			}
		}
	}
}

func TestRequiredSendsNothingWithoutAcknowledgement(t *testing.T) {
	hec := &sinktest.Splunk{}
	s := serve(t, hec, func(c *Config) { c.Ack = "required" })
	_, err := deliver(t, s, record(1, `{"a":1}`))
	if re := requestError(t, err); !re.Misconfigured || !strings.Contains(err.Error(), "ack is required") {
		t.Errorf("%+v", re)
	}
	if len(hec.Events()) != 0 {
		t.Error("sent")
	}
	hec.SetAcks(true)
	mustDeliver(t, s, record(1, `{"a":1}`))
}

func TestSuccessWithoutAcknowledgementIDIsNotDelivered(t *testing.T) {
	for _, ack := range []string{"required", "auto"} {
		hec := &sinktest.Splunk{Acks: true}
		s := serve(t, hec, func(c *Config) { c.Ack = ack })
		mustDeliver(t, s, record(1, `{"a":1}`))
		hec.Fail(sinktest.HECFault{NoID: true})
		out, err := deliver(t, s, record(2, `{"a":1}`))
		if err == nil {
			t.Errorf("%s: %v", ack, out)
		}
		mustDeliver(t, s, record(2, `{"a":1}`))
	}
}

func TestAutoFollowsTheToken(t *testing.T) {
	hec := &sinktest.Splunk{}
	s := serve(t, hec, nil)
	grade := func(want sinks.Grade) {
		t.Helper()
		if g, why := s.Grade(); g != want {
			t.Errorf("grade %s (%s), want %s", g, why, want)
		}
	}
	if g, why := s.Grade(); g != sinks.GradeC || !strings.Contains(why, "until") {
		t.Errorf("before anything was asked: %s, %s", g, why)
	}
	mustDeliver(t, s, record(1, `{"a":1}`))
	grade(sinks.GradeC)
	hec.SetAcks(true)
	mustDeliver(t, s, record(2, `{"a":1}`))
	grade(sinks.GradeB)
	mustDeliver(t, s, record(2, `{"a":1}`))
	hec.SetAcks(false)
	if out, err := deliver(t, s, record(3, `{"a":1}`)); err == nil {
		t.Errorf("%v", out)
	}
	mustDeliver(t, s, record(3, `{"a":1}`))
	grade(sinks.GradeC)
}

func TestOffAsksForNothing(t *testing.T) {
	hec := &sinktest.Splunk{Acks: true}
	s := serve(t, hec, func(c *Config) { c.Ack = "off" })
	mustDeliver(t, s, record(1, `{"a":1}`))
	if rs := hec.Requests(); len(rs) != 1 || rs[0].Path != "/services/collector/event" {
		t.Errorf("%+v", rs)
	}
	if g, _ := s.Grade(); g != sinks.GradeC {
		t.Error(g)
	}
}

// The token loses its acknowledgements while one is waited for.
func TestAcknowledgementTurnedOffLosesNothing(t *testing.T) {
	hec := &sinktest.Splunk{Acks: true}
	s := serve(t, hec, nil)
	mustDeliver(t, s, record(1, `{"a":1}`))
	hec.Fail(sinktest.HECFault{Drop: true})
	hec.FailAcks(sinktest.HECFault{Code: 14})
	if out, err := deliver(t, s, record(2, `{"a":1}`)); err == nil || !strings.Contains(err.Error(), "can be there twice") {
		t.Errorf("%v %v", out, err)
	}
}

func TestRotatedTokenIsTakenUp(t *testing.T) {
	for _, ack := range []string{"off", "auto", "required"} {
		hec := &sinktest.Splunk{Acks: true, Token: "new"}
		token, reads := "old", 0
		s := serve(t, hec, func(c *Config) {
			c.Ack = ack
			c.Token = func() (string, error) { reads++; return token, nil }
		})
		for range 2 {
			_, err := deliver(t, s, record(1, `{"a":1}`))
			if re := requestError(t, err); !re.Misconfigured || re.Status != 403 {
				t.Errorf("%+v", re)
			}
		}
		token = "new"
		mustDeliver(t, s, record(1, `{"a":1}`))
		mustDeliver(t, s, record(2, `{"a":1}`))
		if reads != 3 {
			t.Errorf("read %d times", reads)
		}
		if len(hec.Events()) != 2 {
			t.Error("not indexed")
		}
	}
}

func TestTokenNeverShows(t *testing.T) {
	echo := fmt.Sprintf(`{"code":%%d,"text":"you sent %s\u001b[2J"}`, testToken)
	for _, code := range []int{99, 6, 0, 4} {
		for _, status := range []int{200, 400, 403, 500} {
			hec := &sinktest.Splunk{}
			s := serve(t, hec, func(c *Config) { c.IncludeReasons = true })
			mustDeliver(t, s, record(0, `{"a":1}`))
			hec.Fail(sinktest.HECFault{Fault: sinktest.Fault{Status: status, Body: fmt.Sprintf(echo, code)}})
			_, err := deliver(t, s, record(1, `{"a":1}`))
			if err != nil && strings.ContainsAny(err.Error(), "\x1b") || err != nil && strings.Contains(err.Error(), testToken) {
				t.Errorf("%q", err)
			}
		}
	}
}

func TestTokenThatCannotBeRead(t *testing.T) {
	s := serve(t, &sinktest.Splunk{}, func(c *Config) {
		c.Token = func() (string, error) { return "", errors.New("no such file") }
	})
	_, err := deliver(t, s, record(1, `{"a":1}`))
	if re := requestError(t, err); !re.Misconfigured || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("%+v", re)
	}
}

func TestContextEnds(t *testing.T) {
	hec := &sinktest.Splunk{Acks: true}
	s := serve(t, hec, nil)
	mustDeliver(t, s, record(0, `{"a":1}`))
	hec.Fail(sinktest.HECFault{Drop: true}) // while it waits for the acknowledgement
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	if _, err := s.Deliver(ctx, batch(record(1, `{"a":1}`)), func(sinks.Note) { cancel(why) }); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
	hold := make(chan struct{})
	defer close(hold)
	hec.Fail(sinktest.HECFault{Fault: sinktest.Fault{Wait: hold}}) // while it is sent
	ctx, cancel = context.WithCancelCause(t.Context())
	go cancel(why)
	if _, err := s.Deliver(ctx, batch(record(1, `{"a":1}`)), func(sinks.Note) {}); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}

func TestCloseEndsAWait(t *testing.T) {
	hec := &sinktest.Splunk{Acks: true}
	hec.Fail(sinktest.HECFault{Drop: true})
	s := serve(t, hec, nil)
	if _, err := s.Deliver(t.Context(), batch(record(1, `{"a":1}`)), func(sinks.Note) { s.Close() }); err == nil {
		t.Error("delivered")
	}
	s.Close()
}

// A failure after a part was dealt with leaves the verdicts on that part.
func TestFailureInTheMiddleKeepsWhatIsKnown(t *testing.T) {
	for _, c := range []struct {
		code int
		want string
	}{{9, "AJRR"}, {4, "AJMM"}, {27, "AJRR"}} {
		hec := &sinktest.Splunk{Verdict: bad}
		s := serve(t, hec, func(c *Config) { c.Ack = "off" })
		hec.Fail(sinktest.HECFault{}, sinktest.HECFault{Code: c.code})
		out, err := deliver(t, s, record(0, `{"a":1}`), record(1, `{"bad":6}`), record(2, `{"a":1}`), record(3, `{"a":1}`))
		if err != nil || verdicts(out) != c.want || out[2].Reason == "" {
			t.Errorf("%d: %v %v", c.code, out, err)
		}
	}
}

// What is nearly full has taken the events, and asks for less.
func TestNearlyFullIsDeliveredAndCrowded(t *testing.T) {
	for _, code := range []int{24, 25} {
		for _, acks := range []bool{false, true} {
			hec := &sinktest.Splunk{Acks: acks}
			hec.Fail(sinktest.HECFault{Code: code})
			s := serve(t, hec, nil)
			var early sinks.Note
			out, err := s.Deliver(t.Context(), batch(record(1, `{"a":1}`)), func(n sinks.Note) { early = n })
			if err != nil || verdicts(out) != "A" || hec.Copies(coordinate("1")) != 1 {
				t.Errorf("%v %v", out, err)
			}
			if acks && early != sinks.Crowded || !acks && out[0].Note != sinks.Crowded {
				t.Errorf("code %d, acks %v: nobody is told", code, acks)
			}
		}
	}
}
