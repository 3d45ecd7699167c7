package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"weir/connector/kafka"
	"weir/connector/replay"
	"weir/testbed/broker"
)

// planBed is a broker with a topic t, and a range of an hour.
type planBed struct {
	*testing.T
	kafka    *kfake.Cluster
	cl       *kgo.Client
	from, to time.Time
}

func newPlanBed(t *testing.T, partitions int32, opts ...kfake.Opt) *planBed {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(2), kfake.SeedTopics(partitions, "t")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	to := time.Now().Add(-24 * time.Hour).Truncate(time.Second).UTC()
	b := &planBed{T: t, kafka: c, from: to.Add(-time.Hour), to: to}
	b.cl = b.client()
	return b
}

func (b *planBed) client(opts ...kgo.Opt) *kgo.Client {
	b.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(b.kafka.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
	}, opts...)...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(cl.Close)
	return cl
}

// write writes a record for each number of minutes after the range's begin, one
// batch each.
func (b *planBed) write(cl *kgo.Client, partition int32, minutes ...int) {
	b.Helper()
	for _, m := range minutes {
		r := &kgo.Record{Topic: "t", Partition: partition, Timestamp: b.from.Add(time.Duration(m) * time.Minute), Key: fmt.Append(nil, m), Value: []byte(`{"a":1}`)}
		if err := cl.ProduceSync(b.Context(), r).FirstErr(); err != nil {
			b.Fatal(err)
		}
	}
}

func (b *planBed) plan(alter ...func(*planner)) (*replay.Plan, string) {
	b.Helper()
	p := &planner{caseID: "c", topics: []string{"t"}, from: b.from, to: b.to, now: time.Now()}
	for _, f := range alter {
		f(p)
	}
	plan, remarks, err := p.plan(b.Context(), kafka.Options{Brokers: b.kafka.ListenAddrs(), ClientID: "weir-rehydrate-c"}, 8<<20)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := plan.Encode(); err != nil {
		b.Fatal(err)
	}
	return plan, strings.Join(remarks, "\n")
}

func (b *planBed) want(p *replay.Partition, first, end int64, found, ended string) {
	b.Helper()
	if p.First != first || p.End != end || p.Found != found || p.Ended != ended {
		b.Errorf("partition %d: %d to %d, by %s and %s; want %d to %d, by %s and %s", p.Number, p.First, p.End, p.Found, p.Ended, first, end, found, ended)
	}
}

// A record of the range may lie behind any number of later ones: reading goes up
// to the end of the log.
func TestPlanOfTimestampsThatAreOutOfOrder(t *testing.T) {
	b := newPlanBed(t, 1)
	b.write(b.cl, 0, -60, -10, 30, -5, 200, 300, 10, 400, 59)
	plan, _ := b.plan()
	b.want(&plan.Topics[0].Partitions[0], 2, 9, replay.FoundIndex, replay.EndHigh)
	// Someone who knows how much out of order they are may end earlier.
	plan, _ = b.plan(func(p *planner) { p.slack = 5 * time.Hour })
	b.want(&plan.Topics[0].Partitions[0], 2, 7, replay.FoundIndex, replay.EndSlack)
	// And one who does not trust the index begins at the start.
	plan, _ = b.plan(func(p *planner) { p.scan = true })
	b.want(&plan.Topics[0].Partitions[0], 0, 9, replay.FoundScan, replay.EndHigh)
}

func TestPlanOfEmptyPartitionsAndRanges(t *testing.T) {
	b := newPlanBed(t, 3)
	b.write(b.cl, 1, -60, -50, -40) // nothing of the range
	b.write(b.cl, 2, 90, 100)       // nothing of it either, but that is not known yet
	plan, remarks := b.plan()
	p := plan.Topics[0].Partitions
	b.want(&p[0], 0, 0, replay.FoundEmpty, replay.EndHigh)
	b.want(&p[1], 3, 3, replay.FoundEmpty, replay.EndHigh)
	b.want(&p[2], 0, 2, replay.FoundStart, replay.EndHigh)
	if remarks != "" {
		t.Errorf("remarks: %s", remarks)
	}
	if total := plan.Total(); total.End != 2 || total.Records != 2 || total.Bytes <= 0 || *total.Remote != 0 {
		t.Errorf("total %+v", total)
	}
}

