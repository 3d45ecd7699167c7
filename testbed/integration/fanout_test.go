//go:build integration

package integration

import (
	"errors"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"weir/sinks/sinktest"
	"weir/testbed/bridge"
)

// collector is a scripted HTTP Event Collector that can be stopped: then nothing
// listens at its address.
type collector struct {
	*sinktest.Splunk
	addr   string
	server *http.Server
}

func (c *collector) start(b *bed) {
	b.Helper()
	if c.addr == "" {
		c.addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", c.addr)
	b.must(err)
	c.addr = l.Addr().String()
	c.server = &http.Server{Handler: c.Splunk}
	go func() {
		if err := c.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			b.Error(err)
		}
	}()
}

func (c *collector) stop(b *bed) {
	b.Helper()
	b.must(c.server.Close())
}

// One topic goes to Elasticsearch and to Splunk, and Splunk is gone for
// WEIR_TEST_OUTAGE: Elasticsearch gets every event meanwhile, neither connector
// holds more than its part of the memory, and both are complete in the end.
func TestFanOutOneSinkStoppedTheOtherGoesOn(t *testing.T) {
	outage := setting(t, "WEIR_TEST_OUTAGE", 20*time.Second, time.ParseDuration)
	b := newBed(t, 3*time.Minute+3*outage)
	es := b.node()
	const (
		partitions      = 6
		step            = 2000
		memory          = 64 << 20
		allowance       = 86 << 20
		token           = "6c1b9a52-0d4f-4a55-9a2e-3f2f6a5f9d10"
		before          = 1000
		perConnectorMax = memory / 2
	)
	hec := &collector{Splunk: &sinktest.Splunk{Token: token, Acks: true, Delay: 200 * time.Millisecond, Forget: true}}
	hec.start(b)
	t.Cleanup(func() { _ = hec.server.Close() })
	topic := b.topic("", partitions, nil)

	cfg := bridge.NewConfig(b.kafka.Addr, topic, es.URL)
	cfg.File["memory"] = "64MiB"
	splunk := topic + "-splunk"
	cfg.File["connectors"] = []bridge.M{cfg.Connector, {
		"name":        splunk,
		"topics":      []string{topic},
		"dead_letter": bridge.M{"topic": topic + ".dlq"},
		"retry":       bridge.M{"initial": "100ms", "max": "2s"},
		"sink": bridge.M{"splunk_hec": bridge.M{
			"urls": []string{"http://" + hec.addr}, "token": token, "ack": "required", "ack_timeout": "30s",
		}},
	}}
	splunkGroup := "weir." + splunk

	b.must(b.cl.Write(b.ctx, synthetic(topic, partitions, 0, before, 500)))
	p := b.weir("weir", cfg)
	b.waitCommitted(p, cfg.Group(), topic)
	b.waitCommitted(p, splunkGroup, topic)
	b.waitReady(p)

	hec.stop(b)
	down := time.Now()
	written, rounds := before, 0
	var mostHeld float64
	var slowest time.Duration
	for time.Since(down) < outage {
		b.must(b.cl.Write(b.ctx, synthetic(topic, partitions, written, step, 500)))
		written += step
		rounds++
		began := time.Now()
		b.waitCommitted(p, cfg.Group(), topic) // Elasticsearch's lag is back at nothing
		slowest = max(slowest, time.Since(began))
		m, err := p.Metrics(b.ctx)
		b.must(err)
		for _, name := range []string{topic, splunk} {
			held := m.Sum(bridge.BudgetHeld, `connector="`+name+`"`)
			mostHeld = max(mostHeld, held)
			if held > perConnectorMax {
				t.Fatalf("connector %s holds %g bytes, its part of the memory is %d", name, held, perConnectorMax)
			}
		}
	}
	b.waitUnready(p, splunk, hec.addr)
	committed, err := b.cl.Committed(b.ctx, splunkGroup, topic)
	b.must(err)
	if n := sum(committed); n != before {
		t.Errorf("%d records committed for Splunk, which had %d when it was stopped", n, before)
	}

	hec.start(b)
	back := time.Now()
	b.waitCommitted(p, splunkGroup, topic)
	caughtUp := time.Since(back)
	b.waitReady(p)
	es.wantNumbers(topic, written)
	twice := 0
	for i, next := range mustEnds(b, topic) {
		for offset := range next {
			switch n := hec.Copies(sinktest.Coordinate{Topic: topic, Partition: strconv.Itoa(int(i)), Offset: strconv.FormatInt(offset, 10)}); {
			case n == 0:
				t.Fatalf("Splunk lacks %s/%d at offset %d", topic, i, offset)
			case n > 1:
				twice++
			}
		}
	}
	peak, err := p.PeakRSS()
	b.must(err)
	t.Logf("Splunk stopped for %v, %d events meanwhile in %d steps: each step was committed for Elasticsearch within %v; afterwards Splunk had all %d in %v, %d of them twice; "+
		"a connector held at most %.1f MiB, peak RSS %.1f MiB",
		outage, written-before, rounds, slowest.Round(time.Millisecond), written, caughtUp.Round(time.Millisecond), twice, mostHeld/(1<<20), float64(peak)/(1<<20))
	if peak > memory+allowance {
		t.Errorf("peak RSS %d MiB with memory: 64MiB, want at most %d", peak>>20, (memory+allowance)>>20)
	}
	if broken := hec.Broken(); len(broken) > 0 {
		t.Errorf("the collector's rules were broken: %q", broken)
	}
	b.stop(p)
}

func mustEnds(b *bed, topic string) map[int32]int64 {
	b.Helper()
	ends, err := b.cl.Ends(b.ctx, topic)
	b.must(err)
	return ends
}
