//go:build integration

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"weir/buffer"
	"weir/connector/evidence"
)

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
