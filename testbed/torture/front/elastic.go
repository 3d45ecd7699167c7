package front

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"weir/testbed/torture/account"
)

// Elasticsearch is the bulk API: create by id, 409 for an id that is there.
var Elasticsearch = Protocol{
	Name:  "elasticsearch",
	Grade: "A",
	Serve: func(l net.Listener, a Account) error { return serve(l, &elastic{account: a}) },
	Sink: func(t Target) map[string]any {
		section := map[string]any{"urls": []string{t.URL}, "index": "torture", "timeout": patience.String()}
		t.common(section)
		if t.SecretFile != "" {
			section["auth"] = map[string]any{"api_key": "${file:" + t.SecretFile + "}"}
		}
		return map[string]any{"elasticsearch": section}
	},
}

// Rehydrate is the bulk API with the index of a case: requests for another one are
// refused.
var Rehydrate = Protocol{
	Name:  "rehydrate",
	Grade: "A",
	Rules: account.Rules{Runs: true},
	Serve: func(l net.Listener, a Account) error { return serve(l, &elastic{account: a, index: "rehydrate-"}) },
	Sink:  Elasticsearch.Sink,
}

type elastic struct {
	account Account
	index   string // what an index has to begin with; empty: any
}

func (e *elastic) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v := &visit{w: w, r: r, began: time.Now(), refusal: elasticRefusal}
	w.Header().Set("X-Elastic-Product", "Elasticsearch")
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.URL.Path == "/":
		_, _ = io.WriteString(w, `{"name":"judge","cluster_name":"judge","cluster_uuid":"judge-------judge------","version":{"number":"8.19.0","build_flavor":"default"},"tagline":"You Know, for Search"}`)
	case strings.HasSuffix(r.URL.Path, "/_bulk") && strings.HasPrefix(strings.TrimPrefix(r.URL.Path, "/"), e.index):
		e.bulk(v)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// elasticRefusal refuses a whole request.
func elasticRefusal(how Spoil) (int, []byte) {
	status, kind := http.StatusInternalServerError, "internal_server_error"
	switch how {
	case Busy:
		status, kind = http.StatusTooManyRequests, "es_rejected_execution_exception"
	case Unavailable:
		status, kind = http.StatusServiceUnavailable, "unavailable_shards_exception"
	case Forbidden:
		status, kind = http.StatusUnauthorized, "security_exception"
	}
	return status, fmt.Appendf(nil, `{"error":{"type":%q,"reason":"the judge says so"},"status":%d}`, kind, status)
}

func (e *elastic) bulk(v *visit) {
	docs, err := bulkDocuments(v)
	if err != nil {
		v.reset() // cut off on its way: nothing of it counts
		return
	}
	plan, err := e.account.Plan(Request{Credentials: strings.TrimPrefix(v.r.Header.Get("Authorization"), "ApiKey ")})
	if err != nil {
		v.reset()
		return
	}
	// Not cut short when the client leaves: a server that is at work on a request
	// goes on with it.
	time.Sleep(plan.Wait)
	if plan.Before != Well {
		v.spoil(plan.Before, nil)
		return
	}
	answers, receipt, err := e.account.Store(account.Delivery{Documents: docs, Late: !v.there()})
	if err != nil {
		v.reset()
		return
	}
	ok := v.hand(plan.After, http.StatusOK, answer(answers), answer(answers[:len(answers)-1]))
	_ = e.account.Answered(receipt, ok)
}

// bulkDocuments reads the body of a bulk request: pairs of lines.
func bulkDocuments(v *visit) ([]account.Document, error) {
	body, err := v.body()
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	var docs []account.Document
	for lines.Scan() {
		var action map[string]struct {
			ID string `json:"_id"`
		}
		if err := json.Unmarshal(lines.Bytes(), &action); err != nil {
			return nil, err
		}
		create, ok := action["create"]
		if !ok || len(action) != 1 {
			return nil, errors.New("the judge knows create only")
		}
		if !lines.Scan() {
			return nil, errors.New("an action without a document")
		}
		d, err := document(lines.Bytes())
		if err != nil {
			return nil, err
		}
		d.ID = create.ID
		docs = append(docs, d)
	}
	if lines.Err() == nil && len(docs) == 0 {
		return nil, errors.New("no documents")
	}
	return docs, lines.Err()
}

func document(line []byte) (account.Document, error) {
	var d struct {
		N     int64 `json:"n"`
		Kafka struct {
			Topic     string `json:"topic"`
			Partition int32  `json:"partition"`
			Offset    int64  `json:"offset"`
		} `json:"kafka"`
	}
	err := json.Unmarshal(line, &d)
	return account.Document{
		Event: bytes.Clone(line), Number: d.N,
		Topic: d.Kafka.Topic, Partition: d.Kafka.Partition, Offset: d.Kafka.Offset,
	}, err
}

// answer is what Elasticsearch says, as weir's filter_path leaves it.
func answer(answers []account.Status) []byte {
	var b bytes.Buffer
	b.WriteString(`{"items":[`)
	for i, a := range answers {
		if i > 0 {
			b.WriteByte(',')
		}
		switch a {
		case account.Stored:
			b.WriteString(`{"create":{"status":201}}`)
		case account.Exists:
			b.WriteString(`{"create":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"document already exists"}}}`)
		case account.Refused:
			b.WriteString(`{"create":{"status":400,"error":{"type":"document_parsing_exception","reason":"failed to parse field [kind]"}}}`)
		case account.Busy:
			b.WriteString(`{"create":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"the write queue is full"}}}`)
		default:
			b.WriteString(`{"create":{"status":503,"error":{"type":"unavailable_shards_exception","reason":"primary shard is not active"}}}`)
		}
	}
	b.WriteString(`]}`)
	return b.Bytes()
}
