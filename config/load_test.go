package config

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// mustLoad loads a file that has to be right.
func mustLoad(t *testing.T, file string, environ ...string) *Config {
	t.Helper()
	cfg, err := load([]byte(file), t.TempDir(), environ)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestLoadTheExampleOfTheReference(t *testing.T) {
	t.Setenv("KAFKA_PASSWORD", "hunter2")
	cfg, err := Load("testdata/weir.yaml")
	if err != nil {
		t.Fatal(err)
	}
	key, err := cfg.Connectors[0].Sink.Elasticsearch.Auth.APIKey.Value()
	if err != nil || key != "bm90LWEta2V5Cg==" {
		t.Errorf("api key %q, %v", key, err)
	}
	if got := cfg.Connectors[1].Start; got != "2026-01-31T00:00:00Z" {
		t.Errorf("start %q is not as it was written", got)
	}
}

func TestLoadSaysWhichFileIsMissing(t *testing.T) {
	_, err := Load("testdata/gone.yaml")
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "testdata/gone.yaml") {
		t.Error(err)
	}
}

func TestDefaultsFillWhatIsNotWritten(t *testing.T) {
	got := mustLoad(t, good)
	want := Default()
	want.Kafka.Brokers = []string{"127.0.0.1:9092"}
	es, c := DefaultElasticsearch(), DefaultConnector()
	es.URLs, es.Index = []string{"http://127.0.0.1:9200"}, "a"
	c.Name, c.Group, c.Topics, c.Sink.Elasticsearch = "a", "weir.a", []string{"a"}, &es
	want.Connectors = []Connector{c}
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("got  %+v\nwant %+v", *got, want)
	}
}

func TestWrittenZeroIsNotTakenForUnset(t *testing.T) {
	cfg := mustLoad(t, `
kafka: {brokers: ["127.0.0.1:9092"], rack: ""}
connectors:
- name: a
  topics: [a]
  batch: {linger: 0}
  sink: {elasticsearch: {urls: ["http://127.0.0.1:9200"], index: a, coordinates: false}}
- name: b
  topics: [a]
  batch: {linger: 0s}
  sink: {elasticsearch: {urls: ["http://127.0.0.1:9200"], index: a}}
`)
	a, b := cfg.Connectors[0], cfg.Connectors[1]
	if a.Batch.Linger != 0 || b.Batch.Linger != 0 || a.Sink.Elasticsearch.Coordinates {
		t.Errorf("linger %s and %s, coordinates %v", a.Batch.Linger, b.Batch.Linger, a.Sink.Elasticsearch.Coordinates)
	}
	if a.Batch.Records != 5000 || !b.Sink.Elasticsearch.Coordinates {
		t.Error("what is not written beside it has lost its default")
	}
}

func TestConnectorsShareNoDefaults(t *testing.T) {
	cfg := mustLoad(t, `
kafka: {brokers: ["127.0.0.1:9092"]}
connectors:
- {name: a, topics: [a, b], in_flight: {max: 2}, sink: {elasticsearch: {urls: ["http://127.0.0.1:9200"], index: a, op: index}}}
- {name: b, topics: [c], sink: {elasticsearch: {urls: ["http://127.0.0.1:9201"], index: b}}}
`)
	b := cfg.Connectors[1]
	if b.InFlight.Max != 8 || b.Sink.Elasticsearch.Op != "create" || !slices.Equal(b.Topics, []string{"c"}) {
		t.Errorf("%+v %+v", b, b.Sink.Elasticsearch)
	}
}

