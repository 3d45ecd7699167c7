package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"weir/buffer"
)

// SurveyRequest says which time range of which topics is looked at.
type SurveyRequest struct {
	Topics []string
	// From and To bound the range: From belongs to it, To does not.
	From, To time.Time
	// Until, if it is set, is a later time than To that is looked up as well.
	Until time.Time
	// Scan: the samples begin at the start of the logs, as reading will.
	Scan bool
	// FetchBytes bounds the memory for samples.
	FetchBytes int64
}

// TopicSurvey is what a topic's logs are like.
type TopicSurvey struct {
	Name string
	ID   string // "" below Kafka 2.8
	// Config is the topic's configuration with the brokers' defaults; nil when it
	// could not be asked for, for the reason ConfigErr.
	Config     map[string]string
	ConfigErr  error
	Partitions []PartitionSurvey // by number
}

// PartitionSurvey is what one log is like. Offsets that are not known are -1,
// times that are not known are zero.
type PartitionSurvey struct {
	Partition int32
	Leader    string // the broker asked, host:port
	// Start is the first offset that there is; LocalStart the first that the leader
	// holds on its own disk: what lies before is in the remote tier only (KIP-405).
	Start, LocalStart int64
	// High is the high watermark. What may be read ends at Stable: behind it lie
	// transactions that are not decided.
	High, Stable int64
	// Open is the transaction that holds Stable back, nil when there is none or it
	// could not be asked for.
	Open *OpenTransaction
	// From, To and Until are the first offsets whose record is at or after those
	// times, by the log's time index; -1: there is no such record. FromTime is the
	// time of the record at From.
	From, To, Until int64
	FromTime        time.Time
	// Newest is the latest time in the log, by its segments' heads. It is asked for
	// only when there is no From: the index can be silent about records that there
	// are, where the newest record of a segment was deleted from below.
	Newest time.Time
	// FirstTime is the time of the first record there is.
	FirstTime time.Time
	Sample    Sample
}

// OpenTransaction is a transaction that is neither committed nor aborted.
type OpenTransaction struct {
	Start    int64 // offset of its first record
	Producer int64
	Last     time.Time // of its last record
}

// Sample is what some batches of a log were found to be.
type Sample struct {
	Offsets int64 // they cover
	Records int64
	Bytes   int64 // keys and values, decompressed
	// Misdated counts batches whose header tells an earlier last time than their
	// records have. The time index goes by the headers.
	Misdated int64
	// Until is the latest time of a record; zero when none had a time.
	Until time.Time
}

// Add adds what another sample found.
func (s *Sample) Add(o Sample) {
	s.Offsets += o.Offsets
	s.Records += o.Records
	s.Bytes += o.Bytes
	s.Misdated += o.Misdated
	if o.Until.After(s.Until) {
		s.Until = o.Until
	}
}

// Survey looks at topics. It joins no group and changes nothing. It also returns
// the cluster's id, "" when the brokers report none.
//
// Errors: a topic does not exist or may not be read; a partition has no leader;
// no broker answers.
func Survey(ctx context.Context, o Options, q SurveyRequest) (topics []TopicSurvey, clusterID string, err error) {
	m, err := o.Metadata(ctx, q.Topics...)
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := newCluster(ctx, o)
	defer c.Close()
	f := newFetcher(ctx, c, q.FetchBytes, o.logger(), func(string) {})
	defer f.Close()
	for _, name := range q.Topics {
		t, ok := m.Topics[name]
		switch {
		case !ok || errors.Is(t.Err, sarama.ErrUnknownTopicOrPartition):
			return nil, "", fmt.Errorf("topic %q: %w", name, ErrNoTopic)
		case t.Err != nil:
			return nil, "", fmt.Errorf("topic %q: %w", name, o.Explain(t.Err))
		case !t.May(sarama.AclOperationRead):
			return nil, "", fmt.Errorf("kafka: topic %q exists, but we have no READ right on it", name)
		}
		s := TopicSurvey{Name: name, ID: t.ID}
		s.Config, s.ConfigErr = o.topicConfig(ctx, name)
		slices.Sort(t.Partitions)
		for _, p := range t.Partitions {
			one, err := c.survey(ctx, name, p, q)
			// A remote tier that has much to do looks offsets up in its own time.
			for range 2 {
				if !errors.Is(err, sarama.ErrRequestTimedOut) {
					break
				}
				one, err = c.survey(ctx, name, p, q)
			}
			if err != nil {
				return nil, "", fmt.Errorf("kafka: asking about partition %d of topic %q: %w", p, name, o.Explain(err))
			}
			s.Partitions = append(s.Partitions, one)
		}
		c.localStarts(ctx, &s)
		c.openTransactions(ctx, &s)
		f.sample(ctx, &s, q)
		topics = append(topics, s)
	}
	return topics, m.ClusterID, nil
}

