//go:build integration

package integration

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"weir/testbed/bridge"
	"weir/testbed/servers"
)

// The headers that a dead letter carries beside its own.
var deadLetterHeaders = []string{
	"weir.connector", "weir.topic", "weir.partition", "weir.offset",
	"weir.timestamp", "weir.status", "weir.reason", "weir.failed_at",
}

func TestRealEventsAreIndexedOrDeadLettered(t *testing.T) {
	b := newBed(t, 5*time.Minute)
	mainJob(b, b.node())
}

func TestRealEventsOnElasticsearch9(t *testing.T) {
	b := newBed(t, 5*time.Minute)
	mainJob(b, b.ownNode(servers.ElasticOptions{Version: "9.1.3"}))
}

func TestRealEventsOnOpenSearch(t *testing.T) {
	b := newBed(t, 5*time.Minute)
	mainJob(b, b.openSearch())
}

// mainJob reads the real events twice. The server's own dynamic mapping
// refuses nearly half of them, since Keywords is a number in some and hexadecimal
// text in others: they become dead letters. With the template of `weir init` it
// takes them.
func mainJob(b *bed, es *elastic) {
	topic, records := b.realTopic()

	cfg := b.config(topic, es)
	began := time.Now()
	p := b.weir("dynamic", cfg)
	b.waitCommitted(p, cfg.Group(), topic)
	took := time.Since(began)
	indexed, dead := es.count(topic, nil), b.wantDeadLetters(topic, records)
	b.Logf("dynamic mapping: %d indexed, %d dead letters, %v", indexed, dead, took.Round(time.Millisecond))
	if indexed+int64(dead) != int64(len(records)) {
		b.Errorf("produced %d, indexed %d + dead-lettered %d = %d", len(records), indexed, dead, indexed+int64(dead))
	}
	// Which of the two kinds wins depends on which event comes first.
	if dead < 20_000 || dead > 35_000 {
		b.Errorf("%d dead letters: the mapping was not the server's own", dead)
	}
	b.wantMetrics(p, float64(indexed), float64(dead))
	b.waitReady(p)
	b.stop(p)

	cfg.Connector["name"] = topic + "-init"
	cfg.Connector["dead_letter"] = bridge.M{"topic": topic + ".dlq2"}
	cfg.Sink["index"] = topic + "-init"
	b.Cleanup(func() { _ = b.cl.DeleteTopic(b.ctx, topic+".dlq2") })
	b.command("init", "-c", b.write("init", cfg))
	if _, found, err := b.cl.Metadata(b.ctx, topic+".dlq2"); err != nil || !found {
		b.Errorf("weir init made no dead-letter topic: found=%v, %v", found, err)
	}
	b.command("check", "--online", "-c", b.write("check", cfg))
	began = time.Now()
	p = b.weir("init", cfg)
	b.waitCommitted(p, cfg.Group(), topic)
	took = time.Since(began)
	indexed = es.count(topic+"-init", nil)
	letters, err := b.cl.Count(b.ctx, topic+".dlq2")
	b.must(err)
	b.Logf("with weir init: %d indexed, %d dead letters, %v", indexed, letters, took.Round(time.Millisecond))
	if indexed+letters != int64(len(records)) {
		b.Errorf("produced %d, indexed %d + dead-lettered %d", len(records), indexed, letters)
	}
	if float64(indexed) < 0.999*float64(len(records)) {
		b.Errorf("with weir init only %d of %d events are in the index", indexed, len(records))
	}
	b.stop(p)
}

