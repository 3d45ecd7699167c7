//go:build integration

package integration

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"weir/testbed/bridge"
	"weir/testbed/servers"
)

// setting reads a number or duration from the environment, for longer runs by
// hand.
func setting[T any](t *testing.T, name string, otherwise T, parse func(string) (T, error)) T {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	v, err := parse(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

func sum(committed map[int32]int64) (n int64) {
	for _, next := range committed {
		n += next
	}
	return n
}

// Elasticsearch is gone for WEIR_TEST_OUTAGE while a backlog of WEIR_TEST_BACKLOG
// events waits: no rebalance, no memory beyond the budget, health that says why,
// and it goes on by itself.
func TestOutageWithABacklog(t *testing.T) {
	outage := setting(t, "WEIR_TEST_OUTAGE", 20*time.Second, time.ParseDuration)
	backlog := setting(t, "WEIR_TEST_BACKLOG", 200_000, strconv.Atoi)
	b := newBed(t, 2*time.Minute+2*outage+time.Duration(backlog)*500*time.Microsecond)
	es := b.node()
	if !es.Owned() {
		t.Skip("the Elasticsearch of WEIR_TEST_ES is not ours to stop")
	}
	const partitions, held, allowance = 6, 64 << 20, 86 << 20
	topic := b.topic("", partitions, nil)
	cfg := bridge.NewConfig(b.kafka.Addr, topic, es.URL)
	cfg.File["memory"] = "64MiB"

	const before = 1000
	b.must(b.cl.Write(b.ctx, synthetic(topic, partitions, 0, before, 500)))
	p := b.weir("weir", cfg)
	b.waitCommitted(p, cfg.Group(), topic)
	b.waitReady(p)
	generation, err := b.cl.Generation(b.ctx, cfg.Group())
	b.must(err)

	b.must(es.Stop(b.ctx))
	down := time.Now()
	for from := before; from < before+backlog; {
		n := min(100_000, before+backlog-from)
		b.must(b.cl.Write(b.ctx, synthetic(topic, partitions, from, n, 500)))
		from += n
	}
	b.waitUnready(p, topic, es.hostPort())
	_, says, err := p.Ready(b.ctx)
	b.must(err)
	t.Logf("/readyz: %s", says)
	lines := strings.Count(p.Log(), "\n")
	var most float64
	for time.Since(down) < outage {
		m, err := p.Metrics(b.ctx)
		b.must(err)
		most = max(most, m.Sum(bridge.BudgetHeld))
		if most > held {
			t.Errorf("%s = %g, over the budget of %d", bridge.BudgetHeld, most, held)
			break
		}
		if alive, err := p.Alive(b.ctx); !alive {
			t.Fatalf("/livez is red during an outage: %v", err)
		}
		select {
		case <-b.ctx.Done():
			t.Fatal(b.ctx.Err())
		case <-p.Exited():
			t.Fatal("weir ended")
		case <-time.After(500 * time.Millisecond):
		}
	}
	if more := strings.Count(p.Log(), "\n") - lines; more > 60 {
		t.Errorf("%d log lines during the outage: a storm", more)
	}
	committed, err := b.cl.Committed(b.ctx, cfg.Group(), topic)
	b.must(err)
	if n := sum(committed); n != before {
		t.Errorf("%d records committed while nothing could be delivered, want %d", n, before)
	}

	b.must(es.Start(b.ctx))
	back := time.Now()
	b.waitReady(p)
	t.Logf("ready again after %v", time.Since(back).Round(time.Millisecond))
	b.waitCommitted(p, cfg.Group(), topic)
	took := time.Since(back)
	es.wantNumbers(topic, before+backlog)
	after, err := b.cl.Generation(b.ctx, cfg.Group())
	b.must(err)
	if after != generation {
		t.Errorf("group generation %d, %d before: there was a rebalance", after, generation)
	}
	peak, err := p.PeakRSS()
	b.must(err)
	t.Logf("outage %v, backlog %d: delivered %v after the start, most held %.1f MiB, peak RSS %.1f MiB",
		outage, backlog, took.Round(time.Millisecond), most/(1<<20), float64(peak)/(1<<20))
	if peak > held+allowance {
		t.Errorf("peak RSS %d MiB with memory: 64MiB, want at most %d", peak>>20, (held+allowance)>>20)
	}
	b.stop(p)
}

// A wrong password is a setting that is wrong: no event is rejected for it,
// nothing is committed, and the right one is taken up without a restart.
func TestWrongPasswordThenRight(t *testing.T) {
	b := newBed(t, 3*time.Minute)
	es := b.ownNode(servers.ElasticOptions{Password: "testbed-right"})
	const n = 2000
	topic := b.topic("", 3, nil)
	b.must(b.cl.Write(b.ctx, synthetic(topic, 3, 0, n, 300)))
	secret := filepath.Join(b.dir, "es-password")
	b.must(os.WriteFile(secret, []byte("testbed-wrong\n"), 0o600))
	cfg := bridge.NewConfig(b.kafka.Addr, topic, es.URL)
	bridge.Set(cfg.Sink, "auth.username", "elastic")
	bridge.Set(cfg.Sink, "auth.password", "${file:"+secret+"}")

	p := b.weir("weir", cfg)
	b.waitUnready(p, topic, "401")
	committed, err := b.cl.Committed(b.ctx, cfg.Group(), topic)
	b.must(err)
	if sum(committed) != 0 { // the start itself may be committed
		t.Errorf("committed with a wrong password: %v", committed)
	}
	if _, found, err := b.cl.Metadata(b.ctx, topic+".dlq"); err != nil {
		t.Error(err)
	} else if found {
		letters, err := b.cl.Count(b.ctx, topic+".dlq")
		if err != nil || letters != 0 {
			t.Errorf("%d events were dead-lettered for a wrong password (%v)", letters, err)
		}
	}
	pid := p.PID()
	b.must(os.WriteFile(secret, []byte("testbed-right\n"), 0o600))
	b.waitCommitted(p, cfg.Group(), topic)
	b.waitReady(p)
	es.wantNumbers(topic, n)
	if p.PID() != pid {
		t.Error("it was another process")
	}
	if _, says, _ := p.Ready(b.ctx); strings.Contains(p.Log()+says, "testbed-wrong") || strings.Contains(p.Log()+says, "testbed-right") {
		t.Error("a password is in the log or in /readyz")
	}
	b.stop(p)
}

// The dead-letter topic refuses a record that is too large for it: that lane
// stands still in front of it, the others go on, health says so, and it goes on
// once the topic takes it.
func TestDeadLetterTopicRefuses(t *testing.T) {
	b := newBed(t, 2*time.Minute)
	es := b.node()
	topic := b.topic("", 2, nil)
	b.must(b.cl.CreateTopic(b.ctx, topic+".dlq", 1, map[string]string{"max.message.bytes": "2000"}))
	es.must(http.MethodPut, "/"+topic, map[string]any{"mappings": map[string]any{
		"properties": map[string]any{"n": map[string]any{"type": "long"}},
	}}, nil)
	cfg := bridge.NewConfig(b.kafka.Addr, topic, es.URL)

	records := synthetic(topic, 2, 0, 200, 300)
	poisoned := records[100]    // offset 50 of partition 0
	noise := make([]byte, 8000) // does not compress
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise)
	poisoned.Value = fmt.Appendf(nil, `{"n":"not a number","fill":"%x"}`, noise)
	b.must(b.cl.Write(b.ctx, records))
	p := b.weir("weir", cfg)
	b.waitUnready(p, topic+".dlq")
	b.eventually("the other partition goes on", p, func() (bool, error) {
		committed, err := b.cl.Committed(b.ctx, cfg.Group(), topic)
		return committed[1] == 100, err
	})
	committed, err := b.cl.Committed(b.ctx, cfg.Group(), topic)
	b.must(err)
	if committed[0] > poisoned.Offset {
		t.Errorf("committed %d past the record at %d that is neither delivered nor dead-lettered", committed[0], poisoned.Offset)
	}
	b.must(b.cl.SetTopicConfig(b.ctx, topic+".dlq", "max.message.bytes", "1000000"))
	b.waitCommitted(p, cfg.Group(), topic)
	b.waitReady(p)
	if dead := b.wantDeadLetters(topic, records); dead != 1 {
		t.Errorf("%d dead letters, want 1", dead)
	}
	if got := es.count(topic, nil); got != 199 {
		t.Errorf("%d in the index, want 199", got)
	}
	b.stop(p)
}