// survey asks for the bounds of one partition.
func (c *cluster) survey(ctx context.Context, topic string, partition int32, q SurveyRequest) (PartitionSurvey, error) {
	s := PartitionSurvey{Partition: partition, LocalStart: -1, Until: -1}
	type question struct {
		at        int64
		isolation sarama.IsolationLevel
		offset    *int64
		time      *time.Time
	}
	// The ends come first: what is asked for later lies within, whatever is written
	// meanwhile. The start comes last: it only rises.
	questions := []question{
		{sarama.OffsetNewest, sarama.ReadCommitted, &s.Stable, nil},
		{sarama.OffsetNewest, sarama.ReadUncommitted, &s.High, nil},
		{q.From.UnixMilli(), sarama.ReadUncommitted, &s.From, &s.FromTime},
		{q.To.UnixMilli(), sarama.ReadUncommitted, &s.To, nil},
		{sarama.OffsetOldest, sarama.ReadUncommitted, &s.Start, nil},
	}
	if !q.Until.IsZero() {
		questions = append(questions, question{q.Until.UnixMilli(), sarama.ReadUncommitted, &s.Until, nil})
	}
	for _, ask := range questions {
		offset, at, err := c.patiently(ctx, topic, partition, ask.at, ask.isolation)
		if err != nil {
			return s, err
		}
		*ask.offset = offset
		if ask.time != nil {
			*ask.time = utc(at)
		}
	}
	_, s.Leader, _ = c.leader(topic, partition)
	return s, nil
}

// leaderWait is for how long a leader that moves is waited for.
const leaderWait = 15 * time.Second

// patiently is recordAt, asked again while the leader moves.
func (c *cluster) patiently(ctx context.Context, topic string, partition int32, at int64, isolation sarama.IsolationLevel) (offset, stamp int64, err error) {
	for began := time.Now(); ; {
		offset, stamp, err = c.recordAt(ctx, topic, partition, at, isolation)
		if err == nil || !leaderMoved(err) || time.Since(began) > leaderWait || !sleep(ctx, 250*time.Millisecond) {
			return offset, stamp, err
		}
	}
}

// topicConfig is a topic's configuration.
func (o Options) topicConfig(ctx context.Context, topic string) (map[string]string, error) {
	var config map[string]string
	err := o.withBroker(ctx, func(b *sarama.Broker) error {
		resp, err := b.DescribeConfigs(&sarama.DescribeConfigsRequest{
			Version:   2,
			Resources: []*sarama.ConfigResource{{Type: sarama.TopicResource, Name: topic}},
		})
		if err != nil {
			return err
		}
		if len(resp.Resources) != 1 {
			return sarama.ErrIncompleteResponse
		}
		r := resp.Resources[0]
		switch e := sarama.KError(r.ErrorCode); e {
		case sarama.ErrNoError:
		case sarama.ErrTopicAuthorizationFailed:
			return o.lacks(b, "DESCRIBE_CONFIGS", "the topic", e)
		default:
			return e
		}
		config = make(map[string]string, len(r.Configs))
		for _, c := range r.Configs {
			if !c.Sensitive {
				config[c.Name] = c.Value
			}
		}
		return nil
	})
	return config, err
}

// What a ListOffsets request can ask for since version 8 (Kafka 3.4, KIP-405):
// the first offset that the leader holds on its own disk.
const (
	apiListOffsets        = 2
	offsetMaxTimestamp    = -3 // since version 7 (Kafka 3.0, KIP-734)
	offsetEarliestLocal   = -4
	versionEarliestLocal  = 8
	versionListOffsetsNow = 6 // the newest that sarama writes
)

