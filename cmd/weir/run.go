package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"weir/config"
	"weir/connector/kafka"
)

// configFlag adds the flag that every command with a configuration has.
func configFlag(cmd *cobra.Command) *string {
	return cmd.Flags().StringP("config", "c", "weir.yaml", "the configuration `file`")
}

func runCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Deliver until told to stop",
		Long: `Deliver until told to stop.

SIGTERM or Ctrl-C stops taking records, waits at most each connector's drain for
those in flight, commits, and ends. A second one ends at once; nothing is lost
by it, since nothing was committed that was not delivered.`,
	}
	path := configFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return runBridge(cmd.Context(), *path, cmd.ErrOrStderr())
	}
	return cmd
}

func runBridge(ctx context.Context, path string, errs io.Writer) error {
	// Before anything else: whoever is told to stop while it starts stops in order.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)

	cfg, log, err := openConfig(path, errs)
	if err != nil {
		return err
	}
	prepareProcess(cfg, log)

	b, err := newBridge(cfg, log)
	if err != nil {
		return err
	}
	defer b.close()
	b.topics.keepAccount(cfg.Log, path, errs)
	a, err := newAdmin(cfg, b, newRegistry(b), log)
	if err != nil {
		return err
	}
	defer a.stop(ctx)
	v, _ := buildVersion()
	log.Info("weir runs", "version", v, "connectors", len(b.links), "memory", cfg.Memory.String(), "listen", cfg.Listen)
	for i, l := range b.links {
		grade, why := l.sink.Grade()
		log.Info("connector", "name", l.name, "group", cfg.Connectors[i].Group, "grade", grade, "since", why)
	}

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	interrupted := false
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		select {
		case s := <-signals:
			interrupted = s == syscall.SIGINT
			log.Info("stopping: what is in flight is delivered and committed first", "signal", s.String())
			stop()
		case <-ctx.Done():
			return
		}
		s, ok := <-signals
		if ok {
			log.Warn("stopping at once: what is in flight is read again at the next start", "signal", s.String())
			b.kill()
		}
	}()
	go b.watchHealth(ctx, log)

	err = b.run(ctx)
	signal.Stop(signals)
	close(signals)
	stop()
	<-watching
	report(log, b)
	if err == nil && interrupted {
		return errInterrupted
	}
	return err
}

// report logs what became of the records, as the last thing.
func report(log *slog.Logger, b *bridge) {
	for _, l := range b.links {
		var total struct{ read, delivered, dead, filtered, duplicates int64 }
		for _, lane := range l.connector.Stats().Lanes {
			total.read += lane.Counts.Read
			total.delivered += lane.Counts.Delivered
			total.dead += lane.Counts.DeadLettered
			total.filtered += lane.Counts.Filtered
			total.duplicates += lane.Counts.Duplicates
		}
		log.Info("stopped", "connector", l.name, "read", total.read, "delivered", total.delivered,
			"dead_lettered", total.dead, "filtered", total.filtered, "duplicates", total.duplicates,
			"not_settled", total.read-total.delivered-total.dead-total.filtered)
	}
}

// runtimeMemory is what the process needs beside the configured memory:
// connections, codecs, the Go run time itself.
const runtimeMemory = 48 << 20

// minBatchLimit is the least size up to which a decompressed Kafka batch is read,
// however little memory is configured: the largest message most clusters allow,
// and some.
const minBatchLimit = 64 << 20

// prepareProcess sets what holds for the process as a whole.
func prepareProcess(cfg *config.Config, log *slog.Logger) {
	kafka.Globals(log, max(int64(cfg.Memory)/2, minBatchLimit))
	// The garbage collector may use as much again as is held, but works harder
	// before the process grows past what it was given.
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(cfg.Memory) + runtimeMemory)
	}
}
