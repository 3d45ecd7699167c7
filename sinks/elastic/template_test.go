package elastic

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/sinks"
)

func TestIndexPattern(t *testing.T) {
	f := func(template, want string) {
		t.Helper()
		if got := IndexPattern(template); got != want {
			t.Errorf("IndexPattern(%q) = %q, want %q", template, got, want)
		}
	}
	f("security-{topic}", "security-*")
	f("security-{time:2006.01.02}", "security-*")
	f("security-{topic}-{time:2006.01}", "security-*-*")
	f("security-{topic}{partition}", "security-*")
	f("{event.dataset}-events", "*-events")
	f("Logs-{topic}-default", "logs-*-default")
	f("security", "security")
	f("security-{topic", "")
	f("", "")
}

func TestTemplateName(t *testing.T) {
	if got := TemplateName("edr-to-elastic"); got != "weir-edr-to-elastic" {
		t.Errorf("got %q", got)
	}
	seen := map[string]string{}
	for _, c := range []string{"a-b", "a b", "A-b", "a*b", "a/b", "a\nb", "ä", "", strings.Repeat("x", 300), strings.Repeat("x", 301)} {
		got := TemplateName(c)
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q are both %q", c, other, got)
		}
		seen[got] = c
		if len(got) > 255 || strings.ContainsFunc(got, func(r rune) bool {
			return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-_.", r)
		}) {
			t.Errorf("%q becomes %q, which is no template name", c, got)
		}
	}
}

func TestTemplateRefusesPatternsThatTakeInTheCluster(t *testing.T) {
	f := func(ok bool, patterns ...string) {
		t.Helper()
		if _, err := Template("", patterns, false); (err == nil) != ok {
			t.Errorf("Template(%q): %v", patterns, err)
		}
	}
	f(true, "security-*")
	f(true, "*-events", "security")
	f(false)
	f(false, "")
	f(false, "*")
	f(false, "*-*")
	f(false, "security-*", "*")
	f(false, ".*")
	f(false, "a,b")
	f(false, "a b*")
}

func TestTemplateIsTheSameEveryTime(t *testing.T) {
	first, err := Template("", []string{"security-*"}, true)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		again, err := Template("", []string{"security-*"}, true)
		if err != nil || !bytes.Equal(first, again) {
			t.Fatalf("another body for the same input (%v)", err)
		}
	}
	if plain, _ := Template("", []string{"security-*"}, false); bytes.Contains(plain, []byte("data_stream")) {
		t.Error("the template of an index has data_stream")
	}
}

// A narrower pattern has to win over a wider one, and Elasticsearch takes no two
// templates of one priority that overlap.
func TestTemplatePriorityGrowsWithThePattern(t *testing.T) {
	priority := func(patterns ...string) int64 {
		body, err := Template("", patterns, false)
		if err != nil {
			t.Fatal(err)
		}
		var got indexTemplate
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatal(err)
		}
		return got.Priority
	}
	wide, narrow := priority("security-*"), priority("security-win-*")
	if wide <= 200 || narrow <= wide {
		t.Errorf("priorities %d and %d: want the first above 200, the second above the first", wide, narrow)
	}
	if both := priority("security-*", "security-win-*"); both != wide {
		t.Errorf("priority %d for both patterns, want that of the wider, %d", both, wide)
	}
}

// An object where a field copies its value elsewhere is refused, and a dynamic
// subfield needs its name reserved: both are found by looking at the template.
func TestTemplateHasNothingThatRefusesObjects(t *testing.T) {
	body, err := Template("", []string{"security-*"}, false)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(body, []byte("copy_to")) {
		t.Error("copy_to: a field that copies takes no object")
	}
	if bytes.Count(body, []byte(`"properties": {`)) != 1 {
		t.Error("properties below properties: an object field takes no scalar")
	}
	rules := dynamicTemplates()
	reserved, ok := rules[0]["reserved"].(object)
	if !ok {
		t.Fatal("the first rule is not the one for reserved names")
	}
	var others []string
	for _, r := range rules[1:] {
		for _, rule := range r {
			rule := rule.(object)
			paths, _ := rule["path_match"].([]string)
			if paths == nil {
				paths = []string{"*"}
			}
			for sub := range rule["mapping"].(object)["fields"].(object) {
				for _, p := range paths {
					others = append(others, p+"."+sub)
				}
			}
		}
	}
	for _, o := range others {
		if !slices.Contains(reserved["path_match"].([]string), o) {
			t.Errorf("the subfield %s is not reserved", o)
		}
	}
}