// localStarts fills in where what the leaders hold themselves begins. Where a
// broker cannot say it stays unknown.
func (c *cluster) localStarts(ctx context.Context, s *TopicSurvey) {
	byLeader := map[string][]*PartitionSurvey{}
	for i := range s.Partitions {
		p := &s.Partitions[i]
		byLeader[p.Leader] = append(byLeader[p.Leader], p)
	}
	for addr, partitions := range byLeader {
		if err := c.opts.localStarts(ctx, addr, s.Name, partitions); err != nil {
			c.opts.logger().Debug("asking what is in the remote tier", "topic", s.Name, "broker", addr, "err", err)
		}
	}
}

func (o Options) localStarts(ctx context.Context, addr, topic string, partitions []*PartitionSurvey) error {
	cfg, err := o.config()
	if err != nil {
		return err
	}
	cfg.Net.ReadTimeout = controlTimeout
	d := &newerDialer{clearDialer: newClearDialer(ctx, cfg), version: versionEarliestLocal}
	cfg.Net.Proxy.Enable, cfg.Net.Proxy.Dialer = true, d
	b := sarama.NewBroker(addr)
	if err := b.Open(cfg); err != nil {
		return err
	}
	defer func() { _ = b.Close() }()
	if _, err := b.Connected(); err != nil {
		return err
	}
	speaks, err := b.ApiVersions(&sarama.ApiVersionsRequest{})
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(speaks.ApiKeys, func(k sarama.ApiVersionsResponseKey) bool {
		return k.ApiKey == apiListOffsets && k.MinVersion <= versionEarliestLocal && versionEarliestLocal <= k.MaxVersion
	}) {
		return errors.New("the broker is older than Kafka 3.4")
	}
	ask := func(what int64, of func(*PartitionSurvey) bool, tell func(*PartitionSurvey, *sarama.OffsetResponseBlock)) error {
		req := &sarama.OffsetRequest{Version: versionListOffsetsNow}
		for _, p := range partitions {
			if of(p) {
				req.AddBlock(topic, p.Partition, what, 1)
			}
		}
		resp, err := b.GetAvailableOffsets(req)
		if err != nil {
			return err
		}
		for _, p := range partitions {
			if block := resp.GetBlock(topic, p.Partition); block != nil && block.Err == sarama.ErrNoError && block.Offset >= 0 {
				tell(p, block)
			}
		}
		return nil
	}
	return errors.Join(
		ask(offsetEarliestLocal, func(*PartitionSurvey) bool { return true },
			func(p *PartitionSurvey, b *sarama.OffsetResponseBlock) { p.LocalStart = b.Offset }),
		ask(offsetMaxTimestamp, func(p *PartitionSurvey) bool { return p.From < 0 },
			func(p *PartitionSurvey, b *sarama.OffsetResponseBlock) { p.Newest = utc(b.Timestamp) }))
}

// newerDialer makes connections that say a newer version of ListOffsets than
// sarama knows. Versions 6 to 9 look alike, request and answer: they differ in
// what may be asked for (https://kafka.apache.org/protocol#The_Messages_ListOffsets).
type newerDialer struct {
	clearDialer
	version uint16
}

func (d *newerDialer) Dial(network, addr string) (net.Conn, error) {
	conn, err := d.clearDialer.Dial(network, addr)
	if err != nil {
		return nil, err
	}
	return &newerConn{Conn: conn, version: d.version}, nil
}

// newerConn relies on that a request is one Write.
type newerConn struct {
	net.Conn
	version uint16
}

func (c *newerConn) Write(p []byte) (int, error) {
	if len(p) >= requestHead && binary.BigEndian.Uint16(p[4:]) == apiListOffsets &&
		binary.BigEndian.Uint16(p[6:]) == versionListOffsetsNow {
		p = slices.Clone(p)
		binary.BigEndian.PutUint16(p[6:], c.version)
	}
	return c.Conn.Write(p)
}

