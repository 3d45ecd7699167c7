package sinktest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strings"
)

// Search is how an Elasticsearch is searched: in a point in time, by ids, by the
// coordinates in "kafka", and by their absence. It knows PUT and DELETE of a
// document, too.
type Search struct {
	// Unmapped: the index has no fields to search by.
	Unmapped bool
	// Edit may change the status and the answer to a request, by its path; nil: it
	// does not.
	Edit func(path string, status int, answer []byte) (int, []byte)
	// Asked are the bodies of the searches.
	Asked []string
}

func (s *Search) serves(path string) bool {
	for _, part := range []string{"/_refresh", "/_field_caps", "/_pit", "/_search", "/_doc/"} {
		if strings.Contains(path, part) {
			return true
		}
	}
	return false
}

func (es *Elasticsearch) search(w http.ResponseWriter, r *http.Request) {
	es.mu.Lock()
	defer es.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	status, answer := es.found(r, body)
	text, _ := json.Marshal(answer)
	if es.Search.Edit != nil {
		status, text = es.Search.Edit(r.URL.Path, status, text)
	}
	es.head(w, Fault{})
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

type anything = map[string]any

// found is the answer to a search, or to what goes before it.
func (es *Elasticsearch) found(r *http.Request, body []byte) (int, any) {
	parts := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	if index := es.indices[parts[0]]; !strings.HasPrefix(parts[0], "_") && index == nil {
		return http.StatusNotFound, anything{"error": anything{"type": "index_not_found_exception", "reason": "no such index [" + parts[0] + "]"}, "status": 404}
	}
	switch {
	case strings.HasSuffix(r.URL.Path, "/_refresh"):
		return http.StatusOK, anything{}
	case strings.HasSuffix(r.URL.Path, "/_field_caps"):
		fields := anything{}
		if !es.Search.Unmapped {
			for field, kind := range map[string]string{"kafka.topic": "keyword", "kafka.partition": "integer", "kafka.offset": "long"} {
				fields[field] = anything{kind: anything{"searchable": true}}
			}
		}
		return http.StatusOK, anything{"fields": fields}
	case strings.Contains(r.URL.Path, "/_doc/"):
		index := es.indices[parts[0]]
		id, _ := url.PathUnescape(parts[2])
		index.order = slices.DeleteFunc(index.order, func(o string) bool { return o == id })
		delete(index.byID, id)
		if r.Method == http.MethodPut {
			index.order, index.byID[id] = append(index.order, id), body
		}
		return http.StatusOK, anything{}
	case r.Method == http.MethodDelete:
		delete(es.indices, parts[0])
		return http.StatusOK, anything{}
	case strings.HasSuffix(r.URL.Path, "/_pit"):
		return http.StatusOK, anything{"id": parts[0]}
	case strings.HasSuffix(r.URL.Path, "/_search/point_in_time"):
		return http.StatusOK, anything{"pit_id": parts[0]}
	}
	es.Search.Asked = append(es.Search.Asked, string(body))
	var q struct {
		Size  int
		Pit   struct{ ID string }
		Query query
		Sort  []any
		Total bool `json:"track_total_hits"`
	}
	if err := json.Unmarshal(body, &q); err != nil || es.indices[q.Pit.ID] == nil {
		return http.StatusBadRequest, anything{"error": anything{"type": "parsing_exception", "reason": string(body)}}
	}
	index := es.indices[q.Pit.ID]
	type hit struct {
		Index  string          `json:"_index"`
		ID     string          `json:"_id"`
		Source json.RawMessage `json:"_source"`
		Sort   []int64         `json:"sort,omitempty"`
	}
	hits := []hit{}
	for _, id := range index.order {
		var doc document
		_ = json.Unmarshal(index.byID[id], &doc)
		if q.Query.match(id, &doc) {
			h := hit{Index: q.Pit.ID, ID: id, Source: index.byID[id]}
			if q.Sort != nil {
				h.Sort = []int64{*doc.Kafka.Offset}
			}
			hits = append(hits, h)
		}
	}
	total := len(hits)
	if q.Sort != nil {
		sort.SliceStable(hits, func(i, j int) bool { return hits[i].Sort[0] < hits[j].Sort[0] })
	}
	return http.StatusOK, anything{
		"timed_out": false, "_shards": anything{"total": 1, "successful": 1, "failed": 0},
		"hits": anything{"total": anything{"value": total, "relation": "eq"}, "hits": hits[:min(q.Size, total)]},
	}
}

// document is as much of one as is searched by.
type document struct {
	Kafka struct {
		Topic     string
		Partition *int32
		Offset    *int64
	}
}

// query is as much of a query as weir makes.
type query struct {
	MatchAll *struct{} `json:"match_all"`
	IDs      *struct{ Values []string }
	Term     map[string]any
	Terms    map[string][]any
	Range    map[string]struct{ GTE, LT *int64 }
	Bool     *struct {
		Filter  []query
		MustNot []query `json:"must_not"`
	}
}

func (q *query) match(id string, d *document) bool {
	number := func(p *int32, v any) bool { n, ok := v.(float64); return p != nil && ok && float64(*p) == n }
	switch {
	case q.IDs != nil:
		return slices.Contains(q.IDs.Values, id)
	case q.Term["kafka.topic"] != nil:
		return d.Kafka.Topic == q.Term["kafka.topic"]
	case q.Term != nil:
		return number(d.Kafka.Partition, q.Term["kafka.partition"])
	case q.Terms != nil:
		return slices.ContainsFunc(q.Terms["kafka.partition"], func(v any) bool { return number(d.Kafka.Partition, v) })
	case q.Range != nil:
		r := q.Range["kafka.offset"]
		return d.Kafka.Offset != nil && *d.Kafka.Offset >= *r.GTE && (r.LT == nil || *d.Kafka.Offset < *r.LT)
	case q.Bool != nil:
		for i := range q.Bool.Filter {
			if !q.Bool.Filter[i].match(id, d) {
				return false
			}
		}
		for i := range q.Bool.MustNot {
			if q.Bool.MustNot[i].match(id, d) {
				return false
			}
		}
		return true
	}
	return q.MatchAll != nil
}
