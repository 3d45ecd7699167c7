package splunk

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/sinks"
	"weir/sinks/sinktest"
)

func TestUnhealthyEndpointIsLeftOutAndComesBack(t *testing.T) {
	for name, fault := range map[string]sinktest.HECFault{
		"18": {Code: 18}, "19": {Code: 19}, "20": {Code: 20}, "23": {Code: 23}, "27": {Code: 27},
		"reset": {Fault: sinktest.Fault{ResetBefore: true}}, "502": {Fault: sinktest.Fault{Status: 502}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := &sinktest.Splunk{}, &sinktest.Splunk{}
				var n network
				defer n.add("a", a)()
				defer n.add("b", b)()
				s := n.sink(t, nil, "a", "b")
				defer s.Close()
				mustDeliver(t, s, record(0, `{"a":1}`))
				mustDeliver(t, s, record(0, `{"a":1}`))
				a.Fail(fault)
				a.SetHealth(18)
				for range 2 {
					_, _ = deliver(t, s, record(1, `{"a":1}`))
				}
				had := len(a.Events())
				for range 10 {
					mustDeliver(t, s, record(2, `{"a":1}`))
				}
				if n := len(a.Events()); n != had {
					t.Errorf("%d events went to the one that is out", n-had)
				}
				time.Sleep(5 * time.Minute)
				mustDeliver(t, s, record(2, `{"a":1}`))
				mustDeliver(t, s, record(2, `{"a":1}`))
				if n := len(a.Events()); n != had {
					t.Errorf("%d events went to the one that is out", n-had)
				}
				a.SetHealth(17)
				time.Sleep(time.Minute)
				mustDeliver(t, s, record(3, `{"a":1}`))
				mustDeliver(t, s, record(3, `{"a":1}`))
				if len(a.Events()) != had+1 {
					t.Error("did not come back")
				}
			})
		})
	}
}

// While none is well, all are tried in turn, so that the first that is back is
// found.
func TestAllEndpointsDownAreTriedInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &sinktest.Splunk{}, &sinktest.Splunk{}
		var n network
		defer n.add("a", a)()
		defer n.add("b", b)()
		s := n.sink(t, nil, "a", "b")
		defer s.Close()
		n.cut("a", true)
		n.cut("b", true)
		seen := map[string]int{}
		for range 10 {
			time.Sleep(time.Millisecond)
			_, err := deliver(t, s, record(1, `{"a":1}`))
			seen[requestError(t, err).Endpoint]++
		}
		if seen["http://a:8088"] != 5 || seen["http://b:8088"] != 5 {
			t.Errorf("%v", seen)
		}
		n.cut("b", false)
		_, first := deliver(t, s, record(1, `{"a":1}`))
		if first != nil {
			time.Sleep(time.Millisecond)
			mustDeliver(t, s, record(1, `{"a":1}`))
		}
	})
}

// One that holds back its acknowledgements gets less.
func TestBusyEndpointGetsLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &sinktest.Splunk{Acks: true, Delay: 4 * time.Minute}, &sinktest.Splunk{Acks: true}
		var n network
		defer n.add("a", a)()
		defer n.add("b", b)()
		s := n.sink(t, nil, "a", "b")
		defer s.Close()
		done := make(chan struct{})
		for i := range 20 {
			go func() {
				defer func() { done <- struct{}{} }()
				mustDeliver(t, s, record(int64(i), `{"a":1}`))
			}()
			time.Sleep(5 * time.Second)
		}
		for range 20 {
			<-done
		}
		if len(a.Events()) > 3 {
			t.Errorf("%d of 20 went to the slow one", len(a.Events()))
		}
	})
}

func TestSplunkThatIsDownDoesNotKeepWeirFromStarting(t *testing.T) {
	s := make1(t, testConfig("http://127.0.0.1:1"))
	defer s.Close()
	if g, why := s.Grade(); g != sinks.GradeC || why == "" {
		t.Error(g, why)
	}
	_, err := deliver(t, s, record(1, `{"a":1}`))
	if re := requestError(t, err); re.Misconfigured || re.Split || re.Endpoint != "http://127.0.0.1:1" {
		t.Errorf("%+v", re)
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name   string
		acks   bool
		ack    string
		token  string
		health int
		want   sinks.State
		about  string
	}{
		{"acks", true, "auto", testToken, 0, sinks.Good, "grade B"},
		{"no acks", false, "auto", testToken, 0, sinks.Doubtful, "grade C"},
		{"off", true, "off", testToken, 0, sinks.Good, "grade C"},
		{"required", true, "required", testToken, 0, sinks.Good, "grade B"},
		{"required, none", false, "required", testToken, 0, sinks.Bad, "ack is required"},
		{"token", true, "auto", "other", 0, sinks.Bad, "code 4"},
		{"token, off", true, "off", "other", 0, sinks.Bad, "code 4"},
		{"queues full", true, "auto", testToken, 18, sinks.Doubtful, "queues are full"},
	} {
		t.Run(c.name, func(t *testing.T) {
			hec := &sinktest.Splunk{Acks: c.acks, Token: c.token}
			hec.SetHealth(c.health)
			s := serve(t, hec, func(cfg *Config) { cfg.Ack = c.ack })
			found := s.Check(t.Context())
			if len(found) != 1 || found[0].State != c.want || !strings.Contains(found[0].Detail, c.about) {
				t.Errorf("%+v", found)
			}
			for _, r := range hec.Requests() {
				if strings.HasSuffix(r.Path, "/event") {
					t.Error("sent an event")
				}
			}
		})
	}
	s := make1(t, testConfig("http://127.0.0.1:1", "http://127.0.0.1:2"))
	defer s.Close()
	if found := s.Check(t.Context()); len(found) != 2 || found[0].State != sinks.Bad {
		t.Errorf("%+v", found)
	}
}

func TestNewNamesEveryFault(t *testing.T) {
	_, err := New(Config{
		URLs:  []string{"ftp://a", "http://u:secret@b", "http://c?q", "http://d/services/collector/event", ":"},
		Index: "{", Source: "{a..b}", Time: ".", Ack: "maybe", Compression: "zstd",
	})
	if err == nil {
		t.Fatal("no fault")
	}
	for _, want := range []string{"ftp://a", "credentials in the URL of b", "no query", "without /services/collector", "cannot be read",
		"no token", "index:", "source:", "time:", `ack "maybe"`, "ack timeout", `compression "zstd"`, "timeout 0s"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("does not say %q", want)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Error("shows a password")
	}
	if _, err := New(testConfig("http://h:1/prefix")); err != nil {
		t.Error(err)
	}
}

func TestURLKeepsItsPrefix(t *testing.T) {
	hec := &sinktest.Splunk{}
	s := serve(t, hec, func(c *Config) { c.URLs[0] += "/splunk/" })
	mustDeliver(t, s, record(1, `{"a":1}`))
	for _, r := range hec.Requests() {
		if !strings.HasPrefix(r.Path, "/splunk/services/collector/") {
			t.Error(r.Path)
		}
	}
}
