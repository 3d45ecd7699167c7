package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"weir/config"
	"weir/connector/kafka"
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
	say := func(ok bool, what, detail string) {
		mark := "ok  "
		if !ok {
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
			say(f.OK, f.What, f.Detail)
		}
		switch {
		case c.DeadLetter.File != "":
			say(true, "dead letters", "file "+c.DeadLetter.File)
		case c.DeadLetter.Topic == "":
			fmt.Fprintln(out, "  note  dead letters: none configured: a rejected record will stop its partition")
		}
		sink, err := newElastic(c, nil)
		if err != nil {
			return err
		}
		info, err := sink.Ping(ctx)
		if err != nil {
			say(false, "sink elasticsearch", err.Error())
		} else {
			say(true, "sink elasticsearch", fmt.Sprintf("version %s, cluster %s, node %s", info.Version, info.Cluster, info.Node))
			switch warning, err := sink.CheckTemplate(ctx); {
			case err != nil:
				say(false, "index template", err.Error())
			case warning != "":
				fmt.Fprintln(out, "  warn  index template: "+cleanLine(warning))
			default:
				say(true, "index template", "weir's mapping is in force")
			}
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

// get performs one GET with a bounded answer.
func get(ctx context.Context, url string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", usageError{err}
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, "", err
	}
	return res.StatusCode, string(b), nil
}
