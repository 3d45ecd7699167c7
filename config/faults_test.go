package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestFaults loads testdata/bad, where each line says in comments what is wrong
// with it (# want: PATH: PROBLEM; # want0 is a fault without a line), and
// compares all faults.
func TestFaults(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"empty": "\n", "large": strings.Repeat("x", maxText+1), "lines": "a\n\n", "ca.pem": "pem",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	environ := []string{"EMPTY=", "WORD=hunter2", "LONG=" + strings.Repeat("x", 40<<10)}
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = load(data, dir, environ)
			var got Faults
			if !errors.As(err, &got) {
				t.Fatalf("got %v, want Faults", err)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a fault shows a value:\n%v", err)
			}
			order := func(a, b Fault) int { return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.String(), b.String())) }
			want := wanted(strings.ReplaceAll(string(data), "DIR", dir))
			slices.SortFunc(got, order)
			slices.SortFunc(want, order)
			for _, f := range want {
				if !slices.Contains(got, f) {
					t.Errorf("missing: %s", f)
				}
			}
			for _, f := range got {
				if !slices.Contains(want, f) {
					t.Errorf("not wanted: %s", f)
				}
			}
		})
	}
}

func wanted(file string) (want Faults) {
	for i, line := range strings.Split(file, "\n") {
		for _, w := range strings.Split(line, "# want")[1:] {
			number := i + 1
			if rest, ok := strings.CutPrefix(w, "0"); ok {
				number, w = 0, rest
			}
			path, problem, _ := strings.Cut(strings.Trim(w, ": "), ": ")
			if strings.HasSuffix(w, ", # :") { // Trim has taken the end of this one
				problem += " :"
			}
			want = append(want, Fault{Path: path, Line: number, Problem: strings.TrimSpace(problem)})
		}
	}
	return want
}

const good = `
kafka: {brokers: ["127.0.0.1:9092"]}
connectors: [{name: a, topics: [a], sink: {elasticsearch: {urls: ["http://127.0.0.1:9200"], index: a}}}]
`

func TestFaultsOfTheWholeFile(t *testing.T) {
	f := func(file, want string) {
		t.Helper()
		if _, err := load([]byte(file), t.TempDir(), nil); err == nil || err.Error() != want {
			t.Errorf("%.40q:\ngot  %v\nwant %s", file, err, want)
		}
	}
	nothing := "kafka.brokers: at least one is needed, as HOST:PORT"
	f("", "connectors: at least one is needed\n"+nothing)
	f("---\n", "connectors: at least one is needed\n"+nothing)
	f("kafka:\n", "kafka.brokers (line 1): at least one is needed, as HOST:PORT\nconnectors: at least one is needed")
	f("hello", "must hold keys (KEY: VALUE), not text\nconnectors: at least one is needed\n"+nothing)
	f(good+"---\n"+good, "line 4: a second document begins here: one file is one document")
	f(good+"---\n{", "line 5: is not YAML: did not find expected node content")
	f("kafka:\n\t- a", "line 2: is not YAML: found character that cannot start any token")
	f("password: *hunter2", "is not YAML: a value begins with * and is no known alias: put it in quotes")
	f(strings.Repeat(" ", maxFile+1), "the file is larger than 1MiB")
}

// An alias costs three bytes and can stand for a whole connector: what is read
// is bounded, and so is the time it takes.
func TestManyAliasesAreRefused(t *testing.T) {
	file := "kafka: {brokers: &b [" + strings.Repeat("a,", 1000) + "]}\nconnectors:\n- &c {topics: *b}\n" + strings.Repeat("- *c\n", 10_000)
	_, err := load([]byte(file), "", nil)
	var faults Faults
	if !errors.As(err, &faults) {
		t.Fatal(err)
	}
	n := 0
	for _, f := range faults {
		if strings.Contains(f.Problem, "comes to more than 100000 values") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d faults about it, want 1", n)
	}
	// One that holds itself ends at the depth of the types.
	if _, err := load([]byte("kafka: &k {tls: *k, sasl: *k}"), "", nil); !errors.As(err, &faults) {
		t.Fatal(err)
	}
}

func TestFaultsAreInTheOrderOfTheLines(t *testing.T) {
	_, err := load([]byte("log: {level: trace}\nmemory: 1\nx: 1\n"), "", []string{"WEIR_LISTEN=x"})
	want := `log.level (line 1): must be one of debug, info, warn, error
memory (line 2): must be at least 16MiB
x (line 3): is not a known key: known here are kafka, memory, listen, listen_auth, listen_tls, log, connectors
connectors: at least one is needed
listen (WEIR_LISTEN): must be HOST:PORT
kafka.brokers: at least one is needed, as HOST:PORT`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestVariableFaults(t *testing.T) {
	f := func(variable, want string) {
		t.Helper()
		_, err := load([]byte(good), "", []string{variable})
		if got := fmt.Sprint(err); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", variable, got, want)
		}
	}
	f("WEIR_KAFKA_CLIENTID=a", "WEIR_KAFKA_CLIENTID: is not a setting: did you mean WEIR_KAFKA_CLIENT_ID?")
	f("WEIR_CONNECTORS_0_NAME=a", "WEIR_CONNECTORS_0_NAME: is not a setting: connectors are set in the file only")
	f("WEIR_SOMETHING_ELSE=a", "WEIR_SOMETHING_ELSE: is not a setting")
	f("WEIR_\x1b[2J=a", `"WEIR_\x1b[2J": is not a setting`)
	f("WEIR_MEMORY=lots", "memory (WEIR_MEMORY): is not a size: write for example 5MiB, 64KiB, 500kB or a plain number of bytes")
	f("WEIR_MEMORY=1MiB", "connectors[0].batch.bytes (line 3): must be at most this connector's share of memory: 1MiB / 1 connectors = 1MiB\nmemory (WEIR_MEMORY): must be at least 16MiB")
	f("WEIR_KAFKA_TLS_ENABLED=1", "kafka.tls.enabled (WEIR_KAFKA_TLS_ENABLED): is neither true nor false")
	f("WEIR_KAFKA_SASL_PASSWORD=hunter\n2", "kafka.sasl.password (WEIR_KAFKA_SASL_PASSWORD): holds a control character (a line break?)")
	f("WEIR_KAFKA_BROKERS=a:1,b", "kafka.brokers[1] (WEIR_KAFKA_BROKERS): must be HOST:PORT")
	f("WEIR_LISTEN=:9600", "listen_auth.token: is needed, since listen is reachable from other machines: set one of at least 16 characters, or listen_tls.client_ca_file, or listen on 127.0.0.1")
	for _, ours := range []string{"WEIR_TEST_KAFKA=a", "WEIR_MEMORY=", "WEIR_SERVICE_HOST=a", "WEIR_SERVICE_PORT_HTTP=1",
		"WEIR_PORT=tcp://a", "WEIR_PORT_9600_TCP_ADDR=a", "WEIR_METRICS_SERVICE_HOST=a", "WEIRD=a"} {
		f(ours, "<nil>")
	}
}
