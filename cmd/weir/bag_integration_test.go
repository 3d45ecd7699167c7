//go:build integration && linux

package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"weir/buffer"
	"weir/connector/evidence"
	"weir/sinks"
	"weir/sinks/archive"
	"weir/sinks/bag"
)

// A disk that is full: nothing is acknowledged, the error says why, nothing looks
// finished; and once there is room the bag is filled and finished as ever.
func TestIntegrationBagOnAFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("a small disk cannot be mounted here: %v", err)
	}
	defer func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) }()
	dir, plan, log := filepath.Join(disk, "bag"), []byte("{}\n"), slog.New(slog.DiscardHandler)
	sink, err := bag.Open(bag.Config{Dir: dir, Plan: plan, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	o := &buffer.Origin{Cluster: "c", Topic: "t", TopicID: "x"}
	acked := map[int64]bool{}
	deliver := func(offset int64) error {
		v := make([]byte, 20_000)
		_, _ = rand.Read(v)
		outcomes, err := sink.Deliver(t.Context(), batchOf(&buffer.Record{Origin: o, Offset: offset, Value: v}), nil)
		if err == nil && outcomes[0].Verdict == sinks.Ack {
			acked[offset] = true
		}
		return err
	}
	at := int64(0)
	for ; err == nil; at++ {
		err = deliver(at)
	}
	if !strings.Contains(err.Error(), "no space left on device") || !strings.Contains(err.Error(), dir) || len(acked) == 0 || acked[at-1] {
		t.Fatalf("%d acknowledged, then: %v", len(acked), err)
	}
	tags := map[string][]byte{"m": make([]byte, 200_000)}
	sink.Close()
	if err := bag.Finish(t.Context(), dir, plan, nil, tags, log); err == nil || !strings.Contains(err.Error(), "no space left on device") {
		t.Fatalf("finished: %v", err)
	}
	if b, err := bag.OpenBag(dir); err == nil {
		b.Close()
		t.Error("it looks finished")
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, "size=8m"); err != nil {
		t.Fatal(err)
	}
	if sink, err = bag.Open(bag.Config{Dir: dir, Plan: plan, Log: log}); err != nil {
		t.Fatal(err)
	}
	for end := at + 20; at < end; at++ {
		if err := deliver(at - 1); err != nil {
			t.Fatal(err)
		}
	}
	sink.Close()
	if err := bag.Finish(t.Context(), dir, plan, nil, tags, log); err != nil {
		t.Fatal(err)
	}
	b, err := bag.OpenBag(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if problems, err := b.Check(t.Context()); err != nil || problems != nil {
		t.Error(problems, err)
	}
	for r, err := range b.Records(t.Context(), o, archive.Bounds{Records: math.MaxInt64, Content: math.MaxInt64}) {
		if err != nil || !acked[r.Offset] {
			t.Errorf("%v, %v", r, err)
			continue
		}
		delete(acked, r.Offset)
	}
	if len(acked) > 0 {
		t.Errorf("acknowledged and not there: %v", acked)
	}
}

// The Library of Congress's validator, which knows nothing of weir, finds a bag
// complete and valid, and a changed one not.
func TestIntegrationBagIsValidToOthers(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not there: nobody else has looked at the bag")
	}
	c := newTestCase(t)
	venv := filepath.Join(t.TempDir(), "venv")
	run := func(name string, args ...string) (string, error) {
		out, err := exec.Command(name, args...).CombinedOutput()
		return string(out), err
	}
	must := func(name string, args ...string) {
		t.Helper()
		if out, err := run(name, args...); err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
	}
	must(python, "-m", "venv", venv)
	must(filepath.Join(venv, "bin", "pip"), "install", "--quiet", "--disable-pip-version-check", "bagit==1.8.1", "setuptools<81", "zstandard==0.25.0", "cryptography==46.0.3")
	validate := func() (string, error) {
		return run(filepath.Join(venv, "bin", "bagit.py"), "--validate", c.bag)
	}
	out, err := validate()
	if err != nil || !strings.Contains(out, "is valid") {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Log(out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:])

	// And a stranger with the page about the formats computes the same roots: from
	// the files, with nothing of weir.
	out, err = run(filepath.Join(venv, "bin", "python"), "testdata/recompute.py", c.bag)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var roots map[string]string
	if err := json.Unmarshal([]byte(out), &roots); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, topic := range c.manifest.Topics {
		for _, p := range topic.Partitions {
			name := fmt.Sprintf("%s/%d", topic.Name, p.Partition)
			if got := roots[name]; got != p.Records.Root.String() {
				t.Errorf("%s: the stranger's root is %s, the manifest's %s", name, got, p.Records.Root)
			}
			if got := roots[name+"/gaps"]; (p.GapsListed() || p.Partition == 0) && got != p.Gaps.Root.String() {
				t.Errorf("%s: the stranger's root of the gaps is %s, the manifest's %s", name, got, p.Gaps.Root)
			}
		}
	}

	// A file of the payload and one of the tags.
	for _, o := range []*buffer.Origin{nil, c.manifest.Origin(&c.manifest.Topics[0], 0)} {
		path := filepath.Join(c.bag, "weir", evidence.FileManifest)
		if o != nil {
			files, err := filepath.Glob(filepath.Join(c.bag, "data", o.Topic, "0", "*"))
			if err != nil || len(files) == 0 {
				t.Fatal(files, err)
			}
			path = files[0]
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		content[len(content)/2] ^= 1
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := validate(); err == nil {
			t.Errorf("%s was changed, and the bag is valid: %s", path, out)
		}
		content[len(content)/2] ^= 1
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
