package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"weir/buffer"
	"weir/connector/evidence"
)

// bomb is a zstd frame of so many blocks, 4 bytes each, that stand for 128 Ki line
// breaks each.
func bomb(blocks int) []byte {
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0x38}
	for i := range blocks {
		header := uint32(128<<10)<<3 | 1<<1
		if i == blocks-1 {
			header |= 1
		}
		b = append(b, byte(header), byte(header>>8), byte(header>>16), '\n')
	}
	return b
}

// firstFile is the name, in the bag, of a partition's first file.
func firstFile(t *testing.T, bag, folder string) string {
	t.Helper()
	files, err := os.ReadDir(filepath.Join(bag, folder))
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	return folder + "/" + files[0].Name()
}

func TestRecordsOfAFileWhoseChecksumIsWrongAreNotRead(t *testing.T) {
	c := newTestCase(t)
	name := firstFile(t, c.bag, "data/win.security/0")
	if err := os.WriteFile(filepath.Join(c.bag, name), bomb(40), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _, code := weir(t, "verify", "--bag", c.bag, "--key", c.key+".pub")
	if code != exitFailed || !strings.Contains(out, "its SHA-256 is") || !strings.Contains(out, name+`": its checksum is wrong`) || strings.Contains(out, "line 1") {
		t.Errorf("%d %s", code, out)
	}
	if _, errs, code := weir(t, "verify", "--bag", c.bag, "--record", "win.security/0/60"); code != exitFailed || !strings.Contains(errs, name) {
		t.Errorf("something was proven from it: %d %s", code, errs)
	}
	// Another partition's is not of interest there.
	if _, errs, code := weir(t, "verify", "--bag", c.bag, "--record", "edr.events/0/81"); code != exitDone {
		t.Errorf("%d %s", code, errs)
	}
}

// Whoever can write a bag can write its checksums, too. An empty line is no record.
func TestABombWhoseChecksumFitsIsNotReadToItsEnd(t *testing.T) {
	c := newTestCase(t)
	for i := range 3 {
		name := firstFile(t, c.bag, "data/win.security/0")
		bombed := filepath.Join(c.bag, filepath.Dir(name), fmt.Sprint("a", i, filepath.Base(name)))
		if err := os.WriteFile(bombed, bomb(1<<16), 0o600); err != nil { // 8 Gi lines
			t.Fatal(err)
		}
	}
	relist(t, c.bag)
	out, _, code := weir(t, "verify", "--bag", c.bag, "--key", c.key+".pub")
	if n := strings.Count(out, "not a whole JSON object"); code != exitFailed || n == 0 || n > 100 || !strings.Contains(out, "the rest is not read") {
		t.Errorf("%d, %d faults: %s", code, n, out)
	}
}

func TestNoLinkLeadsOutOfABag(t *testing.T) {
	for _, folder := range []string{"data", "data/win.security", "data/win.security/0"} {
		c := newTestCase(t)
		inside, outside := filepath.Join(c.bag, folder), filepath.Join(c.dir, "outside")
		if err := os.Rename(inside, outside); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(outside, inside); err != nil {
			t.Fatal(err)
		}
		out, _, code := weir(t, "verify", "--bag", c.bag, "--key", c.key+".pub")
		if code != exitFailed || !strings.Contains(out, folder+": it is not a regular file") || !strings.Contains(out, "win.security/0") || strings.Contains(partitionLine(out, "win.security/0"), ": holds") {
			t.Errorf("%s: %d %s", folder, code, out)
		}
		if out, errs, code := weir(t, "verify", "--bag", c.bag, "--key", c.key+".pub", "--record", "win.security/0/60"); code != exitFailed || out != "" {
			t.Errorf("%s: a proof was made from outside of the bag: %d %s%s", folder, code, out, errs)
		}
	}
}

// partitionLine is what the text of a verdict says of a partition.
func partitionLine(out, partition string) string {
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, partition+" ") {
			return line
		}
	}
	return ""
}

// Whatever is there to be read, an interrupt ends it.
func TestAnInterruptEndsAVerification(t *testing.T) {
	c := newTestCase(t)
	key, err := evidence.LoadPublicKey(c.key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d, err := verifyManifest(ctx, filepath.Join(c.dir, "case"), key); !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err := verifyBag(ctx, c.bag, key, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", d, err)
	}
	// While the records are read.
	ctx, cancel = context.WithCancel(t.Context())
	d, err := verifyBag(ctx, c.bag, key, func(*evidence.Manifest, *buffer.Record) { cancel() }, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", d, err)
	}
}

// A pipe has nobody at its other end, and a file may be of any length: neither is
// waited for, nor read into memory.
func TestFilesOfACaseThatAreNoneAreRefused(t *testing.T) {
	c := newTestCase(t)
	key := c.key + ".pub"
	pipe, long := filepath.Join(c.dir, "pipe"), filepath.Join(c.dir, "long")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.WriteFile(long, nil, 0o600), os.Truncate(long, 1<<40)); err != nil {
		t.Fatal(err)
	}
	proof, _, _ := weir(t, "verify", "--bag", c.bag, "--record", "win.security/0/63")
	good := filepath.Join(c.dir, "proof")
	if err := os.WriteFile(good, []byte(proof), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{pipe: "not a regular file", long: "too long"} {
		for _, args := range [][]string{
			{"--manifest", path},
			{"--manifest", path, "--kafka", "-c", listening(t, "127.0.0.1:9600", "")},
			{"--proof", path},
			{"--proof", good, "--manifest", path},
		} {
			if out, errs, code := weir(t, append([]string{"verify", "--key", key}, args...)...); code != exitFailed || !strings.Contains(errs, want) {
				t.Errorf("%q: %d %s%s", args, code, out, errs)
			}
		}
		m := *c.manifest
		if _, err := readCustodies([]string{path}, &m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	// Among the files of a case they are faults, and all others are checked.
	folder := filepath.Join(c.dir, "case")
	for i, name := range []string{"public-key.pem", "manifest.json", "plan.json", "custody/1.ndjson", "checkpoints/win.security/0/records.txt", "manifest.dsse.json"} {
		if err := os.Truncate(filepath.Join(folder, name), 1<<40); err != nil {
			t.Fatal(err)
		}
		out, errs, code := weir(t, "verify", "--manifest", folder, "--key", key)
		if n := strings.Count(out, "too long"); code != exitFailed || name != "manifest.dsse.json" && n != i+1 || !strings.Contains(out, name+`: "`+name+`": the file is too long`) {
			t.Errorf("%s: %d %s%s", name, code, out, errs)
		}
	}
}
