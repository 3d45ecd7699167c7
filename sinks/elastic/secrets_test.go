package elastic

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// allSaid is every text that leaves a sink because of what a server said.
func allSaid(t *testing.T, s *Sink) (said []string) {
	t.Helper()
	add := func(text string, err error) {
		if err != nil {
			text += err.Error()
		}
		said = append(said, text)
	}
	out, err := s.Deliver(t.Context(), batch(record(1, `{}`)), nil)
	text := ""
	for _, o := range out {
		text += o.Reason
	}
	add(text, err)
	info, err := s.Ping(t.Context())
	add(fmt.Sprint(info), err)
	add(s.CheckTemplate(t.Context()))
	body, err := Template("", []string{"events"}, false)
	if err != nil {
		t.Fatal(err)
	}
	add("", s.InstallTemplate(t.Context(), "weir-events", body, nil))
	return said
}

// answeredWith is a whole answer of any status.
func answeredWith(status int, header, body string) string {
	return fmt.Sprintf("HTTP/1.1 %d X\r\nX-Elastic-Product: Elasticsearch\r\n%sContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, header, len(body), body)
}

// A proxy in debug mode, or a server that explains too much, sends our own header
// back. Errors go to logs, metrics pages and dead letters, where many can read.
func TestCredentialsThatComeBackShowNowhere(t *testing.T) {
	const name, password = "weir-writer", `Pa"ss\wörd-01`
	const id, key = "VuaCfGcBCdbkQm-e5aOx", "ui2lp2axTNmsyakw9tvNnw"
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
	apiKey := "ApiKey " + base64.StdEncoding.EncodeToString([]byte(id+":"+key))
	asJSON := func(s string) string {
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	places := map[string]struct {
		answer func(echo string) string
		shows  int // of the four calls, how many quote it
	}{
		"an item's reason": {func(echo string) string {
			return answeredWith(200, "", `{"items":[{"create":{"status":400,"error":{"type":"x","reason":`+asJSON("you sent "+echo+" here")+`}}}]}`)
		}, 1},
		"an item's type": {func(echo string) string {
			return answeredWith(200, "", `{"items":[{"create":{"status":429,"error":{"type":`+asJSON(echo)+`}}}]}`)
		}, 1},
		"an item's missing right": {func(echo string) string {
			return answeredWith(200, "", `{"items":[{"create":{"status":403,"error":{"type":"security_exception","reason":`+
				asJSON("action ["+echo+"] is unauthorized for x, this action is granted by y")+`}}}]}`)
		}, 1},
		"an explanation": {func(echo string) string {
			return answeredWith(500, "", `{"error":{"type":"x","reason":`+asJSON(strings.Repeat("x", 900)+echo+echo)+`}}`)
		}, 4},
		"a long explanation": {func(echo string) string {
			return answeredWith(500, "", `{"error":{"type":"x","reason":`+asJSON(strings.Repeat("x", 900)+strings.Repeat(echo, 200))+`}}`)
		}, 4},
		"a missing right": {func(echo string) string {
			return answeredWith(403, "", `{"error":{"type":"security_exception","reason":`+asJSON("action ["+echo+"] is unauthorized for x, this action is granted by y")+`}}`)
		}, 2},
		"a header": {func(echo string) string {
			return fmt.Sprintf("HTTP/1.1 502 X\r\nContent-Type: a-%s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", echo)
		}, 1},
		"a status line": {func(echo string) string { return "HTTP/1.1 " + echo[strings.LastIndex(echo, " ")+1:] + "\r\n\r\n" }, 4},
		"a broken header": {func(echo string) string {
			return "HTTP/1.1 200 OK\r\nX-Elastic-Product: Elasticsearch\r\n\x01 " + echo + ": x\r\n\r\n"
		}, 4},
		"a broken trailer": {func(echo string) string {
			return genuine + "Transfer-Encoding: chunked\r\nTrailer: A\r\n\r\n2\r\n{}\r\n0\r\n\x01 " + echo + ": x\r\n\r\n"
		}, 4},
		"names": {func(echo string) string {
			return answeredWith(200, "", `{"name":`+asJSON(echo)+`,"version":{"number":"9"}}`)
		}, 1},
	}
	for _, c := range []struct {
		authorization string
		hidden        []string // each must not show
	}{
		{basic, []string{basic, basic[len("Basic "):], name + ":" + password, password}},
		{apiKey, []string{apiKey, apiKey[len("ApiKey "):], id + ":" + key, key, id}},
		{"Bearer abcdefgh.ijklmnop", []string{"abcdefgh.ijklmnop"}},
		{"no-scheme-0123", []string{"no-scheme-0123"}},
	} {
		for where, place := range places {
			for _, echo := range c.hidden {
				for _, rotated := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/%.6s/%d/%v", where, c.authorization, len(echo), rotated), func(t *testing.T) {
						answer := place.answer(echo)
						if rotated {
							answer = answeredWith(401, "", "{}")
						}
						s := hostile(t, 30*time.Second, func(w io.Writer) { _, _ = io.WriteString(w, answer) })
						s.cfg.IncludeReasons = true
						s.cfg.Authorization = func() (string, error) { return c.authorization, nil }
						if rotated {
							// What is refused is read anew, and is another by then.
							if _, err := s.Deliver(t.Context(), batch(record(1, `{}`)), nil); err == nil {
								t.Fatal("taken")
							}
							s.cfg.Authorization = func() (string, error) { return "Bearer the-new-one", nil }
							answer = place.answer(echo)
						}
						shown := 0
						for i, text := range allSaid(t, s) {
							for _, secret := range c.hidden {
								for _, form := range []string{secret, strings.Trim(fmt.Sprintf("%q", secret), `"`), strings.TrimRight(secret, "=")} {
									if strings.Contains(text, form) {
										t.Errorf("call %d shows %q: %q", i, form, text)
									}
								}
							}
							if strings.Contains(text, "***") {
								shown++
							}
						}
						if shown != place.shows {
							t.Errorf("%d of the calls quote it, want %d: %q", shown, place.shows, allSaid(t, s))
						}
					})
				}
			}
		}
	}
}

