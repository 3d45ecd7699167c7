package main

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"weir/sinks/sinktest"
)

// refusedEvent runs a bridge on one event that the sink refuses, whose dead
// letter goes to topic "dlq", until the log says what is waited for.
func refusedEvent(t *testing.T, kafka *kfake.Cluster, auditFile, until string) {
	t.Helper()
	producer, err := kgo.NewClient(kgo.SeedBrokers(kafka.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	if err := producer.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte(`{"a":1}`)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(&sinktest.Elasticsearch{Verdict: func(sinktest.Document) sinktest.ItemError {
		return sinktest.ItemError{Status: 400, Type: "document_parsing_exception"}
	}})
	defer srv.Close()
	path := filepath.Join(t.TempDir(), "weir.yaml")
	text := fmt.Sprintf(`
kafka: {brokers: [%q]}
listen: 127.0.0.1:0
log: {audit_file: %q}
connectors:
  - name: a
    topics: [t]
    dead_letter: {topic: dlq}
    retry: {initial: 50ms, max: 50ms}
    drain: 100ms
    sink: {elasticsearch: {urls: [%q], index: x}}
`, kafka.ListenAddrs()[0], auditFile, srv.URL)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := loadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	// Not all of runBridge: it sets what sarama keeps for the whole process, where
	// another test's connections may still be closing.
	var log safeBuffer
	b, err := newBridge(cfg, newLog(cfg.Log, &log))
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	b.topics.keepAccount(cfg.Log, path, &log)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.run(ctx) }()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(log.String(), until); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("nothing of %q within a minute:\n%s", until, log.String())
			break
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func auditLines(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func kafkaWithTopic(t *testing.T) *kfake.Cluster {
	t.Helper()
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Close)
	return kafka
}

func TestTopicThatRunMakesIsInTheAuditLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.log")
	refusedEvent(t, kafkaWithTopic(t), file, "msg=audit")
	lines := auditLines(t, file)
	if len(lines) != 1 || !strings.Contains(lines[0], `action="make topic" target=dlq result=done who=`) {
		t.Errorf("%q", lines)
	}
}

// Where the topic may not be made every delivery tries: the trail has it once.
func TestTopicThatRunMayNotMakeIsInTheAuditLogOnce(t *testing.T) {
	kafka := kafkaWithTopic(t)
	tries := make(chan struct{}, 100)
	kafka.ControlKey(int16(kmsg.CreateTopics), func(req kmsg.Request) (kmsg.Response, error, bool) {
		kafka.KeepControl()
		tries <- struct{}{}
		resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
		topic := kmsg.NewCreateTopicsResponseTopic()
		topic.Topic, topic.ErrorCode = "dlq", kerr.TopicAuthorizationFailed.Code
		if len(tries) >= 3 {
			topic.ErrorCode = 0 // the answer to the right that somebody granted
			kafka.DropControl()
			return nil, nil, false
		}
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
	file := filepath.Join(t.TempDir(), "audit.log")
	refusedEvent(t, kafka, file, `action="make topic" target=dlq result=done`)
	lines := auditLines(t, file)
	if len(lines) != 2 || !strings.Contains(lines[0], "level=ERROR") || !strings.Contains(lines[0], "CREATE") {
		t.Errorf("%d tries: %q", len(tries), lines)
	}
}

// What cannot be written down is not done.
func TestTopicIsNotMadeWithoutAnAuditLog(t *testing.T) {
	kafka := kafkaWithTopic(t)
	refusedEvent(t, kafka, filepath.Join(t.TempDir(), "no-such-folder", "audit.log"), "log.audit_file")
	if kafka.TopicInfo("dlq") != nil {
		t.Error("the topic was made")
	}
}
