//go:build integration

package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"weir/buffer"
	"weir/sinks"
)

const (
	plainPort  = "127.0.0.1:29392"
	securePort = "127.0.0.1:29394"
)

// secureBroker starts a real broker with a plaintext listener and one of TLS
// and all four login mechanisms, by the scripts in the folder TESTBED.
func secureBroker(t *testing.T) (dir string) {
	t.Helper()
	testbed := os.Getenv("TESTBED")
	if testbed == "" {
		t.Skip("TESTBED, a folder with kafka/kafka-up, is not set")
	}
	dir = t.TempDir()
	extra := filepath.Join(dir, "extra.properties")
	err := os.WriteFile(extra, []byte(`
sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256,PLAIN,OAUTHBEARER
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_tester="tester-secret";
listener.name.sasl_ssl.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;
listener.name.sasl_ssl.oauthbearer.sasl.server.callback.handler.class=org.apache.kafka.common.security.oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	run := func(script string, env []string, args ...string) {
		t.Helper()
		cmd := exec.Command(filepath.Join(testbed, "kafka", script), args...)
		cmd.Env = append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
	}
	data := filepath.Join(dir, "data")
	run("kafka-up", []string{"KAFKA_TLS=1", "KAFKA_PORT=29392", "KAFKA_HEAP=256m", "KAFKA_EXTRA=" + extra}, data)
	t.Cleanup(func() { run("kafka-down", nil, data) })
	run("kafka-cli", nil, "configs", "--bootstrap-server", plainPort, "--alter", "--entity-type", "users", "--entity-name", "tester",
		"--add-config", "SCRAM-SHA-256=[password=tester-secret]")
	return data
}

// unsecuredTokens issues tokens that nobody signed, as the broker's unsecured
// validator wants them, for the client secret tester-secret.
func unsecuredTokens(t *testing.T) *httptest.Server {
	part := func(v map[string]any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, secret, _ := r.BasicAuth()
		if secret != "tester-secret" {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = fmt.Fprint(w, `{"error":"invalid_client"}`)
			return
		}
		now := time.Now().Unix()
		token := part(map[string]any{"alg": "none"}) + "." + part(map[string]any{"sub": user, "iat": now, "exp": now + 3600}) + "."
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"access_token":%q,"token_type":"bearer","expires_in":3600}`, token)
	}))
	t.Cleanup(srv.Close)
	return srv
}

// untilAcked delivers b as a connector would: what is Retry goes out again. A
// new topic's leaders are announced before they lead.
func untilAcked(t *testing.T, s *Sink, b *buffer.Batch) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	for len(b.Records) > 0 {
		outcomes, err := s.Deliver(ctx, b, func(sinks.Note) {})
		if re := new(sinks.RequestError); errors.As(err, &re) && !re.Misconfigured && sleep(ctx, 100*time.Millisecond) {
			continue // a broker that has just started gives no producer id yet
		}
		if err != nil {
			t.Fatal(err)
		}
		again := &buffer.Batch{}
		for i, o := range outcomes {
			if o.Verdict != sinks.Ack {
				if o.Note == sinks.Misconfigured || ctx.Err() != nil {
					t.Fatalf("record %d: %+v", i, o)
				}
				again.Add(b.Records[i])
			}
		}
		b = again
	}
}

