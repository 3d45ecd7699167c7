package config

import (
	"slices"
	"testing"
)

func TestWarnings(t *testing.T) {
	f := func(change func(*Config), want ...string) {
		t.Helper()
		cfg := mustLoad(t, good)
		change(cfg)
		if got := cfg.Warnings(); !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
	f(func(*Config) {})
	const open = "listen_tls: is not set, so listen_auth.token goes over the network unencrypted: " +
		"who reads it along can read metrics and status too, and do no more"
	f(func(c *Config) { c.Listen = ":9600" }, open)
	f(func(c *Config) { c.Listen = "10.0.0.1:9600" }, open)
	f(func(c *Config) { c.Listen, c.ListenTLS.CertFile = ":9600", "cert.pem" })

	const plain = "kafka.brokers[1]: events go over the network unencrypted, since kafka.tls.enabled is false"
	f(func(c *Config) { c.Kafka.Brokers = []string{"localhost:1", "a:1", "b:1"} }, plain)
	f(func(c *Config) { c.Kafka.Brokers, c.Kafka.TLS.Enabled = []string{"a:1"}, true })
	f(func(c *Config) {
		c.Connectors[0].Sink.Elasticsearch.URLs = []string{"https://a", "http://b", "http://c"}
	},
		"connectors[0].sink.elasticsearch.urls[1]: events go over the network unencrypted, since the URL says http")

	const any = ": takes any certificate: whoever sits between can read and change everything, credentials included"
	f(func(c *Config) {
		c.Kafka.TLS = TLS{Enabled: true, InsecureSkipVerify: true}
		c.Connectors[0].Sink.Elasticsearch.TLS.InsecureSkipVerify = true
	}, "kafka.tls.insecure_skip_verify"+any, "connectors[0].sink.elasticsearch.tls.insecure_skip_verify"+any)
}
