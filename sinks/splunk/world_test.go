package splunk

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weir/buffer"
	"weir/sinks"
	"weir/sinks/sinktest"
)

// A world is one random schedule of faults over virtual time, and the judge of
// what is delivered in it.
type world struct {
	t       *testing.T
	seed    uint64
	servers []*sinktest.Splunk
	calm    time.Time // no fault begins after it
	acks    bool      // the indexers acknowledge, and can lose what they accepted
	ack     string    // what the sink is told of it

	trouble sync.WaitGroup

	mu  sync.Mutex
	rnd *rand.Rand
}

func (w *world) chance(percent int) bool { return w.int(100) < percent }

func (w *world) int(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rnd.IntN(n)
}

// Whatever collectors do, nothing is acknowledged that is not indexed, nothing is
// rejected that is not bad, and everything is dealt with in the end.
func TestRandomWorlds(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			w := &world{t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 1)), calm: time.Now().Add(30 * time.Minute)}
			w.run()
		})
		if t.Failed() {
			return
		}
	}
}

func (w *world) run() {
	var n network
	ack := []string{"auto", "auto", "required", "off"}[w.int(4)]
	w.ack = ack
	w.acks = ack == "required" || ack == "auto" && w.chance(70)
	var hosts []string
	faulty := w.int(60)
	newServer := func() *sinktest.Splunk {
		hec := &sinktest.Splunk{Acks: w.acks, Token: testToken, Verdict: bad}
		if w.acks {
			hec.Delay = time.Duration(w.int(20_000)) * time.Millisecond
		}
		hec.Gate = func(r *http.Request) *sinktest.HECFault { return w.fault(r, faulty) }
		w.servers = append(w.servers, hec)
		return hec
	}
	for i := range 1 + w.int(3) {
		host := fmt.Sprint("splunk", i)
		hosts = append(hosts, host)
		if w.chance(25) {
			lb := &balancer{backends: []*sinktest.Splunk{newServer(), newServer()}, cookie: []string{"sticky", "AWSALB", ""}[w.int(3)], down: map[int]bool{}}
			if lb.cookie == "" && w.acks {
				lb.cookie = "sticky" // without sessions nothing may ever be acknowledged
			}
			defer n.add(host, lb)()
			w.trouble.Go(func() { w.fails(lb) })
		} else {
			defer n.add(host, newServer())()
		}
	}
	s := n.sink(w.t, func(c *Config) {
		c.Ack = ack
		if w.chance(30) {
			c.Compression = "gzip"
		}
	}, hosts...)
	for _, hec := range w.servers {
		w.trouble.Go(func() { w.restarts(hec) })
	}

	const batches, size = 20, 10
	var todo sync.WaitGroup
	room := make(chan struct{}, 1+w.int(6))
	for i := range batches {
		var rs []*buffer.Record
		for k := range 1 + w.int(size) {
			value := `{"good":1}`
			if w.chance(5) {
				value = `{"bad":13}`
			}
			rs = append(rs, record(int64(i*size+k), value))
		}
		room <- struct{}{}
		todo.Go(func() {
			w.deliver(s, rs, func() { <-room })
		})
	}
	todo.Wait()
	s.Close()
	w.trouble.Wait()
	time.Sleep(time.Minute) // for requests that are held back
	for _, hec := range w.servers {
		sound(w.t, hec)
	}
}

