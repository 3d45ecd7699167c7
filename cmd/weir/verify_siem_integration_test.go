//go:build integration

package main

import (
	"cmp"
	"fmt"
	"os"
	"testing"
	"time"
)

func TestRealVerifySIEM(t *testing.T) {
	base := os.Getenv("WEIR_TEST_ES")
	if base == "" {
		t.Skip("WEIR_TEST_ES is not set: the URL of an Elasticsearch to test with")
	}
	newSIEMBed(t, base, cmp.Or(os.Getenv("WEIR_TEST_FLAVOR"), "elasticsearch"), fmt.Sprintf("weir-siem-%d", time.Now().UnixNano())).testSIEM()
}
