//go:build integration

package integration

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"weir/connector/evidence"
	"weir/connector/replay"
	"weir/testbed/bridge"
	"weir/testbed/broker"
)

// past makes records that are spread over the days before now, not in the order
// of their times. Those of the range are numbered from next on.
type past struct {
	from, to time.Time
	next     int
	rand     *rand.Rand
}

func (p *past) records(topic string, partitions int32, n int) []*kgo.Record {
	fill := strings.Repeat("x", 300)
	records := make([]*kgo.Record, n)
	for i := range records {
		at := p.from.Add(-24 * time.Hour).Add(p.to.Sub(p.from.Add(-48*time.Hour)) * time.Duration(i) / time.Duration(n))
		at = at.Add(time.Duration(p.rand.Int64N(int64(4*time.Hour))) - 2*time.Hour).Truncate(time.Millisecond)
		records[i] = p.record(topic, int32(i)%partitions, at, fill)
	}
	return records
}

func (p *past) record(topic string, partition int32, at time.Time, fill string) *kgo.Record {
	number := -1
	if !at.Before(p.from) && at.Before(p.to) {
		number = p.next
		p.next++
	}
	return &kgo.Record{
		Topic: topic, Partition: partition, Timestamp: at, Key: fmt.Append(nil, number),
		Value: fmt.Appendf(nil, `{"n":%d,"message":"%s"}`, number, fill),
	}
}

// process is a weir command that runs beside the test.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan error
}

func (b *bed) start(name string, args ...string) *process {
	b.Helper()
	p := &process{cmd: exec.Command(b.bin, args...), log: filepath.Join(b.dir, name+".log"), done: make(chan error, 1)}
	out, err := os.Create(p.log)
	b.must(err)
	defer out.Close()
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = bridge.Environ(), out, out
	b.must(p.cmd.Start())
	go func() { p.done <- p.cmd.Wait() }()
	b.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		if b.Failed() {
			text, _ := os.ReadFile(p.log)
			b.Logf("log of %s:\n%s", name, tail(string(text), 40))
		}
	})
	return p
}

// exit waits for the process and wants its exit code.
func (b *bed) exit(p *process, want int) {
	b.Helper()
	select {
	case <-b.ctx.Done():
		b.Fatal("a worker does not end")
	case err := <-p.done:
		p.done <- err
		if code := p.cmd.ProcessState.ExitCode(); code != want {
			text, _ := os.ReadFile(p.log)
			b.Fatalf("exit code %d, want %d\n%s", code, want, tail(string(text), 40))
		}
	}
}

// statusOf is what weir rehydrate status says.
type statusOf struct {
	State   string
	Workers int
	Done    int64 `json:"offsets_done"`
	Offsets int64
	Counts  evidence.Counts
}

func (b *bed) status(config, plan string) statusOf {
	b.Helper()
	var s statusOf
	b.must(json.Unmarshal([]byte(b.command("rehydrate", "status", "-c", config, "--plan", plan, "--json")), &s))
	return s
}

func (b *bed) manifest(dir string) *evidence.Manifest {
	b.Helper()
	text, err := os.ReadFile(filepath.Join(dir, evidence.FileManifest))
	b.must(err)
	var m evidence.Manifest
	b.must(json.Unmarshal(text, &m))
	return &m
}

