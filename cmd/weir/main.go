// Command weir is a bridge from Kafka to SIEM backends.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"weir/cmd/weir/demo"
	"weir/config"
)

// version is set by the build (-ldflags "-X main.version=...").
var version = ""

// Exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2   // bad usage or configuration
	exitInterrupted = 130 // interrupted, after a clean drain
)

func main() {
	// Ours is log/slog. Here net/http quotes what a server says unasked, which can be
	// what it was sent.
	log.SetOutput(io.Discard)
	os.Exit(execute(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// errInterrupted ends a command that was told to stop by Ctrl-C and did so in
// order.
var errInterrupted = errors.New("interrupted")

// usageError is a mistake in how weir was called.
type usageError struct{ error }

func execute(ctx context.Context, args []string, out, errs io.Writer) int {
	root := &cobra.Command{
		Use:           "weir",
		Short:         "A bridge from Kafka to SIEM backends that never commits past an undelivered record",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errs)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(runCommand(), initCommand(), checkCommand(), dlqCommand(),
		rehydrateCommand(), keygenCommand(), verifyCommand(), reportCommand(),
		demoCommand(), generateCommand(), healthCommand(), versionCommand())
	for _, c := range root.Commands() {
		c.Args = func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unexpected argument %q", args[0])}
			}
			return nil
		}
	}

	err := root.ExecuteContext(ctx)
	var faults config.Faults
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errInterrupted), errors.Is(err, demo.ErrInterrupted):
		return exitInterrupted
	case errors.As(err, &faults):
		fmt.Fprintln(errs, "The configuration cannot be used:")
		for _, f := range faults {
			fmt.Fprintln(errs, "  "+cleanLine(f.String()))
		}
		return exitUsage
	case errors.As(err, &usage) || isUnknownCommand(err):
		fmt.Fprintln(errs, "weir: "+clean(err.Error()))
		fmt.Fprintln(errs, "Run 'weir --help' for the commands and their flags.")
		return exitUsage
	default:
		fmt.Fprintln(errs, "weir: "+clean(err.Error()))
		return exitFailed
	}
}

// isUnknownCommand recognises cobra's complaint about a command that there is
// not; it has no error type.
func isUnknownCommand(err error) bool {
	var s string
	_, scan := fmt.Sscanf(err.Error(), "unknown command %q", &s)
	return scan == nil
}

// loadConfig reads the configuration. A file that cannot be read is a mistake in
// how weir was called.
func loadConfig(path string) (*config.Config, error) {
	cfg, err := config.Load(path)
	var faults config.Faults
	if err != nil && !errors.As(err, &faults) {
		return nil, usageError{err}
	}
	return cfg, err
}

// openConfig reads the configuration for a command that connects to what it names.
// The command's log goes to errs; it begins with what the configuration allows and
// somebody might not have meant, such as a server that nobody verifies.
func openConfig(path string, errs io.Writer) (*config.Config, *slog.Logger, error) {
	cfg, err := loadConfig(path)
	if err != nil {
		return nil, nil, err
	}
	log := newLog(cfg.Log, errs)
	for _, w := range cfg.Warnings() {
		log.Warn("the configuration allows this", "what", w)
	}
	return cfg, log, nil
}

// newLog is the logger that the configuration asks for.
func newLog(c config.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // checked by the configuration
	opt := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(cleanJSON{w}, opt))
	}
	return slog.New(slog.NewTextHandler(w, opt))
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version and what it was built with",
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, toolchain := buildVersion()
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "weir %s (%s)\n", v, toolchain)
			return err
		},
	}
}

// buildVersion is the version that the build set, or else what Go knows.
func buildVersion() (v, toolchain string) {
	v = version
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v, "unknown"
	}
	if v == "" {
		v = info.Main.Version
	}
	if v == "" || v == "(devel)" {
		v = "devel"
	}
	return v, info.GoVersion
}