// deliver does what a connector does, until all of rs is dealt with. leave is
// called when the first answer is in.
func (w *world) deliver(s *Sink, rs []*buffer.Record, leave func()) {
	leave = sync.OnceFunc(leave)
	for len(rs) > 0 {
		if time.Now().After(w.calm.Add(24 * time.Hour)) {
			w.t.Errorf("seed %d: %d records never get through", w.seed, len(rs))
			return
		}
		out, err := s.Deliver(w.t.Context(), batch(rs...), func(sinks.Note) { leave() })
		leave()
		if err != nil {
			var re *sinks.RequestError
			if !errors.As(err, &re) {
				w.t.Errorf("seed %d: %v", w.seed, err)
			}
			if re.Split && len(rs) > 1 {
				w.deliver(s, rs[:len(rs)/2], leave)
				rs = rs[len(rs)/2:]
			}
			time.Sleep(time.Duration(1+w.int(5000)) * time.Millisecond)
			continue
		}
		if len(out) != len(rs) {
			w.t.Errorf("seed %d: %d outcomes for %d records", w.seed, len(out), len(rs))
			return
		}
		var rest []*buffer.Record
		for i, r := range rs {
			good := strings.Contains(string(r.Value), "good")
			switch out[i].Verdict {
			case sinks.Ack:
				if w.copies(r) == 0 {
					w.t.Errorf("seed %d: offset %d is acknowledged, and not indexed", w.seed, r.Offset)
				}
			case sinks.Reject:
				if good {
					w.t.Errorf("seed %d: offset %d is rejected: %s", w.seed, r.Offset, out[i].Reason)
				}
			default:
				rest = append(rest, r)
			}
		}
		rs = rest
		time.Sleep(time.Duration(1+w.int(500)) * time.Millisecond)
	}
}

func (w *world) copies(r *buffer.Record) (n int) {
	for _, hec := range w.servers {
		n += hec.Copies(coordinate(fmt.Sprint(r.Offset)))
	}
	return n
}

// fault is what happens to one request.
func (w *world) fault(r *http.Request, percent int) *sinktest.HECFault {
	if time.Now().After(w.calm) || !w.chance(percent) {
		return nil
	}
	if w.chance(30) {
		time.Sleep(time.Duration(w.int(40_000)) * time.Millisecond)
	}
	answer := func(s string) *sinktest.HECFault { return &sinktest.HECFault{Fault: sinktest.Fault{Answer: &s}} }
	acks := strings.HasSuffix(r.URL.Path, "/ack")
	switch w.int(12) {
	case 0:
		return &sinktest.HECFault{Fault: sinktest.Fault{ResetBefore: true}}
	case 1:
		return &sinktest.HECFault{Fault: sinktest.Fault{ResetAfter: true}}
	case 2:
		return &sinktest.HECFault{Fault: sinktest.Fault{Half: true}}
	case 3:
		return &sinktest.HECFault{Fault: sinktest.Fault{Status: []int{301, 400, 404, 408, 413, 429, 500, 502, 503, 504}[w.int(10)], Body: "<html>"}}
	case 4:
		return &sinktest.HECFault{Fault: sinktest.Fault{Status: 413, Unread: true}}
	case 5:
		if acks {
			return answer([]string{``, `{"acks":{}}`, `{"acks":{"0":"true"}}`, `{"text":"Success","code":0}`}[w.int(4)])
		}
		return answer([]string{``, `<html>`, `{"text":"Success"}`, `{"text":"HEC is healthy","code":17}`}[w.int(4)])
	case 6:
		// With auto, one that says it has no acknowledgements and then gives no id is
		// believed.
		return &sinktest.HECFault{NoID: w.ack == "required"}
	case 7, 8:
		return &sinktest.HECFault{Drop: w.acks}
	case 9:
		return &sinktest.HECFault{Code: []int{24, 25}[w.int(2)]}
	default:
		return &sinktest.HECFault{Code: 1 + w.int(28)}
	}
}

// restarts crashes hec now and then.
func (w *world) restarts(hec *sinktest.Splunk) {
	often := 1 + w.int(600)
	for time.Now().Before(w.calm) {
		time.Sleep(time.Duration(1+w.int(often*1000)) * time.Millisecond)
		hec.Restart()
	}
}

// fails has one of the collectors behind lb be away for a while.
func (w *world) fails(lb *balancer) {
	for time.Now().Before(w.calm) {
		time.Sleep(time.Duration(1+w.int(200)) * time.Second)
		lb.mu.Lock()
		clear(lb.down)
		lb.down[w.int(3)] = true
		lb.mu.Unlock()
	}
}
