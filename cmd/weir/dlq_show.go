package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"weir/buffer"
	"weir/config"
	"weir/connector/redrive"
)

func dlqShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show LETTER",
		Short: "Show one dead letter: why it is one, and the record as it came",
		Long: `Show one dead letter: why it is one, and the record as it came.

LETTER is one of

  TOPIC/PARTITION/OFFSET   of the refused record, as the log of weir run names it
  TOPIC/PARTITION/OFFSET   of the letter, if TOPIC is a dead-letter topic
  FILE:LINE                of the letter in a dead-letter file`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("show takes one letter: TOPIC/PARTITION/OFFSET or FILE:LINE")}
			}
			return nil
		},
	}
	path := configFlag(cmd)
	raw := cmd.Flags().Bool("raw", false, "write the value's bytes and nothing else")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		which, err := parseAddress(args[0])
		if err != nil {
			return err
		}
		cfg, log, err := openConfig(*path, cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		prepareProcess(cfg, log)
		found, err := findLetter(cmd.Context(), cfg, log, which)
		if err != nil {
			return err
		}
		if *raw {
			_, err := cmd.OutOrStdout().Write(found.record.Value)
			return err
		}
		return found.print(cmd.OutOrStdout())
	}
	return cmd
}

// address names a letter, see the help of show. File is the path or topic.
type address struct {
	isLine    bool
	name      string
	partition int32
	offset    int64 // of a line: its number, from 0 on
}

func parseAddress(s string) (address, error) {
	parts := strings.Split(s, "/")
	if n := len(parts); n == 3 {
		partition, err1 := strconv.ParseInt(parts[1], 10, 32)
		offset, err2 := strconv.ParseInt(parts[2], 10, 64)
		if err1 == nil && err2 == nil && partition >= 0 && offset >= 0 {
			return address{name: parts[0], partition: int32(partition), offset: offset}, nil
		}
	}
	if at := strings.LastIndexByte(s, ':'); at > 0 {
		if line, err := strconv.ParseInt(s[at+1:], 10, 64); err == nil && line > 0 {
			return address{isLine: true, name: s[:at], offset: line - 1}, nil
		}
	}
	return address{}, usageError{fmt.Errorf("%q is neither TOPIC/PARTITION/OFFSET nor FILE:LINE", s)}
}

// foundLetter is one record of a dead-letter topic or file.
type foundLetter struct {
	at       string
	record   buffer.Record
	letter   redrive.Letter
	fault    error // why it is no letter
	redriven bool
	known    bool     // the configuration has its connector
	others   []string // addresses of more letters of the same record
}

// maxOthers bounds the list of others.
const maxOthers = 10

// errEnough ends a search early.
var errEnough = errors.New("found")

// findLetter looks a letter up where it is, or for the letters of a record
// everywhere.
func findLetter(ctx context.Context, cfg *config.Config, log *slog.Logger, which address) (*foundLetter, error) {
	all, err := openLetters(ctx, cfg, log, func(config.Connector) bool { return true })
	if err != nil {
		return nil, err
	}
	defer closeLetters(all)
	var found *foundLetter
	take := func(l *letters, r *buffer.Record) {
		at := l.address(r.Partition, r.Offset)
		if found != nil {
			if len(found.others) < maxOthers {
				found.others = append(found.others, at)
			}
			return
		}
		// Its memory is about to be used for the next ones.
		found = &foundLetter{at: at, record: buffer.NewChunk([]buffer.Record{*r}, 0).Records[0]}
		found.letter, found.fault = redrive.Parse(&found.record)
		var reached map[int32]reached
		reached, found.known = l.reached[found.letter.Connector]
		found.redriven = found.known && found.fault == nil && reached[r.Partition].has(r.Offset)
	}
	for _, l := range all {
		if which.isLine != (l.file != "") || !which.isLine && which.name != l.topic || which.isLine && !samePath(which.name, l.file) {
			continue
		}
		if l.log != nil && l.holds(which.partition, which.offset) {
			err = l.log.Read(ctx, which.partition, which.offset, which.offset+1, func(r *buffer.Record) error {
				take(l, r)
				return nil
			})
		} else if l.file != "" {
			err = l.each(ctx, func(r *buffer.Record) error {
				if r.Offset == which.offset {
					take(l, r)
					return errEnough
				}
				return nil
			})
		}
		if err != nil && !errors.Is(err, errEnough) {
			return nil, err
		}
		if found == nil {
			return nil, fmt.Errorf("%s holds no record %s", l.name(), l.address(which.partition, which.offset))
		}
		return found, nil
	}
	if which.isLine {
		return nil, usageError{fmt.Errorf("%s is no dead-letter file of this configuration", which.name)}
	}
	for _, l := range all {
		err := l.each(ctx, func(r *buffer.Record) error {
			letter, err := redrive.Parse(r)
			if o := letter.Record; err == nil && o.Topic == which.name && o.Partition == which.partition && o.Offset == which.offset {
				take(l, r)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if found == nil {
		return nil, fmt.Errorf("there is no dead letter of %s/%d/%d", which.name, which.partition, which.offset)
	}
	return found, nil
}

// print shows the letter. Nothing of it can be taken for a line of ours: the
// value, which alone has line breaks, comes last.
func (f *foundLetter) print(out io.Writer) error {
	var b strings.Builder
	say := func(what, format string, args ...any) {
		fmt.Fprintf(&b, "%-11s %s\n", what, cleanLine(fmt.Sprintf(format, args...)))
	}
	say("letter", "%s", f.at)
	for _, other := range f.others {
		say("also at", "%s", other)
	}
	r := &f.record
	if f.fault != nil {
		say("state", "is never redriven: %v", f.fault)
	} else {
		l := &f.letter
		r = &l.Record
		switch {
		case f.redriven:
			say("state", "redriven")
		case !f.known:
			say("state", "not redriven; the configuration has no connector of this name")
		default:
			say("state", "not redriven")
		}
		say("connector", "%s", l.Connector)
		say("status", "%d", l.Status)
		say("reason", "%s", l.Reason)
		say("refused at", "%s", l.FailedAt.Format(time.RFC3339Nano))
		say("record", "%s", redrive.Address(r))
		say("topic id", "%s", r.TopicID)
		say("cluster", "%s", r.Cluster)
		if !r.Time.IsZero() {
			say("time", "%s", r.Time.UTC().Format(time.RFC3339Nano))
		}
	}
	for _, h := range r.Headers {
		fmt.Fprintf(&b, "%-11s %s = %s\n", "header", legible([]byte(h.Key), false), bytesOrNull(h.Value))
	}
	fmt.Fprintf(&b, "%-11s %s\n", "key", bytesOrNull(r.Key))
	if r.Value == nil {
		fmt.Fprintf(&b, "%-11s null\n", "value")
	} else {
		fmt.Fprintf(&b, "%-11s %d bytes\n%s\n", "value", len(r.Value), legible(r.Value, true))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func bytesOrNull(b []byte) string {
	if b == nil {
		return "null"
	}
	return legible(b, false)
}

// legible is b with what a terminal would obey or not show escaped: a byte that
// is no text is \xNN. Line breaks stay if lines says so.
func legible(b []byte, lines bool) string {
	var s strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&s, `\x%02x`, b[0])
		case unicode.IsPrint(r), lines && (r == '\n' || r == '\t'):
			s.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			s.WriteString(quoted[1 : len(quoted)-1])
		}
		b = b[n:]
	}
	return s.String()
}
