package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"weir/testbed/broker"
	"weir/testbed/torture/proxy"
)

// ports are counted from one base, so that two runs can go on side by side.
type ports int

func (p ports) addr(n int) string { return fmt.Sprintf("127.0.0.1:%d", int(p)+n) }

const (
	portKafka      = 0 // for the harness; the controller is at 1
	portKafkaWeir  = 3 // the listener behind the proxy
	portKafkaProxy = 4 // what weir is told
	portFront      = 5 // of the first backend; that of the second is two further
	portSinkProxy  = 6
)

// kafka is a broker of our own that can be killed. Its second listener is
// advertised at a proxy: weir's connections can be cut while the harness sees on.
type kafka struct {
	scripts, dir string
	env          []string
	addr         string
	proxy        *proxy.Proxy

	mu sync.Mutex // one thing at a time is done to it
}

func startKafka(ctx context.Context, dir string, base ports) (*kafka, error) {
	testbed := os.Getenv("TESTBED")
	if testbed == "" {
		return nil, errors.New("TESTBED has to name the folder of the scripts that start servers: this broker is killed, so it has to be one of our own")
	}
	scripts, err := filepath.Abs(filepath.Join(testbed, "kafka"))
	if err != nil {
		return nil, err
	}
	k := &kafka{scripts: scripts, dir: filepath.Join(dir, "kafka"), addr: base.addr(portKafka)}
	extra := filepath.Join(dir, "kafka.properties")
	listeners := fmt.Sprintf("PLAINTEXT://%s,WEIR://%s", k.addr, base.addr(portKafkaWeir))
	text := []string{
		"listeners=" + listeners + ",CONTROLLER://" + base.addr(portKafka+1),
		fmt.Sprintf("advertised.listeners=PLAINTEXT://%s,WEIR://%s", k.addr, base.addr(portKafkaProxy)),
		"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,WEIR:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"broker.session.timeout.ms=3000",
		"broker.heartbeat.interval.ms=500",
		"num.network.threads=2", "num.io.threads=4", "log.cleaner.enable=true",
		"log.cleaner.dedupe.buffer.size=4194304",
	}
	if err := os.WriteFile(extra, []byte(strings.Join(text, "\n")+"\n"), 0o600); err != nil {
		return nil, err
	}
	k.env = append(os.Environ(),
		fmt.Sprintf("KAFKA_PORT=%d", int(base)+portKafka), "KAFKA_EXTRA="+extra,
		"KAFKA_LOG_LEVEL=WARN", "KAFKA_HEAP=384m")
	if err := k.up(ctx); err != nil {
		return nil, errors.Join(err, k.down(true)) // it may be on its way
	}
	if k.proxy, err = proxy.Start(base.addr(portKafkaProxy), base.addr(portKafkaWeir)); err != nil {
		return nil, errors.Join(err, k.down(true))
	}
	return k, nil
}

// up starts the broker, with the data it had.
func (k *kafka) up(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.script(ctx, "kafka-up", k.dir)
}

// down stops the broker.
func (k *kafka) down(kill bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if kill {
		return k.script(context.Background(), "kafka-down", "--kill", k.dir)
	}
	return k.script(context.Background(), "kafka-down", k.dir)
}

func (k *kafka) close() error {
	return errors.Join(k.proxy.Close(), k.down(true))
}

func (k *kafka) script(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(k.scripts, name), args...)
	cmd.Env = k.env
	// A file, not a pipe: the broker inherits it, and a pipe would be read until it ends.
	out, err := os.CreateTemp(filepath.Dir(k.dir), name+"-*.out")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(out.Name())
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(said)))
	}
	return nil
}

// admin are requests that the broker package has no function for.
type admin struct{ *broker.Client }

// make makes a topic, whatever happens to the broker meanwhile.
func (a admin) make(ctx context.Context, topic string, partitions int32) error {
	return persist(ctx, func() error {
		err := a.CreateTopic(ctx, topic, partitions, nil)
		if errors.Is(err, kerr.TopicAlreadyExists) {
			return nil // an earlier attempt whose answer was lost
		}
		return err
	})
}

