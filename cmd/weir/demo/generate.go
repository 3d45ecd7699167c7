package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// GenerateOptions say what Generate writes and where.
type GenerateOptions struct {
	Brokers []string // host:port
	Topic   string   // made with 6 partitions if it is not there
	Rate    float64  // events a second outside bursts
	For     time.Duration
}

// Generate writes the demo's events to a Kafka of the caller's until ctx is done
// or For, unless it is 0, is over.
//
// Errors: the topic could not be made, or an event was not acknowledged.
func Generate(ctx context.Context, opt GenerateOptions) error {
	if err := makeTopic(ctx, opt); err != nil {
		return fmt.Errorf("demo: making the topic %q: %w", opt.Topic, err)
	}
	start := time.Now()
	g, err := newGenerator(opt.Brokers, opt.Topic, uint64(start.UnixNano()), opt.Rate)
	if err != nil {
		return err
	}
	defer g.close()
	until := ctx
	if opt.For > 0 {
		var cancel context.CancelFunc
		until, cancel = context.WithTimeout(ctx, opt.For)
		defer cancel()
	}
	// What was written when the end came is still to be acknowledged.
	return g.run(context.WithoutCancel(ctx), until, newScript(0), func() time.Duration { return time.Since(start) })
}

func makeTopic(ctx context.Context, opt GenerateOptions) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(opt.Brokers...), kgo.ClientID("weir-demo-generator"))
	if err != nil {
		return err
	}
	defer client.Close()
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = opt.Topic, partitions, -1
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Topics = []kmsg.CreateTopicsRequestTopic{t}
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	for _, made := range resp.Topics {
		if err := kerr.ErrorForCode(made.ErrorCode); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return err
		}
	}
	return nil
}
