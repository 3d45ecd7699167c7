package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// cluster answers what readers and groups have to know: who leads which
// partition, topic ids, where logs begin and end, what a group committed.
//
// It has connections of its own, one a broker, so that no question waits behind
// a fetch's long poll, a JoinGroup or a commit: a sarama.Broker is locked from
// sending a request to the end of its answer. All of them end with ctx.
type cluster struct {
	opts Options
	ctx  context.Context

	mu      sync.Mutex
	conns   map[string]*sarama.Broker // by address
	brokers map[int32]string          // address by id, as last heard
	topics  map[string]topicState     // as last heard
	id      string                    // the cluster's, "" when the brokers report none
}

// topicState is what was last heard of a topic.
type topicState struct {
	id         string
	internal   bool
	err        error // nothing is known of it but this
	partitions map[int32]leadership
}

// leadership says who leads a partition; broker -1: nobody.
type leadership struct{ broker, epoch int32 }

func newCluster(ctx context.Context, opts Options) *cluster {
	opts.answers = &answers{}
	return &cluster{
		opts:    opts,
		ctx:     ctx,
		conns:   make(map[string]*sarama.Broker),
		brokers: make(map[int32]string),
		topics:  make(map[string]topicState),
	}
}

// Close ends the connections.
func (c *cluster) Close() {
	c.mu.Lock()
	conns := c.conns
	c.conns = nil
	c.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
	}
}

// controlTimeout bounds each question.
const controlTimeout = 15 * time.Second

// conn is the connection to a broker; heard is what came over it so far if it is
// a new one, to be read once it is closed.
func (c *cluster) conn(addr string) (conn *sarama.Broker, heard *wire, err error) {
	cfg, err := c.opts.config()
	if err != nil {
		return nil, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conns == nil {
		return nil, nil, context.Canceled
	}
	conn = c.conns[addr]
	if conn == nil {
		conn = sarama.NewBroker(addr)
		c.conns[addr] = conn
	}
	dialer := &contextDialer{ctx: c.ctx, timeout: cfg.Net.DialTimeout}
	cfg.Net.ReadTimeout = controlTimeout
	cfg.Net.Proxy.Enable, cfg.Net.Proxy.Dialer = true, dialer
	err = conn.Open(cfg)
	if errors.Is(err, sarama.ErrAlreadyConnected) {
		return conn, nil, nil
	}
	return conn, &dialer.heard, err
}

// ask puts a question to one broker. A connection that was idle may have been
// closed by the broker long ago, so a failure on an old one is tried once more
// on a new one.
func (c *cluster) ask(ctx context.Context, addr string, question func(*sarama.Broker) error) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		conn, heard, err := c.conn(addr)
		if err != nil {
			return err
		}
		if _, err = conn.Connected(); err == nil {
			err = question(conn)
		}
		if err == nil {
			c.opts.answers.note(addr)
			return nil
		}
		if e, ok := errors.AsType[sarama.KError](err); ok && e != sarama.ErrSASLAuthenticationFailed {
			return c.opts.explain(addr, err, nil) // the broker's answer
		}
		_ = conn.Close()
		if c.ctx.Err() != nil {
			return c.ctx.Err()
		}
		if heard != nil {
			return c.opts.explain(addr, err, heard)
		}
	}
}

