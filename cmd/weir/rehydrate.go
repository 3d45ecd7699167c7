package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/config"
	"weir/connector/replay"
)

func rehydrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rehydrate",
		Short: "Read a time range of the log once more, into a SIEM, with evidence of what was read",
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(rehydratePlanCommand(), rehydrateRunCommand(), rehydrateStatusCommand(), rehydrateCancelCommand(), rehydrateSealCommand())
	return cmd
}

// rateFlags are the bounds on how fast a worker reads.
type rateFlags struct{ bytes, records string }

func (f *rateFlags) add(cmd *cobra.Command, what string) {
	cmd.Flags().StringVar(&f.bytes, "rate-bytes", "", "at most that many bytes of records a second, "+what+": `20MiB/s`")
	cmd.Flags().StringVar(&f.records, "rate-records", "", "at most that many records a second, "+what+": `5000/s`")
}

func (f *rateFlags) parse() (r replay.Rates, err error) {
	number := func(flag, text string, read func(string) (int64, error)) (int64, error) {
		if text == "" {
			return 0, nil
		}
		n, err := read(strings.TrimSuffix(text, "/s"))
		if err == nil && n < 1 {
			err = errors.New("is not a rate above 0")
		}
		if err != nil {
			return 0, usageError{fmt.Errorf("--%s %q %w", flag, text, err)}
		}
		return n, nil
	}
	r.Bytes, err = number("rate-bytes", f.bytes, func(s string) (int64, error) {
		n, err := config.ParseBytes(s)
		return int64(n), err
	})
	if err != nil {
		return r, err
	}
	r.Records, err = number("rate-records", f.records, func(s string) (int64, error) {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			err = errors.New("is not a number of records a second, such as 5000/s")
		}
		return n, err
	})
	return r, err
}

// createNew writes a file that must not be there yet.
//
// Errors: it is there, or cannot be written to the end; nothing is left of it
// then.
func createNew(path string, text []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return usageError{fmt.Errorf("%s exists already, and is not written over", path)}
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(path)
	}
	return err
}

// grouped is a number as people read it; below zero: not known.
func grouped(n int64) string {
	if n < 0 {
		return "?"
	}
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// size is a number of bytes as people read it; below zero: not known.
func size(n int64) string {
	if n < 0 {
		return "?"
	}
	unit, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	for unit >= 1024 && len(units) > 1 {
		unit, units = unit/1024, units[1:]
	}
	if units[0] == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", unit, units[0])
}

// span is a length of time as people read it.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return fmt.Sprintf("%.1f days", d.Hours()/24)
}

// say writes a line that other people's names may be in.
func say(out io.Writer, format string, args ...any) {
	fmt.Fprintln(out, cleanLine(fmt.Sprintf(format, args...)))
}