func TestOverlap(t *testing.T) {
	f := func(a, b string, want bool) {
		t.Helper()
		if overlap(a, b) != want || overlap(b, a) != want {
			t.Errorf("overlap(%q, %q) is not %v both ways", a, b, want)
		}
	}
	f("security-*", "security-*", true)
	f("security-*", "security-win-*", true)
	f("security-*", "security", false)
	f("security-*", "security-", true)
	f("security-*", "*", true)
	f("security-*", "*-events", true)
	f("logs-*-default", "logs-*-*", true)
	f("logs-*-default", "logs-system.auth-*", true)
	f("logs-*-default", "metrics-*", false)
	f("a*b", "a*c", false)
	f("a", "a", true)
	f("a", "b", false)
	f("**", "", true)
	f("", "a", false)
}

// scripted is an Elasticsearch that gives fixed answers by method and path, and
// an empty object where there is none.
type scripted map[string]struct {
	status int
	body   string
}

func (s scripted) sink(t *testing.T, cfg Config) (*Sink, *[]string) {
	t.Helper()
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path)
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Elastic-Product", "Elasticsearch")
		w.Header().Set("Content-Type", "application/json")
		if a, ok := s[r.Method+" "+r.URL.Path]; ok {
			w.WriteHeader(a.status)
			_, _ = io.WriteString(w, a.body)
			return
		}
		_, _ = io.WriteString(w, "{}")
	}))
	t.Cleanup(srv.Close)
	cfg.URLs, cfg.Op, cfg.ID, cfg.Compression, cfg.Timeout = []string{srv.URL}, "create", "offset", "none", 10*time.Second
	sink, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sink.Close)
	return sink, &asked
}

func TestInstallTemplate(t *testing.T) {
	body, err := Template("", []string{"security-*"}, false)
	if err != nil {
		t.Fatal(err)
	}
	f := func(what string, answers scripted, wantPut, wantErr string) {
		t.Helper()
		sink, asked := answers.sink(t, Config{Index: "security-{topic}"})
		err := sink.InstallTemplate(t.Context(), "weir-edr", body, nil)
		switch {
		case wantErr == "" && err != nil:
			t.Errorf("%s: %v", what, err)
		case wantErr != "" && (err == nil || !strings.Contains(err.Error(), wantErr)):
			t.Errorf("%s: error %v, want one with %q", what, err, wantErr)
		}
		if got := slices.ContainsFunc(*asked, func(a string) bool { return strings.HasPrefix(a, "PUT ") }); got != (wantPut != "") {
			t.Errorf("%s: requests %q", what, *asked)
		}
		if wantPut != "" && !slices.Contains(*asked, "PUT /_index_template/"+wantPut) {
			t.Errorf("%s: requests %q, want a PUT of %s", what, *asked, wantPut)
		}
	}
	const get, put = "GET /_index_template", "PUT /_index_template/weir-edr"
	f("nothing there", scripted{}, "weir-edr", "")
	f("ours of before", scripted{get: {200, `{"index_templates":[{"name":"weir-edr","index_template":{"index_patterns":["security-*"],"template":{"mappings":{"_meta":{"weir":{"template":1}}}}}}]}`}}, "weir-edr", "")
	f("another connector's of the same patterns", scripted{get: {200, `{"index_templates":[{"name":"weir-win","index_template":{"index_patterns":["security-*"],"template":{"mappings":{"_meta":{"weir":{"template":1}}}}}}]}`}}, "weir-win", "")
	f("somebody else's of the same name", scripted{get: {200, `{"index_templates":[{"name":"weir-edr","index_template":{"index_patterns":["x"],"template":{"mappings":{"_meta":{"weir":"mine"}}}}}]}`}}, "", "not made by weir")
	f("no right to read", scripted{get: {403, `{}`}}, "", "manage_index_templates")
	f("no right to write", scripted{put: {403, `{"error":{"type":"security_exception","reason":"long"}}`}}, "weir-edr", "answered 403: it takes the cluster privilege manage_index_templates")
	f("wrong password", scripted{get: {401, `{}`}}, "", "answered 401: the user name, password or API key is not accepted")
	f("same priority", scripted{put: {400, `{"error":{"type":"illegal_argument_exception","reason":"have the same priority\n[509]"}}`}}, "weir-edr", `have the same priority\n[509]`)
	f("an answer that is HTML", scripted{get: {200, `<html>`}}, "", "cannot be read")
}

