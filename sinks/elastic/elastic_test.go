package elastic

import (
	"errors"
	"net/http/httptest"
	"testing"
	"time"

	"weir/buffer"
	"weir/sinks"
	"weir/sinks/sinktest"
)

// testConfig is a Config with what most tests want.
func testConfig(urls ...string) Config {
	return Config{
		URLs: urls, Index: "events", Op: "create", ID: "offset", Coordinates: true,
		Compression: "none", Timeout: 30 * time.Second,
	}
}

var testOrigin = &buffer.Origin{Cluster: "cluster", Topic: "edr.events", TopicID: "id", Partition: 0}

// record is a record whose value is taken for a JSON object.
func record(offset int64, value string) *buffer.Record {
	return &buffer.Record{
		Origin: testOrigin, Offset: offset, Time: time.UnixMilli(1700000000123 + offset),
		Value: []byte(value), Shape: buffer.ShapeObject,
	}
}

func batch(rs ...*buffer.Record) *buffer.Batch {
	b := new(buffer.Batch)
	for _, r := range rs {
		b.Add(r)
	}
	return b
}

// requestError is err as the *sinks.RequestError it has to be.
func requestError(t *testing.T, err error) *sinks.RequestError {
	t.Helper()
	var re *sinks.RequestError
	if !errors.As(err, &re) {
		t.Fatalf("got %v, want a RequestError", err)
	}
	return re
}

// fake is a scripted server and a sink that writes to it.
func fake(t *testing.T, edit func(*Config)) (*sinktest.Elasticsearch, *Sink) {
	t.Helper()
	es := new(sinktest.Elasticsearch)
	return es, serve(t, es, edit)
}

func serve(t *testing.T, es *sinktest.Elasticsearch, edit func(*Config)) *Sink {
	t.Helper()
	srv := httptest.NewServer(es)
	cfg := testConfig(srv.URL)
	if edit != nil {
		edit(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		srv.Close()
		for _, fault := range es.Broken() {
			t.Errorf("broken framing: %s", fault)
		}
	})
	return s
}