// Each of these went wrong with viper alone.
func TestVipersTraps(t *testing.T) {
	t.Run("case of names", func(t *testing.T) {
		cfg := mustLoad(t, strings.ReplaceAll(good, "name: a, topics: [a]", "name: EDR.Prod, topics: [EDR.Events]"))
		if c := cfg.Connectors[0]; c.Name != "EDR.Prod" || c.Topics[0] != "EDR.Events" || c.Group != "weir.EDR.Prod" {
			t.Errorf("%+v", c)
		}
	})
	t.Run("a variable whose key the file does not have", func(t *testing.T) {
		if cfg := mustLoad(t, good, "WEIR_KAFKA_RACK=b"); cfg.Kafka.Rack != "b" {
			t.Errorf("rack %q", cfg.Kafka.Rack)
		}
	})
	t.Run("a variable beside written keys of its section", func(t *testing.T) {
		cfg := mustLoad(t, "log: {format: json}\n"+good, "WEIR_LOG_LEVEL=debug")
		if cfg.Log != (Log{Level: "debug", Format: "json"}) {
			t.Errorf("%+v", cfg.Log)
		}
	})
	t.Run("commas in text", func(t *testing.T) {
		cfg := mustLoad(t, strings.ReplaceAll(good, "topics: [a]", `topics_pattern: "a{1,2}"`))
		if got := cfg.Connectors[0].TopicsPattern; got != "a{1,2}" {
			t.Errorf("%q", got)
		}
	})
	t.Run("an empty section", func(t *testing.T) {
		if cfg := mustLoad(t, "log:\nlisten_auth: {}\n"+good); cfg.Log != Default().Log {
			t.Errorf("%+v", cfg.Log)
		}
	})
	t.Run("the real environment", func(t *testing.T) {
		t.Setenv("LISTEN", "x")
		t.Setenv("WEIR_LISTEN", "x") // load was given none
		if cfg := mustLoad(t, good); cfg.Listen != Default().Listen {
			t.Errorf("%q", cfg.Listen)
		}
	})
}

func TestVariablesOverrideEveryKeyAboveConnectors(t *testing.T) {
	file := `
kafka: {brokers: ["127.0.0.1:1"], client_id: file, tls: {enabled: false}, sasl: {mechanism: PLAIN, password: file}}
memory: 16MiB
` + strings.SplitN(good, "\n", 3)[2]
	cfg := mustLoad(t, file,
		"WEIR_KAFKA_BROKERS=a:1, b:2", "WEIR_KAFKA_CLIENT_ID=variable", "WEIR_KAFKA_TLS_ENABLED=true",
		"WEIR_KAFKA_SASL_USERNAME=12345", "WEIR_KAFKA_SASL_PASSWORD=${env:X}", "WEIR_MEMORY=67108864", "WEIR_LISTEN=[::1]:0",
		"WEIR_LISTEN_AUTH_TOKEN=0123456789abcdef", "WEIR_LOG_LEVEL=error", "WEIR_LOG_FORMAT=json",
		"WEIR_KAFKA_TLS_INSECURE_SKIP_VERIFY=TRUE", "WEIR_KAFKA_TLS_SERVER_NAME=s", "WEIR_KAFKA_RACK=r")
	password, _ := cfg.Kafka.SASL.Password.Value()
	token, _ := cfg.ListenAuth.Token.Value()
	if password != "${env:X}" || token != "0123456789abcdef" {
		t.Errorf("password %q, token %q", password, token)
	}
	cfg.Connectors, cfg.ListenAuth, cfg.Kafka.SASL.Password = nil, ListenAuth{}, Secret{}
	want := Config{
		Kafka: Kafka{Brokers: []string{"a:1", "b:2"}, ClientID: "variable", Rack: "r",
			TLS:  TLS{Enabled: true, InsecureSkipVerify: true, ServerName: "s"},
			SASL: SASL{Mechanism: SASLPlain, Username: "12345"}},
		Memory: 64 << 20, Listen: "[::1]:0", Log: Log{Level: "error", Format: "json"},
	}
	if !reflect.DeepEqual(*cfg, want) {
		t.Errorf("got  %+v\nwant %+v", *cfg, want)
	}
}

func TestVariableNamesAreUnique(t *testing.T) {
	seen := map[string]string{}
	for _, k := range Keys() {
		if k.Variable == "" {
			continue
		}
		if seen[k.Variable] != "" || serviceVariable.MatchString(k.Variable) {
			t.Errorf("%s: %s and %s", k.Variable, seen[k.Variable], k.Path)
		}
		seen[k.Variable] = k.Path
	}
}