func TestRealBrokerSecurity(t *testing.T) {
	dir := secureBroker(t)
	ca, err := os.ReadFile(filepath.Join(dir, "tls", "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		t.Fatal("no CA")
	}
	right := &tls.Config{RootCAs: roots}
	tokens := unsecuredTokens(t)
	login := func(mechanism, password string) *SASL {
		return &SASL{
			Mechanism: mechanism, Username: "tester", Password: fixed(password),
			TokenURL: tokens.URL, TokenTLS: trusting(tokens),
		}
	}
	otherName := right.Clone()
	otherName.ServerName = "kafka.invalid"
	rotated := 0
	type attempt struct {
		o    Options
		says string // "": it works
	}
	attempts := map[string]attempt{
		"wrong CA":                {Options{Brokers: []string{securePort}, TLS: &tls.Config{}, SASL: login("PLAIN", "tester-secret")}, "not trusted"},
		"certificate of another":  {Options{Brokers: []string{securePort}, TLS: otherName, SASL: login("PLAIN", "tester-secret")}, "not for this name"},
		"TLS to plaintext port":   {Options{Brokers: []string{plainPort}, TLS: right, SASL: login("PLAIN", "tester-secret")}, "plaintext on this port"},
		"plaintext to TLS port":   {Options{Brokers: []string{securePort}}, "TLS on this port"},
		"no login":                {Options{Brokers: []string{securePort}, TLS: right}, "wants a login"},
		"login where none is due": {Options{Brokers: []string{plainPort}, SASL: login("PLAIN", "tester-secret")}, "wants no login"},
		"unknown user": {Options{Brokers: []string{securePort}, TLS: right, SASL: &SASL{
			Mechanism: "SCRAM-SHA-512", Username: "nobody", Password: fixed("tester-secret"),
		}}, "wrong user name or password"},
		"rotated SCRAM password": {Options{Brokers: []string{securePort}, TLS: right, SASL: &SASL{
			Mechanism: "SCRAM-SHA-512", Username: "tester", Password: func() (string, error) {
				rotated++
				return "tester-secret", nil
			},
		}}, ""},
	}
	for _, m := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"} {
		attempts[m] = attempt{Options{Brokers: []string{securePort}, TLS: right, SASL: login(m, "tester-secret")}, ""}
		wrong := attempt{Options{Brokers: []string{securePort}, TLS: right, SASL: login(m, "wrong-secret")}, "wrong user name or password"}
		if m == "OAUTHBEARER" {
			wrong.says = `answered 401: the token server gave no token: invalid_client`
		}
		attempts[m+" with a wrong password"] = wrong
	}
	if _, err := EnsureTopic(t.Context(), Options{Brokers: []string{plainPort}}, "secure-dlq", 3, -1); err != nil {
		t.Fatal(err)
	}
	for name, a := range attempts {
		t.Run(name, func(t *testing.T) {
			found := Check(t.Context(), a.o, Subject{Group: "secure", Topics: []string{"secure-dlq"}, DeadLetter: "secure-dlq"})
			for _, f := range found {
				t.Log(f.What, f.OK, f.Detail)
				if f.OK != (a.says == "") || !strings.Contains(f.Detail, a.says) {
					t.Errorf("check: %+v, want %q", f, a.says)
				}
			}
			s := newTestSink(t, a.o, "secure-dlq")
			if a.says == "" {
				untilAcked(t, s, letters(100, 100))
				return
			}
			_, err := s.Deliver(t.Context(), letters(100, 100), func(sinks.Note) {})
			if err == nil || !strings.Contains(err.Error(), a.says) {
				t.Errorf("sink: %v", err)
			}
			if text := fmt.Sprint(found, err); strings.Contains(text, "-secret") {
				t.Errorf("a secret in %s", text)
			}
		})
	}
	if rotated < 3 {
		t.Errorf("the SCRAM password was read %d times, want it read for each connection", rotated)
	}
}

func TestRealBrokerTakesDeadLetters(t *testing.T) {
	secureBroker(t)
	o := Options{Brokers: []string{plainPort}}
	if _, err := EnsureTopic(t.Context(), o, "letters", 3, -1); err != nil {
		t.Fatal(err)
	}
	m, err := o.Metadata(t.Context(), "letters")
	if err != nil || len(m.ClusterID) != 22 || len(m.Topics["letters"].ID) != 22 || len(m.Topics["letters"].Partitions) != 3 {
		t.Fatalf("metadata %+v, error %v", m, err)
	}
	s := newTestSink(t, o, "letters")
	future := time.Now().Add(1000 * time.Hour)
	b := letters(2000, 1000) // of events older than the topic's retention
	b.Add(&buffer.Record{Origin: origin, Value: make([]byte, 20_000_000)})
	b.Add(&buffer.Record{Origin: origin, Time: future, Value: []byte("from the future")})
	b.Add(&buffer.Record{Origin: origin})
	untilAcked(t, s, b)
	for _, r := range storedWith(t, o, "letters", len(b.Records), kgo.FetchMaxBytes(64<<20), kgo.FetchMaxPartitionBytes(64<<20)) {
		if age := time.Since(r.Timestamp); age < 0 || age > time.Hour {
			t.Errorf("stored with time %v", r.Timestamp)
		}
	}

	small := NewSink(o, "small")
	defer func() { _ = small.Close() }()
	if _, err := EnsureTopic(t.Context(), o, "small", 1, -1); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(os.Getenv("TESTBED"), "kafka", "kafka-cli"), "configs", "--bootstrap-server", plainPort, "--alter",
		"--entity-type", "topics", "--entity-name", "small", "--add-config", "max.message.bytes=20000")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	untilAcked(t, small, letters(1, 1))
	b = letters(300, 1000)
	b.Records[123].Value = make([]byte, 30_000)
	for i, out := range deliver(t, small, b) {
		if (out.Verdict == sinks.Ack) == (i == 123) {
			t.Fatalf("record %d: %+v", i, out)
		}
	}
}
