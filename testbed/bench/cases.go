package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"weir/testbed/bridge"
)

// benchCase is one way to run the bridge.
type benchCase struct {
	Name, Group string
	Load        load
	backend     backend
	setup       func(*bridge.Config)

	rate    int      // latency: events a second
	elastic bool     // the backend is a real Elasticsearch
	sink    bridge.M // of the connector, instead of elasticsearch; URL stands for the endpoint's
	replay  bool     // weir rehydrate run instead of weir run
	bare    bool     // nothing but a sarama consumer
	naive   bool     // a naive reader instead of weir
	idle    bool     // nothing to do
	rival   string   // a command that is run instead of weir
}

// Groups of cases; each is measured and shown in its own way.
const (
	throughput = "throughput"
	idling     = "idle"
	capacity   = "capacity"
	faults     = "faults"
	latencies  = "latency"
	real       = "elasticsearch"
	others     = "sinks"
	rivals     = "rival"
	replays    = "rehydrate"
)

// endpointURL stands for the endpoint's address in a case's sink.
const endpointURL = "URL"

// Cases that the naive reader stands beside.
const (
	plainCase   = "plain"
	gzipCase    = "gzip"
	backlogCase = "backlog"
)

// noFaults is the case that the others of its group are measured by.
const noFaults = "0%"

// all is the matrix.
func (s settings) all() []benchCase {
	like := func(change func(*load)) load {
		l := s.load
		change(&l)
		return l
	}
	list := []benchCase{
		{Name: baselineCase, Group: throughput, Load: s.load, naive: true},
		{Name: plainCase, Group: throughput, Load: s.load},
		{Name: baselineGzipCase, Group: throughput, Load: s.load, naive: true},
		{Name: gzipCase, Group: throughput, Load: s.load, setup: func(c *bridge.Config) { c.Sink["compression"] = "gzip" }},
		{Name: "32MiB", Group: throughput, Load: s.load, setup: func(c *bridge.Config) { c.File["memory"] = "32MiB" }},
		{Name: "200B", Group: throughput, Load: like(func(l *load) { l.Size = 200 })},
		{Name: "2KB", Group: throughput, Load: like(func(l *load) { l.Size, l.Events = 2048, l.Events/4 })},
		{Name: "real", Group: throughput, Load: like(func(l *load) { l.Real, l.Events = true, l.Events/4 })},
		{Name: "1-partition", Group: throughput, Load: like(func(l *load) { l.Partitions = 1 })},
		{Name: "48-partitions", Group: throughput, Load: like(func(l *load) { l.Partitions = 48 })},
		{Name: baselineBacklogCase, Group: throughput, Load: like(func(l *load) { l.Events = s.backlogEvents }), naive: true},
		{Name: backlogCase, Group: throughput, Load: like(func(l *load) { l.Events = s.backlogEvents })},
		{Name: "idle", Group: idling, Load: like(func(l *load) { l.Events, l.Partitions = 100, 100 }), idle: true},
	}
	// Against a backend that takes its time, so that what is lost is lost by waiting
	// and not by what else the processors do.
	l := like(func(l *load) { l.Events = s.faultEvents })
	list = append(list, benchCase{Name: noFaults, Group: faults, Load: l, backend: backend{PerDocument: s.backend.PerDocument}})
	for _, kind := range []string{"500", "429", "items"} {
		for _, percent := range []int{5, 20} {
			list = append(list, benchCase{
				Name: fmt.Sprintf("%s-%d%%", kind, percent), Group: faults, Load: l,
				backend: backend{PerDocument: s.backend.PerDocument, Fault: kind, Share: float64(percent) / 100},
			})
		}
	}
	list = append(list, benchCase{Name: "capacity", Group: capacity, Load: like(func(l *load) { l.Events = s.capacityEvents }), backend: s.backend})
	for _, rate := range []int{1000, 10_000, 50_000} {
		list = append(list, s.latencyCase(rate, ""))
	}
	list = append(list,
		s.latencyCase(10_000, "10ms"),
		benchCase{Name: "elasticsearch", Group: real, Load: like(func(l *load) { l.Events = s.elasticEvents }), elastic: true})
	hec := func(more bridge.M) bridge.M {
		section := bridge.M{"urls": []string{endpointURL}, "token": "00000000-0000-0000-0000-000000000000"}
		maps.Copy(section, more)
		return bridge.M{"splunk_hec": section}
	}
	list = append(list,
		benchCase{Name: "hec", Group: others, Load: s.load, sink: hec(bridge.M{"ack": "off"})},
		benchCase{Name: "hec-gzip", Group: others, Load: s.load, sink: hec(bridge.M{"ack": "off", "compression": "gzip"})},
		benchCase{Name: "hec-acks", Group: others, Load: s.load, sink: hec(bridge.M{"ack": "required"}), backend: backend{Acks: true}})
	list = append(list, s.replays()...)
	if s.rival != "" {
		l := like(func(l *load) { l.Events = s.rivalEvents })
		list = append(list,
			benchCase{Name: "weir", Group: rivals, Load: l},
			benchCase{Name: "weir-500-5%", Group: rivals, Load: l, backend: backend{Fault: "500", Share: 0.05}},
			benchCase{Name: "weir-items-5%", Group: rivals, Load: l, backend: backend{Fault: "items", Share: 0.05}},
			benchCase{Name: "rival", Group: rivals, Load: l, rival: s.rival},
			benchCase{Name: "rival-500-5%", Group: rivals, Load: l, rival: s.rival, backend: backend{Fault: "500", Share: 0.05}},
			benchCase{Name: "rival-items-5%", Group: rivals, Load: l, rival: s.rival, backend: backend{Fault: "items", Share: 0.05}})
	}
	return list
}

func (s settings) latencyCase(rate int, linger string) benchCase {
	l := s.load
	l.Events = int(float64(rate) * (warmUp + s.latencyFor).Seconds())
	c := benchCase{Name: fmt.Sprintf("%dk/s", rate/1000), Group: latencies, Load: l, rate: rate}
	if linger != "" {
		c.Name += "-linger-" + linger
		c.setup = func(c *bridge.Config) { bridge.Set(c.Connector, "batch.linger", linger) }
	}
	return c
}

// choose picks cases by their names or groups, separated by commas; all of them
// for none.
func (s settings) choose(names string) ([]benchCase, error) {
	all := s.all()
	if names == "" {
		return all, nil
	}
	var chosen []benchCase
	for name := range strings.SplitSeq(names, ",") {
		before := len(chosen)
		for _, c := range all {
			if name == c.Name || name == c.Group {
				chosen = append(chosen, c)
			}
		}
		if len(chosen) == before {
			var known []string
			for _, c := range all {
				if !slices.Contains(known, c.Group) {
					known = append(known, c.Group)
				}
				known = append(known, c.Name)
			}
			return nil, fmt.Errorf("no case %q; there are %s", name, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}

// warmUp is how long a latency run goes on before its events say when they were
// sent: until the group is joined and connections stand.
const warmUp = 5 * time.Second
