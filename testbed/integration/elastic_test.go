//go:build integration

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"strconv"
	"strings"

	"weir/testbed/bridge"
	"weir/testbed/servers"
)

// elastic asks a node, Elasticsearch or OpenSearch, without weir's client.
type elastic struct {
	*servers.Elastic
	b *bed
}

// ask sends one request and decodes the answer.
func (es *elastic) ask(ctx context.Context, method, path string, body, answer any) (int, error) {
	var send io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		send = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, es.URL+path, send)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if es.User != "" {
		req.SetBasicAuth(es.User, es.Password)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return res.StatusCode, err
	}
	if res.StatusCode/100 != 2 {
		return res.StatusCode, fmt.Errorf("%s %s answered %d: %.300s", method, path, res.StatusCode, text)
	}
	if answer != nil {
		return res.StatusCode, json.Unmarshal(text, answer)
	}
	return res.StatusCode, nil
}

// must asks and ends the test on any failure.
func (es *elastic) must(method, path string, body, answer any) {
	es.b.Helper()
	_, err := es.ask(es.b.ctx, method, path, body, answer)
	es.b.must(err)
}

// clean deletes what the test made, on a node that others may use too. One by
// one: wildcards may be forbidden.
func (es *elastic) clean() {
	ctx := context.Background()
	remove := func(path string) {
		if status, err := es.ask(ctx, http.MethodDelete, path, nil, nil); err != nil && status != http.StatusNotFound {
			es.b.Log("cleaning up:", err)
		}
	}
	remove("/_data_stream/logs-" + es.b.name + "-default")
	var indices map[string]json.RawMessage
	if _, err := es.ask(ctx, http.MethodGet, "/"+es.b.name+"*/_alias", nil, &indices); err != nil {
		es.b.Log("cleaning up:", err)
	}
	for index := range indices {
		remove("/" + url.PathEscape(index))
	}
	var templates struct {
		List []struct{ Name string } `json:"index_templates"`
	}
	_, _ = es.ask(ctx, http.MethodGet, "/_index_template/*"+es.b.name+"*", nil, &templates) // none: 404
	for _, t := range templates.List {
		remove("/_index_template/" + url.PathEscape(t.Name))
	}
}

// count is the number of documents that match, after a refresh. An index that
// is not there has none.
func (es *elastic) count(index string, query any) int64 {
	es.b.Helper()
	if status, err := es.ask(es.b.ctx, http.MethodPost, "/"+index+"/_refresh", nil, nil); status == http.StatusNotFound {
		return 0
	} else if err != nil {
		es.b.Fatal(err)
	}
	var answer struct{ Count int64 }
	if query == nil {
		query = map[string]any{"match_all": map[string]any{}}
	}
	es.must(http.MethodPost, "/"+index+"/_count", map[string]any{"query": query}, &answer)
	return answer.Count
}

// refused is how many times documents were refused since the index was made,
// version conflicts included: a record that is sent twice is refused once.
func (es *elastic) refused(index string) int64 {
	es.b.Helper()
	var answer struct {
		All struct {
			Primaries struct {
				Indexing struct {
					Failed int64 `json:"index_failed"`
				}
			}
		} `json:"_all"`
	}
	es.must(http.MethodGet, "/"+index+"/_stats/indexing", nil, &answer)
	return answer.All.Primaries.Indexing.Failed
}

// rejected is how many tasks the node's pool for writes has refused so far.
func (es *elastic) rejected() (n int64) {
	es.b.Helper()
	var answer struct {
		Nodes map[string]struct {
			Pools map[string]struct{ Rejected int64 } `json:"thread_pool"`
		}
	}
	es.must(http.MethodGet, "/_nodes/stats/thread_pool", nil, &answer)
	for _, node := range answer.Nodes {
		n += node.Pools["write"].Rejected
	}
	return n
}

// coordinate names one record.
type coordinate struct{ partition, offset int64 }

// each calls f with the numbers in the given fields of every document.
func (es *elastic) each(index string, fields []string, f func([]int64)) {
	es.b.Helper()
	total := es.count(index, nil) // refreshes
	var sort []any
	for _, field := range fields {
		sort = append(sort, map[string]any{field: map[string]any{"order": "asc", "missing": -1, "unmapped_type": "long"}})
	}
	var seen int64
	var after []json.RawMessage
	for {
		search := map[string]any{"size": 10_000, "_source": false, "sort": sort, "track_total_hits": false}
		if after != nil {
			search["search_after"] = after
		}
		var answer struct {
			Hits struct {
				Hits []struct{ Sort []json.RawMessage }
			}
		}
		es.must(http.MethodPost, "/"+index+"/_search", search, &answer)
		hits := answer.Hits.Hits
		for _, h := range hits {
			values := make([]int64, len(fields))
			for i := range fields {
				// A keyword, where the template made it one, is a number in quotes.
				v, err := strconv.ParseInt(strings.Trim(string(h.Sort[i]), `"`), 10, 64)
				es.b.must(err)
				values[i] = v
			}
			f(values)
		}
		seen += int64(len(hits))
		if len(hits) < 10_000 {
			break
		}
		after = hits[len(hits)-1].Sort
	}
	// Two documents of the same values at a page's end would hide one.
	if seen != total {
		es.b.Errorf("%s: %d documents, %d could be told apart", index, total, seen)
	}
}

// wantNumbers wants each of 0 to n-1 in field n of exactly one document.
func (es *elastic) wantNumbers(index string, n int) {
	es.b.Helper()
	found := make([]int, n)
	strangers := 0
	es.each(index, []string{"n", "kafka.partition", "kafka.offset"}, func(v []int64) {
		if v[0] < 0 || v[0] >= int64(n) {
			strangers++
			return
		}
		found[v[0]]++
	})
	lost, twice := 0, 0
	for _, times := range found {
		if times == 0 {
			lost++
		} else if times > 1 {
			twice++
		}
	}
	if lost+twice+strangers > 0 {
		es.b.Errorf("%s: of %d events %d lost, %d twice, and %d that were not produced", index, n, lost, twice, strangers)
	}
}

// wantCommittedOnlyDelivered wants every record below the committed offsets to
// be in the index. In a topic without dead letters.
func (es *elastic) wantCommittedOnlyDelivered(index string, committed map[int32]int64) (total int64) {
	es.b.Helper()
	for partition, next := range committed {
		n := es.count(index, map[string]any{"bool": map[string]any{"filter": []any{
			map[string]any{"term": map[string]any{"kafka.partition": partition}},
			map[string]any{"range": map[string]any{"kafka.offset": map[string]any{"lt": next}}},
		}}})
		if n != next {
			es.b.Errorf("partition %d: committed up to %d, but only %d of them are in the index", partition, next, n)
		}
		total += next
	}
	return total
}

func combined(ctx context.Context, bin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = bridge.Environ()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// hostPort is the host and port of a node's address.
func (es *elastic) hostPort() string {
	es.b.Helper()
	u, err := url.Parse(es.URL)
	es.b.must(err)
	return u.Host
}