// openTransactions fills in which transactions hold back what may be read
// (Kafka 2.8, KIP-664). It is told as far as the brokers tell it.
func (c *cluster) openTransactions(ctx context.Context, s *TopicSurvey) {
	for i := range s.Partitions {
		p := &s.Partitions[i]
		if p.Stable >= p.High {
			continue
		}
		err := c.ask(ctx, p.Leader, func(b *sarama.Broker) error {
			resp, err := b.DescribeProducers(&sarama.DescribeProducersRequest{
				Topics: []sarama.DescribeProducersRequestTopic{{Name: s.Name, PartitionIndexes: []int32{p.Partition}}},
			})
			if err != nil {
				return err
			}
			for _, t := range resp.Topics {
				for _, answer := range t.Partitions {
					if answer.ErrorCode != sarama.ErrNoError {
						return answer.ErrorCode
					}
					for _, producer := range answer.ActiveProducers {
						at := producer.CurrentTxnStartOffset
						if at >= 0 && (p.Open == nil || at < p.Open.Start) {
							p.Open = &OpenTransaction{Start: at, Producer: producer.ProducerID, Last: utc(producer.LastTimestamp)}
						}
					}
				}
			}
			return nil
		})
		if err != nil {
			c.opts.logger().Debug("asking for open transactions", "topic", s.Name, "partition", p.Partition, "err", err)
		}
	}
}

const (
	// maxSampled: that many partitions of a topic are sampled, evenly spread; the
	// others are taken to be alike.
	maxSampled = 32
	// samplePlaces is where a partition is sampled, in parts of its range.
	samplePlaces = 3
	// sampleWait is how long a sample may take to come: a remote tier is slow.
	sampleWait = 20 * time.Second
)

// sample reads some batches of a topic. What cannot be read in time stays
// unknown.
func (f *fetcher) sample(ctx context.Context, s *TopicSurvey, q SurveyRequest) {
	ctx, cancel := context.WithTimeout(ctx, sampleWait)
	defer cancel()
	step := max(1, (len(s.Partitions)+maxSampled-1)/maxSampled)
	var wg sync.WaitGroup
	for i := range s.Partitions {
		p := &s.Partitions[i]
		if p.Start >= p.Stable {
			continue
		}
		// The first record there is tells since when the log goes.
		wg.Go(func() {
			if b, err := f.peek(ctx, s, p.Partition, p.Start); err == nil {
				p.FirstTime = b.first
			}
		})
		from := p.From
		if q.Scan {
			from = p.Start
		}
		if i%step != 0 || from < 0 || from >= p.Stable {
			continue
		}
		wg.Go(func() {
			for n := range int64(samplePlaces) {
				at := from + n*(p.Stable-from)/samplePlaces
				b, err := f.peek(ctx, s, p.Partition, at)
				if err != nil {
					return
				}
				p.Sample.Add(b.Sample)
			}
		})
	}
	wg.Wait()
}

// peeked is a sample, with the time of its first record.
type peeked struct {
	Sample
	first time.Time
}

// peek reads what one fetch brings.
func (f *fetcher) peek(ctx context.Context, s *TopicSurvey, partition int32, at int64) (peeked, error) {
	r := f.Add(&buffer.Origin{Topic: s.Name, TopicID: s.ID, Partition: partition}, at)
	defer r.Close()
	for {
		if err := r.take(); err != nil {
			return peeked{}, err
		}
		if r.cur != nil {
			return r.cur.sample(), nil
		}
		select {
		case <-r.ready:
		case <-ctx.Done():
			return peeked{}, ctx.Err()
		}
	}
}

// sample says what a block holds, of which nothing was taken.
func (b *block) sample() peeked {
	s := peeked{Sample: Sample{Offsets: b.next - b.at}}
	latest := int64(-1)
	for i := range b.batches {
		batch := &b.batches[i]
		last := int64(-1)
		for j := range batch.records {
			r := &batch.records[j]
			at := batch.at
			if !batch.atOnce {
				at += r.at
			}
			last = max(last, at)
			if batch.base+r.offset < b.at {
				continue // a batch can begin before the offset that was asked for
			}
			if s.first.IsZero() {
				s.first = utc(at)
			}
			s.Records++
			s.Bytes += int64(len(r.key.of(batch.data)) + len(r.value.of(batch.data)))
		}
		if batch.until < last {
			s.Misdated++
		}
		latest = max(latest, last)
	}
	s.Until = utc(latest)
	return s
}

// Compacted reports whether records of the topic may be removed because newer
// ones have their key. Unknown counts as no.
func (s *TopicSurvey) Compacted() bool { return Compacted(s.Config) }

// Compacted is the same of a topic's configuration.
func Compacted(config map[string]string) bool {
	return strings.Contains(config["cleanup.policy"], "compact")
}
