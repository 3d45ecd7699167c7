//go:build integration

// Package integration runs the weir binary between a real broker and real
// Elasticsearch nodes.
//
//	go test -tags integration ./testbed/integration
//
// Package servers says which servers are used. The real events are those of the
// folder WEIR_TEST_DATA.
package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"weir/testbed/bridge"
	"weir/testbed/broker"
	"weir/testbed/servers"
)

var (
	// set has the servers that all tests share; what a test starts for itself is
	// stopped with the rest.
	set    *servers.Set
	binDir string // of the weir binary under test
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if set, err = servers.NewSet(os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if binDir, err = os.MkdirTemp("", "weir-bin-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(binDir)
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		_ = set.Close()
		os.Exit(130)
	}()
	code := m.Run()
	if err := set.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "stopping the servers:", err)
		return 1
	}
	return code
}

// The first test that needs one starts it.
var (
	theKafka = sync.OnceValues(func() (*servers.Kafka, error) { return set.Kafka(context.Background()) })
	theNode  = sync.OnceValues(func() (*servers.Elastic, error) {
		return set.Elastic(context.Background(), servers.ElasticOptions{})
	})
	theOpenSearch = sync.OnceValues(func() (*servers.Elastic, error) {
		return set.Elastic(context.Background(), servers.ElasticOptions{
			OpenSearch: true, Settings: "thread_pool.write.size=1 thread_pool.write.queue_size=1",
		})
	})
	theBinary = sync.OnceValues(func() (string, error) {
		root, err := servers.Root()
		if err != nil {
			return "", err
		}
		return bridge.Build(context.Background(), root, binDir)
	})
)

// bed is what one test works with: names of its own on the shared servers.
type bed struct {
	*testing.T
	ctx   context.Context
	bin   string
	dir   string
	name  string // prefix of topics and indices
	kafka *servers.Kafka
	cl    *broker.Client
}

func newBed(t *testing.T, limit time.Duration) *bed {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	b := &bed{T: t, ctx: ctx, dir: t.TempDir()}
	b.name = fmt.Sprintf("it-%s-%d", strings.ToLower(strings.TrimPrefix(t.Name(), "Test")), time.Now().UnixMilli())
	b.name = strings.NewReplacer("/", "-", "_", "-").Replace(b.name)
	var err error
	if b.bin, err = theBinary(); err != nil {
		t.Fatal(err)
	}
	b.kafka, err = theKafka()
	b.need(err)
	if b.cl, err = broker.Dial(b.kafka.Addr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.cl.Close)
	return b
}

// need skips the test when there is no such server here.
func (b *bed) need(err error) {
	b.Helper()
	if errors.Is(err, servers.ErrNone) {
		b.Skip(err)
	}
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bed) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// node is the shared Elasticsearch.
func (b *bed) node() *elastic {
	b.Helper()
	n, err := theNode()
	b.need(err)
	return b.elastic(n)
}

// ownNode starts a node that this test may stop or that needs settings of its
// own.
func (b *bed) ownNode(o servers.ElasticOptions) *elastic {
	b.Helper()
	n, err := set.Elastic(b.ctx, o)
	b.need(err)
	return b.elastic(n)
}

// openSearch is the shared OpenSearch. Its queue for writes is as short as can be,
// so that it refuses part of what comes at a time.
func (b *bed) openSearch() *elastic {
	b.Helper()
	n, err := theOpenSearch()
	b.need(err)
	return b.elastic(n)
}

// config reads topic into es.
func (b *bed) config(topic string, es *elastic) *bridge.Config {
	cfg := bridge.NewConfig(b.kafka.Addr, topic, es.URL)
	cfg.Sink["flavor"] = es.Flavor
	return cfg
}

func (b *bed) elastic(n *servers.Elastic) *elastic {
	es := &elastic{Elastic: n, b: b}
	b.Cleanup(es.clean)
	return es
}

