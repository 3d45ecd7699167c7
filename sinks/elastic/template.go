package elastic

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// TemplateVersion numbers the index template. It goes up with every change of
// the mapping; an index says under _meta.weir.template which one it was made with.
const TemplateVersion = 1

const (
	// maxFields bounds a mapping. A name that is not listed counts twice (itself
	// and its subfield), the listed ones take 209. Windows and AWS events together
	// have 334 names; of a flood of 40,000 some 2,400 are kept, in a mapping of 270
	// kB that every node holds.
	maxFields = 5000
	// maxFieldName bounds one name with all its parents, in characters: without
	// it 2,400 names of 100 kB would be a mapping of 240 MB. A longer one is the
	// one way to be refused that the template adds. It leaves room for an object
	// nested as deep as Elasticsearch reads (1,000).
	maxFieldName = 4096
	// maxKeyword is the longest string, in characters, that is found as a whole: at
	// 4 bytes each still below 32,766, the most that Lucene takes as one term.
	// Without it a longer string is a reason to be refused.
	maxKeyword = 8191
)

// The subfields. An event's own member of such a name goes to a field of its
// own: see reserved.
const (
	exact = "keyword"  // of a typed field: the value as it came, whatever it is
	words = "fulltext" // of any other: its words, whatever its length
)

type object = map[string]any

// Template is the body of the index template for the names that match one of
// patterns, as indented JSON that is the same for the same input. flavor is
// Config.Flavor. It is meant for Elasticsearch 8.14 and newer, or OpenSearch 3, and
// uses nothing but the types of its core.
//
// What is promised: whatever the field, an event is not refused because the
// field had another type before. In a data stream @timestamp is the exception: no
// event is taken there without exactly one valid date in it. On OpenSearch, a name
// that is a value in one event and an object in another is an exception, too.
//
// Errors: an unknown flavor; a pattern that is no index pattern or has no letter or digit of its
// own, and so would take in every new index of the cluster.
func Template(flavor string, patterns []string, dataStream bool) ([]byte, error) {
	server, err := flavorOf(flavor)
	if err != nil {
		return nil, err
	}
	if len(patterns) == 0 {
		return nil, errors.New("index template: no index pattern")
	}
	fixed := 255
	for _, p := range patterns {
		if fault := illegalName([]byte(strings.ReplaceAll(p, "*", "x")), true); fault != "" {
			return nil, fmt.Errorf("index template: pattern %q: %s", p, fault)
		}
		if !strings.ContainsFunc(p, func(r rune) bool { return !strings.ContainsRune("*-_.+", r) }) {
			return nil, fmt.Errorf("index template: pattern %q would match every new index of the cluster; begin the name with fixed text", p)
		}
		fixed = min(fixed, len(strings.ReplaceAll(p, "*", "")))
	}
	body := object{
		"index_patterns": patterns,
		// Above what Elastic ships (100 for logs-*-*, 200 for integrations). Two
		// templates of one priority must not overlap, so a narrower pattern gets a
		// higher one.
		"priority": 500 + fixed,
		"version":  TemplateVersion,
		"_meta":    object{"managed_by": "weir", "description": "Mapping for security logs: no event is refused for the type of a field."},
		"template": server.mapping(dataStream),
	}
	if dataStream {
		// No failure store: an event that is refused belongs into the dead-letter
		// topic, where its bytes and coordinates are kept.
		body["data_stream"] = object{}
	}
	out, err := json.MarshalIndent(body, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("index template: %w", err)
	}
	return append(out, '\n'), nil
}

// elasticsearchMapping is the mapping for Elasticsearch.
func elasticsearchMapping(dataStream bool) object {
	return object{
		"settings": settings(dataStream),
		"mappings": object{
			"_meta": templateMeta(),
			// Every field is a leaf with a dotted name, so that a and a.b live side by
			// side. With objects the first event decides which of the two may exist.
			"subobjects": false,
			// A string that looks like a date would make the field a date, and the
			// next one that does not would not be found by it.
			"date_detection":    false,
			"numeric_detection": false,
			"dynamic_templates": dynamicTemplates(),
			"properties":        properties(),
		},
	}
}

// templateMeta is what an index says of the template that it was made with.
func templateMeta() object { return object{"weir": object{"template": TemplateVersion}} }

// settings leaves shards and replicas to the cluster.
func settings(dataStream bool) object {
	s := object{
		// A value that its field cannot take stays in the event and in the exact
		// subfield, and the field is named in _ignored.
		"index.mapping.ignore_malformed": true,
		// A flood of names ends in events that are only partly searchable, not in
		// refused ones.
		"index.mapping.total_fields.limit":                       maxFields,
		"index.mapping.total_fields.ignore_dynamic_beyond_limit": true,
		"index.mapping.field_name_length.limit":                  maxFieldName,
	}
	if dataStream {
		// Elasticsearch 9 makes data streams named logs-*-* logsdb indices, which
		// rebuild the event from its fields instead of keeping it as it came.
		s["index.mode"] = "standard"
	}
	return s
}