// What a transaction that is not decided holds back is not part of a plan, which
// says so.
func TestPlanOfATransactionThatHangs(t *testing.T) {
	b := newPlanBed(t, 1)
	tx := b.client(kgo.TransactionalID("tx"))
	b.write(b.cl, 0, -1, 1)
	for _, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		b.write(tx, 0, 2)
		if err := tx.EndTransaction(t.Context(), end); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	b.write(tx, 0, 3)
	b.write(b.cl, 0, 4, 5)
	plan, remarks := b.plan(func(p *planner) { p.now = time.Now().Add(time.Hour) })
	p := &plan.Topics[0].Partitions[0]
	b.want(p, 1, 6, replay.FoundIndex, replay.EndStable)
	if p.HighWatermark != 9 || p.LastStable != 6 {
		t.Errorf("high watermark %d, last stable offset %d", p.HighWatermark, p.LastStable)
	}
	if p.Open == nil || p.Open.Start != 6 {
		t.Errorf("open transaction %+v", p.Open)
	}
	if !strings.Contains(remarks, "reading ends at offset 6, 3 before the end of the log at 9") || !strings.Contains(remarks, "since offset 6") {
		t.Errorf("remarks: %s", remarks)
	}
}

func TestPlanOfACompactedTopic(t *testing.T) {
	b := newPlanBed(t, 1)
	cl, err := broker.Dial(b.kafka.ListenAddrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.SetTopicConfig(t.Context(), "t", "cleanup.policy", "compact"); err != nil {
		t.Fatal(err)
	}
	b.write(b.cl, 0, -30, 10, 10, 10, 20, 10)
	b.kafka.Compact()
	plan, remarks := b.plan()
	if !strings.Contains(remarks, "t is compacted") {
		t.Errorf("remarks: %s", remarks)
	}
	one := &plan.Topics[0].Partitions[0]
	if one.End != 6 || one.First < 1 || one.Expires != nil || !plan.Topics[0].Compacted() {
		t.Errorf("plan %+v", one)
	}
}

// deleteBelow moves the log's start, as retention does.
func (b *planBed) deleteBelow(offset int64) {
	b.Helper()
	p := kmsg.NewDeleteRecordsRequestTopicPartition()
	p.Offset = offset
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic, topic.Partitions = "t", append(topic.Partitions, p)
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.Topics = append(req.Topics, topic)
	for _, shard := range b.cl.RequestSharded(b.Context(), req) {
		if shard.Err != nil {
			b.Fatal(shard.Err)
		}
	}
}

func TestPlanOfARangeThatBeginsBeforeTheLog(t *testing.T) {
	b := newPlanBed(t, 1)
	b.write(b.cl, 0, -20, 1, 2, 3, 4)
	b.deleteBelow(3)
	plan, remarks := b.plan()
	p := &plan.Topics[0].Partitions[0]
	b.want(p, 3, 5, replay.FoundStart, replay.EndHigh)
	if p.Taken == nil || *p.Taken != (replay.Span{From: 0, To: 3}) || !strings.Contains(remarks, "retention has removed everything below offset 3") {
		t.Errorf("taken %+v, remarks: %s", p.Taken, remarks)
	}
	// A range that begins after the first record left has lost nothing.
	b.deleteBelow(4)
	plan, remarks = b.plan(func(p *planner) { p.from = b.from.Add(270 * time.Second) })
	if p := &plan.Topics[0].Partitions[0]; p.Taken != nil || remarks != "" {
		t.Errorf("taken %+v, remarks: %s", p.Taken, remarks)
	}
	// Everything is gone.
	b.deleteBelow(5)
	plan, remarks = b.plan()
	b.want(&plan.Topics[0].Partitions[0], 5, 5, replay.FoundEmpty, replay.EndHigh)
	if p := &plan.Topics[0].Partitions[0]; p.Taken == nil || p.Taken.To != 5 || !strings.Contains(remarks, "the log is empty") {
		t.Errorf("taken %+v, remarks: %s", p.Taken, remarks)
	}
}

// Where the newest record of a segment was deleted from below, the index names no
// record, though there are later ones: it must not be believed.
func TestPlanDoesNotBelieveAnIndexThatIsSilent(t *testing.T) {
	b := newPlanBed(t, 1)
	b.write(b.cl, 0, 100, -20, 5, -10, 3)
	b.deleteBelow(1)
	plan, _ := b.plan(func(p *planner) { p.from, p.to = b.from.Add(20*time.Minute), b.to })
	p := &plan.Topics[0].Partitions[0]
	if p.Offsets() != 0 && p.First != 1 {
		t.Errorf("%+v", p)
	}
	// By hand: the broker names none, and its log's latest time is of the range.
	s := kafka.PartitionSurvey{Start: 1, High: 5, Stable: 5, From: -1, To: -1, Until: -1, LocalStart: -1, Newest: b.from.Add(time.Minute)}
	one := (&planner{from: b.from, to: b.to, now: time.Now()}).partition(&kafka.TopicSurvey{Name: "t"}, &s, kafka.Sample{})
	b.want(&one, 1, 5, replay.FoundSilent, replay.EndHigh)
	s.Newest = b.from.Add(-time.Minute)
	one = (&planner{from: b.from, to: b.to, now: time.Now()}).partition(&kafka.TopicSurvey{Name: "t"}, &s, kafka.Sample{})
	b.want(&one, 5, 5, replay.FoundEmpty, replay.EndHigh)
}

func TestPlanSaysWhatIsWrongWithWhatItIsAsked(t *testing.T) {
	b := newPlanBed(t, 1)
	dir := t.TempDir()
	config := filepath.Join(dir, "weir.yaml")
	text := fmt.Sprintf("kafka: {brokers: [%q]}\nconnectors:\n  - {name: a, topics: [t], sink: {file: {dir: %q}}}\n", b.kafka.ListenAddrs()[0], dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	plan := func(args ...string) (int, string) {
		var out strings.Builder
		code := execute(context.Background(), append([]string{"rehydrate", "plan", "-c", config, "-o", filepath.Join(dir, "p.json")}, args...), &out, &out)
		return code, out.String()
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--case", "c", "--topics", "t", "--from", "-1h", "--to", "-2h"}, exitUsage, "is not before --to"},
		{[]string{"--case", "c", "--topics", "t", "--from", "-1h", "--to", "+2h"}, exitUsage, "lies in the future"},
		{[]string{"--case", "c", "--topics", "t", "--from", "tuesday"}, exitUsage, "neither a time such as"},
		{[]string{"--case", "c/../d", "--topics", "t", "--from", "-1h"}, exitUsage, "cannot name a case"},
		{[]string{"--topics", "t", "--from", "-1h"}, exitUsage, "--case is needed"},
		{[]string{"--case", "c", "--from", "-1h"}, exitUsage, "--topics is needed"},
		{[]string{"--case", "c", "--topics", "t"}, exitUsage, "--from is needed"},
		{[]string{"--case", "c", "--topics", "t,nope", "--from", "-1h"}, exitFailed, `topic "nope"`},
		{[]string{"--case", "c", "--topics", "t", "--from", "-1h", "--rate-bytes", "fast"}, exitUsage, "--rate-bytes"},
		{[]string{"--case", "c", "--topics", "t", "--from", "-1h", "--slack", "-1h"}, exitUsage, "--slack"},
	} {
		if code, out := plan(c.args...); code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("%v: exit code %d, want %d with %q:\n%s", c.args, code, c.code, c.says, out)
		}
	}
	good := []string{"--case", "c", "--topics", "t", "--from", "-1h"}
	if code, out := plan(good...); code != exitDone {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	if code, out := plan(good...); code != exitUsage || !strings.Contains(out, "exists already") {
		t.Errorf("a plan is written over: exit code %d:\n%s", code, out)
	}
	// A plan of another cluster is not for this one.
	other := newPlanBed(t, 1, kfake.ClusterID("another"))
	if err := os.WriteFile(config, []byte(strings.Replace(text, b.kafka.ListenAddrs()[0], other.kafka.ListenAddrs()[0], 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if code := execute(context.Background(), []string{"rehydrate", "status", "-c", config, "--plan", filepath.Join(dir, "p.json")}, &out, &out); code != exitFailed || !strings.Contains(out.String(), "the plan is of cluster") {
		t.Errorf("exit code %d:\n%s", code, out.String())
	}
}

// caseBed is a planBed with a configuration, in a folder of its own.
type caseBed struct {
	*planBed
	dir, config, bin string
}

func newCaseBed(t *testing.T, partitions int32) *caseBed {
	t.Helper()
	b := &caseBed{planBed: newPlanBed(t, partitions), dir: t.TempDir()}
	b.config = b.path("weir.yaml")
	text := fmt.Sprintf("kafka: {brokers: [%q]}\nconnectors:\n  - {name: a, topics: [t], sink: {file: {dir: %q}}}\n", b.kafka.ListenAddrs()[0], b.dir)
	if err := os.WriteFile(b.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// A process for each command: sarama's settings are of the process.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b.bin = b.path("weir")
	if err := os.Symlink(self, b.bin); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *caseBed) path(name string) string { return filepath.Join(b.dir, name) }

// weir runs a command and wants its exit code and what it says.
func (b *caseBed) weir(code int, says string, args ...string) string {
	b.Helper()
	if args[0] == "rehydrate" {
		args = append(args, "-c", b.config)
	}
	out, err := exec.CommandContext(b.Context(), b.bin, args...).CombinedOutput()
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got, err = exit.ExitCode(), nil
	}
	if err != nil || got != code || !strings.Contains(string(out), says) {
		b.Fatalf("weir %s: exit code %d (%v), want %d with %q\n%s", strings.Join(args, " "), got, err, code, says, out)
	}
	return string(out)
}

// makePlan makes a plan of the bed's range.
func (b *caseBed) makePlan(id string) string {
	b.Helper()
	file := b.path(id + ".plan.json")
	b.weir(exitDone, "sha256", "rehydrate", "plan", "--case", id, "--topics", "t", "--from", b.from.Format(time.RFC3339), "--to", b.to.Format(time.RFC3339), "-o", file)
	return file
}

// Retention that overtakes a case between its plan and its run is a gap that the
// seal speaks of, and the case is not called complete.
func TestRetentionOvertakesACase(t *testing.T) {
	b := newCaseBed(t, 1)
	b.write(b.cl, 0, -5, 1, 2, 3, 4, 100, 5)
	plan := b.makePlan("c")
	b.deleteBelow(3)
	b.weir(exitDone, "offsets 1 to 2: retention had removed them", "rehydrate", "run", "--plan", plan, "--bag", b.path("bag"))
	b.weir(exitDone, "Case c: done", "rehydrate", "status", "--plan", plan)
	b.weir(exitDone, "key id", "keygen", "--out", b.path("key"))
	b.weir(exitDone, "not all of the range was there", "rehydrate", "seal", "--plan", plan, "--key", b.path("key"), "--examiner", "E", "--purpose", "p", "--bag", b.path("bag"))
	out := b.weir(exitDone, "everything holds", "verify", "--bag", b.path("bag"), "--key", b.path("key.pub"))
	if !strings.Contains(out, "3 records") || strings.Contains(out, "of its gaps the counts") {
		t.Errorf("want records 3, 4 and 6, and the gaps computed again:\n%s", out)
	}
	b.weir(exitUsage, "say --yes", "rehydrate", "cancel", "--plan", plan)
	b.weir(exitDone, "is removed", "rehydrate", "cancel", "--plan", plan, "--yes")
	b.weir(exitDone, "not begun", "rehydrate", "status", "--plan", plan)
}

// What is done with a case is in the audit log, its begin before anything is made,
// and its end whatever goes wrong.
func TestACaseIsInTheAuditLog(t *testing.T) {
	b := newCaseBed(t, 1)
	trail := b.path("audit.log")
	text, err := os.ReadFile(b.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.config, fmt.Appendf(text, "log: {audit_file: %q}\n", trail), 0o600); err != nil {
		t.Fatal(err)
	}
	// want takes the lines that were added, and wants each to hold what is given for it.
	seen := 0
	want := func(lines ...string) {
		t.Helper()
		got := auditLines(t, trail)[seen:]
		for i, line := range lines {
			if i >= len(got) || !strings.Contains(got[i], line) {
				t.Fatalf("%d lines, want one with %q at %d: %q", len(got), line, i, got)
			}
		}
		if len(got) != len(lines) {
			t.Errorf("lines more than %d: %q", len(lines), got)
		}
		seen += len(got)
	}
	b.write(b.cl, 0, 1, 2, 3)
	plan := b.makePlan("c")
	if _, err := os.Stat(trail); err == nil {
		t.Error("a plan changes nothing, and is in the audit log")
	}
	run := []string{"rehydrate", "run", "--plan", plan, "--bag", b.path("bag")}

	// A custody log that cannot be written ends it; nothing was read.
	b.weir(exitFailed, "is a directory", append(run, "--custody", b.dir)...)
	want(`action="begin to rehydrate" target="case c, plan `, `action=rehydrate target="case c, plan `)
	if err := os.RemoveAll(b.path("bag")); err != nil {
		t.Fatal(err)
	}
	// A begin that cannot be noted leaves no bag.
	disk, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer disk.Close()
	cmd := exec.CommandContext(t.Context(), b.bin, append(run, "-c", b.config)...)
	cmd.Stderr = disk
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != exitFailed {
		t.Errorf("with a full disk: %v", err)
	}
	if _, err := os.Stat(b.path("bag")); err == nil {
		t.Error("there is a bag whose begin was not noted")
	}
	want(`action="begin to rehydrate"`)

	b.weir(exitDone, "3  delivered", run...)
	want(`action="begin to rehydrate"`, `action=rehydrate target="case c, plan `)
	b.weir(exitDone, "key id", "keygen", "--out", b.path("key"), "-c", b.config)
	want(`action="begin to make a signing key" target=`+b.path("key"), "result=done")
	seal := []string{"rehydrate", "seal", "--plan", plan, "--key", b.path("key"), "--examiner", "E", "--purpose", "p"}
	b.weir(exitFailed, "no such file", append(seal, "--bag", b.path("none/bag"))...)
	want(`action="begin to seal a case" target="c, plan `, `result="failed: `)
	b.weir(exitDone, "is sealed", append(seal, "--bag", b.path("bag"))...)
	want(`action="begin to seal a case" target="c, plan `, `action="seal a case"`)
	b.weir(exitDone, "everything holds", "verify", "--bag", b.path("bag"))
	b.weir(exitDone, "is removed", "rehydrate", "cancel", "--plan", plan, "--yes")
	want(`action="begin to remove the group of a case"`, `action="remove the group of a case"`)
}

// A worker that is started while no broker answers waits for one, and says so.
func TestAWorkerWaitsForBrokersThatAreAway(t *testing.T) {
	b := newCaseBed(t, 1)
	b.write(b.cl, 0, 1, 2, 3)
	plan := b.makePlan("c")
	away, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := away.Addr().String()
	_ = away.Close()
	text, err := os.ReadFile(b.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.config, bytes.Replace(text, []byte(b.kafka.ListenAddrs()[0]), []byte(addr), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	start := func(args ...string) (*exec.Cmd, *bufio.Scanner) {
		cmd := exec.CommandContext(t.Context(), b.bin, append(args, "-c", b.config)...)
		said, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(said)
		for lines.Scan() {
			if strings.Contains(lines.Text(), "no broker answers") && strings.Contains(lines.Text(), addr) {
				return cmd, lines
			}
		}
		t.Fatalf("%v ended: %v", args, cmd.Wait())
		return nil, nil
	}
	run := []string{"rehydrate", "run", "--plan", plan, "--bag", b.path("bag")}

	cmd, lines := start(run...)
	_ = cmd.Process.Signal(os.Interrupt)
	for lines.Scan() {
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitInterrupted {
		t.Errorf("told to stop while it waited it ended with %v", err)
	}

	cmd, lines = start(run...)
	if away, err = net.Listen("tcp", addr); err != nil {
		t.Fatal(err)
	}
	defer away.Close()
	go func() { // the broker is there now; it gives its own address
		for {
			c, err := away.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				to, err := net.Dial("tcp", b.kafka.ListenAddrs()[0])
				if err != nil {
					return
				}
				defer to.Close()
				go func() { _, _ = io.Copy(to, c) }()
				_, _ = io.Copy(c, to)
			}()
		}
	}()
	for lines.Scan() {
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("with the broker there it ended with %v", err)
	}
	b.weir(exitDone, "Case c: done", "rehydrate", "status", "--plan", plan)
}

// A case goes on with what it was begun with, and with nothing else.
func TestACaseIsBegunOnce(t *testing.T) {
	b := newCaseBed(t, 2)
	for p := range int32(2) {
		b.write(b.cl, p, 1, 2, 3)
	}
	plan := b.makePlan("c")
	seal := []string{"rehydrate", "seal", "--plan", plan, "--key", b.path("key"), "--examiner", "E", "--purpose", "p", "-o", b.path("sealed")}
	b.weir(exitDone, "", "keygen", "--out", b.path("key"))
	b.weir(exitFailed, "is not done: t/0 is at 0 of 3", seal...)
	b.weir(exitUsage, "unexpected token EOF (1:6)", "rehydrate", "run", "--plan", plan, "--connector", "a", "--filter", "key ==")
	b.weir(exitUsage, `no connector "b"`, "rehydrate", "run", "--plan", plan, "--connector", "b")
	b.weir(exitUsage, "has no index", "rehydrate", "run", "--plan", plan, "--connector", "a", "--index", "x")
	run := []string{"rehydrate", "run", "--plan", plan, "--connector", "a", "--filter", `key == "2"`}
	b.weir(exitDone, "2  matched", run...)
	b.weir(exitDone, "2  matched", run...) // there is nothing left to do
	b.weir(exitFailed, "another plan or another filter", "rehydrate", "run", "--plan", plan, "--connector", "a")
	b.weir(exitFailed, "another plan or another filter", seal...)
	b.weir(exitDone, "2 records", append(seal, "--filter", `key == "2"`)...)
	b.weir(exitDone, "everything holds", "verify", "--manifest", b.path("sealed"), "--key", b.path("key.pub"))

	// The log is read again, and is as it was; then some of it is gone.
	again := []string{"verify", "--kafka", "-c", b.config, "--manifest", b.path("sealed"), "--key", b.path("key.pub")}
	b.weir(exitDone, "everything holds", again...)
	b.deleteBelow(1) // outside of what matched
	b.weir(exitDone, "everything holds", again...)
	b.deleteBelow(2)
	b.weir(exitFailed, "no longer retained", again...)
}

// A topic that was deleted and made again has nothing of what the plan is of.
func TestACaseOfATopicThatWasMadeAgain(t *testing.T) {
	b := newCaseBed(t, 1)
	b.write(b.cl, 0, 1, 2, 3)
	plan := b.makePlan("c")
	b.weir(exitDone, "3  delivered", "rehydrate", "run", "--plan", plan, "--connector", "a")
	b.weir(exitDone, "", "keygen", "--out", b.path("key"))
	b.weir(exitDone, "3 records", "rehydrate", "seal", "--plan", plan, "--key", b.path("key"), "--examiner", "E", "--purpose", "p", "-o", b.path("sealed"))
	cl, err := broker.Dial(b.kafka.ListenAddrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.DeleteTopic(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	if err := cl.CreateTopic(t.Context(), "t", 1, nil); err != nil {
		t.Fatal(err)
	}
	b.write(b.client(), 0, 1, 2, 3) // the other client knows the old topic
	b.weir(exitFailed, "deleted and made again", "rehydrate", "run", "--plan", plan, "--connector", "a")
	b.weir(exitFailed, "was deleted", "verify", "--kafka", "-c", b.config, "--manifest", b.path("sealed"), "--key", b.path("key.pub"))
}

// A broker that takes less metadata than the evidence may need would refuse the
// commits in the middle of the case.
func TestACaseWhoseEvidenceTheBrokerWouldNotTake(t *testing.T) {
	b := newCaseBed(t, 1)
	b.write(b.cl, 0, 1, 2, 3)
	plan := b.makePlan("c")
	b.kafka.ControlKey(int16(kmsg.DescribeConfigs), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.kafka.KeepControl()
		asked := req.(*kmsg.DescribeConfigsRequest).Resources[0]
		if asked.ResourceType != kmsg.ConfigResourceTypeBroker {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
		config := kmsg.NewDescribeConfigsResponseResourceConfig()
		config.Name, config.Value = "offset.metadata.max.bytes", kmsg.StringPtr("300")
		r := kmsg.NewDescribeConfigsResponseResource()
		r.ResourceType, r.ResourceName, r.Configs = asked.ResourceType, asked.ResourceName, append(r.Configs, config)
		resp.Resources = append(resp.Resources, r)
		return resp, nil, true
	})
	b.weir(exitFailed, "the brokers take 300 bytes of metadata", "rehydrate", "run", "--plan", plan, "--connector", "a")
}
