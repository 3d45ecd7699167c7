//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/testbed/bridge"
)

// Kafka over TLS with SCRAM: with a wrong password the bridge says so and
// delivers nothing; with the right one it works.
func TestKafkaWithTLSAndSCRAM(t *testing.T) {
	b := newBed(t, 2*time.Minute)
	if b.kafka.TLSAddr == "" {
		t.Skip("the broker has no SASL_SSL listener that is known here")
	}
	es := b.node()
	const n = 1000
	topic := b.topic("", 2, nil)
	b.must(b.cl.Write(b.ctx, synthetic(topic, 2, 0, n, 300)))
	cfg := bridge.NewConfig(b.kafka.TLSAddr, topic, es.URL)
	bridge.Set(cfg.File, "kafka.tls", bridge.M{"enabled": true, "ca_file": b.kafka.CAFile})
	secret := filepath.Join(b.dir, "kafka-password")
	bridge.Set(cfg.File, "kafka.sasl", bridge.M{
		"mechanism": "SCRAM-SHA-512", "username": b.kafka.User, "password": "${file:" + secret + "}",
	})

	b.must(os.WriteFile(secret, []byte("certainly-wrong"), 0o600))
	if out, err := combined(b.ctx, b.bin, "check", "--online", "-c", b.write("wrong", cfg)); err == nil {
		t.Errorf("weir check --online accepts a wrong password:\n%s", out)
	} else if !strings.Contains(strings.ToLower(out), "auth") || strings.Contains(out, "certainly-wrong") {
		t.Errorf("weir check --online with a wrong password says:\n%s", out)
	}
	b.must(os.WriteFile(secret, []byte(b.kafka.Password), 0o600))
	p := b.weir("right", cfg)
	b.waitCommitted(p, cfg.Group(), topic)
	b.waitReady(p)
	es.wantNumbers(topic, n)
	b.stop(p)
}
