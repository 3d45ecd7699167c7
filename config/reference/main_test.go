package main

import (
	"bytes"
	"os"
	"testing"
)

func TestReferenceIsUpToDate(t *testing.T) {
	want, err := render("..")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../" + output)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/configuration.md is not what the code says; run: go generate ./config")
	}
}