func TestRelativePathsStartAtTheFile(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"ca.pem", "token"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("0123456789abcdef\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "weir.yaml")
	err := os.WriteFile(file, []byte(`
kafka: {brokers: [a:1], tls: {enabled: true, ca_file: ca.pem}}
listen_auth: {token: "${file:token}"}
connectors: [{name: a, topics: [a], dead_letter: {file: a.dlq}, sink: {elasticsearch: {urls: ["http://127.0.0.1"], index: a}}}]
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := []string{cfg.Kafka.TLS.CAFile, cfg.Connectors[0].DeadLetter.File}; !slices.Equal(got,
		[]string{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "a.dlq")}) {
		t.Error(got)
	}
}

func TestScalars(t *testing.T) {
	f := func(s string, want any) {
		t.Helper()
		var got any
		var err error
		switch want.(type) {
		case Bytes:
			got, err = ParseBytes(s)
		case time.Duration:
			got, err = parseDuration(s)
		}
		if err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", s, got, err, want)
		}
	}
	f("5MiB", Bytes(5<<20))
	f("64KiB", Bytes(64<<10))
	f("1GiB", Bytes(1<<30))
	f("500kB", Bytes(500_000))
	f("5MB", Bytes(5_000_000))
	f("1GB", Bytes(1_000_000_000))
	f("123", Bytes(123))
	f("0", time.Duration(0))
	f("0s", time.Duration(0))
	f("1m30s", 90*time.Second)
	for _, s := range []string{"", "MiB", "-1", "1.5MiB", "5mib", "5M", "9223372036854775808", "9007199254740993GiB"} {
		if b, err := ParseBytes(s); err == nil {
			t.Errorf("%q became %d", s, b)
		}
	}
	for _, s := range []string{"", "5", "-5", "1d", "5 s"} {
		if d, err := parseDuration(s); err == nil {
			t.Errorf("%q became %s", s, d)
		}
	}
	if n, err := Bytes(1500).String(), Bytes(3<<30).String(); n != "1500" || err != "3GiB" {
		t.Error(n, err)
	}
}

func TestAcceptedTemplatesAndIDs(t *testing.T) {
	for _, s := range []string{"a", "security-{topic}", "{topic}-{partition}-{time:2006.01.02}", "logs-{event.dataset}-default",
		"{@timestamp}", "{Event ID}", "a-{time:Jan-2006}", ".internal", "größe"} {
		if p := indexProblem(s); p != "" {
			t.Errorf("%s %s", s, p)
		}
	}
	for _, s := range []string{"offset", "key", "none", "{event.id}"} {
		if !legalID(s) {
			t.Errorf("%s is refused", s)
		}
	}
	for _, s := range []string{"", "Offset", "{}", "{a", "a}", "{a}{b}", "{a:b}", "{" + strings.Repeat("a.", 16) + "a}"} {
		if legalID(s) {
			t.Errorf("%q is accepted", s)
		}
	}
}

// What Print writes is a configuration again: the same one, but for the secrets.
func TestPrintIsTheEffectiveConfiguration(t *testing.T) {
	cfg := mustLoad(t, printed, "RACK=zone", "WEIR_LOG_LEVEL=warn")
	var first, second bytes.Buffer
	if err := cfg.Print(&first); err != nil {
		t.Fatal(err)
	}
	out := first.String()
	if strings.Contains(out, "hunter2") || !strings.Contains(out, "password: '***'") {
		t.Errorf("secrets:\n%s", out)
	}
	for _, k := range Keys() {
		if sink, ok := strings.CutPrefix(k.Path, "connectors[].sink."); ok && !strings.HasPrefix(sink, "elasticsearch") {
			continue // another kind than this connector's
		}
		name := strings.TrimSuffix(k.Path[strings.LastIndexByte(k.Path, '.')+1:], "[]")
		if !strings.Contains(out, name+":") {
			t.Errorf("%s is missing", k.Path)
		}
	}
	again := mustLoad(t, out)
	if err := again.Print(&second); err != nil {
		t.Fatal(err)
	}
	if out != second.String() {
		t.Errorf("first\n%s\nsecond\n%s", out, second.String())
	}
	if again.Kafka.Rack != "a${b} zone: #" || again.Log.Level != "warn" {
		t.Errorf("%q %q", again.Kafka.Rack, again.Log.Level)
	}
}

// printed has text that YAML would take for something else.
const printed = `
kafka: {brokers: ["127.0.0.1:9092"], client_id: "123", rack: "a$${b} ${env:RACK}: #", sasl: {mechanism: PLAIN, username: "yes", password: hunter2}}
connectors: [{name: "2026-01-01", topics: ["0x10", "null"], start: 2026-01-31T00:00:00Z, drain: 59s, sink: {elasticsearch: {urls: ["http://127.0.0.1:9200"], index: a}}}]
`
