package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Whoever switched verification off for a test, and left it so, is told by each
// command that connects: an administrator's key is shown to anybody by weir init, too.
func TestVerificationThatIsOffIsSaidByEachCommandThatConnects(t *testing.T) {
	b := newCaseBed(t, 1)
	plan := b.makePlan("c")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c := newTestCase(t)
	config := filepath.Join(t.TempDir(), "off.yaml")
	text := fmt.Sprintf(`
kafka: {brokers: [%q]}
listen: %s
connectors:
- name: a
  topics: [t]
  dead_letter: {topic: dlq}
  sink: {elasticsearch: {urls: ["https://127.0.0.1:1"], index: x, timeout: 1s, tls: {insecure_skip_verify: true}}}
`, b.kafka.ListenAddrs()[0], taken.Addr())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	const off = "connectors[0].sink.elasticsearch.tls.insecure_skip_verify: takes any certificate"
	// How each of them ends does not matter here.
	for _, line := range []string{
		"check", "check --online", "run", "init", "init --print",
		"dlq ls", "dlq show t/0/0", "dlq redrive --connector a --dry-run", "dlq redrive --connector a",
		"rehydrate plan --case d --topics t --from 2020-01-01T00:00:00Z --to 2020-01-02T00:00:00Z -o " + b.path("d.json"),
		"rehydrate status --plan " + plan, "rehydrate run --connector a --filter x== --plan " + plan, "rehydrate cancel --yes --plan " + plan,
		"rehydrate seal --examiner E --purpose p --plan " + plan + " --key " + c.key + " -o " + b.path("sealed"),
		"verify --siem --connector a --bag " + c.bag,
		"verify --kafka --siem --connector a --manifest " + c.bag + " --key " + c.key + ".pub",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		cmd := exec.CommandContext(ctx, b.bin, append(strings.Fields(line), "-c", config)...)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		_ = cmd.Run()
		cancel()
		said := errs.String()
		if strings.HasPrefix(line, "check") {
			said = out.String()
		}
		if n := strings.Count(said, off); n != 1 {
			t.Errorf("%s: says it %d times, want once\n%s%s", line, n, out.String(), errs.String())
		}
	}
}
