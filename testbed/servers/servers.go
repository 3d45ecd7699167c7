// Package servers finds or starts the real servers that the integration tests
// and the benchmark run against.
//
// An address in the environment wins (WEIR_TEST_KAFKA, WEIR_TEST_ES,
// WEIR_TEST_OPENSEARCH): that server belongs to somebody else and is never stopped. Else TESTBED names a
// folder with scripts that start servers (kafka/kafka-up, search/es-up, ...).
// Else the services of docker-compose.yml are used where a Docker engine
// answers. Else there is nothing, and ErrNone says what to do.
package servers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// ErrNone says that no server was found and none can be started here.
var ErrNone = errors.New("no server: set WEIR_TEST_KAFKA and WEIR_TEST_ES to addresses of servers to use, " +
	"or TESTBED to a folder of scripts that start them, or start a Docker engine")

// Set starts servers on demand and stops all it started.
type Set struct {
	dir     string // data of the servers, one folder each
	keep    bool   // the folder is not ours to remove
	log     io.Writer
	testbed string

	mu    sync.Mutex
	stops []func() error // of what runs now, in the order of starting
}

// NewSet keeps the servers' data in a folder of its own: the one that
// WEIR_TEST_RUN names, so that a caller can stop what a killed test left behind,
// or else a temporary one. What the scripts say goes to log.
func NewSet(log io.Writer) (*Set, error) {
	s := &Set{log: log, testbed: os.Getenv("TESTBED")}
	if s.testbed != "" {
		abs, err := filepath.Abs(s.testbed)
		if err != nil {
			return nil, err
		}
		if _, err := os.Stat(filepath.Join(abs, "kafka", "kafka-up")); err != nil {
			return nil, fmt.Errorf("TESTBED: %w", err)
		}
		s.testbed = abs
	}
	if dir := os.Getenv("WEIR_TEST_RUN"); dir != "" {
		s.dir, s.keep = dir, true
		return s, os.MkdirAll(dir, 0o755)
	}
	dir, err := os.MkdirTemp("", "weir-servers-")
	if err != nil {
		return nil, err
	}
	s.dir = dir
	// Elasticsearch refuses to run as root and gets another user, who has to reach its folder.
	return s, os.Chmod(dir, 0o755)
}

// Close stops every server that the set started, the last one first.
func (s *Set) Close() error {
	s.mu.Lock()
	stops := s.stops
	s.stops = nil
	s.mu.Unlock()
	var errs []error
	for i := len(stops) - 1; i >= 0; i-- {
		errs = append(errs, stops[i]())
	}
	if !s.keep {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}

func (s *Set) atClose(stop func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stops = append(s.stops, stop)
}

// script runs one of the testbed's scripts with extra environment variables.
func (s *Set) script(ctx context.Context, name string, env []string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(s.testbed, name), args...)
	cmd.Env = append(os.Environ(), env...)
	// A file, not a pipe: the server inherits it, and reading a pipe to its end
	// would wait for the server to exit.
	out, err := os.CreateTemp(s.dir, filepath.Base(name)+"-*.out")
	if err != nil {
		return err
	}
	defer func() {
		_ = out.Close()
		_ = os.Remove(out.Name())
	}()
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	said, _ := os.ReadFile(out.Name())
	_, _ = s.log.Write(said)
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(env, " "), err, lastLines(string(said), 5))
	}
	return nil
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// compose starts one service of docker-compose.yml and waits until it is
// healthy. root is the project's folder.
func (s *Set) compose(ctx context.Context, service string) error {
	root, err := Root()
	if err != nil {
		return err
	}
	if err := exec.CommandContext(ctx, "docker", "compose", "version").Run(); err != nil {
		return ErrNone
	}
	if err := exec.CommandContext(ctx, "docker", "info").Run(); err != nil {
		return ErrNone
	}
	up := exec.CommandContext(ctx, "docker", "compose", "-p", "weir-test", "up", "-d", "--wait", service)
	up.Dir, up.Stdout, up.Stderr = root, s.log, s.log
	if err := up.Run(); err != nil {
		return fmt.Errorf("docker compose up %s: %w", service, err)
	}
	s.atClose(func() error {
		down := exec.Command("docker", "compose", "-p", "weir-test", "rm", "-s", "-f", "-v", service)
		down.Dir, down.Stdout, down.Stderr = root, s.log, s.log
		return down.Run()
	})
	return nil
}

// Root is the project's folder: the nearest one above the working directory
// that has the module's go.mod.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(mod), "module weir\n") {
			return dir, nil
		}
		if filepath.Dir(dir) == dir {
			return "", errors.New("not inside the weir project")
		}
		dir = filepath.Dir(dir)
	}
}

// freePorts is the first base, from start on in steps, at which all of
// base+offsets can be listened on. Somebody else may take one before it is used;
// the scripts say so then. start differs by process, so that two runs at a time
// rarely meet, and all of it is below the ports that systems give to clients.
func freePorts(start, step int, offsets ...int) (int, error) {
	for base := start; base < start+50*step; base += step {
		free := true
		for _, o := range offsets {
			l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(base+o)))
			if err != nil {
				free = false
				break
			}
			_ = l.Close()
		}
		if free {
			return base, nil
		}
	}
	return 0, fmt.Errorf("no free ports from %d on", start)
}