// A case over two topics, one of which is mostly in the remote tier, is replayed
// by workers of which one is killed and one is stopped. It comes to the same
// evidence as one that nobody disturbed, in the index are the records of the range,
// each once, and a live connector of the same topics notices nothing.
func TestRehydrateWithWorkersThatDie(t *testing.T) {
	b := newBed(t, 4*time.Minute)
	es := b.node()
	to := time.Now().Add(-28 * time.Hour).Truncate(time.Second).UTC()
	p := &past{from: to.Add(-48 * time.Hour), to: to, rand: rand.New(rand.NewPCG(1, 2))}
	hot := b.topic("-hot", 3, nil)
	cold := b.name + "-cold"
	if err := b.cl.CreateTopic(b.ctx, cold, 2, map[string]string{
		"remote.storage.enable": "true", "segment.bytes": "1048576", "local.retention.ms": "1000", "retention.ms": "-1",
	}); err != nil {
		t.Skip("the broker has no remote storage:", err)
	}
	t.Cleanup(func() { _ = b.cl.DeleteTopic(context.Background(), cold) })
	const inCold, inHot = 40_000, 9_000
	for range 8 { // in pieces, so that segments fill up
		b.must(b.cl.Write(b.ctx, p.records(cold, 2, inCold/8)))
	}
	b.must(b.cl.Write(b.ctx, p.records(hot, 3, inHot)))
	b.transactions(hot, p)
	// Of the range, and written last.
	b.must(b.cl.Write(b.ctx, []*kgo.Record{p.record(hot, 1, p.from, "late"), p.record(cold, 0, p.to.Add(-time.Millisecond), "late")}))

	cfg := bridge.NewConfig(b.kafka.Addr, hot, es.URL)
	cfg.Connector["topics"] = []string{hot, cold}
	bridge.Set(cfg.Connector, "batch.records", 500)
	config := b.write("weir", cfg)
	live := b.weir("live", cfg)
	b.waitCommitted(live, cfg.Group(), cold)
	before, err := b.cl.Committed(b.ctx, cfg.Group(), cold)
	b.must(err)
	generation, err := b.cl.Generation(b.ctx, cfg.Group())
	b.must(err)

	plan := func(id string) string {
		file := filepath.Join(b.dir, id+".plan.json")
		_ = os.Remove(file)
		b.command("rehydrate", "plan", "-c", config, "--topics", hot+","+cold, "--from", p.from.Format(time.RFC3339), "--to", p.to.Format(time.RFC3339), "--case", id, "-o", file)
		return file
	}
	id := strings.ReplaceAll(b.name, "it-", "Case-")
	var file string
	b.eventually("most of the range is in the remote tier only", live, func() (bool, error) {
		file = plan(id)
		text, _, err := replay.ReadPlan(file)
		b.must(err)
		var remote, offsets int64
		for _, one := range text.Topics[0].Partitions { // cold comes before hot
			offsets += one.Offsets()
			if one.Remote != nil {
				remote += *one.Remote
			}
		}
		return remote*10 > offsets*6, fmt.Errorf("%d of %d offsets", remote, offsets)
	})
	index := "rehydrate-" + strings.ToLower(id)
	t.Cleanup(func() { _, _ = es.ask(context.Background(), http.MethodDelete, "/"+index, nil, nil) })

	// Nobody disturbs this one.
	calm := plan(id + ".calm")
	b.command("rehydrate", "run", "-c", config, "--plan", calm, "--bag", filepath.Join(b.dir, "bag"))

	run := []string{"rehydrate", "run", "-c", config, "--plan", file, "--connector", cfg.Connector["name"].(string)}
	slow := append(run[:len(run):len(run)], "--rate-records", "1500/s", "--custody", filepath.Join(b.dir, "one.ndjson"))
	killed, stopped := b.start("killed", slow...), b.start("stopped", slow...)
	b.progress(config, file, 4000)
	b.must(killed.cmd.Process.Kill())
	b.exit(killed, -1)
	after := b.status(config, file).Done
	b.progress(config, file, after+2000)
	b.must(stopped.cmd.Process.Signal(syscall.SIGINT))
	b.exit(stopped, 130)
	if s := b.status(config, file); s.Done >= s.Offsets {
		t.Fatal("all was done before the last one was stopped: the test hit nothing")
	} else {
		t.Logf("killed and stopped at %d of %d offsets", s.Done, s.Offsets)
	}
	two := []*process{b.start("third", run...), b.start("fourth", run...)}
	for _, w := range two {
		b.exit(w, 0)
	}
	s := b.status(config, file)
	if s.State != "done" || s.Counts.Matched != uint64(p.next) || s.Counts.Settled() != s.Counts.Matched || s.Counts.DeadLettered != 0 {
		t.Errorf("status %+v, want %d matched", s, p.next)
	}
	es.wantNumbers(index, p.next)
	t.Logf("%d records of the range, of which %d were sent twice", p.next, s.Counts.Duplicates)

	key := filepath.Join(b.dir, "examiner.key")
	b.command("keygen", "--out", key)
	seal := func(file, dir string, more ...string) *evidence.Manifest {
		b.command(append([]string{"rehydrate", "seal", "-c", config, "--plan", file, "--key", key, "--examiner", "E. Xaminer", "--purpose", "a test", "-o", dir}, more...)...)
		return b.manifest(dir)
	}
	disturbed := seal(file, filepath.Join(b.dir, "sealed"), "--custody", filepath.Join(b.dir, "one.ndjson"), "--custody", filepath.Join(b.dir, id+".custody.ndjson"))
	undisturbed := seal(calm, filepath.Join(b.dir, "calm"), "--bag", filepath.Join(b.dir, "bag"))
	b.sameEvidence(disturbed, undisturbed)
	b.command("verify", "--bag", filepath.Join(b.dir, "bag"), "--key", key+".pub")
	b.command("verify", "--manifest", filepath.Join(b.dir, "sealed"), "--kafka", "-c", config, "--key", key+".pub")

	if now, err := b.cl.Committed(b.ctx, cfg.Group(), cold); err != nil || fmt.Sprint(now) != fmt.Sprint(before) {
		t.Errorf("the live connector is at %v, and was at %v (%v)", now, before, err)
	}
	if now, err := b.cl.Generation(b.ctx, cfg.Group()); err != nil || now != generation {
		t.Errorf("the live connector's group has rebalanced: generation %d, and was %d (%v)", now, generation, err)
	}
	b.waitReady(live)
	b.command("rehydrate", "cancel", "-c", config, "--plan", file, "--yes")
	if s := b.status(config, file); s.State != "not begun" {
		t.Errorf("cancelled, and %q", s.State)
	}
	b.stop(live)
}

