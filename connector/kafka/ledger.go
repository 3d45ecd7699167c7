package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/IBM/sarama"
)

// Ledger is what a group has committed, seen from outside: no group is joined.
type Ledger struct {
	Group string

	opts    Options
	cluster *cluster
	cancel  context.CancelFunc
}

// Position is what a group committed for a partition.
type Position struct {
	Offset   int64
	Metadata string
}

// PartitionID names a partition.
type PartitionID struct {
	Topic     string
	Partition int32
}

// OpenLedger connects when it is asked something.
func OpenLedger(ctx context.Context, o Options, group string) *Ledger {
	ctx, cancel := context.WithCancel(ctx)
	return &Ledger{Group: group, opts: o, cluster: newCluster(ctx, o), cancel: cancel}
}

// Close ends the connections.
func (l *Ledger) Close() {
	l.cancel()
	l.cluster.Close()
}

// Committed is what the group committed last for the partitions given, as far as
// it did.
//
// Errors: the right on the group is missing; its coordinator does not answer.
func (l *Ledger) Committed(ctx context.Context, topics map[string][]int32) (map[PartitionID]Position, error) {
	var all map[PartitionID]Position
	err := l.patiently(ctx, func(b *sarama.Broker) error {
		all = map[PartitionID]Position{}
		resp, err := b.FetchOffset(sarama.NewOffsetFetchRequest(sarama.MaxVersion, l.Group, topics))
		if err != nil {
			return err
		}
		refused := resp.Err
		if g := resp.GetGroup(l.Group); g != nil && g.Err != sarama.ErrNoError {
			refused = g.Err
		}
		switch refused {
		case sarama.ErrNoError:
		case sarama.ErrGroupIDNotFound:
			return nil // a group that never committed
		default:
			return refused
		}
		for topic, partitions := range topics {
			for _, p := range partitions {
				block := resp.GetBlock(topic, p)
				switch {
				case block == nil:
					return sarama.ErrIncompleteResponse
				case block.Err == sarama.ErrUnknownTopicOrPartition:
				case block.Err != sarama.ErrNoError:
					return block.Err
				case block.Offset >= 0:
					all[PartitionID{topic, p}] = Position{block.Offset, block.Metadata}
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("kafka: asking what group %q has committed: %w", l.Group, l.opts.Explain(err))
	}
	return all, nil
}

// Members is how many members the group has. known: the brokers know the group.
func (l *Ledger) Members(ctx context.Context) (n int, known bool, err error) {
	err = l.patiently(ctx, func(b *sarama.Broker) error {
		resp, err := b.DescribeGroups(&sarama.DescribeGroupsRequest{Version: 5, Groups: []string{l.Group}})
		if err != nil {
			return err
		}
		if len(resp.Groups) != 1 {
			return sarama.ErrIncompleteResponse
		}
		g := resp.Groups[0]
		if g.Err == sarama.ErrGroupIDNotFound || g.State == "Dead" {
			return nil
		}
		if g.Err != sarama.ErrNoError {
			return g.Err
		}
		n, known = len(g.Members), true
		return nil
	})
	if err != nil {
		err = fmt.Errorf("kafka: asking for the members of group %q: %w", l.Group, l.opts.Explain(err))
	}
	return n, known, err
}

// ErrGroupInUse is Delete's error while the group has members.
var ErrGroupInUse = errors.New("the group has members")

// Delete removes the group with all it has committed. One that there is not is no
// error.
//
// Errors: ErrGroupInUse; the right is missing; the coordinator does not answer.
func (l *Ledger) Delete(ctx context.Context) error {
	err := l.patiently(ctx, func(b *sarama.Broker) error {
		req := &sarama.DeleteGroupsRequest{Version: 1}
		req.AddGroup(l.Group)
		resp, err := b.DeleteGroups(req)
		if err != nil {
			return err
		}
		e, ok := resp.GroupErrorCodes[l.Group]
		switch {
		case !ok:
			return sarama.ErrIncompleteResponse
		case e == sarama.ErrNoError, e == sarama.ErrGroupIDNotFound:
			return nil
		case e == sarama.ErrGroupAuthorizationFailed:
			return l.opts.lacks(b, "DELETE", "the consumer group", e)
		}
		return e
	})
	switch {
	case errors.Is(err, sarama.ErrNonEmptyGroup):
		return ErrGroupInUse
	case err != nil:
		return fmt.Errorf("kafka: deleting group %q: %w", l.Group, l.opts.Explain(err))
	}
	return nil
}

// Lag is how many offsets the group has not committed of what is decided in the
// topics' logs. Partitions without a commit are left out.
func (l *Ledger) Lag(ctx context.Context, topics map[string][]int32) (int64, error) {
	committed, err := l.Committed(ctx, topics)
	if err != nil {
		return 0, err
	}
	lag := int64(0)
	for p, at := range committed {
		end, _, err := l.cluster.patiently(ctx, p.Topic, p.Partition, sarama.OffsetNewest, sarama.ReadCommitted)
		if err != nil {
			return 0, fmt.Errorf("kafka: asking for the end of %s/%d: %w", p.Topic, p.Partition, l.opts.Explain(err))
		}
		lag += max(end-at.Offset, 0)
	}
	return lag, nil
}

// Bounds is where the logs begin and end (high watermark) now.
func (l *Ledger) Bounds(ctx context.Context, topics map[string][]int32) (map[PartitionID]Extent, error) {
	all := map[PartitionID]Extent{}
	for topic, partitions := range topics {
		for _, p := range partitions {
			e := Extent{Partition: p}
			var err error
			e.First, _, err = l.cluster.patiently(ctx, topic, p, sarama.OffsetOldest, sarama.ReadUncommitted)
			if err == nil {
				e.End, _, err = l.cluster.patiently(ctx, topic, p, sarama.OffsetNewest, sarama.ReadUncommitted)
			}
			if err != nil {
				return nil, fmt.Errorf("kafka: asking for the bounds of %s/%d: %w", topic, p, l.opts.Explain(err))
			}
			all[PartitionID{topic, p}] = e
		}
	}
	return all, nil
}

// patiently asks the group's coordinator, again while a new one is on its way.
func (l *Ledger) patiently(ctx context.Context, question func(*sarama.Broker) error) error {
	return patiently(ctx, func() error {
		addr, err := l.cluster.coordinator(ctx, l.Group)
		if err != nil {
			return err
		}
		return l.cluster.ask(ctx, addr, question)
	})
}

// MetadataLimit is how many bytes of metadata a broker takes with a commit
// (offset.metadata.max.bytes).
//
// Errors: no broker answers, or we may not ask.
func MetadataLimit(ctx context.Context, o Options) (int, error) {
	var addr, id string
	err := o.withBroker(ctx, func(b *sarama.Broker) error {
		meta, err := b.GetMetadata(sarama.NewMetadataRequest(sarama.MaxVersion, []string{"__consumer_offsets"}))
		if err == nil && len(meta.Brokers) == 0 {
			err = sarama.ErrIncompleteResponse
		}
		if err == nil {
			addr, id = meta.Brokers[0].Addr(), fmt.Sprint(meta.Brokers[0].ID())
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	limit := 0
	err = o.onBroker(ctx, addr, func(b *sarama.Broker) error { // a broker tells of its own configuration only
		resp, err := b.DescribeConfigs(&sarama.DescribeConfigsRequest{
			Version:   2,
			Resources: []*sarama.ConfigResource{{Type: sarama.BrokerResource, Name: id, ConfigNames: []string{metadataMax}}},
		})
		if err != nil {
			return err
		}
		if len(resp.Resources) != 1 {
			return sarama.ErrIncompleteResponse
		}
		switch e := sarama.KError(resp.Resources[0].ErrorCode); e {
		case sarama.ErrNoError:
		case sarama.ErrClusterAuthorizationFailed:
			return o.lacks(b, "DESCRIBE_CONFIGS", "the cluster", e)
		default:
			return e
		}
		for _, c := range resp.Resources[0].Configs {
			if c.Name == metadataMax {
				limit, err = strconv.Atoi(c.Value)
				return err
			}
		}
		return errors.New("the broker does not say it")
	})
	return limit, err
}

const metadataMax = "offset.metadata.max.bytes"
