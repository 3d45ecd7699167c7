package main

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// The test's own binary is one that a bill can be made of.
func TestBillOfABinary(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var first, second bytes.Buffer
	if err := write(&first, self, "1.0"); err != nil {
		t.Fatal(err)
	}
	if err := write(&second, self, "1.0"); err != nil || first.String() != second.String() {
		t.Errorf("the second bill differs, %v", err)
	}
	var b bom
	if err := json.Unmarshal(first.Bytes(), &b); err != nil {
		t.Fatal(err)
	}
	if b.Format != "CycloneDX" || b.Metadata.Component.Version != "1.0" || len(b.Metadata.Component.Hashes) != 1 || len(b.Metadata.Component.Hashes[0].Content) != 64 {
		t.Errorf("%+v", b)
	}
	if !slices.ContainsFunc(b.Components, func(c component) bool { return c.Name == "std" && strings.HasPrefix(c.Version, "1.") }) {
		t.Errorf("Go's library is missing: %+v", b.Components)
	}
}

func TestModule(t *testing.T) {
	f := func(path, version, want string) {
		t.Helper()
		if got := module(path, version, "").Purl; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	f("github.com/IBM/sarama", "v1.61.1", "pkg:golang/github.com/ibm/sarama@v1.61.1")
	f("go.yaml.in/yaml/v3", "v3.0.6", "pkg:golang/go.yaml.in/yaml/v3@v3.0.6")
	f("a.b/c", "v1.0.0+incompatible", "pkg:golang/a.b/c@v1.0.0%2Bincompatible")
	f("std", "1.26.8", "pkg:golang/std@1.26.8")
}

func TestFileThatIsNoBinary(t *testing.T) {
	if err := write(&bytes.Buffer{}, "main.go", "1.0"); err == nil {
		t.Error("a source file has a bill")
	}
}
