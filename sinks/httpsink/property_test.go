package httpsink

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"weir/buffer"
	"weir/sinks"
	"weir/sinks/sinktest"
)

// In every world of faults: nothing is acknowledged that the server has not
// stored, nothing is rejected but what it refuses, and in the end all is settled.
func TestNothingIsAcknowledgedThatIsNotStored(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { world(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func world(t *testing.T, r *rand.Rand) {
	h := sinktest.NewArrayIntake()
	h.ID = func(e json.RawMessage) string {
		var ev struct{ Offset int64 }
		if err := json.Unmarshal(e, &ev); err != nil {
			t.Error(err)
		}
		return fmt.Sprint(ev.Offset)
	}
	bad := map[string]bool{}
	h.Verdict = func(e json.RawMessage) int {
		switch id := h.ID(e); {
		case !bad[id]:
			return 0
		case len(id)%2 == 0:
			return sinktest.Refused
		default:
			return []int{400, 413, 422}[len(id)%3]
		}
	}
	h.Partial = r.IntN(2) == 0
	h.Answer = func(refused int) (int, string) { return 200, fmt.Sprintf(`{"refused":%d}`, refused) }
	h.MaxRecords = []int{0, 3, 40}[r.IntN(3)]

	framing := []string{framingArray, framingNDJSON, framingConcatenated, framingSingle}[r.IntN(4)]
	h.Read = map[string]func([]byte) ([]json.RawMessage, error){
		framingArray: sinktest.ReadArray, framingNDJSON: sinktest.ReadLines,
		framingConcatenated: sinktest.ReadConcatenated, framingSingle: sinktest.ReadConcatenated,
	}[framing]
	s := serve(t, h, func(c *Config) {
		c.Framing = framing
		c.Event = `{"offset":{offset},"event":{event},"text":"{event_text}"}`
		c.AnswerRefused = "refused"
		c.MaxRecords = r.IntN(50)
		c.MaxBytes = int64(r.IntN(3)) * 1000
		c.Parallel = 1 + r.IntN(4)
		if r.IntN(2) == 0 {
			c.Compression = compressGzip
		}
	})

	var pending []*buffer.Record
	for i := range 1 + r.IntN(200) {
		value := []string{`{}`, "{\"a\":\n1}", "no object\r\n", "\xff\x00", `{"b":"` + strings.Repeat("x", r.IntN(2000)) + `"}`}[r.IntN(5)]
		pending = append(pending, record(int64(i), value))
		bad[fmt.Sprint(i)] = r.IntN(30) == 0
	}
	for range r.IntN(40) {
		h.Fail([]sinktest.Fault{
			{}, {}, {},
			{ResetBefore: true}, {ResetAfter: true}, {ResetBefore: true, Unread: true}, {Half: true},
			{Status: 429}, {Status: 503}, {Status: 500, Unread: true}, {Status: 401}, {Status: 404}, {Status: 302},
			{Status: 200, Body: "<html>log in</html>", Header: http.Header{"Content-Type": {"text/html"}}},
			{Status: 200, Body: `{"refused":`}, {Status: 207, Body: "{}"},
		}[r.IntN(16)])
	}
	for round := 0; len(pending) > 0; round++ {
		if round > 100 {
			t.Fatalf("%d records are not settled after %d rounds", len(pending), round)
		}
		n := 1 + r.IntN(len(pending))
		out, err := s.Deliver(t.Context(), batch(pending[:n]...), nil)
		if err != nil {
			continue
		}
		left := append([]*buffer.Record(nil), pending[n:]...)
		for i, rec := range pending[:n] {
			id := fmt.Sprint(rec.Offset)
			switch out[i].Verdict {
			case sinks.Ack:
				if h.Count(id) == 0 {
					t.Fatalf("record %s is acknowledged and not stored", id)
				}
			case sinks.Reject:
				if !bad[id] {
					t.Fatalf("record %s is rejected: %+v", id, out[i])
				}
			default:
				left = append(left, rec)
			}
		}
		pending = left
	}
	inOrder(t, h)
}
