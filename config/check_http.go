package config

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

func (c *checker) http(path string, s *HTTP) {
	u := c.secretURL(path+".url", &s.URL)
	plain := u != nil && u.Scheme == "http"
	remote := plain && !loopback(u.Hostname())
	c.tls(path+".tls", &s.TLS, !plain, "the URL says http")

	a, o := &s.Auth, &s.Auth.OAuth2
	basic := a.Username != "" || a.Password.IsSet()
	oauth := o.TokenURL != "" || o.ClientID != "" || o.ClientSecret.IsSet() || len(o.Scopes) > 0 || o.CAFile != ""
	several := basic && a.Bearer.IsSet() || oauth && (basic || a.Bearer.IsSet())
	event, body := eventProblem(s.Event), bodyProblem(s.Body)
	c.rules(path,
		rule{"tls.enabled", s.TLS.Enabled && plain, "is true, but the URL says http: write https there"},
		rule{"timeout", s.Timeout < time.Second || s.Timeout > 10*time.Minute, "must be 1s to 10m"},
		rule{"event", event != "", event},
		rule{"body", s.Body != "" && s.Framing != "json_array", "needs framing json_array"},
		rule{"body", body != "", body},
		rule{"max_records", s.MaxRecords < 0, "must not be negative"},
		rule{"max_bytes", s.MaxBytes != 0 && s.MaxBytes < 1<<10, "must be at least 1KiB, or 0"},
		rule{"parallel", s.Parallel < 1 || s.Parallel > 64, "must be 1 to 64"},
		rule{"parallel", s.Parallel > 1 && c.ordered(s), "must be 1 with ordered: requests at a time have no order"},
		rule{"answer.type", s.Answer.Type != "" && !mediaType.MatchString(s.Answer.Type), "must be a media type such as application/json"},
		rule{"answer.refused", s.Answer.Refused != "" && !fieldPath.MatchString(s.Answer.Refused), "must be names with dots between them"},

		rule{"auth", several, "holds more than one of bearer, username and password, and oauth2"},
		rule{"auth.username", basic && a.Username == "", "is needed with password"},
		rule{"auth.username", strings.Contains(a.Username, ":"), "must not hold a colon: it would end there"},
		rule{"auth.password", basic && !a.Password.IsSet(), "is needed with username"},
		rule{"auth.oauth2.token_url", oauth && o.TokenURL == "", "is needed for OAuth 2"},
		rule{"auth.oauth2.client_id", oauth && o.ClientID == "", "is needed for OAuth 2"},
		rule{"auth.oauth2.client_secret", oauth && !o.ClientSecret.IsSet(), "is needed for OAuth 2"},
		rule{"auth", remote && (basic || oauth || a.Bearer.IsSet()), unencrypted},
		rule{"url", remote && namesCredential(u.Query()), "has a parameter that is called like a credential: it " + unencrypted},
	)
	if o.TokenURL != "" {
		if u := c.url(path+".auth.oauth2.token_url", o.TokenURL); u != nil && u.Scheme == "http" && !loopback(u.Hostname()) {
			c.fault(path+".auth.oauth2.token_url", "must be https: the client secret is sent there")
		}
	}
	c.readable(path+".auth.oauth2.ca_file", o.CAFile)
	c.oneOf(path+".method", s.Method, "POST", "PUT")
	c.oneOf(path+".framing", s.Framing, "json_array", "ndjson", "concatenated", "single")
	c.oneOf(path+".compression", s.Compression, "none", "gzip")

	seen := map[string]bool{"authorization": basic || oauth || a.Bearer.IsSet()}
	for i, h := range s.Headers {
		name := strings.ToLower(h.Name)
		c.rules(fmt.Sprintf("%s.headers[%d]", path, i),
			rule{"name", !headerName.MatchString(h.Name), "must be the name of a header"},
			rule{"name", ownHeader.MatchString(name), "is a header that weir sets itself"},
			rule{"name", seen[name], "is set already: by auth or by an earlier header"},
			rule{"value", !h.Value.IsSet(), "is needed"},
			rule{"value", remote && h.Private(), unencrypted},
		)
		seen[name] = true
	}
	for i, v := range s.Verdicts {
		at := fmt.Sprintf("%s.verdicts[%d]", path, i)
		c.rules(at,
			rule{"status", !legalStatus(v.Status), "must be a status or a range of them, from 200 to 599"},
			rule{"verdict", v.Verdict == "reject" && s.Framing != "single" && s.MaxRecords != 1,
				"needs requests of one event (framing single, or max_records 1): of several it is not known which one is refused; write split"},
		)
		c.oneOf(at+".verdict", v.Verdict, "ack", "retry", "split", "reject", "misconfigured")
	}
}

// unencrypted is what is wrong with a secret where the URL is no https.
const unencrypted = "would go over the network unencrypted, since the URL says http: write https there"

