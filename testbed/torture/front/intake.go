package front

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"weir/testbed/torture/account"
)

// HTTP is an intake of JSON arrays over HTTP that stores the whole of a request or
// none of it. It has no ids, so that what comes twice is there twice.
var HTTP = Protocol{
	Name:  "http",
	Grade: "C",
	Rules: account.Rules{Twice: true, Parts: true},
	Serve: func(l net.Listener, a Account) error { return serve(l, &intake{a}) },
	Sink: func(t Target) map[string]any {
		section := map[string]any{
			"url":     t.URL + "/intake",
			"event":   `{"topic":{topic},"partition":{partition},"offset":{offset},"event":{event}}`,
			"timeout": patience.String(),
			// Every second request or so has no bad event: a batch is half taken when one
			// fails.
			"max_records": 25,
		}
		t.common(section)
		if t.Ordered {
			section["parallel"] = 1
		}
		if t.SecretFile != "" {
			section["auth"] = map[string]any{"bearer": "${file:" + t.SecretFile + "}"}
		}
		return map[string]any{"http": section}
	},
}

type intake struct{ account Account }

func (h *intake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v := &visit{w: w, r: r, began: time.Now(), refusal: intakeRefusal}
	w.Header().Set("Content-Type", "application/json")
	docs, err := intakeDocuments(v)
	if err != nil {
		v.reset() // cut off on its way: nothing of it counts
		return
	}
	plan, err := h.account.Plan(Request{Credentials: strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")})
	if err != nil {
		v.reset()
		return
	}
	time.Sleep(plan.Wait)
	if plan.Before == Busy {
		w.Header().Set("Retry-After", "1")
	}
	if plan.Before != Well {
		v.spoil(plan.Before, nil)
		return
	}
	bad := slices.ContainsFunc(docs, func(d account.Document) bool { return account.Rejected(d.Event) })
	if bad && len(docs) > 1 {
		// The account hears of a bad event when it comes alone: only then can weir know
		// which one it is. Nothing is stored, so what is to happen then does not.
		v.hand(Well, http.StatusBadRequest, intakeRefused, nil)
		return
	}
	_, receipt, err := h.account.Store(account.Delivery{Documents: docs, Late: !v.there()})
	if err != nil {
		v.reset()
		return
	}
	status, body := http.StatusOK, fmt.Appendf(nil, `{"accepted":%d}`, len(docs))
	if bad {
		status, body = http.StatusBadRequest, intakeRefused
	}
	_ = h.account.Answered(receipt, v.hand(plan.After, status, body, nil))
}

// intakeRefused is what is said of a request with a bad event, and nothing of which
// event that is.
var intakeRefused = []byte(`{"error":"an event has a kind that is not known"}`)

// intakeRefusal refuses a whole request, whatever is in it.
func intakeRefusal(how Spoil) (int, []byte) {
	status := http.StatusInternalServerError
	switch how {
	case Busy:
		status = http.StatusTooManyRequests
	case Unavailable:
		status = http.StatusServiceUnavailable
	case Forbidden:
		status = http.StatusUnauthorized
	}
	return status, fmt.Appendf(nil, `{"error":%q}`, http.StatusText(status))
}

// intakeDocuments reads the body of a request.
func intakeDocuments(v *visit) ([]account.Document, error) {
	reader, err := v.body()
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(reader)
	if err != nil {
		return nil, err
	}
	var events []struct {
		Topic     string          `json:"topic"`
		Partition int32           `json:"partition"`
		Offset    int64           `json:"offset"`
		Event     json.RawMessage `json:"event"`
	}
	if err := json.Unmarshal(body, &events); err != nil {
		return nil, err
	}
	var docs []account.Document
	for _, e := range events {
		var value struct {
			N int64 `json:"n"`
		}
		if err := json.Unmarshal(e.Event, &value); err != nil {
			return nil, err
		}
		docs = append(docs, account.Document{
			Event: e.Event, Whole: true, Number: value.N, Topic: e.Topic, Partition: e.Partition, Offset: e.Offset,
		})
	}
	if len(docs) == 0 {
		return nil, errors.New("no events")
	}
	return docs, nil
}