// metadata is what the broker says of a topic, an error of its own included.
func (a admin) metadata(ctx context.Context, topic string) (kmsg.MetadataResponseTopic, error) {
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = kmsg.StringPtr(topic)
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = append(req.Topics, t)
	res, err := req.RequestWith(ctx, a.Client)
	if err != nil {
		return kmsg.MetadataResponseTopic{}, err
	}
	if len(res.Topics) != 1 {
		return kmsg.MetadataResponseTopic{}, fmt.Errorf("%d topics in the answer", len(res.Topics))
	}
	return res.Topics[0], kerr.ErrorForCode(res.Topics[0].ErrorCode)
}

// topicID is the id of a topic, as weir writes it.
func (a admin) topicID(ctx context.Context, topic string) (string, error) {
	t, err := a.metadata(ctx, topic)
	return base64.RawURLEncoding.EncodeToString(t.TopicID[:]), err
}

// leaderEpoch is that of a topic's first partition: how often it was given a leader.
func (a admin) leaderEpoch(ctx context.Context, topic string) (int32, error) {
	t, err := a.metadata(ctx, topic)
	if err != nil {
		return 0, err
	}
	for _, p := range t.Partitions {
		if p.Partition == 0 {
			return p.LeaderEpoch, kerr.ErrorForCode(p.ErrorCode)
		}
	}
	return 0, fmt.Errorf("the answer has no partition of %s", topic)
}

// addPartitions makes topic have n partitions.
func (a admin) addPartitions(ctx context.Context, topic string, n int32) error {
	t := kmsg.NewCreatePartitionsRequestTopic()
	t.Topic, t.Count = topic, n
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.TimeoutMillis = 10_000
	req.Topics = append(req.Topics, t)
	res, err := req.RequestWith(ctx, a.Client)
	if err != nil {
		return err
	}
	for _, t := range res.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return fmt.Errorf("partitions of %s: %w", topic, err)
		}
	}
	return nil
}

// clusterID is the cluster's id.
func (a admin) clusterID(ctx context.Context) (string, error) {
	res, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, a.Client)
	if err != nil {
		return "", err
	}
	if res.ClusterID == nil {
		return "", errors.New("the cluster has no id")
	}
	return *res.ClusterID, nil
}

// deleteRecords moves the start of a log, as retention does.
func (a admin) deleteRecords(ctx context.Context, topic string, partition int32, below int64) error {
	p := kmsg.NewDeleteRecordsRequestTopicPartition()
	p.Partition, p.Offset = partition, below
	t := kmsg.NewDeleteRecordsRequestTopic()
	t.Topic, t.Partitions = topic, append(t.Partitions, p)
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = 10_000
	req.Topics = append(req.Topics, t)
	for _, shard := range a.RequestSharded(ctx, req) {
		if shard.Err != nil {
			return shard.Err
		}
		for _, t := range shard.Resp.(*kmsg.DeleteRecordsResponse).Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return fmt.Errorf("delete records of %s/%d below %d: %w", topic, partition, below, err)
				}
			}
		}
	}
	return nil
}

// commit is a committed offset.
type commit struct {
	topic     string
	partition int32
	offset    int64
	metadata  string
}

// commits are all committed offsets of group, in one request.
func (a admin) commits(ctx context.Context, group string) ([]commit, error) {
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group // no topics: all
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group, req.Groups = group, append(req.Groups, g)
	var out []commit
	for _, shard := range a.RequestSharded(ctx, req) {
		if shard.Err != nil {
			return nil, shard.Err
		}
		for _, g := range shard.Resp.(*kmsg.OffsetFetchResponse).Groups {
			if err := kerr.ErrorForCode(g.ErrorCode); err != nil {
				return nil, err
			}
			for _, t := range g.Topics {
				for _, p := range t.Partitions {
					if p.ErrorCode != 0 || p.Offset < 0 {
						continue
					}
					c := commit{topic: t.Topic, partition: p.Partition, offset: p.Offset}
					if p.Metadata != nil {
						c.metadata = *p.Metadata
					}
					out = append(out, c)
				}
			}
		}
	}
	return out, nil
}
