package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"weir/testbed/bridge"
)

// runElastic measures weir against a real Elasticsearch. What is in the index is
// the account, and nothing that weir says of it.
func (r *runner) runElastic(ctx context.Context, c benchCase, i int) (Result, error) {
	res := Result{Case: c.Name, Group: c.Group, Load: c.Load}
	topic, err := r.topic(ctx, c)
	if err != nil {
		return res, err
	}
	var node struct{ Version struct{ Number string } }
	if err := ask(ctx, http.MethodGet, r.elastic+"/", "", &node); err != nil {
		return res, err
	}
	res.Version = node.Version.Number
	index := fmt.Sprintf("weir-bench-%d", time.Now().UnixNano())
	// On one shard and without a copy, so that one node is green and the figure
	// is one shard's.
	err = ask(ctx, http.MethodPut, r.elastic+"/"+index, `{"settings":{"number_of_shards":1,"number_of_replicas":0}}`, nil)
	if err != nil {
		return res, err
	}
	defer func() { _ = ask(context.WithoutCancel(ctx), http.MethodDelete, r.elastic+"/"+index, "", nil) }()

	c.setup = func(cfg *bridge.Config) { cfg.Sink["index"] = index }
	p, cfg, err := r.start(c, topic, r.elastic, i)
	if err != nil {
		return res, err
	}
	defer p.Kill()
	events := int64(c.Load.Events)
	var first time.Time // when anything was committed
	var at int64
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(15 * time.Minute); ; {
		select {
		case <-ctx.Done():
			return res, ctx.Err()
		case <-p.Exited():
			return res, fmt.Errorf("weir ended before it was done\n%s", p.Log())
		case <-tick.C:
		}
		sum, err := r.committed(ctx, cfg.Group(), topic)
		if err != nil {
			return res, err
		}
		if sum > 0 && first.IsZero() {
			first, at = time.Now(), sum
		}
		if sum == events {
			break
		}
		if time.Now().After(limit) {
			return res, fmt.Errorf("%d of %d events after 15 minutes\n%s", sum, events, p.Log())
		}
	}
	res.Seconds = time.Since(first).Seconds()
	if res.Seconds > 0 {
		res.PerSecond = float64(events-at) / res.Seconds
	}
	if err := end(ctx, p, &res); err != nil {
		return res, err
	}
	return res, res.countIndex(ctx, r.elastic+"/"+index)
}

// countIndex counts the documents of every event in the index at url. A composite
// aggregation goes through all the numbers there are and, unlike a cardinality, is
// exact. A page of them is half of what ask reads.
func (r *Result) countIndex(ctx context.Context, url string) error {
	if err := ask(ctx, http.MethodPost, url+"/_refresh", "", nil); err != nil {
		return err
	}
	var distinct, copies int64
	for after := ""; ; {
		var page struct {
			Hits         struct{ Total struct{ Value int64 } }
			Aggregations struct {
				Events struct {
					After   json.RawMessage `json:"after_key"`
					Buckets []struct {
						Key       struct{ Number int64 }
						Documents int64 `json:"doc_count"`
					}
				}
			}
		}
		err := ask(ctx, http.MethodPost, url+"/_search", `{"size":0,"track_total_hits":true,"aggs":{"events":{"composite":{"size":10000,`+after+
			`"sources":[{"number":{"terms":{"field":"bench_seq"}}}]}}}}`, &page)
		if err != nil {
			return err
		}
		for _, b := range page.Aggregations.Events.Buckets {
			if b.Key.Number >= 0 && b.Key.Number < int64(r.Load.Events) {
				distinct++
				copies += b.Documents
			}
		}
		if page.Aggregations.Events.After == nil {
			r.Stored = page.Hits.Total.Value
			r.Missing, r.Twice, r.Strangers = int64(r.Load.Events)-distinct, copies-distinct, r.Stored-copies
			return nil
		}
		after = `"after":` + string(page.Aggregations.Events.After) + ","
	}
}

// ask makes one request and decodes the answer into to, unless that is nil.
func ask(ctx context.Context, method, url, body string, to any) error {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return errors.New(method + " " + url + ": " + res.Status + ": " + string(text[:min(len(text), 300)]))
	}
	if to == nil {
		return nil
	}
	return json.Unmarshal(text, to)
}
