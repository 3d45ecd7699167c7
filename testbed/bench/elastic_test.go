package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestIndexIsTheAccount(t *testing.T) {
	// Of five events one is missing and one there twice: the sum would hide it. A
	// sixth is not ours, and one has no number.
	pages := []string{
		`"after_key":{"number":1},"buckets":[{"key":{"number":0},"doc_count":1},{"key":{"number":1},"doc_count":2}]`,
		`"after_key":{"number":9},"buckets":[{"key":{"number":3},"doc_count":1},{"key":{"number":4},"doc_count":1},{"key":{"number":9},"doc_count":1}]`,
		`"buckets":[]`,
	}
	afters := []string{`"size":10000,"sources"`, `"after":{"number":1},`, `"after":{"number":9},`}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/index/_refresh" {
			return
		}
		query, _ := io.ReadAll(r.Body)
		if len(pages) == 0 || !strings.Contains(string(query), afters[0]) {
			http.Error(w, string(query), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, `{"hits":{"total":{"value":7}},"aggregations":{"events":{%s}}}`, pages[0])
		pages, afters = pages[1:], afters[1:]
	}))
	defer server.Close()
	r := Result{Load: load{Events: 5}}
	if err := r.countIndex(t.Context(), server.URL+"/index"); err != nil {
		t.Fatal(err)
	}
	if r.Missing != 1 || r.Twice != 1 || r.Strangers != 2 || r.Stored != 7 {
		t.Errorf("missing %d, twice %d, strangers %d, stored %d; want 1, 1, 2 and 7", r.Missing, r.Twice, r.Strangers, r.Stored)
	}
}
