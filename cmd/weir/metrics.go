package main

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"weir/connector"
)

// newRegistry gives the metrics of b, of the process and of Go's run time.
func newRegistry(b *bridge) *prometheus.Registry {
	r := prometheus.NewRegistry()
	v, toolchain := buildVersion()
	info := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "weir_build_info",
		Help:        "Always 1; the labels say what is running.",
		ConstLabels: prometheus.Labels{"version": v, "go": toolchain},
	}, func() float64 { return 1 })
	r.MustRegister(info, bridgeCollector{b}, b.requests,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// requestSeconds times the requests to a sink, by connector and answer.
func requestSeconds() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "weir_request_seconds",
		Help:    "How long requests to the sink took until the answer was read; status 0: there was none.",
		Buckets: prometheus.ExponentialBuckets(0.005, 2, 15),
	}, []string{"connector", "status"})
}

// observer notes one connector's requests.
func observer(h *prometheus.HistogramVec, connector string) func(status int, took time.Duration) {
	return func(status int, took time.Duration) {
		code := strconv.Itoa(status)
		if status != 0 && http.StatusText(status) == "" {
			code = "other" // the server's choice, and each would be a histogram of its own
		}
		h.WithLabelValues(connector, code).Observe(took.Seconds())
	}
}

var (
	laneLabels  = []string{"connector", "topic", "partition"}
	linkLabels  = []string{"connector"}
	laneMetrics = []struct {
		desc  *prometheus.Desc
		kind  prometheus.ValueType
		live  bool // only while the partition is ours
		value func(now time.Time, l connector.LaneStats) float64
	}{
		{laneDesc("records_read_total", "Records taken from the log."), prometheus.CounterValue, false,
			func(_ time.Time, l connector.LaneStats) float64 { return float64(l.Counts.Read) }},
		{laneDesc("read_bytes_total", "Bytes of keys and values taken from the log."), prometheus.CounterValue, false,
			func(_ time.Time, l connector.LaneStats) float64 { return float64(l.Counts.ReadBytes) }},
		{laneDesc("records_delivered_total", "Records acknowledged by the sink, duplicates and quarantined ones included."), prometheus.CounterValue, false,
			func(_ time.Time, l connector.LaneStats) float64 { return float64(l.Counts.Delivered) }},
		{laneDesc("delivered_bytes_total", "Bytes of keys and values acknowledged by the sink."), prometheus.CounterValue, false,
			func(_ time.Time, l connector.LaneStats) float64 { return float64(l.Counts.DeliveredBytes) }},
		{laneDesc("records_duplicate_total", "Of the delivered: records that the sink held already."), prometheus.CounterValue, false,
			func(_ time.Time, l connector.LaneStats) float64 { return float64(l.Counts.Duplicates) }},
		{laneDesc("records_quarantined_total", "Of the delivered: records that the sink stored aside (Elasticsearch's failure store)."), prometheus.CounterValue, false,
			func(_ time.Time, l connector.LaneStats) float64 { return float64(l.Counts.Quarantined) }},
		{laneDesc("records_filtered_total", "Records dropped by a filter."), prometheus.CounterValue, false,
			func(_ time.Time, l connector.LaneStats) float64 { return float64(l.Counts.Filtered) }},
		{laneDesc("records_dead_lettered_total", "Records acknowledged by the dead-letter destination."), prometheus.CounterValue, false,
			func(_ time.Time, l connector.LaneStats) float64 { return float64(l.Counts.DeadLettered) }},
		{laneDesc("records_retried_total", "Records sent again, each time counted."), prometheus.CounterValue, false,
			func(_ time.Time, l connector.LaneStats) float64 { return float64(l.Counts.Retried) }},
		{laneDesc("records_in_doubt_total", "Of the retried: records that the sink may have stored the time before. Possible duplicates, where the grade is not A."), prometheus.CounterValue, false,
			func(_ time.Time, l connector.LaneStats) float64 { return float64(l.Counts.InDoubt) }},
		{laneDesc("lag_records", "Offsets up to the log's end, as heard within the last ten seconds, that are not settled, those in flight included. Gone when the partition is no longer ours."), prometheus.GaugeValue, true,
			func(_ time.Time, l connector.LaneStats) float64 { return float64(l.Lag()) }},
		{laneDesc("held_bytes", "Bytes of records taken and not yet given back to the budget."), prometheus.GaugeValue, true,
			func(_ time.Time, l connector.LaneStats) float64 { return float64(l.Held) }},
		{laneDesc("oldest_unsettled_seconds", "How long ago the oldest unsettled record was taken; 0: there is none."), prometheus.GaugeValue, true,
			func(now time.Time, l connector.LaneStats) float64 {
				if l.Oldest.IsZero() {
					return 0
				}
				return now.Sub(l.Oldest).Seconds()
			}},
		{laneDesc("blocked", "1 while the partition stands still because of a record that nobody takes."), prometheus.GaugeValue, true,
			func(_ time.Time, l connector.LaneStats) float64 { return flag(l.Blocked != nil) }},
	}
	linkMetrics = []struct {
		desc  *prometheus.Desc
		value func(s connector.Stats) float64
	}{
		{linkDesc("requests_in_flight", "Requests to the sink that wait for their answer."),
			func(s connector.Stats) float64 { return float64(s.InFlight) }},
		{linkDesc("request_window", "How many requests may be in flight now."),
			func(s connector.Stats) float64 { return float64(s.Window) }},
		{linkDesc("budget_held_bytes", "Bytes of records held."),
			func(s connector.Stats) float64 { return float64(s.BytesHeld) }},
		{linkDesc("budget_bytes", "Bytes of records that may be held."),
			func(s connector.Stats) float64 { return float64(s.BytesMax) }},
		{linkDesc("sink_down", "1 while the sink takes no requests."),
			func(s connector.Stats) float64 { return flag(s.Down != nil) }},
	}
	readyDesc      = prometheus.NewDesc("weir_ready", "1 when /readyz says ok for this connector.", linkLabels, nil)
	rebalancesDesc = prometheus.NewDesc("weir_rebalances_total", "Times the group gave this member another assignment.", linkLabels, nil)
	expiredDesc    = prometheus.NewDesc("weir_records_expired_total", "Offsets that retention took from the log before they were read: lost, not by weir.", laneLabels, nil)
	fetchDesc      = prometheus.NewDesc("weir_fetched_bytes", "Bytes fetched and not yet taken by a lane.", linkLabels, nil)
)

func laneDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("weir_"+name, help, laneLabels, nil)
}

func linkDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("weir_"+name, help, linkLabels, nil)
}

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

// label is a name that others chose as the value of a label. One that is not
// UTF-8 would end the process.
func label(name string) string {
	if utf8.ValidString(name) {
		return name
	}
	return strconv.QuoteToASCII(name)
}

// bridgeCollector makes metrics of snapshots, so that there is one account, and
// series of partitions that we lost disappear by themselves.
type bridgeCollector struct{ b *bridge }

func (c bridgeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range laneMetrics {
		ch <- m.desc
	}
	for _, m := range linkMetrics {
		ch <- m.desc
	}
	ch <- readyDesc
	ch <- rebalancesDesc
	ch <- expiredDesc
	ch <- fetchDesc
}

func (c bridgeCollector) Collect(ch chan<- prometheus.Metric) {
	now := time.Now()
	troubled := map[string]bool{}
	for _, t := range c.b.troubles(now) {
		troubled[t.connector] = true
	}
	for _, l := range c.b.links {
		s := l.connector.Stats()
		for _, m := range linkMetrics {
			ch <- prometheus.MustNewConstMetric(m.desc, prometheus.GaugeValue, m.value(s), s.Name)
		}
		ch <- prometheus.MustNewConstMetric(readyDesc, prometheus.GaugeValue, flag(!troubled[s.Name]), s.Name)
		g := l.group.Status()
		ch <- prometheus.MustNewConstMetric(rebalancesDesc, prometheus.CounterValue, float64(g.Rebalances), s.Name)
		ch <- prometheus.MustNewConstMetric(fetchDesc, prometheus.GaugeValue, float64(g.FetchHeld), s.Name)
		for _, l := range g.Lost {
			ch <- prometheus.MustNewConstMetric(expiredDesc, prometheus.CounterValue, float64(l.Offsets), s.Name, label(l.Topic), fmt.Sprint(l.Partition))
		}
		for _, lane := range s.Lanes {
			for _, m := range laneMetrics {
				if m.live && !lane.Live {
					continue
				}
				ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(now, lane), s.Name, label(lane.Topic), fmt.Sprint(lane.Partition))
			}
		}
	}
}
