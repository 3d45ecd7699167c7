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
	Serve: elasticServer(elasticsearchDialect, ""),
	Sink:  func(t Target) map[string]any { return elasticSink(t, "elasticsearch") },
}

// OpenSearch is the bulk API as OpenSearch answers it.
var OpenSearch = Protocol{
	Name:  "opensearch",
	Grade: "A",
	Serve: elasticServer(openSearchDialect, ""),
	Sink:  func(t Target) map[string]any { return elasticSink(t, "opensearch") },
}

// Rehydrate is the bulk API with the index of a case: requests for another one are
// refused.
var Rehydrate = Protocol{
	Name:  "rehydrate",
	Grade: "A",
	Rules: account.Rules{Runs: true},
	Serve: elasticServer(elasticsearchDialect, "rehydrate-"),
	Sink:  Elasticsearch.Sink,
}

// elasticServer serves the bulk API for indices whose names begin with index.
func elasticServer(d *dialect, index string) func(net.Listener, Account) error {
	return func(l net.Listener, a Account) error {
		return serve(l, &elastic{account: a, dialect: d, index: index})
	}
}

func elasticSink(t Target, flavor string) map[string]any {
	section := map[string]any{"flavor": flavor, "urls": []string{t.URL}, "index": "torture", "timeout": patience.String()}
	t.common(section)
	if t.SecretFile != "" {
		section["auth"] = map[string]any{"api_key": "${file:" + t.SecretFile + "}"}
	}
	return map[string]any{"elasticsearch": section}
}

// dialect is what the two servers that speak the bulk API say in words of their own.
type dialect struct {
	header, name string // which header names the server in its answers, and as what
	about        string // what it says of itself
	// The types of the errors about a document that cannot be taken now, and about
	// one that never can be.
	busy, unreadable string
	// plain is what its security refuses a request with, before anything names the
	// server.
	plain map[Spoil]string
}

var elasticsearchDialect = &dialect{
	header: "X-Elastic-Product", name: "Elasticsearch",
	about: `{"name":"judge","cluster_name":"judge","cluster_uuid":"judge-------judge------","version":{"number":"8.19.0","build_flavor":"default"},"tagline":"You Know, for Search"}`,
	busy:  "es_rejected_execution_exception", unreadable: "document_parsing_exception",
}

var openSearchDialect = &dialect{
	header: "X-OpenSearch-Version", name: "OpenSearch/3.6.0 (opensearch)",
	about: `{"name":"judge","cluster_name":"judge","cluster_uuid":"judge-------judge------","version":{"distribution":"opensearch","number":"3.6.0"},"tagline":"The OpenSearch Project: https://opensearch.org/"}`,
	busy:  "rejected_execution_exception", unreadable: "mapper_parsing_exception",
	plain: map[Spoil]string{Forbidden: "Unauthorized", Unavailable: "OpenSearch Security not initialized."},
}

type elastic struct {
	account Account
	dialect *dialect
	index   string // what an index has to begin with; empty: any
}

func (e *elastic) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v := &visit{w: w, r: r, began: time.Now(), refusal: func(how Spoil) (int, []byte) { return e.dialect.refuse(w.Header(), how) }}
	w.Header().Set(e.dialect.header, e.dialect.name)
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.URL.Path == "/":
		_, _ = io.WriteString(w, e.dialect.about)
	case strings.HasSuffix(r.URL.Path, "/_bulk") && strings.HasPrefix(strings.TrimPrefix(r.URL.Path, "/"), e.index):
		e.bulk(v)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// refuse refuses a whole request. head are the headers of the answer.
func (d *dialect) refuse(head http.Header, how Spoil) (int, []byte) {
	status, kind := http.StatusInternalServerError, "internal_server_error"
	switch how {
	case Busy:
		status, kind = http.StatusTooManyRequests, d.busy
	case Unavailable:
		status, kind = http.StatusServiceUnavailable, "unavailable_shards_exception"
	case Forbidden:
		status, kind = http.StatusUnauthorized, "security_exception"
	}
	if text := d.plain[how]; text != "" {
		head.Del(d.header)
		head.Set("Content-Type", "text/plain; charset=UTF-8")
		return status, []byte(text)
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
	ok := v.hand(plan.After, http.StatusOK, e.dialect.answer(answers), e.dialect.answer(answers[:len(answers)-1]))
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

// answer is what the server says of documents, as weir's filter_path leaves it.
func (d *dialect) answer(answers []account.Status) []byte {
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
			fmt.Fprintf(&b, `{"create":{"status":400,"error":{"type":%q,"reason":"failed to parse field [kind]"}}}`, d.unreadable)
		case account.Busy:
			fmt.Fprintf(&b, `{"create":{"status":429,"error":{"type":%q,"reason":"the write queue is full"}}}`, d.busy)
		default:
			b.WriteString(`{"create":{"status":503,"error":{"type":"unavailable_shards_exception","reason":"primary shard is not active"}}}`)
		}
	}
	b.WriteString(`]}`)
	return b.Bytes()
}