// topic makes a topic that goes away with the test, and its dead letters with it.
func (b *bed) topic(name string, partitions int32, settings map[string]string) string {
	b.Helper()
	name = b.name + name
	b.must(b.cl.CreateTopic(b.ctx, name, partitions, settings))
	b.Cleanup(func() {
		for _, t := range []string{name, name + ".dlq"} {
			if err := b.cl.DeleteTopic(context.Background(), t); err != nil {
				b.Log(err)
			}
		}
	})
	return name
}

// weir starts the bridge and ends it with the test. Its log is shown when the
// test failed.
func (b *bed) weir(name string, cfg *bridge.Config) *bridge.Process {
	b.Helper()
	p, err := bridge.Start(b.bin, b.dir, name, cfg)
	b.must(err)
	b.Cleanup(func() {
		p.Kill()
		if b.Failed() {
			b.Logf("log of %s:\n%s", name, tail(p.Log(), 60))
		}
	})
	return p
}

// command runs another weir command to its end.
func (b *bed) command(args ...string) string {
	b.Helper()
	out, err := combined(b.ctx, b.bin, args...)
	if err != nil {
		b.Fatalf("weir %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// write keeps cfg in a file for a command.
func (b *bed) write(name string, cfg *bridge.Config) string {
	b.Helper()
	path := filepath.Join(b.dir, name+".yaml")
	b.must(cfg.Write(path))
	return path
}

// eventually waits for f to report true. An error is a reason to wait as well;
// the last one is shown. A bridge that ended is not waited for.
func (b *bed) eventually(what string, p *bridge.Process, f func() (bool, error)) {
	b.Helper()
	var last error
	var exited <-chan struct{}
	if p != nil {
		exited = p.Exited()
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := f()
		if ok {
			return
		}
		if err != nil {
			last = err
		}
		select {
		case <-b.ctx.Done():
			b.Fatalf("%s: not in time; last: %v", what, last)
		case <-exited:
			b.Fatalf("%s: weir ended; last: %v", what, last)
		case <-tick.C:
		}
	}
}

func (b *bed) waitReady(p *bridge.Process) {
	b.Helper()
	b.eventually("/readyz is green", p, func() (bool, error) {
		ok, says, err := p.Ready(b.ctx)
		if err == nil && !ok {
			err = errors.New(says)
		}
		return ok, err
	})
}

// waitUnready waits until /readyz is red and says all of words.
func (b *bed) waitUnready(p *bridge.Process, words ...string) {
	b.Helper()
	b.eventually(fmt.Sprintf("/readyz is red and says %q", words), p, func() (bool, error) {
		ok, says, err := p.Ready(b.ctx)
		if err != nil {
			return false, err
		}
		for _, w := range words {
			if !strings.Contains(says, w) {
				return false, fmt.Errorf("ready=%v: %s", ok, says)
			}
		}
		return !ok, nil
	})
}

// waitCommitted waits until the group has committed everything the topic holds.
func (b *bed) waitCommitted(p *bridge.Process, group, topic string) {
	b.Helper()
	b.eventually("everything is committed", p, func() (bool, error) {
		ends, err := b.cl.Ends(b.ctx, topic)
		if err != nil {
			return false, err
		}
		committed, err := b.cl.Committed(b.ctx, group, topic)
		if err != nil {
			return false, err
		}
		for partition, end := range ends {
			if committed[partition] < end {
				return false, fmt.Errorf("partition %d: %d of %d committed", partition, committed[partition], end)
			}
		}
		return true, nil
	})
}

// waitMetric waits until the metric's sum is at least v.
func (b *bed) waitMetric(p *bridge.Process, name string, v float64) {
	b.Helper()
	b.eventually(fmt.Sprintf("%s >= %g", name, v), p, func() (bool, error) {
		m, err := p.Metrics(b.ctx)
		if err != nil {
			return false, err
		}
		got := m.Sum(name)
		return got >= v, fmt.Errorf("it is %g", got)
	})
}

// stop ends the bridge and wants a clean exit.
func (b *bed) stop(p *bridge.Process) {
	b.Helper()
	began := time.Now()
	code, err := p.Terminate(b.ctx)
	b.must(err)
	if code != 0 {
		b.Errorf("SIGTERM: exit code %d after %v, want 0", code, time.Since(began))
	}
}
