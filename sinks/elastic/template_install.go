package elastic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"weir/sinks"
)

// InstallTemplate puts body, made by Template, in place as the index template
// called name. A template of weir's that has the same patterns already, under
// whichever name, is replaced instead: two connectors that write to the same
// names share one. Indices that exist are not changed.
//
// begin, unless it is nil, is told the name that it goes by, to be shown, before
// anything is changed. Nothing is changed when it fails.
//
// It takes the cluster privilege manage_index_templates.
//
// Errors: a *sinks.RequestError when there was no usable answer or not the right
// to do it; a template called name that weir did not make; what the server has
// against the template, another one of the same priority above all; begin's.
func (s *Sink) InstallTemplate(ctx context.Context, name string, body []byte, begin func(name string) error) error {
	var want indexTemplate
	if err := json.Unmarshal(body, &want); err != nil {
		return fmt.Errorf("index template %q: %w", name, err)
	}
	all, err := s.templates(ctx)
	if err != nil {
		return fmt.Errorf("index template %q: reading what is there: %w", name, err)
	}
	slices.Sort(want.Patterns)
	for _, t := range all {
		switch ours := t.version() > 0; {
		case t.Name == name && !ours:
			return fmt.Errorf("index template %q exists and was not made by weir: rename or delete it", name)
		case ours && slices.Equal(t.Body.Patterns, want.Patterns):
			name = t.Name
		}
	}
	path := "/_index_template/" + url.PathEscape(name)
	name = s.said(name, maxReason) // it can be another's word
	if begin != nil {
		if err := begin(name); err != nil {
			return err
		}
	}
	status, answer, err := s.do(ctx, http.MethodPut, path, body)
	if err != nil {
		return fmt.Errorf("index template %q: %w", name, err)
	}
	if status/100 != 2 {
		return fmt.Errorf("index template %q: %w", name, s.refusal(status, answer, "the cluster privilege manage_index_templates"))
	}
	return nil
}

// CheckTemplate says what stands between the indices this sink writes to and
// the mapping of Template, those that will be made and those that are there. An
// empty warning: nothing. The warning says what to do.
//
// It takes the cluster privilege monitor and the index privilege
// view_index_metadata; a sink that has not got them is told so in the warning.
//
// Errors: a *sinks.RequestError when there was no usable answer.
func (s *Sink) CheckTemplate(ctx context.Context) (warning string, err error) {
	pattern, dataStream := IndexPattern(s.cfg.Index), false
	if s.cfg.DataStream != "" {
		pattern, dataStream = IndexPattern(s.cfg.DataStream), true
	}
	var warnings []string
	for _, look := range []func(context.Context, string, bool) (string, error){s.checkNew, s.checkExisting} {
		w, err := look(ctx, pattern, dataStream)
		var re *sinks.RequestError
		switch {
		case errors.As(err, &re) && re.Status == http.StatusForbidden:
			w = "cannot tell whether weir's index template is in force: " + err.Error()
		case err != nil:
			return "", err
		}
		if w != "" {
			warnings = append(warnings, w)
		}
	}
	return s.secrets.hide(strings.Join(warnings, "; ")), nil // it names what others made
}

// indexTemplate is as much of an index template as matters here.
type indexTemplate struct {
	Patterns   []string  `json:"index_patterns"`
	Priority   int64     `json:"priority"`
	DataStream *struct{} `json:"data_stream"`
	Template   struct {
		Mappings mappings `json:"mappings"`
	} `json:"template"`
}

type namedTemplate struct {
	Name string        `json:"name"`
	Body indexTemplate `json:"index_template"`
}

func (t namedTemplate) version() int { return t.Body.Template.Mappings.version() }

type mappings struct {
	Meta struct {
		// As it came: most of these are other people's.
		Weir json.RawMessage `json:"weir"`
	} `json:"_meta"`
}

// version is the TemplateVersion the mapping was made with, 0 when weir did not.
func (m mappings) version() int {
	var v struct {
		Template int `json:"template"`
	}
	if json.Unmarshal(m.Meta.Weir, &v) != nil {
		return 0
	}
	return v.Template
}

// checkNew looks at the template that an index made from now on would get.
func (s *Sink) checkNew(ctx context.Context, pattern string, dataStream bool) (string, error) {
	all, err := s.templates(ctx)
	if err != nil {
		return "", fmt.Errorf("index templates: %w", err)
	}
	var ours *namedTemplate
	for i, t := range all {
		if t.version() == 0 || (t.Body.DataStream != nil) != dataStream || !slices.Contains(t.Body.Patterns, pattern) {
			continue
		}
		if ours == nil || t.Body.Priority > ours.Body.Priority {
			ours = &all[i]
		}
	}
	switch {
	case ours == nil:
		return fmt.Sprintf("no index template of weir's for %q: %s; run `weir init`", pattern, s.withoutTemplate(dataStream)), nil
	case ours.version() < TemplateVersion:
		return fmt.Sprintf("index template %q is of an older weir (version %d, now %d): run `weir init` again", ours.Name, ours.version(), TemplateVersion), nil
	}
	var others []string
	for _, t := range all {
		if t.Body.Priority > ours.Body.Priority && t.version() != ours.version() && overlapAny(t.Body.Patterns, []string{pattern}) {
			others = append(others, fmt.Sprintf("%q (priority %d, for %q)", t.Name, t.Body.Priority, t.Body.Patterns))
		}
	}
	if len(others) > 0 {
		return fmt.Sprintf("index template %q (priority %d, for %q) has to stand back behind %s: new indices that both match do not get weir's mapping; lower that priority or write to other names",
			ours.Name, ours.Body.Priority, pattern, some(others)), nil
	}
	return "", nil
}