// scalars are the types that a value can have as JSON.
var scalars = []string{"string", "long", "double", "boolean"}

// dynamicTemplates map the fields that are not listed. They name the scalar
// types one by one because "*" means objects too.
func dynamicTemplates() []object {
	rule := func(name, how string, path []string, mapping object) object {
		r := object{"match_mapping_type": scalars, how: mapping}
		if path != nil {
			r["path_match"] = path
		}
		return object{name: r}
	}
	var addresses, reserved []string
	for _, n := range addressNames {
		addresses = append(addresses, n)
		if !strings.HasPrefix(n, "*") {
			addresses = append(addresses, "*."+n)
		}
	}
	for _, n := range addresses {
		reserved = append(reserved, n+"."+exact)
	}
	reserved = append(reserved, "*."+words)
	return []object{
		// An event with the member a.fulltext, come before the first event with a
		// scalar a, would make a field of the name that a's subfield needs, and from
		// then on every event with a would be refused ("defined more than once"). A
		// runtime field may share its name with a subfield.
		rule("reserved", "runtime", reserved, object{"type": "keyword"}),
		rule("addresses", "mapping", addresses, typed("ip")),
		// One rule for all scalars: what a field is does not depend on which event
		// came first. The words cost little: 59,044 Windows and AWS events take 0.53
		// kB each with keywords alone, 0.60 kB like this and 0.72 kB with the mapping
		// that Elasticsearch makes by itself; indexing them took 5.8 s, 6.5 s and
		// 8.8 s of its CPU.
		rule("others", "mapping", nil, other()),
	}
}

// properties are the fields whose type is promised. They are listed, not left to
// dynamic templates, so that they exist from the start: a flood of names that
// fills the mapping cannot keep them out of it.
func properties() object {
	p := ownProperties()
	for kind, names := range typedFields() {
		for _, n := range names {
			p[n] = typed(kind)
		}
	}
	for _, n := range textFields {
		p[n] = text()
	}
	return p
}

// ownProperties are the fields that weir writes.
func ownProperties() object {
	return object{
		// Every event has it, so a subfield would cost everywhere; what is no date is
		// refused by a data stream, and in an index found by _ignored.
		"@timestamp": object{"type": "date"},
		// Weir writes these itself: nothing malformed to look for.
		"kafka.topic":     keyword(),
		"kafka.partition": object{"type": "long"},
		"kafka.offset":    object{"type": "long"},
		"kafka.timestamp": object{"type": "date"},
	}
}

// typed is a field of one type. What does not fit is found in the subfield,
// which is indexed all the same.
func typed(kind string) object {
	return object{"type": kind, "fields": object{exact: keyword()}}
}

// other is a field that nothing is known of.
func other() object {
	return object{"type": "keyword", "ignore_above": maxKeyword, "fields": object{words: text()}}
}

func keyword() object { return object{"type": "keyword", "ignore_above": maxKeyword} }

// text is searchable by word and phrase. Norms only rank by length.
func text() object { return object{"type": "text", "norms": false} }

// TemplateName is the name of the template of the connector of that name. It is
// legal whatever the connector's name is, and another for another connector.
func TemplateName(connector string) string {
	legal := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' {
			return r
		}
		return '-'
	}, connector)
	if len(legal) > 200 {
		legal = legal[:200]
	}
	if legal != connector {
		legal += fmt.Sprintf("-%x", sha256.Sum256([]byte(connector)))[:9]
	}
	return "weir-" + legal
}

// IndexPattern is the pattern that every name made of template matches, empty
// when template cannot be read.
func IndexPattern(template string) string {
	n, err := parseName(template)
	if err != nil {
		return ""
	}
	return strings.ToLower(n.text.Pattern())
}

// overlap reports whether some name matches both patterns.
func overlap(a, b string) bool {
	// can[j]: some text matches the part of a read so far and b[:j].
	can := make([]bool, len(b)+1)
	can[0] = true
	for j := 0; j < len(b) && b[j] == '*'; j++ {
		can[j+1] = true
	}
	for i := range len(a) {
		next := make([]bool, len(b)+1)
		next[0] = can[0] && a[i] == '*'
		for j := range len(b) {
			switch {
			case a[i] == '*' || b[j] == '*':
				next[j+1] = can[j+1] || next[j]
			case a[i] == b[j]:
				next[j+1] = can[j]
			}
		}
		can = next
	}
	return can[len(b)]
}

// overlapAny reports whether some name matches a pattern of each.
func overlapAny(as, bs []string) bool {
	return slices.ContainsFunc(as, func(a string) bool {
		return slices.ContainsFunc(bs, func(b string) bool { return overlap(a, b) })
	})
}
