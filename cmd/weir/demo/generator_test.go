package demo

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"regexp"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 345e6, time.UTC)

func make1000s(seed uint64, k kind, thousands int) []event {
	es := newEvents(seed)
	made := make([]event, 1000*thousands)
	for n := range made {
		made[n] = es.next(int64(n), k, noon)
	}
	return made
}

func TestSameSeedMakesTheSameEvents(t *testing.T) {
	a, b, c := make1000s(7, everyday, 1), make1000s(7, everyday, 1), make1000s(8, everyday, 1)
	same := 0
	for i := range a {
		if !bytes.Equal(a[i].value, b[i].value) || !bytes.Equal(a[i].key, b[i].key) {
			t.Fatalf("event %d differs:\n%s\n%s", i, a[i].value, b[i].value)
		}
		if bytes.Equal(a[i].value, c[i].value) {
			same++
		}
	}
	if same > 10 {
		t.Errorf("another seed made %d of 1000 events the same", same)
	}
}

func TestEventsAreWhatASIEMExpects(t *testing.T) {
	seen := map[string]int{}
	var invalid, refused, size int
	made := append(make1000s(1, everyday, 20), append(make1000s(1, phishing, 1), make1000s(1, scan, 1)...)...)
	for i, e := range made {
		size += len(e.value)
		if len(e.value) > 1000 {
			t.Errorf("event %d has %d bytes:\n%s", i, len(e.value), e.value)
		}
		if n, ok := markOf(e.value); !ok || n != int64(i%20000) && i < 20000 {
			t.Fatalf("event %d has the number %d, %t:\n%s", i, n, ok, e.value)
		}
		var doc struct {
			Timestamp   time.Time `json:"@timestamp"`
			Event       struct{ Code, Dataset string }
			Destination struct{ Port json.RawMessage }
		}
		if err := json.Unmarshal(e.value, &doc); err != nil {
			if json.Valid(e.value) || e.value[0] == '{' {
				t.Fatalf("event %d: %v:\n%s", i, err, e.value)
			}
			invalid++
			continue
		}
		if !doc.Timestamp.Equal(noon) || !e.time.Equal(noon) {
			t.Errorf("event %d says it is of %s, its record of %s", i, doc.Timestamp, e.time)
		}
		seen[doc.Event.Code+doc.Event.Dataset]++
		if bytes.HasPrefix(doc.Destination.Port, []byte{'"'}) {
			refused++
		}
	}
	for _, kind := range []string{"1", "3", "22", "4624", "4625", "firewall.traffic", "aws.cloudtrail"} {
		if seen[kind] < 100 {
			t.Errorf("of %d events %d are of the kind %s", len(made), seen[kind], kind)
		}
	}
	if invalid < 10 || invalid > 100 {
		t.Errorf("%d of 20000 events are no JSON, want about 40", invalid)
	}
	if refused < 50 || refused > 200 {
		t.Errorf("%d of 20000 events are to be refused, want about 100", refused)
	}
	if mean := size / len(made); mean < 450 || mean > 900 {
		t.Errorf("an event has %d bytes on average", mean)
	}
	t.Log(seen, "mean size", size/len(made))
}

func TestAddressesAreThoseForDocumentation(t *testing.T) {
	address := regexp.MustCompile(`"(\d+\.\d+\.\d+\.\d+)"`)
	docs := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24")}
	for _, e := range make1000s(3, everyday, 2) {
	next:
		for _, m := range address.FindAllSubmatch(e.value, -1) {
			a := netip.MustParseAddr(string(m[1]))
			for _, p := range docs {
				if p.Contains(a) {
					continue next
				}
			}
			t.Errorf("%s is a real address:\n%s", a, e.value)
		}
	}
}

func TestScanTriesPortAfterPort(t *testing.T) {
	es := newEvents(1)
	for want := range 3 {
		var doc struct{ Destination struct{ Port int } }
		if err := json.Unmarshal(es.next(0, scan, noon).value, &doc); err != nil {
			t.Fatal(err)
		}
		if doc.Destination.Port != want+1 {
			t.Errorf("got port %d, want %d", doc.Destination.Port, want+1)
		}
	}
}
