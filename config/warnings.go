package config

import (
	"fmt"
	"net"
	"net/url"
)

const unverified = "takes any certificate: whoever sits between can read and change everything, credentials included"

// Warnings says what the configuration allows and a reviewer would ask about:
// what goes over a network unencrypted or unverified. None of it keeps weir from
// running, since the network may be one that nobody else is on, or encrypted
// itself. Each is a sentence that begins with its key.
func (c *Config) Warnings() []string {
	var all []string
	warn := func(key, format string, args ...any) {
		all = append(all, key+": "+fmt.Sprintf(format, args...))
	}
	if host, _, err := net.SplitHostPort(c.Listen); err == nil && !loopback(host) && c.ListenTLS.CertFile == "" {
		warn("listen_tls", "is not set, so listen_auth.token goes over the network unencrypted: "+
			"who reads it along can read metrics and status too, and do no more")
	}
	if c.Kafka.TLS.Enabled {
		if c.Kafka.TLS.InsecureSkipVerify {
			warn("kafka.tls.insecure_skip_verify", unverified)
		}
	} else {
		for i, b := range c.Kafka.Brokers {
			if host, _, err := net.SplitHostPort(b); err == nil && !loopback(host) {
				warn(fmt.Sprintf("kafka.brokers[%d]", i), "events go over the network unencrypted, since kafka.tls.enabled is false")
				break // one says it for all
			}
		}
	}
	for i, n := range c.Connectors {
		path := fmt.Sprintf("connectors[%d].sink", i)
		if es := n.Sink.Elasticsearch; es != nil {
			warnHTTP(path+".elasticsearch", &es.TLS, es.URLs, warn)
		}
		if hec := n.Sink.SplunkHEC; hec != nil {
			warnHTTP(path+".splunk_hec", &hec.TLS, hec.URLs, warn)
		}
		if s := n.Sink.HTTP; s != nil {
			warnHTTPSink(path+".http", s, warn)
		}
		if s := n.Sink.Syslog; s != nil {
			warnSyslog(path+".syslog", s, warn)
		}
		if s := n.Sink.Kafka; s != nil {
			warnKafkaSink(path+".kafka", s, warn)
		}
	}
	return all
}

// warnHTTP warns of what an HTTP sink sends unencrypted or to anybody.
func warnHTTP(path string, t *TLS, urls []string, warn func(key, format string, args ...any)) {
	if t.InsecureSkipVerify {
		warn(path+".tls.insecure_skip_verify", unverified)
	}
	for k, s := range urls {
		if u, err := url.Parse(s); err == nil && u.Scheme == "http" && !loopback(u.Hostname()) {
			warn(fmt.Sprintf("%s.urls[%d]", path, k), "events go over the network unencrypted, since the URL says http")
			break // one says it for all
		}
	}
}
