// Package kafka is the only place that knows Kafka: it reads partitions as a
// member of a consumer group, commits their offsets, and writes dead letters.
package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/rcrowley/go-metrics"
)

// RebalanceTimeout is how long the group waits for a member to give back its
// partitions; draining them has to take less.
const RebalanceTimeout = 60 * time.Second

// commitInterval is the least time between two commits of a partition. sarama's
// ticker sends only partitions whose offset moved, so an idle group is quiet.
const commitInterval = 200 * time.Millisecond

// Options says how the brokers are reached.
type Options struct {
	Brokers  []string    // host:port
	ClientID string      // shown in the brokers' logs and quotas
	Rack     string      // read from the nearest replica; empty: from the leader
	TLS      *tls.Config // nil: plaintext
	SASL     *SASL       // nil: no login
	Logger   *slog.Logger

	answers *answers // what the client at hand has heard from whom
}

func (o Options) logger() *slog.Logger {
	if o.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Logger
}

// config is the sarama configuration that every client of this package starts
// from. Several of sarama's defaults lose or skip records, or stall: each one
// that is changed says why.
//
// Errors: those of reading the password, with PLAIN (see SASL).
func (o Options) config() (*sarama.Config, error) {
	c := sarama.NewConfig()
	c.ClientID = o.ClientID
	c.RackID = o.Rack

	// The newest version sarama knows. It is only an upper bound: each request is
	// sent in the newest form that both sides speak, by the broker's answer to
	// ApiVersions. Topic ids need 2.8 on both sides, cooperative-sticky 2.4 here.
	c.Version = sarama.MaxVersion
	c.ApiVersionsRequest = true

	c.Net.DialTimeout = 10 * time.Second
	c.Net.WriteTimeout = 30 * time.Second
	// JoinGroup is answered when the last member has joined, which may take the
	// whole rebalance timeout. With the default of 30 s a long drain of another
	// member would look like a dead broker and throw us out of the group.
	c.Net.ReadTimeout = RebalanceTimeout + 10*time.Second
	if o.TLS != nil {
		c.Net.TLS.Enable = true
		c.Net.TLS.Config = o.TLS.Clone()
	}
	if err := o.SASL.apply(c); err != nil {
		return nil, err
	}

	// Asking for a topic that does not exist must not create it: it would get the
	// broker's defaults for partitions and retention.
	c.Metadata.AllowAutoTopicCreation = false
	// Only the topics we use: the default keeps every topic of the cluster.
	c.Metadata.Full = false
	// How soon a new partition is seen (default 10 min).
	c.Metadata.RefreshFrequency = time.Minute

	c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyCooperativeSticky()}
	c.Consumer.Group.Rebalance.Timeout = RebalanceTimeout
	c.Consumer.Group.Session.Timeout = 20 * time.Second // default 10 s: one slow broker failover
	c.Consumer.Group.Heartbeat.Interval = 3 * time.Second
	// The default answers an offset that is out of range by going to
	// Offsets.Initial without a word: a silent skip, or everything once more.
	c.Consumer.Group.ResetInvalidOffsets = false
	// The default, newest, loses whatever is written before the first commit.
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	// Auto-commit sends what was marked, and only settled records are marked.
	// Without it a revoked partition's marks are thrown away.
	c.Consumer.Offsets.AutoCommit.Enable = true
	c.Consumer.Offsets.AutoCommit.Interval = commitInterval
	// Commits fail only through Errors(): it must be on, and be read.
	c.Consumer.Return.Errors = true
	// The default hands out records of transactions that were rolled back.
	c.Consumer.IsolationLevel = sarama.ReadCommitted

	return c, nil
}

// Globals sets what sarama keeps in package variables: its log goes to log at
// debug level, its metrics, which nobody reads, are off, and its own reader,
// which is not ours and is to stand still, takes no batch that decompresses to
// more than maxBatch bytes. For main alone, once, before any client is made.
func Globals(log *slog.Logger, maxBatch int64) {
	sarama.Logger = SaramaLogger(log)
	sarama.MaxDecompressedBatchSize = int32(min(maxBatch, math.MaxInt32))
	sarama.DebugLogger = sarama.Logger
	metrics.UseNilMetrics = true
}

// SaramaLogger writes sarama's log lines to log at debug level. What matters of
// them comes back as errors as well.
func SaramaLogger(log *slog.Logger) sarama.StdLogger { return saramaLogger{log} }

type saramaLogger struct{ log *slog.Logger }

func (l saramaLogger) line(text func() string) {
	// Formatting costs more than dropping the line, and sarama logs a lot.
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("sarama", "line", strings.TrimSpace(text()))
	}
}

func (l saramaLogger) Print(v ...any)   { l.line(func() string { return fmt.Sprint(v...) }) }
func (l saramaLogger) Println(v ...any) { l.line(func() string { return fmt.Sprintln(v...) }) }
func (l saramaLogger) Printf(format string, v ...any) {
	l.line(func() string { return fmt.Sprintf(format, v...) })
}

