package elastic

import (
	"regexp"
	"strings"
)

// openSearchMapping is the mapping for OpenSearch 3, with the types and the names of
// elasticsearchMapping. What is missing there:
//
//   - subobjects. Its disable_objects (3.6.0) refuses every event that has a list
//     below an object. So fields are in objects, and a name that is a value in one
//     event and an object in the next is a reason to be refused.
//   - ignore_dynamic_beyond_limit. A flood of names ends in refused events.
//   - runtime fields. Nothing needs to be reserved: where a subfield has the name of
//     an event's own member, the field itself is an object there.
func openSearchMapping(bool) object {
	return object{
		"settings": object{
			"index.mapping.ignore_malformed":        true,
			"index.mapping.total_fields.limit":      maxFields,
			"index.mapping.field_name_length.limit": maxFieldName,
		},
		"mappings": object{
			"_meta":             templateMeta(),
			"date_detection":    false,
			"numeric_detection": false,
			"dynamic_templates": openSearchRules(),
			// Only what weir writes: a listed host.ip would make host an object before
			// the first event came, and in most sources it is a name.
			"properties": ownProperties(),
		},
	}
}

// openSearchRules map all fields but weir's own when they are first met. A rule is for
// one scalar type and one pattern of paths, so the names of a kind are one regular
// expression, in Java's syntax for the whole path.
func openSearchRules() []object {
	fields := typedFields()
	var rules []object
	add := func(name, path string, mapping object) {
		for _, scalar := range scalars {
			r := object{"match_mapping_type": scalar, "mapping": mapping}
			if path != "" {
				r["match_pattern"], r["path_match"] = "regex", path
			}
			rules = append(rules, object{name + "_" + scalar: r})
		}
	}
	add("addresses", `(.*\.)?(`+alternatives(addressNames)+`)|`+alternatives(fields["ip"]), typed("ip"))
	for _, kind := range []string{"long", "double", "date"} {
		add(kind, alternatives(fields[kind]), typed(kind))
	}
	add("words", alternatives(textFields), text())
	add("others", "", other())
	return rules
}

// alternatives is a regular expression for any of names, in which a star stands for
// any text.
func alternatives(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = strings.ReplaceAll(regexp.QuoteMeta(n), `\*`, `.*`)
	}
	return strings.Join(quoted, "|")
}
