package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"weir/config"
	"weir/connector/kafka"
	"weir/sinks"
)

func checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say what is wrong with a configuration, and with what it names",
	}
	path := configFlag(cmd)
	online := cmd.Flags().Bool("online", false, "also ask brokers, topics, groups, dead letters and sinks; changes nothing")
	print := cmd.Flags().Bool("print", false, "print the configuration with all defaults, secrets hidden")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := loadConfig(*path)
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if *print {
			return cfg.Print(out)
		}
		b, err := newBridge(cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		b.close()
		fmt.Fprintf(out, "%s is in order: %d connector(s)\n", *path, len(cfg.Connectors))
		for _, w := range cfg.Warnings() {
			fmt.Fprintln(out, "  warn  "+w)
		}
		if !*online {
			return nil
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Minute)
		defer cancel()
		return checkOnline(ctx, cfg, out)
	}
	return cmd
}

// checkOnline asks everything that cfg names and prints what it finds.
func checkOnline(ctx context.Context, cfg *config.Config, out io.Writer) error {
	bad := 0
	say := func(state sinks.State, what, detail string) {
		mark := "ok  "
		switch state {
		case sinks.Good:
		case sinks.Doubtful:
			mark = "warn"
		default:
			mark = "FAIL"
			bad++
		}
		fmt.Fprintf(out, "  %s  %s: %s\n", mark, cleanLine(what), cleanLine(detail))
	}
	options, err := kafkaOptions(cfg.Kafka, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	for _, c := range cfg.Connectors {
		fmt.Fprintf(out, "%s\n", c.Name)
		s := kafka.Subject{Group: c.Group, Topics: c.Topics, DeadLetter: c.DeadLetter.Topic}
		if c.TopicsPattern != "" {
			if s.Pattern, err = regexp.Compile(c.TopicsPattern); err != nil {
				return err
			}
		}
		for _, f := range kafka.Check(ctx, options, s) {
			state := sinks.Bad
			if f.OK {
				state = sinks.Good
			}
			say(state, f.What, f.Detail)
		}
		switch {
		case c.DeadLetter.File != "":
			say(sinks.Good, "dead letters", "file "+c.DeadLetter.File)
		case c.DeadLetter.Topic == "":
			fmt.Fprintln(out, "  note  dead letters: none configured: a rejected record will stop its partition")
		}
		sink, err := newDestination(cfg, c, slog.New(slog.DiscardHandler), nil)
		if err != nil {
			return err
		}
		for _, f := range sink.Check(ctx) {
			say(f.State, f.What, f.Detail)
		}
		grade, why := sink.Grade()
		fmt.Fprintf(out, "  grade %s: %s\n", grade, why)
		sink.Close()
	}
	if bad > 0 {
		return fmt.Errorf("%d of the checks failed", bad)
	}
	return nil
}
