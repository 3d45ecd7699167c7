// Command with runs a command with real servers to test against: their
// addresses are in its environment as WEIR_TEST_KAFKA and WEIR_TEST_ES. It stops
// what it started when the command has ended.
//
//	go run ./testbed/with go test -tags integration ./sinks/elastic
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"weir/testbed/servers"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: with COMMAND [ARG ...]")
		os.Exit(2)
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "with:", err)
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			os.Exit(max(exit.ExitCode(), 1))
		}
		os.Exit(1)
	}
}

func run(command []string) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	set, err := servers.NewSet(os.Stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, set.Close()) }()
	kafka, err := set.Kafka(ctx)
	if err != nil {
		return err
	}
	node, err := set.Elastic(ctx, servers.ElasticOptions{})
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Env = append(os.Environ(), "WEIR_TEST_KAFKA="+kafka.Addr, "WEIR_TEST_ES="+node.URL)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}