// withoutTemplate says what comes of it when there is no template at all.
func (s *Sink) withoutTemplate(dataStream bool) string {
	const refused = "an event is refused when one of its fields had another type before"
	if dataStream && s.flavor.dataStreamQuery == "" {
		return s.flavor.product + " makes an ordinary index in the place of the data stream, and " + refused
	}
	return refused
}

// checkExisting looks at the mapping of the indices that are there.
func (s *Sink) checkExisting(ctx context.Context, pattern string, dataStream bool) (string, error) {
	const privilege = "the index privilege view_index_metadata"
	path := "/" + url.PathEscape(pattern)
	const open = "?expand_wildcards=open&ignore_unavailable=true&allow_no_indices=true"

	// label by index: what to call the index in the warning.
	label := map[string]string{}
	if dataStream {
		var found struct {
			Streams []struct {
				Name    string `json:"name"`
				Indices []struct {
					Name string `json:"index_name"`
				} `json:"indices"`
			} `json:"data_streams"`
		}
		err := s.get(ctx, "/_data_stream/"+url.PathEscape(pattern)+"?filter_path=data_streams.name,data_streams.indices.index_name", privilege, &found)
		if re := (*sinks.RequestError)(nil); errors.As(err, &re) && re.Status == http.StatusNotFound {
			return "", nil // a name without a star that is not there yet
		}
		if err != nil {
			return "", fmt.Errorf("data streams %q: %w", pattern, err)
		}
		for _, d := range found.Streams {
			// Events go to the last backing index; the others are history.
			if n := len(d.Indices); n > 0 {
				label[d.Indices[n-1].Name] = d.Name
			}
		}
	} else {
		var found map[string]struct{}
		if err := s.get(ctx, path+"/_settings/index.creation_date"+open, privilege, &found); err != nil {
			return "", fmt.Errorf("indices %q: %w", pattern, err)
		}
		for index := range found {
			label[index] = index
		}
	}
	if len(label) == 0 {
		return "", nil
	}
	// The answer leaves out the indices that have no such member.
	var mapped map[string]struct {
		Mappings mappings `json:"mappings"`
	}
	if err := s.get(ctx, path+"/_mapping"+open+"&filter_path=*.mappings._meta.weir", privilege, &mapped); err != nil {
		return "", fmt.Errorf("mappings of %q: %w", pattern, err)
	}
	var without []string
	for index, name := range label {
		if mapped[index].Mappings.version() < TemplateVersion {
			without = append(without, fmt.Sprintf("%q", name))
		}
	}
	if len(without) == 0 {
		return "", nil
	}
	slices.Sort(without)
	if dataStream {
		return fmt.Sprintf("%d of %d data streams for %q write to an index without weir's present mapping (%s): once the template is installed, roll them over with POST /NAME/_rollover",
			len(without), len(label), pattern, some(without)), nil
	}
	return fmt.Sprintf("%d of %d indices for %q were made without weir's present mapping (%s) and keep theirs: once the template is installed, write to new names or reindex",
		len(without), len(label), pattern, some(without)), nil
}

// some lists the first few of names.
func some(names []string) string {
	const few = 3
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}

// templates reads all index templates, as much of them as indexTemplate holds,
// with sorted patterns.
func (s *Sink) templates(ctx context.Context) ([]namedTemplate, error) {
	var found struct {
		Templates []namedTemplate `json:"index_templates"`
	}
	const want = "index_templates.name,index_templates.index_template.index_patterns,index_templates.index_template.priority," +
		"index_templates.index_template.data_stream,index_templates.index_template.template.mappings._meta.weir"
	if err := s.get(ctx, "/_index_template?filter_path="+want, "the cluster privilege monitor or manage_index_templates", &found); err != nil {
		return nil, err
	}
	for _, t := range found.Templates {
		slices.Sort(t.Body.Patterns)
	}
	return found.Templates, nil
}

// get reads JSON into v.
//
// Errors: a *sinks.RequestError.
func (s *Sink) get(ctx context.Context, path, privilege string, v any) error {
	status, answer, err := s.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if status/100 != 2 {
		return s.refusal(status, answer, privilege)
	}
	if err := json.Unmarshal(answer, v); err != nil {
		return &sinks.RequestError{Status: status, Err: fmt.Errorf("an answer that cannot be read: %w", s.quoted(err))}
	}
	return nil
}

// refusal is the error for an answer that is not a success.
func (s *Sink) refusal(status int, answer []byte, privilege string) error {
	re := &sinks.RequestError{Status: status}
	switch status {
	case http.StatusUnauthorized:
		re.Misconfigured = true
		re.Err = errors.New("the user name, password or API key is not accepted")
	case http.StatusForbidden:
		re.Misconfigured = true
		re.Err = fmt.Errorf("it takes %s", privilege)
	default:
		var said struct {
			Error struct {
				Reason string `json:"reason"`
			} `json:"error"`
		}
		if json.Unmarshal(answer, &said) != nil || said.Error.Reason == "" {
			re.Err = errors.New(http.StatusText(status))
			break
		}
		reason := s.secrets.hide(said.Error.Reason)
		if len(reason) > 1000 {
			reason = reason[:1000]
		}
		re.Err = fmt.Errorf("%q", reason)
	}
	return re
}
