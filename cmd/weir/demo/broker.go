package demo

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	topic      = "edr.events"
	deadLetter = "weir.dlq"
	partitions = 6
)

// broker is a Kafka cluster inside this process. It keeps everything in memory,
// so what was settled has to be trimmed.
type broker struct {
	cluster *kfake.Cluster
	client  *kgo.Client
}

// startBroker starts a cluster on loopback with both topics in it.
func startBroker() (*broker, error) {
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.ClusterID("weir-demo"),
		kfake.SeedTopics(partitions, topic),
		kfake.SeedTopics(1, deadLetter),
		// Memory is given back a whole segment at a time.
		kfake.BrokerConfigs(map[string]string{"log.segment.bytes": "1048576"}),
	)
	if err != nil {
		return nil, fmt.Errorf("demo: starting the in-process Kafka: %w", err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ClientID("weir-demo"))
	if err != nil {
		cluster.Close()
		return nil, fmt.Errorf("demo: client of the in-process Kafka: %w", err)
	}
	return &broker{cluster: cluster, client: client}, nil
}

func (b *broker) addrs() []string { return b.cluster.ListenAddrs() }

func (b *broker) close() {
	b.client.Close()
	b.cluster.Close()
}

// trim deletes the events below the given offset of each partition.
func (b *broker) trim(ctx context.Context, below map[int32]int64) error {
	req := kmsg.NewPtrDeleteRecordsRequest()
	t := kmsg.NewDeleteRecordsRequestTopic()
	t.Topic = topic
	for partition, offset := range below {
		p := kmsg.NewDeleteRecordsRequestTopicPartition()
		p.Partition, p.Offset = partition, offset
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, b.client)
	if err != nil {
		return fmt.Errorf("demo: trimming %s: %w", topic, err)
	}
	for _, rt := range resp.Topics {
		for _, rp := range rt.Partitions {
			if err := kerr.ErrorForCode(rp.ErrorCode); err != nil {
				return fmt.Errorf("demo: trimming %s/%d: %w", topic, rp.Partition, err)
			}
		}
	}
	return nil
}

// end is the offset behind the last record of a topic's partition.
func (b *broker) end(ctx context.Context, topic string, partition int32) (int64, error) {
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp = partition, -1
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic, t.Partitions = topic, []kmsg.ListOffsetsRequestTopicPartition{p}
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.Topics = -1, []kmsg.ListOffsetsRequestTopic{t}
	resp, err := req.RequestWith(ctx, b.client)
	if err != nil {
		return 0, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return 0, errors.New("no answer for the partition")
	}
	got := resp.Topics[0].Partitions[0]
	return got.Offset, kerr.ErrorForCode(got.ErrorCode)
}

// read gives the value of every record of a partition, from an offset to the
// partition's end as it is now, to f.
func (b *broker) read(ctx context.Context, topic string, partition int32, from int64, f func(value []byte)) error {
	fail := func(err error) error { return fmt.Errorf("demo: reading %s/%d: %w", topic, partition, err) }
	end, err := b.end(ctx, topic, partition)
	if err != nil {
		return fail(err)
	}
	if from >= end {
		return nil
	}
	reader, err := kgo.NewClient(kgo.SeedBrokers(b.addrs()...), kgo.ClientID("weir-demo"),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(from)}}))
	if err != nil {
		return fail(err)
	}
	defer reader.Close()
	for next := from; next < end; {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fail(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			f(r.Value)
			next = r.Offset + 1
		})
	}
	return nil
}
