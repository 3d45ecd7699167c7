package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestSecretsShowNowhere(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "key"), []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := load([]byte(`
kafka: {brokers: ["127.0.0.1:9092"], sasl: {mechanism: PLAIN, username: u, password: hunter2}}
listen_auth: {token: "${env:TOKEN}"}
connectors: [{name: a, topics: [a], sink: {elasticsearch: {urls: ["https://a"], index: a, auth: {api_key: "${file:key}"}}}}]
`), dir, []string{"TOKEN=hunter2hunter2hunter2"})
	if err != nil {
		t.Fatal(err)
	}
	es := cfg.Connectors[0].Sink.Elasticsearch
	inside := struct{ secret Secret }{cfg.Kafka.SASL.Password} // fmt calls no methods here
	var shown bytes.Buffer
	for _, v := range []any{cfg, *cfg, cfg.Kafka.SASL, cfg.Kafka.SASL.Password, &cfg.Kafka.SASL.Password, cfg.ListenAuth, es, *es, es.Auth.APIKey, inside} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&shown, verb+"\n", v)
		}
		for _, marshal := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal} {
			out, err := marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			shown.Write(out)
		}
		slog.New(slog.NewTextHandler(&shown, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&shown, nil)).Info("m", "v", v)
		fmt.Fprintln(&shown, fmt.Errorf("login with %v", v))
	}
	if err := cfg.Print(&shown); err != nil {
		t.Fatal(err)
	}
	for _, leak := range []string{"hunter", "68756e746572", "[104 117 110"} { // as it is, %x, %d
		if strings.Contains(shown.String(), leak) {
			t.Errorf("%s is shown in\n%s", leak, shown.String())
		}
	}
	if !strings.Contains(shown.String(), "***") {
		t.Error("no *** anywhere")
	}
}

func TestSecretInAFileIsReadAnew(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "key")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one\n")
	cfg, err := load([]byte(`
kafka: {brokers: ["127.0.0.1:9092"]}
connectors: [{name: a, topics: [a], sink: {elasticsearch: {urls: ["https://a"], index: a, auth: {api_key: "${env:ID}:${file:key}$${"}}}}]
`), dir, []string{"ID=id"})
	if err != nil {
		t.Fatal(err)
	}
	key := cfg.Connectors[0].Sink.Elasticsearch.Auth.APIKey
	f := func(want string) {
		t.Helper()
		if got, err := key.Value(); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	f("id:one${")
	write("two\r\n")
	f("id:two${")
	write("${env:ID}\n") // content is not looked at for references
	f("id:${env:ID}${")

	fails := func(want string) {
		t.Helper()
		got, err := key.Value()
		if err == nil || got != "" || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %q, %v, want %s", got, err, want)
		}
	}
	write("\n")
	fails(`the secret needs the file "` + file + `", which is empty`)
	write("hunter2\nhunter2\n")
	fails("holds a control character")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	fails(`the secret needs a file that cannot be read: "` + file + `"`)
	write("three")
	f("id:three${")
}

func TestUnsetSecret(t *testing.T) {
	for _, s := range []Secret{{}, NewSecret("")} {
		if v, err := s.Value(); s.IsSet() || v != "" || err != nil || s.String() != "" {
			t.Errorf("%v %q %v", s.IsSet(), v, err)
		}
	}
}
