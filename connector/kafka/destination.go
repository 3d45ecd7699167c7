package kafka

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/IBM/sarama"

	"weir/buffer"
	"weir/sinks"
)

// DestinationConfig says what a Destination writes, and where to.
type DestinationConfig struct {
	Options // of the cluster that is written to

	// Topic to write to; {topic} in it stands for that of the record.
	Topic string
	// Sources are the topics that will be read, as far as they are known. Only Check
	// looks at them.
	Sources []string
	// Compression of what is stored: none, gzip, snappy, lz4 or zstd.
	Compression string
	// Track adds the headers weir.topic, weir.topic_id, weir.partition, weir.offset
	// and weir.timestamp behind those of the record.
	Track bool
	// Observe is called once a request with what became of it: 200 when the records
	// were stored, 0 when there was no answer, else Kafka's error code.
	Observe func(status int, took time.Duration)
}

// Destination is the kafka sink: it writes records to a topic of the same or
// another cluster with their own timestamps. Unlike a dead-letter topic, its
// topic is not made when it is missing: how many partitions it has and for how
// long it keeps what is in it are for its owner to say.
type Destination struct {
	sink    *Sink
	topic   string
	sources []string
}

var destinationTopic = regexp.MustCompile(`^([a-zA-Z0-9._-]|\{topic\}){1,249}$`)

// NewDestination checks c and sends nothing.
func NewDestination(c DestinationConfig) (*Destination, error) {
	codecs := map[string]sarama.CompressionCodec{
		"": sarama.CompressionNone, "none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP,
		"snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
	}
	codec, known := codecs[c.Compression]
	switch {
	case len(c.Brokers) == 0:
		return nil, errors.New("kafka sink: no brokers given")
	case !destinationTopic.MatchString(c.Topic):
		return nil, fmt.Errorf("kafka sink: topic %q is neither a legal name nor one with {topic} in it", c.Topic)
	case !known:
		return nil, fmt.Errorf("kafka sink: unknown compression %q", c.Compression)
	}
	s := NewSink(c.Options, c.Topic)
	s.form = form{codec: codec, ownTime: true, track: c.Track}
	s.Make = func(_ context.Context, _ Options, topic string) error {
		return fmt.Errorf("topic %q does not exist, and has to be made by whoever owns it: %w", topic, sarama.ErrUnknownTopicOrPartition)
	}
	if c.Observe != nil {
		s.observe = c.Observe
	}
	return &Destination{sink: s, topic: c.Topic, sources: slices.Clone(c.Sources)}, nil
}

// Deliver implements sinks.Sink.
func (d *Destination) Deliver(ctx context.Context, b *buffer.Batch, answered func(sinks.Note)) ([]sinks.Outcome, error) {
	return d.sink.Deliver(ctx, b, answered)
}

// Close ends what is on its way. Deliver fails from then on.
func (d *Destination) Close() { _ = d.sink.Close() }

// Grade is B: Kafka cannot be told to store a record only if it is not there.
func (d *Destination) Grade() (sinks.Grade, string) {
	if why := d.sink.withoutIDs(); why != "" {
		return sinks.GradeB, "acknowledged by all in-sync replicas; a batch whose answer is lost is there twice, since " + why
	}
	return sinks.GradeB, fmt.Sprintf("acknowledged by all in-sync replicas; a batch whose answer is lost is sent again under its own sequence and stored once, "+
		"but what was not settled when weir stopped, or whose answer stays away for more than %s, is there twice", patience)
}

// Check asks the brokers whether they would take records. It writes none: it
// asks for a producer id, which nobody uses then.
func (d *Destination) Check(ctx context.Context) []sinks.Finding {
	o := d.sink.opts
	brokers, live := o.checkBrokers(ctx)
	found := make([]sinks.Finding, 0, len(brokers)+2)
	for _, f := range brokers {
		found = append(found, asSink(f))
	}
	if !live {
		return found
	}
	for _, topic := range d.targets() {
		found = append(found, d.checkTopic(ctx, topic))
	}
	if len(d.targets()) == 0 {
		found = append(found, sinks.Finding{What: "topic " + d.topic, State: sinks.Doubtful,
			Detail: "which topics are written depends on which are read; each has to be there, with the WRITE right on it"})
	}
	return append(found, d.checkIDs(ctx))
}

// targets are the topics that are known to be written to.
func (d *Destination) targets() []string {
	if !strings.Contains(d.topic, "{topic}") {
		return []string{d.topic}
	}
	var names []string
	for _, source := range d.sources {
		names = append(names, strings.ReplaceAll(d.topic, "{topic}", source))
	}
	return names
}

func asSink(f Finding) sinks.Finding {
	state := sinks.Bad
	if f.OK {
		state = sinks.Good
	}
	return sinks.Finding{What: f.What, State: state, Detail: f.Detail}
}

func (d *Destination) checkTopic(ctx context.Context, topic string) sinks.Finding {
	o := d.sink.opts
	what := "topic " + printable(topic, 250)
	var heard *sarama.TopicMetadata
	err := o.withBroker(ctx, func(b *sarama.Broker) error {
		req := sarama.NewMetadataRequest(sarama.MaxVersion, []string{topic})
		req.IncludeTopicAuthorizedOperations = true
		resp, err := b.GetMetadata(req)
		if err != nil {
			return err
		}
		for _, t := range resp.Topics {
			if t.Name == topic {
				heard = t
				return nil
			}
		}
		return sarama.ErrIncompleteResponse
	})
	if err != nil {
		return asSink(finding(what, "", err))
	}
	t := topicOf(heard)
	bad := func(text string) sinks.Finding { return sinks.Finding{What: what, Detail: text} }
	switch {
	case errors.Is(t.Err, sarama.ErrUnknownTopicOrPartition):
		return bad("does not exist, and weir does not make it")
	case t.Err != nil:
		return bad(o.Explain(t.Err).Error())
	case !t.May(sarama.AclOperationWrite):
		return bad("it exists, but we have no WRITE right on it")
	case t.Leaderless > 0:
		return bad(fmt.Sprintf("%d of its %d partitions have no leader", t.Leaderless, len(t.Partitions)))
	}
	alone := 0
	for _, p := range heard.Partitions {
		if len(p.Replicas) < 2 {
			alone++
		}
	}
	if alone > 0 {
		return sinks.Finding{What: what, State: sinks.Doubtful, Detail: fmt.Sprintf("we may write to it, but %d of its %d partitions have one replica: "+
			"what was acknowledged is lost with that broker", alone, len(t.Partitions))}
	}
	return sinks.Finding{What: what, State: sinks.Good, Detail: fmt.Sprintf("%d partitions, and we may write to it", len(t.Partitions))}
}

// checkIDs asks for a producer id, since no other question tells what an old
// broker makes of one without the right.
func (d *Destination) checkIDs(ctx context.Context) sinks.Finding {
	f := sinks.Finding{What: "idempotent writes"}
	err := patiently(ctx, func() error {
		return d.sink.opts.withBroker(ctx, func(b *sarama.Broker) error {
			_, _, err := initProducerID(b)
			return err
		})
	})
	switch {
	case err == nil:
		f.State, f.Detail = sinks.Good, "a batch whose answer is lost is sent again and stored once"
	case withoutIDsFor(err):
		f.State, f.Detail = sinks.Doubtful, "a batch whose answer is lost will be there twice: "+d.sink.whyNoIDs(err)
	default:
		f.Detail = printable(d.sink.opts.Explain(err).Error(), 700)
	}
	return f
}
