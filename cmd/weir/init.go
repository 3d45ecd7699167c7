package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"weir/config"
	"weir/connector/evidence"
	"weir/connector/kafka"
	"weir/sinks/elastic"
)

func initCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Put index templates and dead-letter topics in place, once, with an administrator's rights",
	}
	path := configFlag(cmd)
	print := cmd.Flags().Bool("print", false, "print what would be put in place, and change nothing")
	name := cmd.Flags().String("connector", "", "only for the connector of this `name`")
	caseID := cmd.Flags().String("case", "", "for the index of this `case` (weir rehydrate) instead of the connector's; with --connector")
	index := cmd.Flags().String("index", "", "the `index` of the case, if weir rehydrate run is given one")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, _, err := openConfig(*path, cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		if *name != "" || *caseID != "" {
			if cfg.Connectors, err = initFor(cfg.Connectors, *name, *caseID, *index); err != nil {
				return usageError{err}
			}
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Minute)
		defer cancel()
		options, err := kafkaOptions(cfg.Kafka, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		var trail *auditLog
		if !*print {
			if trail, err = openAudit(cfg.Log, *path, cmd.ErrOrStderr()); err != nil {
				return err
			}
			defer trail.close()
		}
		for _, c := range cfg.Connectors {
			if err := initConnector(ctx, cmd, c, options, trail, *print); err != nil {
				return fmt.Errorf("connector %s: %w", c.Name, err)
			}
		}
		return nil
	}
	return cmd
}

// initFor is the connector of that name alone, with the index of a case if there is
// one.
func initFor(all []config.Connector, name, caseID, index string) ([]config.Connector, error) {
	i := slices.IndexFunc(all, func(c config.Connector) bool { return c.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("there is no connector %q", name)
	}
	c := all[i]
	if caseID != "" {
		if err := evidence.CheckCase(caseID); err != nil {
			return nil, fmt.Errorf("--case: %w", err)
		}
		if err := caseIndex(&c, caseID, index); err != nil {
			return nil, err
		}
		c.Name = "rehydrate-" + caseID // so that the connector keeps its own template
	}
	return []config.Connector{c}, nil
}

func initConnector(ctx context.Context, cmd *cobra.Command, c config.Connector, options kafka.Options, trail *auditLog, print bool) error {
	if c.Sink.Elasticsearch != nil {
		if err := initTemplate(ctx, cmd, c, trail, print); err != nil {
			return err
		}
	}
	if c.DeadLetter.Topic == "" {
		return nil
	}
	out := cmd.OutOrStdout()
	if print {
		fmt.Fprintf(out, "# Kafka topic %s, %d partitions, the brokers' default replication\n", c.DeadLetter.Topic, kafka.DeadLetterPartitions)
		return nil
	}
	change, err := trail.begin(makeTopic, c.DeadLetter.Topic)
	if err != nil {
		return err
	}
	made, err := kafka.EnsureTopic(ctx, options, c.DeadLetter.Topic, kafka.DeadLetterPartitions, kafka.DeadLetterReplication)
	how := ""
	if !made && err == nil {
		how = ", which was there already"
	}
	if err := change.end(how, err); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: dead-letter topic %s is in place\n", c.Name, c.DeadLetter.Topic)
	return nil
}

// initTemplate installs the index template of an elasticsearch sink.
func initTemplate(ctx context.Context, cmd *cobra.Command, c config.Connector, trail *auditLog, print bool) error {
	out := cmd.OutOrStdout()
	e := c.Sink.Elasticsearch
	target := e.Index
	if e.DataStream != "" {
		target = e.DataStream
	}
	name, pattern := elastic.TemplateName(c.Name), elastic.IndexPattern(target)
	body, err := elastic.Template(e.Flavor, []string{pattern}, e.DataStream != "")
	if err != nil {
		return err
	}
	if print {
		fmt.Fprintf(out, "PUT _index_template/%s\n%s\n", name, body)
		return nil
	}
	sink, err := newElastic(c, nil)
	if err != nil {
		return err
	}
	defer sink.Close()
	var change *change
	err = sink.InstallTemplate(ctx, name, body, func(name string) (err error) {
		change, err = trail.begin(installTemplate, fmt.Sprintf("%s for %s", name, pattern))
		return err
	})
	if change == nil { // it did not come to that
		err = errors.Join(err, trail.note(installTemplate, fmt.Sprintf("%s for %s", name, pattern), err))
	} else {
		err = change.end("", err)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: index template for %s is in place\n", c.Name, pattern)
	return nil
}
