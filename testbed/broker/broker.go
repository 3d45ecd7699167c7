// Package broker is the tests' own Kafka client. It is franz-go, so that what
// the bridge does with its client is judged by another one.
package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Client administrates and produces.
type Client struct {
	*kgo.Client
	Addr string // host:port of the broker it was dialled at
}

// Dial connects to the broker at addr. Records keep the partition they name.
func Dial(addr string, more ...kgo.Opt) (*Client, error) {
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(addr),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(5 * time.Millisecond),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()),
		kgo.MaxBufferedRecords(100_000),
		kgo.MetadataMinAge(100 * time.Millisecond), // a topic that was just made is found at once
	}, more...)...)
	if err != nil {
		return nil, err
	}
	return &Client{Client: cl, Addr: addr}, nil
}

// CreateTopic makes a topic and waits until every partition has a leader. A
// topic that is there is an error.
func (c *Client) CreateTopic(ctx context.Context, topic string, partitions int32, settings map[string]string) error {
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, partitions, 1
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		s := kmsg.NewCreateTopicsRequestTopicConfig()
		s.Name, s.Value = name, kmsg.StringPtr(settings[name])
		t.Configs = append(t.Configs, s)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 15_000
	req.Topics = append(req.Topics, t)
	res, err := req.RequestWith(ctx, c.Client)
	if err != nil {
		return err
	}
	for _, t := range res.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return fmt.Errorf("create topic %s: %w", topic, err)
		}
	}
	for {
		ends, err := c.Ends(ctx, topic)
		if err == nil && len(ends) == int(partitions) {
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("topic %s has no leaders: %w", topic, err)
		}
	}
}

// DeleteTopic deletes a topic; one that is not there is no error.
func (c *Client) DeleteTopic(ctx context.Context, topic string) error {
	t := kmsg.NewDeleteTopicsRequestTopic()
	t.Topic = kmsg.StringPtr(topic)
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TimeoutMillis = 15_000
	req.Topics = append(req.Topics, t)
	req.TopicNames = []string{topic}
	res, err := req.RequestWith(ctx, c.Client)
	if err != nil {
		return err
	}
	for _, t := range res.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
			return fmt.Errorf("delete topic %s: %w", topic, err)
		}
	}
	return nil
}

// SetTopicConfig changes one setting of a topic.
func (c *Client) SetTopicConfig(ctx context.Context, topic, name, value string) error {
	s := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	s.Name, s.Value = name, kmsg.StringPtr(value)
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	r.Configs = append(r.Configs, s)
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Resources = append(req.Resources, r)
	res, err := req.RequestWith(ctx, c.Client)
	if err != nil {
		return err
	}
	for _, r := range res.Resources {
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			return fmt.Errorf("set %s of topic %s: %w", name, topic, err)
		}
	}
	return nil
}

// Metadata is the topic's partitions; false when there is no such topic.
func (c *Client) Metadata(ctx context.Context, topic string) (partitions []int32, found bool, err error) {
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = kmsg.StringPtr(topic)
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = append(req.Topics, t)
	res, err := req.RequestWith(ctx, c.Client)
	if err != nil {
		return nil, false, err
	}
	if len(res.Topics) != 1 {
		return nil, false, fmt.Errorf("metadata of %s: %d topics in the answer", topic, len(res.Topics))
	}
	err = kerr.ErrorForCode(res.Topics[0].ErrorCode)
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return nil, false, nil
	}
	for _, p := range res.Topics[0].Partitions {
		partitions = append(partitions, p.Partition)
	}
	return partitions, err == nil, err
}

// Ends is the offset behind the last record of every partition.
func (c *Client) Ends(ctx context.Context, topic string) (map[int32]int64, error) {
	return c.ends(ctx, topic, 0)
}

// StableEnds are the ends that a reader of committed records sees. They are those
// of the log once the markers of all transactions are in it, which is a moment after
// the transactions have ended.
func (c *Client) StableEnds(ctx context.Context, topic string) (map[int32]int64, error) {
	return c.ends(ctx, topic, 1)
}

func (c *Client) ends(ctx context.Context, topic string, isolation int8) (map[int32]int64, error) {
	partitions, found, err := c.Metadata(ctx, topic)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("no topic %s", topic)
	}
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	for _, p := range partitions {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp = p, -1
		t.Partitions = append(t.Partitions, rp)
	}
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.IsolationLevel = -1, isolation
	req.Topics = append(req.Topics, t)
	// Every partition has its own leader: the answers come one a broker.
	ends := make(map[int32]int64)
	for _, shard := range c.RequestSharded(ctx, req) {
		if shard.Err != nil {
			return nil, shard.Err
		}
		for _, t := range shard.Resp.(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return nil, fmt.Errorf("end of %s/%d: %w", topic, p.Partition, err)
				}
				ends[p.Partition] = p.Offset
			}
		}
	}
	return ends, nil
}

