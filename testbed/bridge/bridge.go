// Package bridge runs the weir binary as a process of its own, as an operator
// would: a configuration file, signals, the admin endpoints, the log.
package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Build compiles the weir binary into dir, with the checkout's version, and returns
// its path. WEIR_TEST_BIN names one to use instead.
func Build(ctx context.Context, root, dir string) (string, error) {
	if bin := os.Getenv("WEIR_TEST_BIN"); bin != "" {
		return filepath.Abs(bin)
	}
	bin := filepath.Join(dir, "weir")
	// Without git it is the one that Go knows.
	version, _ := exec.CommandContext(ctx, "git", "-C", root, "describe", "--tags", "--always", "--dirty").Output()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-X main.version="+strings.TrimSpace(string(version)), "-o", bin, "./cmd/weir")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building weir: %w\n%s", err, out)
	}
	return bin, nil
}

// Process is a running weir.
type Process struct {
	Admin string // http://127.0.0.1:PORT; empty: it is not a `weir run`

	cmd     *exec.Cmd
	logPath string
	logFrom int64         // bytes that those before it wrote
	done    chan struct{} // closed when the process was waited for
}

// Start runs `weir run` with cfg. Its files are kept in dir under name; the
// admin listener gets a free port of its own.
func Start(bin, dir, name string, cfg *Config, env ...string) (*Process, error) {
	listen, err := freeAddr()
	if err != nil {
		return nil, err
	}
	cfg.File["listen"] = listen
	path := filepath.Join(dir, name+".yaml")
	if err := cfg.Write(path); err != nil {
		return nil, err
	}
	p, err := Command(bin, dir, name, []string{"run", "-c", path}, env...)
	if err != nil {
		return nil, err
	}
	p.Admin = "http://" + listen
	return p, nil
}

// Command runs any command of weir. Its log is kept in dir under name, behind that
// of those who had the name before.
func Command(bin, dir, name string, args []string, env ...string) (*Process, error) {
	log, err := os.OpenFile(filepath.Join(dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	before, err := log.Stat()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(bin, args...)
	cmd.Env = append(Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd, logPath: log.Name(), logFrom: before.Size(), done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // the exit code is read from ProcessState
		close(p.done)
	}()
	return p, nil
}

// Environ is the environment without weir's own variables: they would alter the
// configuration, and those of the tests are not settings.
func Environ() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "WEIR_") })
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.done }

// ExitCode waits until the process has ended and is how it did; -1: by a signal.
func (p *Process) ExitCode() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// Log is what the process wrote to its standard output and error so far.
func (p *Process) Log() string {
	text, err := os.ReadFile(p.logPath)
	if err != nil {
		return err.Error()
	}
	return string(text[p.logFrom:])
}

// Kill ends the process as a crash would (SIGKILL).
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Terminate asks the process to end (SIGTERM) and returns its exit code.
//
// Errors: it did not end before ctx did; it is then killed.
func (p *Process) Terminate(ctx context.Context) (int, error) {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return -1, err
	}
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		p.Kill()
		return -1, fmt.Errorf("weir did not end after SIGTERM: %w", ctx.Err())
	}
}

// CPU is the processor time the ended process used, user and system.
func (p *Process) CPU() (user, system time.Duration) {
	<-p.done
	return p.cmd.ProcessState.UserTime(), p.cmd.ProcessState.SystemTime()
}

// PeakRSS is the most memory the running process held at a time, in bytes.
// It is read from /proc: what the kernel reports of an ended child includes its
// parent's memory before the exec.
func (p *Process) PeakRSS() (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("no VmHWM in the process's status")
}

// get asks an admin endpoint.
func (p *Process) get(ctx context.Context, path string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Admin+path, nil)
	if err != nil {
		return 0, "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	return res.StatusCode, string(text), err
}

// Ready asks /readyz. Not ready is no error; what it says is.
func (p *Process) Ready(ctx context.Context) (ok bool, says string, err error) {
	status, body, err := p.get(ctx, "/readyz")
	return status == http.StatusOK, body, err
}

// Alive asks /livez.
func (p *Process) Alive(ctx context.Context) (bool, error) {
	status, _, err := p.get(ctx, "/livez")
	return status == http.StatusOK, err
}

// Metrics asks /metrics.
func (p *Process) Metrics(ctx context.Context) (Metrics, error) {
	status, body, err := p.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("/metrics answered %d", status)
	}
	return parseMetrics(body)
}
