package demo

import (
	"bytes"
	"context"
	"errors"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// run runs a demo with a naive bridge that misbehaves as told.
func run(t *testing.T, opt Options, spoil func(*naive)) (string, error) {
	t.Helper()
	var out bytes.Buffer
	opt.Out, opt.Seed = &out, 1
	opt.Bridge = func(ctx context.Context, env Env) (Bridge, error) {
		n, err := startNaive(env)
		if err != nil {
			return nil, err
		}
		if spoil != nil {
			spoil(n)
		}
		n.run(ctx)
		return n, nil
	}
	err := Run(t.Context(), opt)
	t.Log(out.String())
	return out.String(), err
}

func wantLine(t *testing.T, out, pattern string) {
	t.Helper()
	if !regexp.MustCompile("(?m)" + pattern).MatchString(out) {
		t.Errorf("the output has no line %q", pattern)
	}
}

func TestRunCountsEveryEventThroughAnOutage(t *testing.T) {
	out, err := run(t, Options{For: 4 * time.Second, Rate: 300}, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantLine(t, out, `^\d+:\d\d  -- SIEM calm: `)
	wantLine(t, out, `^  produced +[1-9][\d,]*   `)
	wantLine(t, out, `^  dead-lettered +[1-9]\d*   `)
	wantLine(t, out, `^  lost +0   `)
	wantLine(t, out, ` = [\d,]+ produced: lost 0$`)
	if strings.Contains(out, "\x1b") {
		t.Error("escape sequences were written to something that is not a terminal")
	}
}

func TestRunFailsWhenTheBridgeLosesOneEvent(t *testing.T) {
	out, err := run(t, Options{For: time.Second, Rate: 200}, func(n *naive) {
		n.lose = func(v []byte) bool { m, ok := markOf(v); return ok && m == 17 }
	})
	if err == nil || !strings.Contains(err.Error(), "lost 1 of") {
		t.Errorf("got error %v, want one that says that 1 event was lost", err)
	}
	wantLine(t, out, `^  lost +1   `)
	wantLine(t, out, ` is not [\d,]+ produced: lost 1$`)
}

func TestRunEndsInOrderOnTheFirstInterrupt(t *testing.T) {
	signals := make(chan os.Signal, 2)
	var once sync.Once
	out, err := run(t, Options{For: time.Hour, Rate: 200, signals: signals}, func(n *naive) {
		n.lose = func([]byte) bool { once.Do(func() { signals <- os.Interrupt }); return false }
	})
	if err != nil {
		t.Fatal(err)
	}
	wantLine(t, out, ` = [\d,]+ produced: lost 0$`)
}

func TestRunEndsAtOnceOnTheSecondInterrupt(t *testing.T) {
	signals := make(chan os.Signal, 2)
	var held atomic.Int64
	out, err := run(t, Options{For: time.Hour, Rate: 200, signals: signals}, func(n *naive) {
		// With this event never done, nothing but the second interrupt ends it
		// before its time.
		n.hold = func(v []byte) bool {
			if m, ok := markOf(v); !ok || m != 0 {
				return false
			}
			if held.Add(1) <= 2 {
				signals <- syscall.SIGTERM
			}
			return true
		}
	})
	if !errors.Is(err, ErrInterrupted) {
		t.Errorf("got error %v, want ErrInterrupted", err)
	}
	if strings.Contains(out, "lost") {
		t.Error("a count was written, though nothing was counted")
	}
}

func TestRunSaysWhyTheBridgeDidNotStart(t *testing.T) {
	no := errors.New("no such luck")
	err := Run(t.Context(), Options{For: time.Second, Out: new(bytes.Buffer), Bridge: func(context.Context, Env) (Bridge, error) { return nil, no }})
	if !errors.Is(err, no) {
		t.Errorf("got error %v, want %v", err, no)
	}
}

func TestTrimLeavesWhatIsNotSettled(t *testing.T) {
	b, err := startBroker()
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	g, err := newGenerator(b.addrs(), topic, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer g.close()
	if err := g.fill(t.Context(), 600); err != nil {
		t.Fatal(err)
	}
	end := g.ends()
	below := map[int32]int64{}
	for p := range int32(partitions) {
		below[p] = end[p] / 2
	}
	if err := b.trim(t.Context(), below); err != nil {
		t.Fatal(err)
	}
	for p := range int32(partitions) {
		var left int64
		if err := b.read(t.Context(), topic, p, end[p]/2, func([]byte) { left++ }); err != nil {
			t.Fatal(err)
		}
		if left != end[p]-end[p]/2 {
			t.Errorf("partition %d: %d events are left, want %d", p, left, end[p]-end[p]/2)
		}
	}
	if got := g.produced.len(); got != 600 {
		t.Errorf("%d events are counted as produced, want 600", got)
	}
}

func TestGenerateMakesItsTopicAndGoesOnWithAnExistingOne(t *testing.T) {
	b, err := startBroker()
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	opt := GenerateOptions{Brokers: b.addrs(), Topic: "other.events", Rate: 500, For: 300 * time.Millisecond}
	count := func() (n int) {
		for p := range int32(partitions) {
			if err := b.read(t.Context(), opt.Topic, p, 0, func([]byte) { n++ }); err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	if err := Generate(t.Context(), opt); err != nil {
		t.Fatal(err)
	}
	first := count()
	if err := Generate(t.Context(), opt); err != nil {
		t.Fatal(err)
	}
	if second := count(); first == 0 || second <= first {
		t.Errorf("%d events after the first time, %d after the second", first, second)
	}
}
