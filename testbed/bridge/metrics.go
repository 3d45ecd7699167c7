package bridge

import (
	"fmt"
	"strconv"
	"strings"
)

// Metrics is one scrape, in the text format of Prometheus.
type Metrics []sample

type sample struct {
	name   string
	labels string // as written, without the braces
	value  float64
}

func parseMetrics(text string) (Metrics, error) {
	var m Metrics
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		// The value follows the last space: the text has no timestamps.
		at := strings.LastIndexByte(line, ' ')
		if at < 0 {
			return nil, fmt.Errorf("metrics line %q", line)
		}
		v, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("metrics line %q: %w", line, err)
		}
		name, labels, _ := strings.Cut(strings.TrimSuffix(line[:at], "}"), "{")
		m = append(m, sample{name: name, labels: labels, value: v})
	}
	return m, nil
}

// Has reports whether any sample has the name.
func (m Metrics) Has(name string) bool {
	for _, s := range m {
		if s.name == name {
			return true
		}
	}
	return false
}

// Sum adds up the samples of the name whose labels contain all of with, each
// written as label="value".
func (m Metrics) Sum(name string, with ...string) float64 {
	var sum float64
next:
	for _, s := range m {
		if s.name != name {
			continue
		}
		for _, w := range with {
			if !strings.Contains(","+s.labels+",", ","+w+",") {
				continue next
			}
		}
		sum += s.value
	}
	return sum
}

// The metrics the tests and the benchmark read.
const (
	RecordsRead         = "weir_records_read_total"
	RecordsDelivered    = "weir_records_delivered_total"
	RecordsDeadLettered = "weir_records_dead_lettered_total"
	RecordsFiltered     = "weir_records_filtered_total"
	RecordsRetried      = "weir_records_retried_total"
	RecordsDuplicate    = "weir_records_duplicate_total"
	BytesRead           = "weir_read_bytes_total"
	BytesDelivered      = "weir_delivered_bytes_total"
	Lag                 = "weir_lag_records"
	OldestAge           = "weir_oldest_unsettled_seconds"
	BudgetHeld          = "weir_budget_held_bytes"
	Budget              = "weir_budget_bytes"
	InFlight            = "weir_requests_in_flight"
	Window              = "weir_request_window"
	Requests            = "weir_request_seconds_count"
	Rebalances          = "weir_rebalances_total"
)