// askAny puts a question to the brokers last heard of, then to those given,
// until one answers.
func (c *cluster) askAny(ctx context.Context, question func(*sarama.Broker) error) error {
	c.mu.Lock()
	var addrs []string
	for _, addr := range c.brokers {
		addrs = append(addrs, addr)
	}
	c.mu.Unlock()
	for _, addr := range c.opts.Brokers {
		if !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	if len(addrs) == 0 {
		return errors.New("kafka: no brokers given")
	}
	var faults []error
	for _, addr := range addrs {
		err := c.ask(ctx, addr, question)
		if err == nil || ctx.Err() != nil || c.ctx.Err() != nil {
			return err
		}
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// refresh asks for topics, or for all of them when there are none given.
func (c *cluster) refresh(ctx context.Context, topics ...string) (map[string]topicState, error) {
	var resp *sarama.MetadataResponse
	err := c.askAny(ctx, func(b *sarama.Broker) (err error) {
		resp, err = b.GetMetadata(sarama.NewMetadataRequest(sarama.MaxVersion, topics))
		if err == nil && len(resp.Brokers) == 0 {
			err = errors.New("the broker knows of no brokers yet") // it is starting (KAFKA-7924)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	heard := make(map[string]topicState, len(resp.Topics))
	for _, t := range resp.Topics {
		state := topicState{internal: t.IsInternal, partitions: make(map[int32]leadership, len(t.Partitions))}
		if t.Uuid != (sarama.Uuid{}) {
			state.id = t.Uuid.String()
		}
		if t.Err != sarama.ErrNoError {
			state.err = t.Err
		}
		for _, p := range t.Partitions {
			state.partitions[p.ID] = leadership{broker: p.Leader, epoch: p.LeaderEpoch}
		}
		heard[t.Name] = state
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if resp.ClusterID != nil {
		c.id = *resp.ClusterID
	}
	clear(c.brokers)
	for _, b := range resp.Brokers {
		c.brokers[b.ID()] = b.Addr()
	}
	for name, t := range heard {
		c.topics[name] = t
	}
	return heard, nil
}

// leader is who leads a partition and where, as last heard.
func (c *cluster) leader(topic string, partition int32) (l leadership, addr string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, ok = c.topics[topic].partitions[partition]
	if !ok {
		return leadership{-1, -1}, "", false
	}
	addr, ok = c.brokers[l.broker]
	return l, addr, ok
}

// clusterID is the cluster's id as last heard, "" when the brokers report none.
func (c *cluster) clusterID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.id
}

func (c *cluster) address(broker int32) (addr string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	addr, ok = c.brokers[broker]
	return addr, ok
}

// topicNow asks anew for one topic's state.
//
// Errors: sarama.ErrUnknownTopicOrPartition while it does not exist.
func (c *cluster) topicNow(ctx context.Context, topic string) (topicState, error) {
	heard, err := c.refresh(ctx, topic)
	if err != nil {
		return topicState{}, err
	}
	t, ok := heard[topic]
	if !ok {
		return topicState{}, sarama.ErrUnknownTopicOrPartition
	}
	return t, t.err
}

// offsetAt is ListOffsets: the offset of the first record at or after a time in
// milliseconds, -1 when there is none; or sarama.OffsetOldest; or, with
// sarama.OffsetNewest, the offset behind the last record, for a reader of
// committed records behind the last decided one.
func (c *cluster) offsetAt(ctx context.Context, topic string, partition int32, at int64, isolation sarama.IsolationLevel) (int64, error) {
	offset, _, err := c.recordAt(ctx, topic, partition, at, isolation)
	return offset, err
}

// recordAt is offsetAt with the time of the record that was found, in
// milliseconds; -1 when that is not said.
func (c *cluster) recordAt(ctx context.Context, topic string, partition int32, at int64, isolation sarama.IsolationLevel) (offset, time int64, err error) {
	_, addr, ok := c.leader(topic, partition)
	if !ok {
		if _, err := c.topicNow(ctx, topic); err != nil {
			return 0, 0, err
		}
		if _, addr, ok = c.leader(topic, partition); !ok {
			return 0, 0, sarama.ErrLeaderNotAvailable
		}
	}
	offset, time = -1, -1
	err = c.ask(ctx, addr, func(b *sarama.Broker) error {
		req := sarama.NewOffsetRequest(sarama.MaxVersion)
		req.IsolationLevel = isolation
		req.AddBlock(topic, partition, at, 1)
		resp, err := b.GetAvailableOffsets(req)
		if err != nil {
			return err
		}
		block := resp.GetBlock(topic, partition)
		if block == nil {
			return sarama.ErrIncompleteResponse
		}
		if block.Err != sarama.ErrNoError {
			return block.Err
		}
		offset, time = block.Offset, block.Timestamp
		return nil
	})
	if err != nil {
		c.forget(topic)
	}
	return offset, time, err
}

// forget makes the next question about topic's leaders ask anew.
func (c *cluster) forget(topic string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.topics, topic)
}

// coordinator is the address of the broker that keeps group.
func (c *cluster) coordinator(ctx context.Context, group string) (addr string, err error) {
	err = c.askAny(ctx, func(b *sarama.Broker) error {
		resp, err := b.FindCoordinator(&sarama.FindCoordinatorRequest{Version: 2, CoordinatorKey: group, CoordinatorType: sarama.CoordinatorGroup})
		if err != nil {
			return err
		}
		if resp.Err != sarama.ErrNoError {
			return resp.Err
		}
		addr = resp.Coordinator.Addr()
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("looking for the coordinator of group %q: %w", group, err)
	}
	return addr, nil
}

// committed is what group committed last for a partition; offset -1: nothing.
func (c *cluster) committed(ctx context.Context, group, topic string, partition int32) (offset int64, metadata string, err error) {
	offset = -1
	addr, err := c.coordinator(ctx, group)
	if err != nil {
		return 0, "", err
	}
	err = c.ask(ctx, addr, func(b *sarama.Broker) error {
		resp, err := b.FetchOffset(sarama.NewOffsetFetchRequest(sarama.MaxVersion, group, map[string][]int32{topic: {partition}}))
		if err != nil {
			return err
		}
		block := resp.GetBlock(topic, partition)
		refused := resp.Err
		if g := resp.GetGroup(group); g != nil && g.Err != sarama.ErrNoError {
			refused = g.Err
		}
		switch {
		case refused == sarama.ErrGroupIDNotFound:
			return nil // a group that never committed
		case refused != sarama.ErrNoError:
			return refused
		case block == nil:
			return sarama.ErrIncompleteResponse
		case block.Err != sarama.ErrNoError:
			return block.Err
		}
		offset, metadata = block.Offset, block.Metadata
		return nil
	})
	return offset, metadata, err
}