// Somebody who may write to the broker's disk changes one record there, with the
// checksum that goes with it, so that the broker and every consumer take it for
// what was produced. The sealed case tells, and its bag has the record as it was.
func TestVerifyFindsARecordThatWasChangedOnTheBrokersDisk(t *testing.T) {
	b := newBed(t, 2*time.Minute)
	if b.kafka.Data == "" {
		t.Skip("the broker's disk is not ours")
	}
	to := time.Now().Add(-time.Hour).Truncate(time.Second).UTC()
	from := to.Add(-time.Hour)
	topic := b.topic("", 2, map[string]string{"compression.type": "uncompressed"})
	var records []*kgo.Record
	for i := range 2000 {
		records = append(records, &kgo.Record{
			Topic: topic, Partition: int32(i % 2), Timestamp: from.Add(time.Duration(i) * time.Second),
			Value: fmt.Appendf(nil, `{"n":%d,"user":"mallory-%04d"}`, i, i),
		})
	}
	b.must(b.cl.Write(b.ctx, records))
	cfg := bridge.NewConfig(b.kafka.Addr, topic, "http://127.0.0.1:9")
	config := b.write("weir", cfg)
	plan, bag, key := filepath.Join(b.dir, "plan.json"), filepath.Join(b.dir, "bag"), filepath.Join(b.dir, "key")
	b.command("rehydrate", "plan", "-c", config, "--topics", topic, "--from", from.Format(time.RFC3339), "--to", to.Format(time.RFC3339), "--case", "changed-on-disk", "-o", plan)
	b.command("rehydrate", "run", "-c", config, "--plan", plan, "--bag", bag)
	b.command("keygen", "--out", key)
	sealed := filepath.Join(b.dir, "sealed")
	b.command("rehydrate", "seal", "-c", config, "--plan", plan, "--key", key, "--examiner", "E. Xaminer", "--purpose", "a test", "--bag", bag, "-o", sealed)
	verify := []string{"verify", "--kafka", "-c", config, "--manifest", sealed, "--key", key + ".pub"}
	b.command(verify...)

	changeOnDisk(b, filepath.Join(b.kafka.Data, topic+"-1", "00000000000000000000.log"), "mallory-0501", "nobody-00501")
	found := false
	b.must(b.cl.Each(b.ctx, topic, func(r *kgo.Record) { found = found || strings.Contains(string(r.Value), "nobody-00501") }))
	if !found {
		t.Fatal("a consumer does not see the change: the test changed nothing")
	}
	out, err := combined(b.ctx, b.bin, verify...)
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 || !strings.Contains(out, "partition 1") {
		t.Errorf("want exit code 1 with partition 1 named, got %v:\n%s", err, out)
	}
	if strings.Contains(out, "no longer retained") {
		t.Errorf("a record that was changed is taken for one that retention took:\n%s", out)
	}
	t.Logf("%s", out)
	b.command("verify", "--bag", bag, "--key", key+".pub") // what was sealed still holds
}

