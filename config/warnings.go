package config

import (
	"fmt"
	"net"
	"net/url"
)

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
	const unverified = "takes any certificate: whoever sits between can read and change everything, credentials included"
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
		es, path := n.Sink.Elasticsearch, fmt.Sprintf("connectors[%d].sink.elasticsearch", i)
		if es == nil {
			continue
		}
		if es.TLS.InsecureSkipVerify {
			warn(path+".tls.insecure_skip_verify", unverified)
		}
		for k, s := range es.URLs {
			if u, err := url.Parse(s); err == nil && u.Scheme == "http" && !loopback(u.Hostname()) {
				warn(fmt.Sprintf("%s.urls[%d]", path, k), "events go over the network unencrypted, since the URL says http")
				break
			}
		}
	}
	return all
}
