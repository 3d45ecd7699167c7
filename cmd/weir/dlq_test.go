package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"weir/sinks/sinktest"
)

// TestMain is weir itself when the binary is called weir. A command sets what a
// process has once, so tests that run several need one process each.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "weir" {
		main()
	}
	os.Exit(m.Run())
}

// dlqBed has a broker with topic t of two partitions, an Elasticsearch that
// refuses what refuse says, and a configuration with the connector a.
type dlqBed struct {
	*testing.T
	es       *sinktest.Elasticsearch
	refuse   atomic.Value                           // func(sinktest.Document) bool
	gate     atomic.Pointer[func() *sinktest.Fault] // asked about each request, nil for none
	producer *kgo.Client
	bin      string
	dir      string
	config   string // path
	letters  string // the dead-letter file, "" for topic dlq
}

func newDLQBed(t *testing.T, toFile bool) *dlqBed {
	t.Helper()
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "t"), kfake.SeedTopics(3, "dlq"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Close)
	b := &dlqBed{T: t, es: &sinktest.Elasticsearch{}, dir: t.TempDir()}
	b.refuseWhat(func(sinktest.Document) bool { return true })
	b.es.Verdict = func(d sinktest.Document) sinktest.ItemError {
		if b.refuse.Load().(func(sinktest.Document) bool)(d) {
			return sinktest.ItemError{Status: 400, Type: "document_parsing_exception", Reason: "secret of the event"}
		}
		return sinktest.ItemError{}
	}
	b.es.Gate = func(*http.Request) *sinktest.Fault {
		if gate := b.gate.Load(); gate != nil {
			return (*gate)()
		}
		return nil
	}
	srv := httptest.NewServer(b.es)
	t.Cleanup(srv.Close)
	if b.producer, err = kgo.NewClient(kgo.SeedBrokers(kafka.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.producer.Close)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b.bin = filepath.Join(t.TempDir(), "weir")
	if err := os.Symlink(self, b.bin); err != nil {
		t.Fatal(err)
	}
	letter := "{topic: dlq}"
	if toFile {
		b.letters = filepath.Join(b.dir, "dead.jsonl")
		letter = "{file: dead.jsonl}"
	}
	b.config = filepath.Join(b.dir, "weir.yaml")
	text := fmt.Sprintf(`
kafka: {brokers: [%q]}
listen: 127.0.0.1:0
log: {audit_file: audit.log}
connectors:
  - name: a
    topics: [t]
    dead_letter: %s
    batch: {records: 10, linger: 20ms}
    retry: {initial: 20ms, max: 50ms}
    drain: 2s
    sink: {elasticsearch: {urls: [%q], index: x}}
`, kafka.ListenAddrs()[0], letter, srv.URL)
	if err := os.WriteFile(b.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *dlqBed) refuseWhat(f func(sinktest.Document) bool) { b.refuse.Store(f) }

func (b *dlqBed) write(records ...*kgo.Record) {
	b.Helper()
	if err := b.producer.ProduceSync(b.Context(), records...).FirstErr(); err != nil {
		b.Fatal(err)
	}
}

// bury has n records of topic t refused by `weir run`.
func (b *dlqBed) bury(n int) {
	b.Helper()
	for i := range n {
		b.write(&kgo.Record{Topic: "t", Partition: int32(i % 2), Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, `{"n":%d}`, i),
			Headers: []kgo.RecordHeader{{Key: "weir.offset", Value: []byte("1000")}, {Key: "trace", Value: []byte{1, 0xff}}}})
	}
	before := b.written()
	b.deliver(func() bool { return b.written() >= before+int64(n) })
}

// deliver runs `weir run` until done says so.
func (b *dlqBed) deliver(done func() bool) {
	b.Helper()
	cmd, out := b.start("run")
	b.within(out, "delivery", done)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		b.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
}

// within waits for something of a command whose output is out.
func (b *dlqBed) within(out *safeBuffer, what string, done func() bool) {
	b.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("no %s in time:\n%s", what, out)
		}
	}
}