// Names of what others made on the cluster are shown in warnings and errors.
func TestCredentialsInNamesShowNowhere(t *testing.T) {
	const secret = `to"ken-0123`
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Elastic-Product", "Elasticsearch")
		switch {
		case r.Method == http.MethodPut:
			w.WriteHeader(http.StatusBadRequest)
		case r.URL.Path == "/_index_template":
			_, _ = io.WriteString(w, `{"index_templates":[`+
				`{"name":"to\"ken-0123","index_template":{"index_patterns":["events"],"priority":1,"template":{"mappings":{"_meta":{"weir":{"template":1}}}}}},`+
				`{"name":"x","index_template":{"index_patterns":["e*","to\"ken-0123"],"priority":9}}]}`)
		case strings.HasPrefix(r.URL.Path, "/events/_settings"):
			_, _ = io.WriteString(w, `{"to\"ken-0123":{}}`)
		default:
			_, _ = io.WriteString(w, `{}`)
		}
	}))
	defer srv.Close()
	cfg := testConfig(srv.URL)
	cfg.Authorization = func() (string, error) { return "Bearer " + secret, nil }
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	said := allSaid(t, s)
	for _, i := range []int{2, 3} { // CheckTemplate, InstallTemplate
		if text := said[i]; !strings.Contains(text, "***") || strings.Contains(text, "ken-0123") {
			t.Errorf("%q", text)
		}
	}
}

// A user name is no secret: without it no missing right could be understood. Nor
// may a short password make all texts unreadable.
func TestWhatIsNoSecretStays(t *testing.T) {
	f := func(authorization, text, want string) {
		t.Helper()
		var s secrets
		s.learn(authorization)
		if got := s.hide(text); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	f("Basic "+base64.StdEncoding.EncodeToString([]byte("elastic:changeme")), "user [elastic] with changeme", "user [elastic] with ***")
	f("Basic "+base64.StdEncoding.EncodeToString([]byte("elastic:e")), "elastic search", "elastic search")
	f("", "elastic search", "elastic search")
	f("Basic not base64", "elastic", "elastic")
}

// One that a long text is clipped in the middle of must not show by its first half.
func TestAClippedAnswerShowsNoHalfOfACredential(t *testing.T) {
	const secret = "0123456789abcdefghijklmnopqrstuvwxyz"
	for before := maxReason - 2*len(secret); before < maxReason; before += 5 {
		reason := strings.Repeat("v", before) + secret + strings.Repeat("w", 200_000)
		s := hostile(t, 30*time.Second, func(w io.Writer) {
			_, _ = io.WriteString(w, answeredWith(200, "", `{"items":[{"create":{"status":400,"error":{"type":"t","reason":"`+reason+`"}}}]}`))
		})
		s.cfg.IncludeReasons = true
		s.cfg.Authorization = func() (string, error) { return "Bearer " + secret, nil }
		out, err := s.Deliver(t.Context(), batch(record(1, `{"n":"`+strings.Repeat("w", 200_000)+`"}`)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out[0].Reason, secret[:3]) {
			t.Fatalf("%q", out[0].Reason[before-10:])
		}
	}
}