// wantDeadLetters wants every dead letter of topic to be a record of records,
// byte for byte, with the headers that say where it was and why it is here, and
// none twice. It returns their number.
func (b *bed) wantDeadLetters(topic string, records []*kgo.Record) int {
	b.Helper()
	byPlace := make(map[coordinate]*kgo.Record, len(records))
	for _, r := range records {
		byPlace[coordinate{int64(r.Partition), r.Offset}] = r
	}
	seen := make(map[coordinate]int)
	faults := 0
	fault := func(format string, args ...any) {
		if faults++; faults <= 10 {
			b.Errorf(format, args...)
		}
	}
	err := b.cl.Each(b.ctx, topic+".dlq", func(r *kgo.Record) {
		for _, name := range deadLetterHeaders {
			if len(header(r, name)) == 0 {
				fault("dead letter %d/%d has no %s", r.Partition, r.Offset, name)
			}
		}
		at := place(r)
		seen[at]++
		if got := string(header(r, "weir.topic")); got != topic {
			fault("dead letter %d/%d: weir.topic %q, want %q", r.Partition, r.Offset, got, topic)
		}
		original, ok := byPlace[at]
		if !ok {
			fault("dead letter %d/%d: nothing was produced at %v", r.Partition, r.Offset, at)
			return
		}
		if !same(r.Value, original.Value) || !same(r.Key, original.Key) {
			fault("dead letter of %v: key or value altered: %.200q", at, r.Value)
		}
		if !keeps(r, original.Headers) {
			fault("dead letter of %v: headers %q, want those of the record too: %q", at, r.Headers, original.Headers)
		}
	})
	b.must(err)
	for at, n := range seen {
		if n > 1 {
			fault("%v is dead-lettered %d times", at, n)
		}
	}
	if faults > 10 {
		b.Errorf("and %d faults more", faults-10)
	}
	return len(seen)
}

// same tells a nil value from an empty one, as Kafka does.
func same(a, b []byte) bool {
	return (a == nil) == (b == nil) && bytes.Equal(a, b)
}

// wantMetrics wants the counters to say what happened, and nothing to be left.
func (b *bed) wantMetrics(p *bridge.Process, delivered, dead float64) {
	b.Helper()
	m, err := p.Metrics(b.ctx)
	b.must(err)
	for name, want := range map[string]float64{
		bridge.RecordsRead:         delivered + dead,
		bridge.RecordsDelivered:    delivered,
		bridge.RecordsDeadLettered: dead,
	} {
		if got := m.Sum(name); got != want {
			b.Errorf("%s = %g, want %g", name, got, want)
		}
	}
	for _, name := range []string{
		bridge.BytesRead, bridge.BytesDelivered, bridge.RecordsFiltered, bridge.RecordsRetried,
		bridge.RecordsDuplicate, bridge.Lag, bridge.BudgetHeld, bridge.Budget, bridge.InFlight,
		bridge.Window, bridge.OldestAge, bridge.Requests, bridge.Rebalances,
	} {
		if !m.Has(name) {
			b.Errorf("no metric %s", name)
		}
	}
	b.waitMetricZero(p, bridge.Lag)
	b.waitMetricZero(p, bridge.BudgetHeld)
	b.waitMetricZero(p, bridge.OldestAge)
}

func (b *bed) waitMetricZero(p *bridge.Process, name string) {
	b.Helper()
	b.eventually(name+" is 0", p, func() (bool, error) {
		m, err := p.Metrics(b.ctx)
		return err == nil && m.Has(name) && m.Sum(name) == 0, err
	})
}

func TestDataStreamTakesEventsWithAndWithoutTimestamp(t *testing.T) {
	b := newBed(t, 2*time.Minute)
	dataStream(b, b.node())
}

func TestDataStreamOnOpenSearch(t *testing.T) {
	b := newBed(t, 2*time.Minute)
	dataStream(b, b.openSearch())
}

func dataStream(b *bed, es *elastic) {
	topic := b.topic("", 3, nil)
	stream := "logs-" + b.name + "-default"
	cfg := b.config(topic, es)
	delete(cfg.Sink, "index")
	cfg.Sink["data_stream"] = stream
	b.command("init", "-c", b.write("init", cfg))

	const n = 3000
	records := synthetic(topic, 3, 0, n, 300)
	for i := 0; i < n; i += 2 {
		records[i].Value = append([]byte(`{"@timestamp":"2026-01-02T03:04:05.678Z",`), records[i].Value[1:]...)
	}
	b.must(b.cl.Write(b.ctx, records))
	p := b.weir("weir", cfg)
	b.waitCommitted(p, cfg.Group(), topic)
	es.wantNumbers(stream, n)
	own := es.count(stream, map[string]any{"term": map[string]any{"@timestamp": "2026-01-02T03:04:05.678Z"}})
	if own != n/2 {
		b.Errorf("%d events kept their own @timestamp, want %d", own, n/2)
	}
	es.must(http.MethodGet, "/_data_stream/"+stream, nil, nil)
	b.stop(p)
}