// namesCredential reports whether a parameter of a URL is called like one. Whether a
// path holds one cannot be told.
func namesCredential(query url.Values) bool {
	for name := range query {
		if credential.MatchString(strings.ToLower(name)) {
			return true
		}
	}
	return false
}

// ordered reports whether the connector of s keeps the order.
func (c *checker) ordered(s *HTTP) bool {
	for i := range c.Connectors {
		if c.Connectors[i].Sink.HTTP == s {
			return c.Connectors[i].Ordered
		}
	}
	return false
}

// secretURL is url of a URL that is a secret.
func (c *checker) secretURL(path string, s *Secret) *url.URL {
	if !s.IsSet() {
		c.fault(path, "is needed: http://HOST:PORT/PATH or https://HOST:PORT/PATH")
		return nil
	}
	text, err := s.Value()
	if err != nil {
		return nil // a file that cannot be read is a fault already
	}
	return c.url(path, text)
}

var (
	mediaType  = regexp.MustCompile(`^[a-z0-9.+-]+/[a-z0-9.+-]+$`)
	headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
	ownHeader  = regexp.MustCompile(`^(connection|content-encoding|content-length|expect|host|keep-alive|te|trailer|transfer-encoding|upgrade)$`)
	// credential is what a parameter is called that says who we are.
	credential = regexp.MustCompile(`auth|cookie|credential|key|pass|secret|token`)
	success    = regexp.MustCompile(`^2\d\d(-2\d\d)?$`)
)

func legalStatus(s string) bool {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	from, err1 := strconv.Atoi(first)
	to, err2 := strconv.Atoi(last)
	return err1 == nil && err2 == nil && 200 <= from && from <= to && to <= 599
}

// eventPlaceholder is a brace that JSON could not have there, up to its other
// half.
var eventPlaceholder = regexp.MustCompile(`\{[^\s"{}][^"{}]*\}`)

// eventProblem says what is wrong with the template of an event, "" when nothing
// is. The sink itself tries more, when it is made.
func eventProblem(template string) string {
	problem := ""
	sample := eventPlaceholder.ReplaceAllStringFunc(template, func(p string) string {
		p = p[1 : len(p)-1]
		switch p {
		case "event":
			return `{"":0}`
		case "event_text", "event_base64", "topic", "partition", "offset", "key", "time:unix", "time:unix_ms", "time:unix_nano":
			return "0" // right as a number and inside a string
		}
		if layout, ok := strings.CutPrefix(p, "time:"); ok {
			if day := time.Date(2023, 11, 22, 13, 44, 55, 678, time.UTC).Format(layout); day == layout {
				problem = "has a {time:LAYOUT} without a date in it: write for example {time:2006-01-02T15:04:05.000Z}, or {time:unix_ms}"
			}
			return "0"
		}
		if p == "time" || !fieldPath.MatchString(p) {
			problem = "has an unknown placeholder: there are {event}, {event_text}, {event_base64}, {topic}, {partition}, {offset}, {key}, " +
				"{time:LAYOUT}, {time:unix}, {time:unix_ms}, {time:unix_nano} and {field.path}"
		}
		return "0"
	})
	switch sample = strings.TrimSpace(sample); {
	case problem != "":
		return problem
	case !json.Valid([]byte(sample)):
		return "is not JSON with values in place of the placeholders ({event} is an object, and cannot stand inside a string)"
	case sample[0] != '{' && sample[0] != '[':
		return "must come to a JSON object or array"
	}
	return ""
}

// bodyProblem says what is wrong with the template of a body.
func bodyProblem(template string) string {
	switch {
	case template == "":
		return ""
	case strings.Count(template, "{events}") != 1:
		return "must hold {events}, and once"
	case !json.Valid([]byte(strings.Replace(template, "{events}", `[""]`, 1))):
		return "is not JSON with an array in place of {events}, which is its only placeholder"
	}
	return ""
}

// warnHTTPSink warns of what the http sink sends unencrypted or to anybody, and of
// verdicts that can lose events.
func warnHTTPSink(path string, s *HTTP, warn func(key, format string, args ...any)) {
	if s.TLS.InsecureSkipVerify {
		warn(path+".tls.insecure_skip_verify", unverified)
	}
	text, _ := s.URL.Value() // a file that cannot be read is a fault
	if u, err := url.Parse(text); err == nil && u.Scheme == "http" && !loopback(u.Hostname()) {
		warn(path+".url", "events, and the whole URL, go over the network unencrypted, since it says http")
	}
	for i, v := range s.Verdicts {
		if v.Verdict == "ack" && !success.MatchString(v.Status) {
			warn(fmt.Sprintf("%s.verdicts[%d]", path, i), "counts what was answered %s as delivered", v.Status)
		}
	}
}
