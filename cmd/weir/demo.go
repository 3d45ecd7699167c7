package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"weir/cmd/weir/demo"
	"weir/config"
	"weir/connector"
)

func demoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the bridge at work with nothing installed: a Kafka and a moody SIEM inside this process",
	}
	opt := demo.Options{}
	cmd.Flags().DurationVar(&opt.For, "for", 0, "how long; default: until Ctrl-C on a terminal, else 20s")
	cmd.Flags().Uint64Var(&opt.Seed, "seed", 1, "the same seed makes the same events")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		opt.Out = cmd.OutOrStdout()
		opt.Bridge = demoBridge
		return demo.Run(cmd.Context(), opt)
	}
	return cmd
}

// demoBridge runs the real bridge between the demo's two ends.
func demoBridge(ctx context.Context, env demo.Env) (demo.Bridge, error) {
	cfg := config.Default()
	cfg.Kafka.Brokers = env.Brokers
	cfg.Memory = 64 << 20
	cfg.Listen = "127.0.0.1:0"
	c := config.DefaultConnector()
	c.Name, c.Group, c.Topics = "demo", "weir.demo", []string{env.Topic}
	c.Batch.Records = 500 // small requests: the window has more to show
	c.Retry.Max = 1e9     // one second: a demo's outage is short
	c.DeadLetter.Topic = env.DeadLetter
	e := config.DefaultElasticsearch()
	e.URLs, e.Index = []string{env.SIEM}, "security-{topic}"
	c.Sink.Elasticsearch = &e
	cfg.Connectors = []config.Connector{c}

	prepareProcess(&cfg, env.Logger)
	b, err := newBridge(&cfg, env.Logger)
	if err != nil {
		return nil, err
	}
	a, err := newAdmin(&cfg, b, newRegistry(b), env.Logger)
	if err != nil {
		b.close()
		return nil, err
	}
	soft, stop := context.WithCancel(ctx)
	d := &runningDemo{b: b, admin: a, stop: stop, done: make(chan struct{})}
	context.AfterFunc(ctx, b.kill)
	go func() {
		defer close(d.done)
		d.err = b.run(soft)
		b.close()
	}()
	return d, nil
}

// runningDemo implements demo.Bridge.
type runningDemo struct {
	b     *bridge
	admin *admin
	stop  context.CancelFunc
	once  sync.Once
	done  chan struct{}
	err   error // of the run, once done is closed
}

func (d *runningDemo) Stats() connector.Stats { return d.b.links[0].connector.Stats() }

func (d *runningDemo) MetricsURL() string { return d.admin.url() + "/metrics" }

func (d *runningDemo) Stop(ctx context.Context) error {
	d.once.Do(func() {
		d.stop()
		d.admin.stop(ctx)
	})
	select {
	case <-d.done:
		return d.err
	case <-ctx.Done():
		return fmt.Errorf("the bridge did not drain: %w", ctx.Err())
	}
}

func generateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:    "generate",
		Short:  "Write believable security events to a topic, to try weir with",
		Hidden: true,
	}
	opt := demo.GenerateOptions{}
	cmd.Flags().StringSliceVar(&opt.Brokers, "brokers", []string{"127.0.0.1:9092"}, "Kafka brokers, host:port")
	cmd.Flags().StringVar(&opt.Topic, "topic", "edr.events", "the topic, made if it is not there and the brokers allow it")
	cmd.Flags().Float64Var(&opt.Rate, "rate", 100, "events a second")
	cmd.Flags().DurationVar(&opt.For, "for", 0, "how long; default: until interrupted")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return demo.Generate(ctx, opt)
	}
	return cmd
}
