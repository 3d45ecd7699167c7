package front

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"weir/testbed/torture/account"
)

// Elasticsearch is the bulk API: create by id, 409 for an id that is there.
var Elasticsearch = Protocol{
	Name: "elasticsearch",
	Serve: func(l net.Listener, a Account) error {
		s := &http.Server{Handler: &elastic{a}, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
		return s.Serve(l)
	},
	Sink: func(t Target) map[string]any {
		section := map[string]any{"urls": []string{t.URL}, "index": "torture", "timeout": patience.String()}
		if t.Gzip {
			section["compression"] = "gzip"
		}
		if t.CAFile != "" {
			section["tls"] = map[string]any{"ca_file": t.CAFile}
		}
		if t.SecretFile != "" {
			section["auth"] = map[string]any{"api_key": "${file:" + t.SecretFile + "}"}
		}
		return map[string]any{"elasticsearch": section}
	},
}

type elastic struct{ account Account }

const (
	// patience is how long weir waits for an answer.
	patience = 2 * time.Second
	// sure is how old a request may be for its client to be there for certain: that
	// a client has given up is heard of a little later, and a busy machine takes its
	// time.
	sure = patience / 2
)

const (
	maxBody = 64 << 20 // bytes of one request, unpacked
	maxLine = 16 << 20
)

func (e *elastic) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Elastic-Product", "Elasticsearch")
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.URL.Path == "/":
		_, _ = io.WriteString(w, `{"name":"judge","cluster_name":"judge","cluster_uuid":"judge-------judge------","version":{"number":"8.19.0","build_flavor":"default"},"tagline":"You Know, for Search"}`)
	case strings.HasSuffix(r.URL.Path, "/_bulk"):
		e.bulk(w, r)
	default:
		refuse(w, http.StatusNotFound, "resource_not_found_exception")
	}
}

// refuse answers a whole request with an error.
func refuse(w http.ResponseWriter, status int, kind string) {
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"error":{"type":%q,"reason":"the judge says so"},"status":%d}`, kind, status)
}

func (e *elastic) bulk(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	there := func() bool { return r.Context().Err() == nil && time.Since(began) < sure }
	docs, err := documents(r)
	if err != nil {
		reset(w) // cut off on its way: nothing of it counts
		return
	}
	plan, err := e.account.Plan(strings.TrimPrefix(r.Header.Get("Authorization"), "ApiKey "))
	if err != nil {
		reset(w)
		return
	}
	// Not cut short when the client leaves: a server that is at work on a request
	// goes on with it.
	time.Sleep(plan.Wait)
	if plan.Before != Well {
		spoil(w, r, plan.Before, nil)
		return
	}
	answers, receipt, err := e.account.Store(docs, !there())
	if err != nil {
		reset(w)
		return
	}
	body := answer(answers)
	ok := false
	switch plan.After {
	case Well:
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, err := w.Write(body)
		if err == nil {
			err = http.NewResponseController(w).Flush()
		}
		ok = err == nil && there()
	case Short:
		spoil(w, r, Short, answer(answers[:len(answers)-1]))
	default:
		spoil(w, r, plan.After, body)
	}
	_ = e.account.Answered(receipt, ok)
}

// spoil gives anything but the true answer.
func spoil(w http.ResponseWriter, r *http.Request, how Spoil, body []byte) {
	switch how {
	case Busy:
		refuse(w, http.StatusTooManyRequests, "es_rejected_execution_exception")
	case Forbidden:
		refuse(w, http.StatusUnauthorized, "security_exception")
	case Error:
		refuse(w, http.StatusInternalServerError, "internal_server_error")
	case HTML:
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html><body><h1>It works!</h1></body></html>")
	case Short:
		_, _ = w.Write(body)
	case Half:
		w.Header().Set("Content-Length", fmt.Sprint(max(2, len(body))))
		_, _ = w.Write(body[:len(body)/2])
		_ = http.NewResponseController(w).Flush()
		reset(w)
	case Never:
		<-r.Context().Done()
	default:
		reset(w)
	}
}

// reset ends the connection with an RST.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// documents reads the body of a bulk request: pairs of lines.
func documents(r *http.Request) ([]account.Document, error) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, err
		}
		body = z
	}
	lines := bufio.NewScanner(io.LimitReader(body, maxBody))
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
