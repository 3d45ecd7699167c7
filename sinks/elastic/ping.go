package elastic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"weir/sinks"
)

// Info is what a cluster says of itself.
type Info struct {
	Cluster     string // its name
	ClusterUUID string
	Version     string // 8.19.0
	Node        string // the one that answered

	// Unverified says why all else is empty and what that leaves open; empty when
	// nothing is. To write takes fewer rights than to ask this.
	Unverified string
}

// Ping asks one node who it is. It tells whether the cluster can be reached and
// takes our credentials, not whether we may write. Without the cluster privilege
// monitor that is all it tells, which is no error.
//
// Errors: a *sinks.RequestError.
func (s *Sink) Ping(ctx context.Context) (Info, error) {
	// Not by perform: what the server is can also be in the body.
	r, err := s.ask(ctx, s.send, http.MethodGet, "/", nil, maxSmallAnswer)
	if err != nil {
		return Info{}, err
	}
	status, body := r.status, r.body
	if right, ok := deniedRight(body); ok && status == http.StatusForbidden {
		return Info{Unverified: s.said("its version, and that it is "+s.flavor.product+", could not be verified: "+right, maxReason)}, nil
	}
	if status != http.StatusOK {
		return Info{}, &sinks.RequestError{
			Status:        status,
			Misconfigured: status < 500 && status != http.StatusTooManyRequests,
			Err:           s.explain(body),
		}
	}
	var a struct {
		Name        string `json:"name"`
		ClusterName string `json:"cluster_name"`
		ClusterUUID string `json:"cluster_uuid"`
		Version     struct {
			Number       string `json:"number"`
			Distribution string `json:"distribution"` // opensearch, or none
		} `json:"version"`
	}
	err = json.Unmarshal(body, &a)
	if !s.flavor.wrote(r.header) {
		return Info{}, s.imposter(r, a.Version.Distribution)
	}
	if err != nil || a.Version.Number == "" {
		return Info{}, &sinks.RequestError{Status: status, Err: errors.New("the answer does not say what server it is")}
	}
	const most = 256
	return Info{
		Cluster:     s.said(a.ClusterName, most),
		ClusterUUID: s.said(a.ClusterUUID, most),
		Version:     s.said(a.Version.Number, most),
		Node:        s.said(a.Name, most),
	}, nil
}

// deniedRight is the right that is missing where the server's security wrote
// body. A proxy that says 403 does not.
func deniedRight(body []byte) (string, bool) {
	var a struct {
		Error itemError `json:"error"`
	}
	if json.Unmarshal(body, &a) != nil || a.Error.Type != "security_exception" {
		return "", false
	}
	return a.Error.missingRight(), true
}

// explain is the error that the server puts into the answer to a request that
// holds no event.
func (s *Sink) explain(body []byte) error {
	var a struct {
		Error itemError `json:"error"`
	}
	if json.Unmarshal(body, &a) != nil || a.Error.Type == "" {
		return errors.New("no explanation")
	}
	return errors.New(s.said(a.Error.text(true), maxReason))
}

// Grade is what the sink can promise as it is configured, and why in a sentence.
func (s *Sink) Grade() (sinks.Grade, string) {
	switch {
	case s.layout.id == idNone:
		return sinks.GradeB, "durable, but without a document id a record that is sent twice is stored twice"
	case s.layout.id == idField, s.layout.id == idKey:
		of := s.cfg.ID
		if s.layout.id == idKey {
			of = "the record key"
		}
		if s.cfg.Op == opIndex {
			return sinks.GradeB, fmt.Sprintf("durable; of the records with one id (%s) one stays, "+
				"and it can be an older one when that had to be sent again", of)
		}
		return sinks.GradeB, fmt.Sprintf("durable; of the records with one id (%s) only the first is stored, "+
			"the others count as duplicates", of)
	case s.cfg.DataStream != "":
		return sinks.GradeA, "within one backing index: a record that is sent again after a rollover is stored twice"
	default:
		return sinks.GradeA, "durable, and a record that is sent twice is stored once"
	}
}