// Committed is the group's committed offset of every partition it committed.
func (c *Client) Committed(ctx context.Context, group, topic string) (map[int32]int64, error) {
	partitions, _, err := c.Metadata(ctx, topic)
	if err != nil {
		return nil, err
	}
	gt := kmsg.NewOffsetFetchRequestGroupTopic()
	gt.Topic, gt.Partitions = topic, partitions
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group, g.Topics = group, append(g.Topics, gt)
	t := kmsg.NewOffsetFetchRequestTopic()
	t.Topic, t.Partitions = topic, partitions
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group, req.Topics, req.Groups = group, append(req.Topics, t), append(req.Groups, g)
	committed := make(map[int32]int64)
	for _, shard := range c.RequestSharded(ctx, req) {
		if shard.Err != nil {
			return nil, shard.Err
		}
		for _, g := range shard.Resp.(*kmsg.OffsetFetchResponse).Groups {
			if err := kerr.ErrorForCode(g.ErrorCode); err != nil {
				return nil, fmt.Errorf("offsets of %s: %w", group, err)
			}
			for _, t := range g.Topics {
				for _, p := range t.Partitions {
					if p.Offset >= 0 {
						committed[p.Partition] = p.Offset
					}
				}
			}
		}
	}
	return committed, nil
}

// Generation is the group's generation: it grows by one with every rebalance.
// It is read from the broker's own log of group states, as no request tells it.
func (c *Client) Generation(ctx context.Context, group string) (int32, error) {
	generation := int32(-1)
	err := c.Each(ctx, "__consumer_offsets", func(r *kgo.Record) {
		key := kmsg.NewGroupMetadataKey()
		if len(r.Key) < 2 || r.Key[0] != 0 || r.Key[1] != 2 || r.Value == nil {
			return // an offset, a group of the newer protocol, or a tombstone
		}
		if key.ReadFrom(r.Key) != nil || key.Group != group {
			return
		}
		value := kmsg.NewGroupMetadataValue()
		if value.ReadFrom(r.Value) == nil {
			generation = max(generation, value.Generation)
		}
	})
	if err == nil && generation < 0 {
		err = fmt.Errorf("the broker knows no group %s", group)
	}
	return generation, err
}

// Each calls f with every record the topic holds now, each partition's in
// offset order.
func (c *Client) Each(ctx context.Context, topic string, f func(*kgo.Record)) error {
	ends, err := c.Ends(ctx, topic)
	if err != nil {
		return err
	}
	from := make(map[int32]kgo.Offset)
	for p, end := range ends {
		if end > 0 {
			from[p] = kgo.NewOffset().AtStart()
		} else {
			delete(ends, p)
		}
	}
	if len(from) == 0 {
		return nil
	}
	cl, err := kgo.NewClient(
		kgo.SeedBrokers(c.Addr),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.KeepControlRecords(), // so that the last offset is seen, whatever it holds
		kgo.FetchMaxWait(100*time.Millisecond),
		kgo.KeepRetryableFetchErrors(),
	)
	if err != nil {
		return err
	}
	defer cl.Close()
	for len(ends) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("reading %s, %d partitions left: %w", topic, len(ends), err)
		}
		if errs := fetches.Errors(); len(errs) > 0 && !kerr.IsRetriable(errs[0].Err) {
			return fmt.Errorf("reading %s/%d: %w", topic, errs[0].Partition, errs[0].Err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			end, open := ends[r.Partition]
			if !open {
				return
			}
			if r.Offset < end && !r.Attrs.IsControl() {
				f(r)
			}
			if r.Offset >= end-1 {
				delete(ends, r.Partition)
			}
		})
	}
	return nil
}

// Write produces records and waits until the broker has all of them.
//
// Errors: the first record's that the broker refused.
func (c *Client) Write(ctx context.Context, records []*kgo.Record) error {
	return c.ProduceSync(ctx, records...).FirstErr()
}

// Count is the number of records between the starts and ends of a topic that is
// neither compacted nor transactional and has lost none to retention.
func (c *Client) Count(ctx context.Context, topic string) (int64, error) {
	ends, err := c.Ends(ctx, topic)
	var n int64
	for _, end := range ends {
		n += end
	}
	return n, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
