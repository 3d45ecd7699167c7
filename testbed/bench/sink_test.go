package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAnswerIsWhatIsAskedFor(t *testing.T) {
	const body = `{"create":{}}` + "\n" + `{"bench_seq":7}` + "\n"
	ask := func(b backend, query string) string {
		server := httptest.NewServer(&bulk{backend: b})
		defer server.Close()
		res, err := http.Post(server.URL+"/bench/_bulk"+query, "application/x-ndjson", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	all := backend{Fault: "items", Share: 1}
	const refused = `"items":[{"create":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"bench"}}}]}`
	for _, c := range []struct {
		backend
		query, want string
	}{
		{backend{}, "", `{"took":1,"errors":false,"items":[{"create":{"status":201}}]}`},
		{backend{}, "?filter_path=items.*.status", `{"items":[{"create":{"status":201}}]}`},
		{backend{}, "?filter_path=errors", `{"errors":false}`},
		{all, "", `{"took":1,"errors":true,` + refused},
		{all, "?filter_path=items.*.status", "{" + refused},
		{all, "?filter_path=errors", `{"errors":true}`},
	} {
		if got := ask(c.backend, c.query); got != c.want {
			t.Errorf("%+v %q: %s", c.backend, c.query, got)
		}
	}
}

func TestNaiveLooksAtErrors(t *testing.T) {
	for _, c := range []struct {
		backend
		fails bool
	}{{backend{}, false}, {backend{Fault: "items", Share: 1}, true}, {backend{Fault: "500", Share: 1}, true}} {
		server := httptest.NewServer(&bulk{backend: c.backend})
		n := naive{url: server.URL}
		if err := n.post([]byte(`{"create":{}}` + "\n" + `{"bench_seq":7}` + "\n")); (err != nil) != c.fails {
			t.Errorf("%+v: %v", c.backend, err)
		}
		server.Close()
	}
}

func TestShareOfTheRequestsIsRefused(t *testing.T) {
	for share, want := range map[float64]int{0.05: 8, 0.2: 32, 1: 160} {
		b := bulk{backend: backend{Fault: "500", Share: share}}
		refused := 0
		for range 160 {
			if b.refuses() {
				refused++
			}
		}
		if refused != want {
			t.Errorf("%d of 160 at %v, want %d", refused, share, want)
		}
	}
}
