package elastic

import (
	"net/http"
	"strings"
	"testing"

	"weir/sinks"
)

// The reasons are Elasticsearch 8.19's own.
const (
	noRightOnIndex = "action [indices:admin/auto_create] is unauthorized for API key id [a] of user [elastic] on indices [security-mallory], " +
		"this action is granted by the index privileges [auto_configure,create_index,manage,all]"
	noRightAtAll = "action [indices:data/write/bulk] is unauthorized for API key id [a] of user [elastic], " +
		"this action is granted by the index privileges [create_doc,create,delete,index,write,all]"
)

// Which right is missing is said without dead_letter.reasons: full, too, and the
// index's name, which can come from an event, is not.
func TestAMissingRightIsNamed(t *testing.T) {
	f := func(reason, want string) {
		t.Helper()
		it := item{Status: 403, Error: &itemError{Type: "security_exception", Reason: reason}}
		o := new(Sink).verdict(&it)
		if o.Verdict != sinks.Retry || o.Note != sinks.Misconfigured || o.Reason != "security_exception: "+want || strings.Contains(o.Reason, "mallory") {
			t.Errorf("%+v", o)
		}
	}
	f(noRightOnIndex, "action [indices:admin/auto_create] takes one of the index privileges [auto_configure,create_index,manage,all]")
	f(noRightAtAll, "action [indices:data/write/bulk] takes one of the index privileges [create_doc,create,delete,index,write,all]")
	f("no permissions for [indices:data/write/bulk[s], indices:admin/create] and User [name=mallory, backend_roles=[], requestedTenant=null]",
		"no permissions for [indices:data/write/bulk[s], indices:admin/create]")
	for _, other := range []string{"", "no such words: mallory", "mallory and User [", "mallory is unauthorized for x, this action is granted by y"} {
		f(other, "a right is missing")
	}
}

// Elasticsearch's security answers before anything has set X-Elastic-Product.
func TestAMissingRightIsNamedForTheWholeRequest(t *testing.T) {
	s := &Sink{flavor: &elasticsearchFlavor}
	f := func(body, want string) {
		t.Helper()
		err := s.refused(&http.Response{StatusCode: http.StatusForbidden, Header: http.Header{}}, "https://a", []byte(body))
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	f(`{"error":{"type":"security_exception","reason":"`+noRightAtAll+`"},"status":403}`, "[create_doc,create,delete,index,write,all]")
	f(`{"error":{"type":"other","reason":"x"}}`, "not Elasticsearch's")
	f(`<html>`, "not Elasticsearch's")
}
