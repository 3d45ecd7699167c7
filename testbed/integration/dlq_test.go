//go:build integration

package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"weir/testbed/bridge"
)

// waiting is the number of dead letters that are not redriven, as ls says.
func (b *bed) waiting(config string) (n int64) {
	b.Helper()
	var list struct{ Letters []struct{ Letters int64 } }
	cmd := exec.CommandContext(b.ctx, b.bin, "dlq", "ls", "--json", "-c", config)
	cmd.Env = bridge.Environ()
	out, err := cmd.Output()
	b.must(err)
	b.must(json.Unmarshal(out, &list))
	for _, l := range list.Letters {
		n += l.Letters
	}
	return n
}

// buried has n events of a topic refused, for a mapping that it then removes.
func (b *bed) buried(es *elastic, n int) (topic string, cfg *bridge.Config) {
	b.Helper()
	topic = b.topic("", 4, nil)
	es.must("PUT", "/"+topic, map[string]any{"mappings": map[string]any{"properties": map[string]any{"host": map[string]any{"type": "long"}}}}, nil)
	b.must(b.cl.Write(b.ctx, synthetic(topic, 4, 0, n, 300)))
	cfg = bridge.NewConfig(b.kafka.Addr, topic, es.URL)
	p := b.weir("weir", cfg)
	b.waitCommitted(p, cfg.Group(), topic)
	b.stop(p)
	if got := b.waiting(b.write("dlq", cfg)); got != int64(n) {
		b.Fatalf("%d dead letters, want %d", got, n)
	}
	es.must("DELETE", "/"+topic, nil, nil)
	return topic, cfg
}

// Letters of a broken mapping, the mapping mended, and redrives that are killed in
// the middle: in the end every event is in the index once, and a redrive of what
// is redriven finds nothing to do.
func TestDeadLettersAreRedrivenThroughKills(t *testing.T) {
	b := newBed(t, 5*time.Minute)
	es := b.node()
	const n = 20_000
	topic, cfg := b.buried(es, n)
	path := b.write("dlq", cfg)

	slowly(cfg)
	slow := b.write("dlq-slow", cfg)
	for i := range 2 {
		before := es.count(topic, nil)
		cmd := exec.CommandContext(b.ctx, b.bin, "dlq", "redrive", "--connector", topic, "-c", slow)
		var log bytes.Buffer
		cmd.Env, cmd.Stdout, cmd.Stderr = bridge.Environ(), &log, &log
		b.must(cmd.Start())
		b.eventually("some more letters are redriven", nil, func() (bool, error) {
			now := es.count(topic, nil)
			return now >= before+2000, fmt.Errorf("%d in the index, %d before", now, before)
		})
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		stored := es.count(topic, nil)
		left := b.waiting(path)
		t.Logf("kill %d: %d in the index, %d letters left", i+1, stored, left)
		if stored >= n {
			t.Fatal("everything was redriven before the last kill: the test hit nothing")
		}
		if stored+left < n {
			t.Errorf("kill %d: %d in the index and %d letters left are less than %d", i+1, stored, left, n)
		}
	}
	out := b.command("dlq", "redrive", "--connector", topic, "-c", path)
	t.Logf("the last redrive:\n%s", out)
	es.wantNumbers(topic, n)
	if left := b.waiting(path); left != 0 {
		t.Errorf("%d letters left", left)
	}
	t.Logf("%d records were sent twice, of %d", es.refused(topic), n)
	out = b.command("dlq", "redrive", "--connector", topic, "-c", path)
	if m := regexp.MustCompile(`(\d+)  delivered`).FindStringSubmatch(out); m == nil {
		t.Errorf("no count in %s", out)
	} else if again, err := strconv.Atoi(m[1]); err != nil || again != 0 {
		t.Errorf("%d delivered by a redrive of what was redriven", again)
	}
}

// Two redrives at a time are two members of a group: together they send
// everything, and nothing is stored twice.
func TestTwoRedrivesShareTheDeadLetters(t *testing.T) {
	b := newBed(t, 3*time.Minute)
	es := b.node()
	const n = 20_000
	topic, cfg := b.buried(es, n)
	slowly(cfg)
	path := b.write("dlq", cfg)
	var both sync.WaitGroup
	for i := range 2 {
		both.Go(func() {
			out, err := combined(b.ctx, b.bin, "dlq", "redrive", "--connector", topic, "-c", path)
			if err != nil {
				t.Errorf("redrive %d: %v", i, err)
			}
			t.Logf("redrive %d:\n%s", i, out)
		})
	}
	both.Wait()
	// What one had just given back when the other ended is left for the next.
	t.Log(b.command("dlq", "redrive", "--connector", topic, "-c", path))
	es.wantNumbers(topic, n)
	if left := b.waiting(path); left != 0 {
		t.Errorf("%d letters left", left)
	}
}
