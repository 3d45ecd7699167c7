package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"weir/buffer"
	"weir/config"
	"weir/connector/kafka"
	"weir/connector/redrive"
	"weir/sinks/file"
)

func dlqCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dlq",
		Short: "Look at dead letters and send them again",
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(dlqLsCommand(), dlqShowCommand(), dlqRedriveCommand())
	return cmd
}

// noArgs is the check of a subcommand that takes flags only.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q", args[0])}
	}
	return nil
}

// redriveGroup is the consumer group that keeps how far the letters of a
// connector were redriven.
func redriveGroup(connector string) string { return "weir.dlq." + connector }

// redrivePosition is the file that keeps it for a dead-letter file.
func redrivePosition(path, connector string) string { return path + "." + connector + ".redriven" }

// lettersFetch is the memory for what is fetched of a dead-letter topic.
const lettersFetch = 16 << 20

// letters is a dead-letter topic or file, with how far each connector of the
// configuration that writes to it was redriven.
type letters struct {
	topic, file string
	log         *kafka.Log // of topic; nil: it does not exist
	reached     map[string]map[int32]reached
}

// reached says what of a partition is redriven: what is below next and in done.
// A file is partition 0, and its lines, from 0 on, are the offsets.
type reached struct {
	next int64
	done []redrive.Span
}

func (r reached) has(offset int64) bool {
	return offset < r.next || redrive.In(r.done, offset)
}

// openLetters opens the dead letters of each connector of cfg that use says, each
// topic and file once.
//
// Errors: a topic cannot be read; what was redriven cannot be found out.
func openLetters(ctx context.Context, cfg *config.Config, log *slog.Logger, use func(config.Connector) bool) ([]*letters, error) {
	options, err := kafkaOptions(cfg.Kafka, log)
	if err != nil {
		return nil, err
	}
	var all []*letters
	byName := map[config.DeadLetter]*letters{}
	fail := func(err error) ([]*letters, error) {
		closeLetters(all)
		return nil, err
	}
	for _, c := range cfg.Connectors {
		where := config.DeadLetter{Topic: c.DeadLetter.Topic, File: c.DeadLetter.File}
		if where == (config.DeadLetter{}) || !use(c) {
			continue
		}
		l := byName[where]
		if l == nil {
			l = &letters{topic: where.Topic, file: where.File, reached: map[string]map[int32]reached{}}
			if where.Topic != "" {
				l.log, err = kafka.OpenLog(ctx, options, where.Topic, lettersFetch)
				if err != nil && !errors.Is(err, kafka.ErrNoTopic) {
					return fail(err)
				}
			}
			byName[where] = l
			all = append(all, l)
		}
		if l.reached[c.Name], err = l.redriven(ctx, c.Name); err != nil {
			return fail(err)
		}
	}
	return all, nil
}

func closeLetters(all []*letters) {
	for _, l := range all {
		if l.log != nil {
			l.log.Close()
		}
	}
}

// redriven asks how far a connector's letters were redriven.
func (l *letters) redriven(ctx context.Context, connector string) (map[int32]reached, error) {
	if l.file != "" {
		next, done, err := redrive.Redriven(ctx, redrivePosition(l.file, connector), fileRecords(l.file))
		return map[int32]reached{0: {next, done}}, err
	}
	if l.log == nil {
		return nil, nil
	}
	committed, err := l.log.Committed(ctx, redriveGroup(connector))
	if err != nil {
		return nil, err
	}
	all := make(map[int32]reached, len(committed))
	for p, c := range committed {
		all[p] = reached{c.Offset, redrive.ParseNote(c.Offset, c.Note)}
	}
	return all, nil
}

// name is the topic or the file.
func (l *letters) name() string {
	if l.file != "" {
		return l.file
	}
	return l.topic
}

// address is how the letter at an offset is named to people and to show.
func (l *letters) address(partition int32, offset int64) string {
	if l.file != "" {
		return l.file + ":" + strconv.FormatInt(offset+1, 10)
	}
	return fmt.Sprintf("%s/%d/%d", l.topic, partition, offset)
}

// holds reports whether an offset is among those that the topic has now.
func (l *letters) holds(partition int32, offset int64) bool {
	return slices.ContainsFunc(l.log.Extents, func(e kafka.Extent) bool {
		return e.Partition == partition && e.First <= offset && offset < e.End
	})
}

// each calls visit with every record there is now, in the order of their offsets
// in each partition. It is only valid until visit returns.
func (l *letters) each(ctx context.Context, visit func(r *buffer.Record) error) error {
	if l.file == "" {
		if l.log == nil {
			return nil
		}
		for _, e := range l.log.Extents {
			if err := l.log.Read(ctx, e.Partition, e.First, e.End, visit); err != nil {
				return err
			}
		}
		return nil
	}
	origin := &buffer.Origin{Topic: l.file}
	at := int64(0)
	for r, err := range fileRecords(l.file)() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		d := redrive.OfLine(r)
		d.Origin, d.Offset = origin, at
		at++
		if err := visit(&d); err != nil {
			return err
		}
	}
	return nil
}

// fileRecords are the lines of a dead-letter file. One that is not there has
// none, and an incomplete last one is still being written.
func fileRecords(path string) redrive.Records {
	return func() iter.Seq2[*buffer.Record, error] {
		return func(yield func(*buffer.Record, error) bool) {
			for r, err := range file.Read(path) {
				_, bad := errors.AsType[*file.LineError](err)
				switch {
				case errors.Is(err, file.ErrTorn), errors.Is(err, fs.ErrNotExist):
					return
				case bad:
					r, err = &buffer.Record{}, nil
				}
				if !yield(r, err) {
					return
				}
			}
		}
	}
}

// samePath reports whether two names are of one file, as far as names tell.
func samePath(a, b string) bool {
	absA, errA := filepath.Abs(a)
	absB, errB := filepath.Abs(b)
	return errA == nil && errB == nil && absA == absB
}
