package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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
			a.note(installTemplate, "weir-edr", nil),
			a.note(makeTopic, "a\nb", errors.New("no\nright")))
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
	if err := a.note(makeTopic, "a\nmsg=audit", errors.New("b\r\nc")); err != nil {
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
	if err := a.note(makeTopic, "a", nil); !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// A template of weir's for the same names is replaced under the name that it has,
// which is the one to be noted, and before anything is changed.
func TestInitNotesTheTemplateThatItReplaces(t *testing.T) {
	dir := t.TempDir()
	path, trail := filepath.Join(dir, "weir.yaml"), filepath.Join(dir, "audit.log")
	var put, before string
	es := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Elastic-Product", "Elasticsearch")
		if r.Method == http.MethodPut {
			text, _ := os.ReadFile(trail)
			put, before = r.URL.Path, string(text)
			fmt.Fprint(w, `{"acknowledged":true}`)
			return
		}
		fmt.Fprint(w, `{"index_templates":[{"name":"weir-first","index_template":{"index_patterns":["logs-*"],"template":{"mappings":{"_meta":{"weir":{"template":1}}}}}}]}`)
	}))
	defer es.Close()
	text := fmt.Sprintf("kafka: {brokers: [127.0.0.1:9]}\nlog: {audit_file: %q}\nconnectors:\n- {name: second, topics: [t], sink: {elasticsearch: {urls: [%q], index: 'logs-{topic}'}}}\n", trail, es.URL)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// What cannot be noted is not done.
	var out bytes.Buffer
	if code := execute(t.Context(), []string{"init", "-c", path}, &out, full{}); code != exitFailed || put != "" {
		t.Errorf("with a full disk: exit code %d, PUT %s", code, put)
	}
	if err := os.Remove(trail); err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	if code := execute(t.Context(), []string{"init", "-c", path}, &out, &errs); code != exitDone {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	const target = `target="weir-first for logs-*"`
	if put != "/_index_template/weir-first" || !strings.Contains(before, `action="begin to install index template" `+target) {
		t.Errorf("PUT %s after %q", put, before)
	}
	lines := auditLines(t, trail)
	if len(lines) != 2 || !strings.Contains(lines[1], `action="install index template" `+target+" result=done") {
		t.Errorf("%q", lines)
	}
}

// docs/security.md lists what is kept account of: all of it, and nothing else.
func TestAuditedActionsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Audit log\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var listed, want []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z ]+)` \\|").FindAllStringSubmatch(section, -1) {
		listed = append(listed, row[1])
	}
	for a := range actions {
		want = append(want, a.String())
	}
	if !slices.Equal(listed, want) {
		t.Errorf("listed are %q, want %q", listed, want)
	}
}
