package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"weir/config"
)

func TestAuditSaysWhoDidWhat(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.log")
	var errs bytes.Buffer
	// Not even the level may leave a line out.
	c := config.Log{Level: "error", Format: "json", AuditFile: file}
	for range 2 { // the second one appends
		a, err := openAudit(c, "weir.yaml", &errs)
		if err != nil {
			t.Fatal(err)
		}
		err = errors.Join(
			a.note("install index template", "weir-edr", nil),
			a.note("make topic", "a\nb", errors.New("no\nright")))
		if err != nil {
			t.Fatal(err)
		}
		a.close()
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	host, _ := os.Hostname()
	here, _ := filepath.Abs("weir.yaml")
	for where, text := range map[string]string{"file": string(written), "standard error": errs.String()} {
		lines := strings.Split(strings.TrimSpace(text), "\n")
		if len(lines) != 4 {
			t.Fatalf("%s: %d lines\n%s", where, len(lines), text)
		}
		for i, want := range []struct{ level, action, target, result string }{
			{"INFO", "install index template", "weir-edr", "done"}, {"ERROR", "make topic", "a\nb", "failed: no\nright"},
		} {
			var got struct{ Time, Level, Msg, Action, Target, Result, Who, Host, Config string }
			if err := json.Unmarshal([]byte(lines[i]), &got); err != nil {
				t.Fatalf("%s: %v in %s", where, err, lines[i])
			}
			if got.Msg != "audit" || got.Level != want.level || got.Action != want.action || got.Target != want.target || got.Result != want.result ||
				got.Time == "" || !strings.Contains(got.Who, "uid ") || got.Host != host || got.Config != here {
				t.Errorf("%s: %s", where, lines[i])
			}
		}
	}
}

// Names from elsewhere make no second line in the text form.
func TestAuditIsOneLine(t *testing.T) {
	var errs bytes.Buffer
	a, err := openAudit(config.Log{Format: "text"}, "weir.yaml", &errs)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.note("make topic", "a\nmsg=audit", errors.New("b\r\nc")); err != nil {
		t.Fatal(err)
	}
	if strings.Count(errs.String(), "\n") != 1 {
		t.Errorf("%q", errs.String())
	}
}

// What cannot be written down is not begun.
func TestAuditFileThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	target := filepath.Join(dir, "target")
	must(os.WriteFile(target, nil, 0o600))
	must(os.Symlink(target, filepath.Join(dir, "link")))
	must(syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	for _, name := range []string{"link", "pipe", ".", "none/audit.log"} {
		if a, err := openAudit(config.Log{Format: "text", AuditFile: filepath.Join(dir, name)}, "weir.yaml", &bytes.Buffer{}); err == nil {
			a.close()
			t.Errorf("%s is taken", name)
		} else if !strings.Contains(err.Error(), "log.audit_file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A line that is lost on a full disk is an error, not silence.
func TestAuditLineThatIsLost(t *testing.T) {
	a, err := openAudit(config.Log{Format: "text"}, "weir.yaml", full{})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.note("make topic", "a", nil); !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }
