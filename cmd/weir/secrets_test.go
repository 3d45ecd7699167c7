package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"weir/config"
)

// safeBuffer takes the log of a bridge that runs.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// secretFields counts the keys of weir.yaml that hold a secret.
func secretFields(t reflect.Type) (n int) {
	switch {
	case t == reflect.TypeFor[config.Secret]():
		return 1
	case t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer:
		return secretFields(t.Elem())
	case t.Kind() == reflect.Struct:
		for i := range t.NumField() {
			n += secretFields(t.Field(i).Type)
		}
	}
	return n
}

// Every secret of the configuration is a word that is looked for in everything
// that check, init and run write, at the level that says most, and in everything
// that the listener answers, while neither end can be reached, hangs up, answers
// what it was sent, or explains an error in words that hold it.
func TestSecretsShowNowhere(t *testing.T) {
	// Four are looked for here: the token, the Kafka password, the API key, the
	// password. The other sinks' are looked for in their own packages' tests.
	if n := secretFields(reflect.TypeFor[config.Config]()); n != 11 {
		t.Fatalf("there are %d keys that hold secrets, known are 11: where is the new one looked for?", n)
	}
	const token, kafkaSecret, apiKey, password = "TokenMarker0123456789", "KafkaMarker0123456789", "KeyMarker0123456789", "PassMarker0123456789"
	var shown []string
	for _, m := range []string{token, kafkaSecret, apiKey, password, "user:" + password, "user:" + kafkaSecret} {
		shown = append(shown, m, hex.EncodeToString([]byte(m)), base64.StdEncoding.EncodeToString([]byte(m)), fmt.Sprintf("%v", []byte(m)))
	}
	shown = append(shown, "Marker")
	for _, end := range []string{"nobody", "hangs up", "echoes", "explains", "forgets HTTP"} {
		for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-512", "OAUTHBEARER"} {
			for _, format := range []string{"text", "json"} {
				t.Run(end+" "+mechanism+" "+format, func(t *testing.T) {
					addr := theEnd(t, end)
					broker := addr
					dir := t.TempDir()
					oauth := ""
					if mechanism == "OAUTHBEARER" {
						broker = greeter(t) // without it the token server would not be asked
						oauth = "\n    token_url: http://" + addr + "/token"
					}
					// A secret as it is, from the environment, and from a file.
					t.Setenv("WEIR_KAFKA_SASL_PASSWORD", kafkaSecret)
					t.Setenv("A_PASSWORD", password)
					if err := os.WriteFile(filepath.Join(dir, "key"), []byte(apiKey+"\n"), 0o600); err != nil {
						t.Fatal(err)
					}
					path := filepath.Join(dir, "weir.yaml")
					err := os.WriteFile(path, fmt.Appendf(nil, `
kafka:
  brokers: ["%[7]s"]
  sasl:
    mechanism: %[2]s
    username: user%[3]s
listen: %[4]s
listen_auth: {token: %[5]s}
log: {level: debug, format: %[6]s, audit_file: audit.log}
connectors:
- name: a
  topics: [a]
  dead_letter: {topic: dead, reasons: full}
  retry: {initial: 1ms, max: 10ms}
  drain: 1s
  sink: {elasticsearch: {urls: ["http://%[1]s"], index: a, auth: {api_key: "${file:key}"}}}
- name: b
  topics: [b]
  sink: {elasticsearch: {urls: ["http://%[1]s"], index: b, auth: {username: user, password: "${env:A_PASSWORD}"}}}
`, addr, mechanism, oauth, freeAddress(t), token, format, broker), 0o600)
					if err != nil {
						t.Fatal(err)
					}
					out := new(safeBuffer)
					ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
					defer stop()
					for _, args := range [][]string{{"check"}, {"check", "--print"}, {"check", "--online"}, {"init", "--print"}, {"init"}} {
						command, cancel := context.WithTimeout(ctx, 2*time.Second)
						execute(command, append(args, "-c", path), out, out)
						cancel()
					}
					cfg, err := config.Load(path)
					if err != nil {
						t.Fatal(err)
					}
					run, quit := context.WithCancel(ctx)
					ended := make(chan struct{})
					go func() {
						defer close(ended)
						execute(run, []string{"run", "-c", path}, out, out)
					}()
					answers := 0
					for deadline := time.Now().Add(10 * time.Second); answers < 3 && time.Now().Before(deadline); {
						if askAll(t, cfg.Listen, token, out) {
							answers++
						}
						time.Sleep(100 * time.Millisecond) // the bridge has to get around to its failures
					}
					quit()
					<-ended
					if answers < 3 {
						t.Fatalf("the listener did not answer:\n%s", out)
					}
					text := out.String()
					audit, _ := os.ReadFile(filepath.Join(dir, "audit.log")) // there once init made something
					text += string(audit)
					if !strings.Contains(text, "***") || !strings.Contains(text, "weir runs") || !strings.Contains(text, "weir_build_info") {
						t.Errorf("nothing was looked at:\n%s", text)
					}
					for _, s := range shown {
						if at := strings.Index(text, s); at >= 0 {
							t.Errorf("%q is shown: %q", s, text[max(0, at-200):min(len(text), at+100)])
						}
					}
				})
			}
		}
	}
}

// askAll writes to out what the listener answers, and reports whether it does.
func askAll(t *testing.T, addr, token string, out io.Writer) bool {
	for _, path := range []string{"/livez", "/readyz", "/metrics", "/status", "/debug/pprof/cmdline", "/nothing"} {
		for _, sent := range []string{"Bearer " + token, "Bearer x" + token, ""} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", sent)
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				return false
			}
			_ = res.Write(out)
			_ = res.Body.Close()
		}
	}
	return true
}

// theEnd is the address of a server that nobody would want.
func theEnd(t *testing.T, how string) string {
	t.Helper()
	if how == "nobody" {
		return freeAddress(t)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if how == "hangs up" {
					return
				}
				b := make([]byte, 4<<10)
				_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
				n, err := conn.Read(b)
				if err != nil {
					return
				}
				isHTTP := bytes.Contains(b[:n], []byte("HTTP/1.1"))
				switch {
				case isHTTP && how == "explains":
					// In the form of an error of OAuth 2 (RFC 6749 5.2).
					said := quoteCredentials(b[:n])
					_, _ = fmt.Fprintf(conn, "HTTP/1.1 401 Unauthorized\r\nX-Elastic-Product: Elasticsearch\r\nContent-Type: application/json\r\n"+
						"Content-Length: %d\r\n\r\n%s", len(said), said)
					return
				case isHTTP && how == "forgets HTTP":
					_, _ = fmt.Fprintf(conn, "%s\r\n\r\n", quoteCredentials(b[:n]))
					return
				case isHTTP:
					// As a proxy that is set to tell everything about a request.
					_, _ = fmt.Fprintf(conn, "HTTP/1.1 400 Bad Request\r\nX-Elastic-Product: Elasticsearch\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", n, b[:n])
					return
				}
				_, _ = conn.Write(b[:n])
			}()
		}
	}()
	return l.Addr().String()
}

// What a server says behind an answer, when nothing was asked, is quoted by net/http
// on standard error, by the side of every log.
func TestWordsThatNobodyAskedForShowNowhere(t *testing.T) {
	const token = "TokenMarker0123456789"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for in := bufio.NewReader(conn); ; {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}%s", r.Header.Get("Authorization"))
				}
			}()
		}
	}()
	dir := t.TempDir()
	path, bin := filepath.Join(dir, "weir.yaml"), filepath.Join(dir, "weir")
	err = os.WriteFile(path, fmt.Appendf(nil, `
kafka: {brokers: ["%s"]}
connectors: [{name: a, topics: [a], sink: {splunk_hec: {urls: ["http://%s"], token: %s}}}]
`, freeAddress(t), l.Addr(), token), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, bin); err != nil {
		t.Fatal(err)
	}
	out, _ := exec.CommandContext(t.Context(), bin, "check", "--online", "-c", path).CombinedOutput()
	if !strings.Contains(string(out), "sink splunk_hec") || strings.Contains(string(out), token) {
		t.Errorf("%s", out)
	}
}

// greeter is the address of a broker that goes as far as to ask for an OAUTHBEARER
// login, and hangs up.
func greeter(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	greet := func(conn net.Conn) {
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		for {
			var head [12]byte // length, key, version, correlation id
			if _, err := io.ReadFull(conn, head[:]); err != nil {
				return
			}
			if _, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(head[:]))-8); err != nil {
				return
			}
			var answer kmsg.Response
			switch key, version := binary.BigEndian.Uint16(head[4:]), int16(binary.BigEndian.Uint16(head[6:])); key {
			case uint16(kmsg.ApiVersions):
				a := kmsg.NewPtrApiVersionsResponse()
				for key := kmsg.Produce; key <= kmsg.SASLAuthenticate; key++ {
					a.ApiKeys = append(a.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: key.Int16(), MaxVersion: kmsg.RequestForKey(key.Int16()).MaxVersion()})
				}
				answer = a
				answer.SetVersion(version)
			case uint16(kmsg.SASLHandshake):
				a := kmsg.NewPtrSASLHandshakeResponse()
				a.SupportedMechanisms = []string{"OAUTHBEARER"}
				answer = a
				answer.SetVersion(version)
			default:
				return
			}
			out := append(make([]byte, 4), head[8:]...)
			out = answer.AppendTo(out)
			binary.BigEndian.PutUint32(out, uint32(len(out)-4))
			if _, err := conn.Write(out); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go greet(conn)
		}
	}()
	return l.Addr().String()
}

// quoteCredentials is JSON that explains with everything there is in request to log
// in with, decoded, why it was refused. OAuth 2 can have it in the body.
func quoteCredentials(request []byte) string {
	_, body, _ := strings.Cut(string(request), "\r\n\r\n")
	said := body[max(0, len(body)-100):] + " "
	for line := range strings.Lines(string(request)) {
		if header, ok := strings.CutPrefix(strings.TrimSpace(line), "Authorization: "); ok {
			said += header
			if _, encoded, ok := strings.Cut(header, " "); ok {
				if plain, err := base64.StdEncoding.DecodeString(encoded); err == nil {
					said += " " + string(plain)
				}
			}
		}
	}
	text, _ := json.Marshal("wrong: " + said)
	return fmt.Sprintf(`{"error":"invalid_client","error_description":%[1]s,"error_uri":%[1]s}`, text)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
