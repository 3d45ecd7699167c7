// Command with runs a command with real servers to test against: their
// addresses are in its environment as WEIR_TEST_KAFKA and WEIR_TEST_ES. It stops
// what it started when the command has ended. With -opensearch the server at
// WEIR_TEST_ES is an OpenSearch, there is no Kafka, and WEIR_TEST_FLAVOR says so;
// where no script starts one, the command is not run.
//
//	go run ./testbed/with go test -tags integration ./sinks/elastic
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"weir/testbed/servers"
)

func main() {
	openSearch := flag.Bool("opensearch", false, "with OpenSearch")
	flag.Usage = func() { fmt.Fprintln(os.Stderr, "usage: with [-opensearch] COMMAND [ARG ...]") }
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*openSearch, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "with:", err)
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			os.Exit(max(exit.ExitCode(), 1))
		}
		os.Exit(1)
	}
}

func run(openSearch bool, command []string) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	set, err := servers.NewSet(os.Stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, set.Close()) }()
	env := os.Environ()
	node, err := set.Elastic(ctx, servers.ElasticOptions{OpenSearch: openSearch})
	switch {
	case openSearch && errors.Is(err, servers.ErrNone):
		fmt.Fprintln(os.Stderr, "with: no OpenSearch here, skipped:", command)
		return nil
	case err != nil:
		return err
	case openSearch:
		env = append(env, "WEIR_TEST_FLAVOR="+node.Flavor)
	default:
		kafka, err := set.Kafka(ctx)
		if err != nil {
			return err
		}
		env = append(env, "WEIR_TEST_KAFKA="+kafka.Addr)
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Env = append(env, "WEIR_TEST_ES="+node.URL)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}