// changeOnDisk replaces text, which stands once in the log segment, by as much
// other text, and makes the checksum of its batch fit.
func changeOnDisk(b *bed, path, text, by string) {
	b.Helper()
	log, err := os.ReadFile(path)
	b.must(err)
	at := bytes.Index(log, []byte(text))
	if at < 0 || len(text) != len(by) {
		b.Fatalf("%q is not in %s", text, path)
	}
	// A batch: base offset 8 bytes, length 4, leader epoch 4, magic 1, checksum 4 of
	// all behind it (https://kafka.apache.org/documentation/#recordbatch).
	begin, end := 0, 0
	for end <= at {
		begin = end
		end = begin + 12 + int(binary.BigEndian.Uint32(log[begin+8:]))
	}
	copy(log[at:], by)
	binary.BigEndian.PutUint32(log[begin+17:], crc32.Checksum(log[begin+21:end], crc32.MakeTable(crc32.Castagnoli)))
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	b.must(err)
	_, err = f.WriteAt(log[begin:end], int64(begin))
	b.must(errors.Join(err, f.Close()))
}

// transactions writes some that are committed and some that are aborted.
func (b *bed) transactions(topic string, p *past) {
	b.Helper()
	cl, err := broker.Dial(b.kafka.Addr, kgo.TransactionalID(b.name))
	b.must(err)
	defer cl.Close()
	for i := range 6 {
		b.must(cl.BeginTransaction())
		next := p.next
		var records []*kgo.Record
		for range 20 {
			records = append(records, p.record(topic, int32(i)%3, p.from.Add(time.Hour), "in a transaction"))
		}
		b.must(cl.Write(b.ctx, records))
		b.must(cl.EndTransaction(b.ctx, kgo.TransactionEndTry(i%2 == 0)))
		if i%2 != 0 {
			p.next = next
		}
	}
}

// progress waits until that many offsets are done.
func (b *bed) progress(config, plan string, offsets int64) {
	b.Helper()
	b.eventually(fmt.Sprintf("%d offsets are done", offsets), nil, func() (bool, error) {
		out, err := combined(b.ctx, b.bin, "rehydrate", "status", "-c", config, "--plan", plan, "--json")
		if err != nil {
			return false, errors.New(out)
		}
		var s statusOf
		err = json.Unmarshal([]byte(out), &s)
		return s.Done >= offsets, errors.Join(err, fmt.Errorf("%d of %d", s.Done, s.Offsets))
	})
}

// sameEvidence wants two manifests to speak of the same records and gaps.
func (b *bed) sameEvidence(x, y *evidence.Manifest) {
	b.Helper()
	var gaps evidence.ClassCounts
	for i := range x.Topics {
		for j := range x.Topics[i].Partitions {
			p, q := x.Topics[i].Partitions[j], y.Topics[i].Partitions[j]
			if p.Records != q.Records || p.Gaps.TreeHead != q.Gaps.TreeHead || p.Start != q.Start || p.End != q.End {
				b.Errorf("%s/%d: records %v, gaps %v; undisturbed %v and %v", x.Topics[i].Name, p.Partition, p.Records, p.Gaps, q.Records, q.Gaps)
			}
			for class, n := range p.Gaps.Offsets {
				gaps[class] += n
			}
		}
	}
	if gaps[evidence.Control] == 0 || gaps[evidence.Aborted] == 0 || gaps[evidence.Unexplained] != 0 {
		b.Errorf("gaps %v, want markers and aborted records and nothing unexplained", gaps)
	}
	if !x.Complete() {
		b.Error("the manifest says that something is missing")
	}
}