func TestInstallTemplateSaysWhatKindOfFailure(t *testing.T) {
	sink, _ := scripted{"GET /_index_template": {403, `{}`}}.sink(t, Config{Index: "security"})
	var re *sinks.RequestError
	if err := sink.InstallTemplate(t.Context(), "weir-edr", []byte("{}"), nil); !errors.As(err, &re) || re.Status != 403 || !re.Misconfigured {
		t.Errorf("error %v, want a RequestError of status 403 that is a misconfiguration", err)
	}
}

func TestCheckTemplate(t *testing.T) {
	const (
		templates = "GET /_index_template"
		settings  = "GET /security-*/_settings/index.creation_date"
		mapping   = "GET /security-*/_mapping"
		streams   = "GET /_data_stream/security-*"
		ours      = `{"name":"weir-edr","index_template":{"index_patterns":["security-*"],"priority":509,"template":{"mappings":{"_meta":{"weir":{"template":1}}}}}}`
		oursDS    = `{"name":"weir-edr","index_template":{"index_patterns":["security-*"],"priority":509,"data_stream":{"hidden":false},"template":{"mappings":{"_meta":{"weir":{"template":1}}}}}}`
	)
	all := func(list ...string) struct {
		status int
		body   string
	} {
		return struct {
			status int
			body   string
		}{200, `{"index_templates":[` + strings.Join(list, ",") + `]}`}
	}
	plain, stream := Config{Index: "security-{topic}"}, Config{DataStream: "security-{topic}"}
	f := func(what string, cfg Config, answers scripted, want ...string) {
		t.Helper()
		sink, _ := answers.sink(t, cfg)
		got, err := sink.CheckTemplate(t.Context())
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if len(want) == 0 && got != "" {
			t.Errorf("%s: warning %q, want none", what, got)
		}
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: warning %q, want %q in it", what, got, w)
			}
		}
	}
	f("all is well", plain, scripted{
		templates: all(ours),
		settings:  {200, `{"security-a":{}}`},
		mapping:   {200, `{"security-a":{"mappings":{"_meta":{"weir":{"template":1}}}}}`},
	})
	f("no template", plain, scripted{}, "weir init")
	f("a data stream's template for an index", plain, scripted{templates: all(oursDS)}, "weir init")
	f("an index's template for a data stream", stream, scripted{templates: all(ours)}, "weir init")
	f("an older one", plain, scripted{templates: all(strings.Replace(ours, `"template":1`, `"template":-1`, 1))}, "older weir", "weir init")
	f("a foreign one before ours", plain, scripted{templates: all(ours,
		`{"name":"theirs","index_template":{"index_patterns":["security-win*"],"priority":900}}`)},
		`"theirs" (priority 900, for ["security-win*"])`, "lower that priority")
	f("a foreign one behind ours", plain, scripted{templates: all(ours,
		`{"name":"logs","index_template":{"index_patterns":["*"],"priority":100}}`)})
	f("a foreign one for other names", plain, scripted{templates: all(ours,
		`{"name":"logs","index_template":{"index_patterns":["logs-*"],"priority":900}}`)})
	f("indices of before", plain, scripted{
		templates: all(ours),
		settings:  {200, `{"security-a":{},"security-b":{},"security-c":{},"security-d":{},"security-e":{}}`},
		mapping:   {200, `{"security-c":{"mappings":{"_meta":{"weir":{"template":1}}}}}`},
	}, `4 of 5 indices`, `"security-a", "security-b", "security-d" and 1 more`, "reindex")
	f("a data stream that was rolled over", stream, scripted{
		templates: all(oursDS),
		streams:   {200, `{"data_streams":[{"name":"security-a","indices":[{"index_name":".ds-1"},{"index_name":".ds-2"}]}]}`},
		mapping:   {200, `{".ds-2":{"mappings":{"_meta":{"weir":{"template":1}}}}}`},
	})
	f("a data stream that was not", stream, scripted{
		templates: all(oursDS),
		streams:   {200, `{"data_streams":[{"name":"security-a","indices":[{"index_name":".ds-1"},{"index_name":".ds-2"}]}]}`},
		mapping:   {200, `{".ds-1":{"mappings":{"_meta":{"weir":{"template":1}}}}}`},
	}, `1 of 1 data streams`, `"security-a"`, "_rollover")
	f("no right to look", plain, scripted{templates: {403, `{}`}, settings: {403, `{}`}},
		"cannot tell", "monitor", "view_index_metadata")

	sink, _ := scripted{templates: {503, `{}`}}.sink(t, plain)
	if w, err := sink.CheckTemplate(t.Context()); err == nil || w != "" {
		t.Errorf("answer 503: warning %q, error %v: want an error alone", w, err)
	}
}
