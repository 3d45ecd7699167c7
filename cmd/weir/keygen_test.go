package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"weir/connector/evidence"
)

func TestKeygen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "case.key")
	weir := func(args ...string) (string, string, int) {
		var out, errs bytes.Buffer
		code := execute(t.Context(), args, &out, &errs)
		return out.String(), errs.String(), code
	}
	out, errs, code := weir("keygen", "--out", path)
	if code != exitDone {
		t.Fatalf("%d: %s", code, errs)
	}
	public, err := evidence.LoadPublicKey(path + ".pub")
	if err != nil || !strings.Contains(out, evidence.KeyID(public)) {
		t.Errorf("%q: %v", out, err)
	}
	if _, err := evidence.LoadKey(path); err != nil {
		t.Error(err)
	}
	if !strings.Contains(errs, `action="begin to make a signing key" target=`+path) || !strings.Contains(errs, `action="make a signing key" target="`+path+", key "+evidence.KeyID(public)+`" result=done`) {
		t.Errorf("it is not in the audit log: %q", errs)
	}
	if _, errs, code = weir("keygen", "--out", path); code != exitFailed || !strings.Contains(errs, "not written over") {
		t.Errorf("again: %d %q", code, errs)
	}
	if _, errs, code = weir("keygen"); code != exitUsage || !strings.Contains(errs, "--out") {
		t.Errorf("without a file: %d %q", code, errs)
	}
}