// Metadata is what a broker says about the cluster and some topics.
type Metadata struct {
	ClusterID string // "" when the brokers report none
	Topics    map[string]Topic
}

// Topic is what a broker says about one topic.
type Topic struct {
	// ID is the topic's UUID in Kafka's text form (22 characters of URL-safe
	// base64), "" below Kafka 2.8.
	ID         string
	Partitions []int32
	Leaderless int // how many of Partitions have no leader now
	Internal   bool
	// Err is why nothing is known about it: sarama.ErrUnknownTopicOrPartition,
	// sarama.ErrTopicAuthorizationFailed.
	Err error

	operations int32 // Kafka's bit set of what we may do with it
}

// May reports whether we have the right to op. Brokers below 2.3, and those
// without access control, do not say: then it is true.
func (t Topic) May(op sarama.AclOperation) bool { return may(t.operations, op) }

// Absent reports whether the brokers say that there is no such topic.
func (t Topic) Absent() bool { return errors.Is(t.Err, sarama.ErrUnknownTopicOrPartition) }

func may(operations int32, op sarama.AclOperation) bool {
	return operations == math.MinInt32 || operations == 0 || operations&(1<<op) != 0
}

// Metadata asks the first broker that answers about topics, or about all topics
// when there are none given. A topic that does not exist is in the answer, with
// its Err set; it is not created.
//
// Errors: one for each broker that was tried, each explained by Explain.
func (o Options) Metadata(ctx context.Context, topics ...string) (Metadata, error) {
	m := Metadata{Topics: map[string]Topic{}}
	err := o.withBroker(ctx, func(b *sarama.Broker) error {
		req := sarama.NewMetadataRequest(sarama.MaxVersion, topics)
		req.IncludeTopicAuthorizedOperations = true
		resp, err := b.GetMetadata(req)
		if err != nil {
			return err
		}
		if resp.ClusterID != nil {
			m.ClusterID = *resp.ClusterID
		}
		for _, t := range resp.Topics {
			m.Topics[t.Name] = topicOf(t)
		}
		return nil
	})
	return m, err
}

func topicOf(t *sarama.TopicMetadata) Topic {
	topic := Topic{Internal: t.IsInternal, operations: t.TopicAuthorizedOperations}
	if t.Err != sarama.ErrNoError {
		topic.Err = t.Err
	}
	if t.Uuid != (sarama.Uuid{}) {
		topic.ID = t.Uuid.String()
	}
	for _, p := range t.Partitions {
		topic.Partitions = append(topic.Partitions, p.ID)
		if p.Leader < 0 {
			topic.Leaderless++
		}
	}
	return topic
}

// withBroker calls do with the first of the given brokers that takes a
// connection and a login, and with the next one when do fails.
func (o Options) withBroker(ctx context.Context, do func(*sarama.Broker) error) error {
	if len(o.Brokers) == 0 {
		return errors.New("kafka: no brokers given")
	}
	var faults []error
	for _, addr := range o.Brokers {
		err := o.onBroker(ctx, addr, do)
		if err == nil || ctx.Err() != nil {
			return err
		}
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// onBroker calls do with a connection of its own to addr, which is closed
// afterwards. It returns soon after ctx is done.
func (o Options) onBroker(ctx context.Context, addr string, do func(*sarama.Broker) error) error {
	c, err := o.config()
	if err != nil {
		return err
	}
	c.Net.ReadTimeout = 15 * time.Second
	d := &contextDialer{ctx: ctx, timeout: c.Net.DialTimeout}
	c.Net.Proxy.Enable, c.Net.Proxy.Dialer = true, d
	b := sarama.NewBroker(addr)
	if err := b.Open(c); err != nil {
		return &BrokerError{Addr: addr, Err: err}
	}
	_, err = b.Connected()
	if err == nil {
		err = do(b)
	}
	if err == nil {
		o.answers.note(addr)
	}
	_ = b.Close() // one that never connected says so once more
	if ctx.Err() != nil {
		return &BrokerError{Addr: addr, Err: context.Cause(ctx)}
	}
	return o.explain(addr, err, &d.heard)
}

// contextDialer makes a sarama connection end with a context, of which sarama
// itself knows nothing, and notes what was heard.
type contextDialer struct {
	ctx     context.Context
	timeout time.Duration
	heard   wire // to be read once the connection is closed
}

func (d *contextDialer) Dial(network, addr string) (net.Conn, error) {
	nd := net.Dialer{Timeout: d.timeout}
	conn, err := nd.DialContext(d.ctx, network, addr)
	if err != nil {
		return nil, err
	}
	d.heard.dialled = true
	stop := context.AfterFunc(d.ctx, func() { _ = conn.Close() })
	return &contextConn{Conn: conn, heard: &d.heard, stop: stop}, nil
}

type contextConn struct {
	net.Conn
	heard *wire
	stop  func() bool
}

func (c *contextConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.heard.bytes == 0 {
		c.heard.first = p[0]
	}
	c.heard.bytes += int64(n)
	return n, err
}

func (c *contextConn) Close() error {
	c.stop()
	return c.Conn.Close()
}