// start starts a command, which is killed with the test.
func (b *dlqBed) start(args ...string) (cmd *exec.Cmd, out *safeBuffer) {
	b.Helper()
	out = new(safeBuffer)
	cmd = exec.CommandContext(b.Context(), b.bin, append(args, "-c", b.config)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = environ(), out, out
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return cmd, out
}

// written is the number of letters in the topic or file.
func (b *dlqBed) written() (n int64) {
	b.Helper()
	if b.letters != "" {
		text, err := os.ReadFile(b.letters)
		if err != nil && !os.IsNotExist(err) {
			b.Fatal(err)
		}
		return int64(bytes.Count(text, []byte("\n")))
	}
	req := kmsg.NewPtrListOffsetsRequest()
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = "dlq"
	for p := range int32(3) {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp = p, -1
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(b.Context(), b.producer)
	if err != nil {
		b.Fatal(err)
	}
	for _, p := range resp.Topics[0].Partitions {
		n += p.Offset
	}
	return n
}

// environ makes a child of a binary with the race detector end at once.
func environ() []string { return append(os.Environ(), "GORACE=atexit_sleep_ms=0") }

// weir runs a command to its end.
func (b *dlqBed) weir(args ...string) (code int, out, errs string) {
	b.Helper()
	var o, e bytes.Buffer
	cmd := exec.CommandContext(b.Context(), b.bin, append(args, "-c", b.config)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = environ(), &o, &e
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		b.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), o.String(), e.String()
}

func (b *dlqBed) mustWeir(args ...string) string {
	b.Helper()
	code, out, errs := b.weir(args...)
	if code != 0 {
		b.Fatalf("weir %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// list is what ls says.
func (b *dlqBed) list() letterList {
	b.Helper()
	var l letterList
	out := b.mustWeir("dlq", "ls", "--json")
	if err := json.Unmarshal([]byte(out), &l); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return l
}

// waiting is the number of letters that ls counts.
func (b *dlqBed) waiting() (n int64) {
	b.Helper()
	for _, l := range b.list().Letters {
		n += l.Letters
	}
	return n
}

func (b *dlqBed) want(out string, words ...string) {
	b.Helper()
	for _, w := range words {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), w) {
			b.Errorf("nothing of %q in\n%s", w, out)
		}
	}
}

func odd(d sinktest.Document) bool {
	var event struct{ N int }
	return json.Unmarshal(d.Source, &event) == nil && event.N%2 == 1
}

func both(t *testing.T, f func(b *dlqBed)) {
	t.Run("topic", func(t *testing.T) { f(newDLQBed(t, false)) })
	t.Run("file", func(t *testing.T) { f(newDLQBed(t, true)) })
}

// The whole way: refused, listed, shown, sent again, half of them refused again,
// and sent once more.
func TestDeadLettersAreRedriven(t *testing.T) {
	both(t, func(b *dlqBed) {
		b.bury(40)
		b.want(b.mustWeir("dlq", "ls"), "a t 400 document_parsing_exception 40")
		l := b.list()
		if len(l.Letters) != 1 || l.Letters[0].Newest.Before(l.Letters[0].Oldest) || time.Since(l.Letters[0].Oldest) > time.Hour {
			t.Errorf("list %+v", l)
		}

		out := b.mustWeir("dlq", "show", "t/1/3")
		b.want(out, "state not redriven", "connector a", "status 400", "reason document_parsing_exception", "record t/1/3",
			`header weir.offset = 1000`, `header trace = \x01\xff`, "key k7", `value 7 bytes {"n":7}`)
		if strings.Contains(out, "secret") {
			t.Errorf("shows what reasons: type hides:\n%s", out)
		}
		address := strings.Fields(out)[1]
		if again := b.mustWeir("dlq", "show", address); again != out {
			t.Errorf("by its own address %s:\n%s", address, again)
		}
		if raw := b.mustWeir("dlq", "show", "--raw", address); raw != `{"n":7}` {
			t.Errorf("raw value %q", raw)
		}

		b.want(b.mustWeir("dlq", "redrive", "--connector", "a", "--dry-run", "--partition", "0"), "20 letters would be sent again, 20 would be left out")
		if n := b.es.Count("x"); n != 0 || b.waiting() != 40 {
			t.Errorf("a dry run stored %d, %d letters are left", n, b.waiting())
		}

		b.refuseWhat(odd)
		code, out, errs := b.weir("dlq", "redrive", "--connector", "a")
		if code != exitFailed {
			t.Errorf("exit code %d with letters refused again:\n%s", code, errs)
		}
		b.want(out, "20 delivered, of which the sink held 0 already", "20 refused again, and stay", "20 status 400, document_parsing_exception", "20 remain")
		if b.es.Count("x") != 20 || b.waiting() != 20 {
			t.Errorf("%d stored, %d letters left", b.es.Count("x"), b.waiting())
		}
		b.want(b.mustWeir("dlq", "ls"), "20 more are redriven")

		b.refuseWhat(func(sinktest.Document) bool { return false })
		out = b.mustWeir("dlq", "redrive", "--connector", "a")
		b.want(out, "20 delivered, of which the sink held 0 already", "0 refused again", "0 remain")
		if b.es.Count("x") != 40 || b.waiting() != 0 {
			t.Errorf("%d stored, %d letters left", b.es.Count("x"), b.waiting())
		}
		b.want(b.mustWeir("dlq", "ls"), "no dead letters", "40 more are redriven")
		b.want(b.mustWeir("dlq", "show", address), "state redriven")
		b.want(b.mustWeir("dlq", "redrive", "--connector", "a"), "0 delivered", "0 remain")
		for _, fault := range b.es.Broken() {
			t.Errorf("broken framing: %s", fault)
		}

		audit, err := os.ReadFile(filepath.Join(b.dir, "audit.log"))
		if err != nil {
			t.Fatal(err)
		}
		for _, words := range []string{"begin to redrive dead letters", "20 delivered, 20 refused again", "for connector a: all", "result=done", "20 letters were refused again and stay"} {
			if !strings.Contains(string(audit), words) {
				t.Errorf("nothing of %q in the audit log:\n%s", words, audit)
			}
		}
	})
}

// The ids are those of the first attempt: what is sent once more, by a redrive or
// beside a live delivery, is not stored once more.
func TestRedrivenTwiceIsStoredOnce(t *testing.T) {
	both(t, func(b *dlqBed) {
		b.bury(20)
		b.refuseWhat(func(sinktest.Document) bool { return false })
		b.mustWeir("dlq", "redrive", "--connector", "a")
		ids := func() (all []string) {
			for _, d := range b.es.Documents("x") {
				all = append(all, d.ID)
			}
			slices.Sort(all)
			return all
		}
		before := ids()
		// As if it had never been redriven.
		if b.letters != "" {
			if err := os.Remove(redrivePosition(b.letters, "a")); err != nil {
				t.Fatal(err)
			}
		} else {
			req := kmsg.NewPtrDeleteGroupsRequest()
			req.Groups = []string{redriveGroup("a")}
			resp, err := req.RequestWith(t.Context(), b.producer)
			if err != nil || resp.Groups[0].ErrorCode != 0 {
				t.Fatal(err, resp)
			}
		}
		b.want(b.mustWeir("dlq", "redrive", "--connector", "a"), "20 delivered, of which the sink held 20 already")
		if after := ids(); len(after) != 20 || !slices.Equal(before, after) {
			t.Errorf("%d documents became %d", len(before), len(after))
		}
		// The connector itself reads everything from the start, too: the same ids.
		text, err := os.ReadFile(b.config)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(b.config, bytes.Replace(text, []byte("topics: [t]"), []byte("topics: [t]\n    group: anew"), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		requests := len(b.es.Requests())
		b.deliver(func() bool {
			n := 0
			for _, r := range b.es.Requests()[requests:] {
				n += r.Documents
			}
			return n >= 20
		})
		if after := ids(); !slices.Equal(before, after) {
			t.Errorf("%d documents became %d: the ids of a redrive are others", len(before), len(after))
		}
	})
}

func TestRedriveByFilter(t *testing.T) {
	both(t, func(b *dlqBed) {
		b.bury(40)
		b.refuseWhat(func(sinktest.Document) bool { return false })
		for _, c := range []struct {
			flags string
			sent  int
		}{
			{"--topic other", 0},
			{"--status 413", 0},
			{"--reason mapper", 0},
			{"--until 2020-01-01T00:00:00Z", 0},
			{"--since 2100-01-01T00:00:00Z", 0},
			{"--topic t --partition 1 --offset 5-9 --status 400 --reason parsing --since 2020-01-01T00:00:00Z --until 2100-01-01T00:00:00Z", 5},
			{"--partition 1 --offset 12", 1},
			{"--partition 0", 20},
			{"", 14},
		} {
			stored := b.es.Count("x")
			args := append([]string{"dlq", "redrive", "--connector", "a"}, strings.Fields(c.flags)...)
			b.want(b.mustWeir(append(args, "--dry-run")...), fmt.Sprintf("%d letters would be sent again", c.sent))
			b.want(b.mustWeir(args...), fmt.Sprintf("%d delivered, of which the sink held 0 already", c.sent))
			if n := b.es.Count("x") - stored; n != c.sent {
				t.Errorf("%q stored %d, want %d", c.flags, n, c.sent)
			}
		}
		if n := b.waiting(); n != 0 {
			t.Errorf("%d letters left", n)
		}
	})
}

// Ctrl-C: what is in flight is delivered and noted, the exit code says so, and the
// next redrive sends the rest and nothing twice.
func TestInterruptedRedriveGoesOn(t *testing.T) {
	both(t, func(b *dlqBed) {
		b.bury(60)
		b.refuseWhat(func(sinktest.Document) bool { return false })
		arrived, release := make(chan struct{}), make(chan struct{})
		first := sync.OnceFunc(func() { close(arrived) })
		gate := func() *sinktest.Fault {
			first()
			return &sinktest.Fault{Wait: release}
		}
		b.gate.Store(&gate)
		cmd, out := b.start("dlq", "redrive", "--connector", "a")
		b.within(out, "a request", func() bool {
			select {
			case <-arrived:
				return true
			default:
				return false
			}
		})
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		b.within(out, "word of the signal", func() bool { return strings.Contains(out.String(), "stopping") })
		close(release)
		if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != exitInterrupted {
			t.Errorf("exit code %d\n%s", cmd.ProcessState.ExitCode(), out)
		}
		stored := b.es.Count("x")
		// More than that only when the drain ended before the sink's answer came.
		if left := b.waiting(); int(left)+stored < 60 {
			t.Errorf("%d stored, %d letters left", stored, left)
		}
		b.want(b.mustWeir("dlq", "redrive", "--connector", "a"), "0 remain")
		if b.es.Count("x") != 60 || b.waiting() != 0 {
			t.Errorf("%d stored, %d left", b.es.Count("x"), b.waiting())
		}
	})
}

// Killed in the middle of a request: what was stored without an answer is met by
// its own id, and nothing is forgotten. (With a topic the next one has to wait
// until the brokers notice; see testbed/integration.)
func TestKilledRedriveOfAFileGoesOn(t *testing.T) {
	b := newDLQBed(t, true)
	b.bury(60)
	b.refuseWhat(func(sinktest.Document) bool { return false })
	hang, hangs := make(chan struct{}), make(chan struct{})
	requests := 0
	var mu sync.Mutex
	gate := func() *sinktest.Fault {
		mu.Lock()
		defer mu.Unlock()
		switch requests++; requests {
		case 1, 2:
			return nil
		case 3:
			close(hangs)
		}
		return &sinktest.Fault{Wait: hang}
	}
	b.gate.Store(&gate)
	cmd, out := b.start("dlq", "redrive", "--connector", "a")
	b.within(out, "third request", func() bool {
		select {
		case <-hangs:
			return true
		default:
			return false
		}
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	close(hang)
	b.gate.Store(nil)
	stored := b.es.Count("x")
	if left := b.waiting(); int(left)+stored < 60 || stored == 0 {
		t.Errorf("%d stored, %d letters left", stored, left)
	}
	b.want(b.mustWeir("dlq", "redrive", "--connector", "a"), "0 refused again", "0 remain")
	if b.es.Count("x") != 60 || b.waiting() != 0 {
		t.Errorf("%d stored, %d left", b.es.Count("x"), b.waiting())
	}
}

// Whoever may write to the dead-letter topic may write anything.
func TestHostileLettersAreShownAndNeverSent(t *testing.T) {
	b := newDLQBed(t, false)
	b.bury(4)
	b.refuseWhat(func(sinktest.Document) bool { return false })
	mark := func(connector, topic, partition, offset, reason string) (h []kgo.RecordHeader) {
		for _, kv := range [][2]string{{"connector", connector}, {"topic", topic}, {"topic_id", ""}, {"partition", partition}, {"offset", offset},
			{"timestamp", ""}, {"status", "400"}, {"reason", reason}, {"failed_at", "2026-02-03T04:05:06.789Z"}} {
			h = append(h, kgo.RecordHeader{Key: "weir." + kv[0], Value: []byte(kv[1])})
		}
		return h
	}
	b.write(
		&kgo.Record{Topic: "dlq", Partition: 0},
		&kgo.Record{Topic: "dlq", Partition: 1, Key: []byte(evil), Value: []byte("a\r\n" + evil + "\xff"), Headers: []kgo.RecordHeader{{Key: "h" + evil, Value: []byte(evil)}}},
		&kgo.Record{Topic: "dlq", Partition: 1, Headers: mark("a", "../x", "0", "1", "")},
		&kgo.Record{Topic: "dlq", Partition: 1, Headers: mark("a", "t", "0", "99999999999999999999", "")},
		&kgo.Record{Topic: "dlq", Partition: 1, Headers: mark("gone", "t", "0", "1", strings.ToValidUTF8(evil, "?"))},
	)
	for i := range 2000 { // kinds without end
		b.write(&kgo.Record{Topic: "dlq", Partition: 2, Headers: mark(fmt.Sprint("c", i), fmt.Sprint("t", i), "0", "1", fmt.Sprint("r", i))})
	}
	l := b.list()
	if len(l.Letters) > maxKinds+3 || l.Logs[0].Foreign != 4 {
		t.Errorf("%d kinds, %+v", len(l.Letters), l.Logs)
	}
	if b.waiting() != 4+1+2000 {
		t.Errorf("%d letters", b.waiting())
	}
	out := b.mustWeir("dlq", "ls")
	b.want(out, "4 records are no letters of weir and are never redriven")
	end := strings.Split(l.Logs[0].FirstForeign, "/")
	if len(end) != 3 {
		t.Fatalf("first foreign %q", l.Logs[0].FirstForeign)
	}
	for p := range 2 {
		for o := range 10 {
			code, shown, errs := b.weir("dlq", "show", fmt.Sprintf("dlq/%d/%d", p, o))
			out += shown + errs
			if code != exitDone && !strings.Contains(errs, "holds no record") {
				t.Errorf("show dlq/%d/%d: %d %s", p, o, code, errs)
			}
		}
	}
	b.want(out, "never redriven: no dead letter of weir", "no connector of this name", `\xff`)
	if obeyed(strings.ReplaceAll(out, "\n", "")) >= 0 {
		t.Errorf("control characters in %q", out)
	}
	b.want(b.mustWeir("dlq", "redrive", "--connector", "a"), "4 delivered", "4 skipped: no letters of weir", "2001 skipped: of other connectors", "0 remain")
	if b.es.Count("x") != 4 {
		t.Errorf("%d stored", b.es.Count("x"))
	}
}

// A line that somebody broke is named, and the others go their way.
func TestBrokenLineOfADeadLetterFile(t *testing.T) {
	b := newDLQBed(t, true)
	b.bury(6)
	text, err := os.ReadFile(b.letters)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	lines[2] = "\x1b[2J" + lines[2]
	torn := `{"topic":"t","partition":`
	if err := os.WriteFile(b.letters, []byte(strings.Join(lines, "")+torn), 0o600); err != nil {
		t.Fatal(err)
	}
	b.want(b.mustWeir("dlq", "ls"), "document_parsing_exception 5", "1 records are no letters of weir", b.letters+":3")
	b.want(b.mustWeir("dlq", "show", b.letters+":3"), "never redriven")
	b.refuseWhat(func(sinktest.Document) bool { return false })
	b.want(b.mustWeir("dlq", "redrive", "--connector", "a"), "5 delivered", "1 skipped: no letters of weir")
	// Once it is mended, all is looked at anew: the position was of other lines.
	if err := os.WriteFile(b.letters, text, 0o600); err != nil {
		t.Fatal(err)
	}
	b.want(b.mustWeir("dlq", "redrive", "--connector", "a"), "6 delivered, of which the sink held 5 already")
	if b.es.Count("x") != 6 {
		t.Errorf("%d stored", b.es.Count("x"))
	}
}

func TestWrongUseOfDlqIsTold(t *testing.T) {
	b := newDLQBed(t, false)
	for _, c := range []struct{ args, want string }{
		{"dlq ls more", "unexpected argument"},
		{"dlq ls --connector b", `no connector "b"`},
		{"dlq show", "takes one letter"},
		{"dlq show t", "neither TOPIC/PARTITION/OFFSET nor FILE:LINE"},
		{"dlq show t/0/-1", "neither"},
		{"dlq show other.jsonl:3", "no dead-letter file of this configuration"},
		{"dlq redrive", "--connector is needed"},
		{"dlq redrive --connector b", `no connector "b"`},
		{"dlq redrive --connector a --offset 9-5", "--offset"},
		{"dlq redrive --connector a --partition x", "--partition"},
		{"dlq redrive --connector a --status x", "--status"},
		{"dlq redrive --connector a --since yesterday", "--since"},
	} {
		if code, _, errs := b.weir(strings.Fields(c.args)...); code != exitUsage || !strings.Contains(errs, c.want) {
			t.Errorf("weir %s: exit code %d, %s", c.args, code, errs)
		}
	}
	var errs safeBuffer
	if code := execute(t.Context(), []string{"dlq", "nothing"}, &errs, &errs); code != exitUsage {
		t.Errorf("weir dlq nothing: exit code %d, %s", code, errs.String())
	}
	for _, c := range []struct{ args, want string }{
		{"dlq show t/0/5", "there is no dead letter of t/0/5"},
		{"dlq show dlq/0/5", "dlq holds no record dlq/0/5"},
		{"dlq show dlq/7/5", "dlq holds no record dlq/7/5"},
	} {
		if code, _, errs := b.weir(strings.Fields(c.args)...); code != exitFailed || !strings.Contains(errs, c.want) {
			t.Errorf("weir %s: exit code %d, %s", c.args, code, errs)
		}
	}
}

// Before the first letter there is no topic and no file.
func TestNoDeadLettersYet(t *testing.T) {
	both(t, func(b *dlqBed) {
		text, err := os.ReadFile(b.config)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(b.config, bytes.Replace(text, []byte("{topic: dlq}"), []byte("{topic: not.there}"), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		b.want(b.mustWeir("dlq", "ls"), "no dead letters")
		b.want(b.mustWeir("dlq", "redrive", "--connector", "a"), "0 delivered", "0 remain")
		if files, _ := filepath.Glob(filepath.Join(b.dir, "*.redriven")); len(files) != 0 {
			t.Errorf("left %v", files)
		}
	})
}

func FuzzAddress(f *testing.F) {
	f.Add("t/0/1")
	f.Add("/var/lib/weir/dead.jsonl:17")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := parseAddress(s)
		if err == nil && (a.offset < 0 || a.partition < 0) {
			t.Errorf("%q is %+v", s, a)
		}
	})
}

func FuzzLegible(f *testing.F) {
	f.Add([]byte("a\x1b[2J\xff\n\u202e"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s := legible(b, false); s != clean(s) || strings.Contains(s, "\n") {
			t.Errorf("%q is shown as %q", b, s)
		}
	})
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m1s", 25*time.Hour + time.Minute: "1d1h", 90 * time.Minute: "1h30m",
	} {
		if got := age(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}
