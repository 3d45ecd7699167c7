package elastic

import (
	"fmt"
	"net/http"
	"strings"
)

// A flavor is a server that speaks this protocol: what it does not have in common
// with the other one. What both say in different words is told apart where it is
// read, by status first (answer.go).
type flavor struct {
	key     string // Config.Flavor
	product string // what people call it
	// The header that names the server in each of its own answers, and what it says:
	// the value, and behind one that ends in a slash a version.
	header, value string
	// dataStreamQuery is the parameter that keeps a _bulk request from making an
	// index where a data stream was meant. A server refuses one that it does not know.
	dataStreamQuery string
	// largest is what a 429 calls the most bytes that one request may have.
	largest string
	// mapping is what an index template says of the index: settings and mappings.
	mapping func(dataStream bool) object
	// openView is what is added to an index's path to open a point in time, viewPath
	// where one is closed, and closeView what is sent there.
	openView, viewPath string
	closeView          func(id string) object
}

var (
	elasticsearchFlavor = flavor{
		key: "elasticsearch", product: "Elasticsearch",
		header: "X-Elastic-Product", value: "Elasticsearch",
		dataStreamQuery: "&require_data_stream=true",
		largest:         "max_coordinating_bytes",
		mapping:         elasticsearchMapping,
		openView:        "/_pit", viewPath: "/_pit",
		closeView: func(id string) object { return object{"id": id} },
	}
	// OpenSearch 3 names itself in every answer, to those as well who may not ask
	// for its version; OpenSearch 2 does not.
	openSearchFlavor = flavor{
		key: "opensearch", product: "OpenSearch",
		header: "X-OpenSearch-Version", value: "OpenSearch/",
		largest:  "max_coordinating_and_primary_bytes",
		mapping:  openSearchMapping,
		openView: "/_search/point_in_time", viewPath: "/_search/point_in_time",
		closeView: func(id string) object { return object{"pit_id": []string{id}} },
	}
)

// flavorOf is the flavor of that name.
func flavorOf(key string) (*flavor, error) {
	switch key {
	case "", elasticsearchFlavor.key:
		return &elasticsearchFlavor, nil
	case openSearchFlavor.key:
		return &openSearchFlavor, nil
	}
	return nil, fmt.Errorf("flavor %q: want elasticsearch or opensearch", key)
}

// wrote reports whether an answer with these headers is the server's own, and not
// that of a proxy or of another server.
func (f *flavor) wrote(h http.Header) bool {
	name := h.Get(f.header)
	return name == f.value || strings.HasSuffix(f.value, "/") && strings.HasPrefix(name, f.value)
}

// mistaken says what the server is that gave an answer which is not f's.
// distribution is what it says of itself in the answer to GET /, empty if it was
// not asked.
func (f *flavor) mistaken(h http.Header, distribution string) error {
	is := &flavor{}
	switch {
	case openSearchFlavor.wrote(h), distribution == openSearchFlavor.key:
		is = &openSearchFlavor
	case elasticsearchFlavor.wrote(h):
		is = &elasticsearchFlavor
	}
	switch is.key {
	case "":
		return fmt.Errorf("the server is not %s (its answer has no header %s: %s)", f.product, f.header, f.value)
	case f.key:
		return fmt.Errorf("the server is an %s that does not name itself in the header %s, as version 3 does", f.product, f.header)
	}
	return fmt.Errorf("the server is %s: write flavor: %s", is.product, is.key)
}
