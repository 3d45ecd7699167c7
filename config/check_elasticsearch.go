package config

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

func (c *checker) elasticsearch(path string, es *Elasticsearch) {
	var plain, remote bool // a URL is http; one of those is not loopback
	for i, s := range es.URLs {
		at := fmt.Sprintf("%s.urls[%d]", path, i)
		u := c.url(at, s)
		if u == nil {
			continue
		}
		if u.RawQuery != "" || u.Fragment != "" {
			c.fault(at, "must end with the path: no ? and no #")
		}
		if u.Scheme == "http" {
			plain = true
			remote = remote || !loopback(u.Hostname())
		}
	}
	c.tls(path+".tls", &es.TLS, !plain, "a URL says http")

	index, stream := indexProblem(es.Index), indexProblem(es.DataStream)
	auth := &es.Auth
	basic := auth.Username != "" || auth.Password.IsSet()
	c.rules(path,
		rule{"urls", len(es.URLs) == 0, "at least one is needed"},
		rule{"index", es.Index == "" && es.DataStream == "", "is needed, or data_stream"},
		rule{"data_stream", es.Index != "" && es.DataStream != "", "and index cannot both be set"},
		rule{"index", index != "", index},
		rule{"data_stream", stream != "", stream},
		rule{"op", es.DataStream != "" && es.Op == "index", "must be create: a data stream takes nothing else"},
		rule{"id", !legalID(es.ID), "must be offset, key, none or {field.path}"},
		rule{"tls.enabled", es.TLS.Enabled && plain, "is true, but a URL says http: write https there"},
		rule{"timeout", es.Timeout < time.Second || es.Timeout > 10*time.Minute, "must be 1s to 10m"},

		rule{"auth.api_key", auth.APIKey.IsSet() && basic, "and username or password cannot both be set"},
		rule{"auth.username", basic && auth.Username == "", "is needed with password"},
		rule{"auth.username", strings.Contains(auth.Username, ":"), "must not hold a colon: it would end there"},
		rule{"auth.password", basic && !auth.Password.IsSet(), "is needed with username"},
		rule{"auth", remote && (basic || auth.APIKey.IsSet()),
			"would go over the network unencrypted, since a URL says http: write https there"},
	)
	c.oneOf(path+".flavor", es.Flavor, "elasticsearch", "opensearch")
	c.oneOf(path+".op", es.Op, "create", "index")
	c.oneOf(path+".compression", es.Compression, "none", "gzip")
}

var (
	placeholder = regexp.MustCompile(`\{[^{}]*\}`)
	fieldPath   = regexp.MustCompile(`^[^{}:.]+(\.[^{}:.]+){0,15}$`)
)

func legalID(id string) bool {
	switch id {
	case "offset", "key", "none":
		return true
	}
	inner, ok := strings.CutPrefix(id, "{")
	inner, closed := strings.CutSuffix(inner, "}")
	return ok && closed && fieldPath.MatchString(inner)
}

// indexProblem says what is wrong with the name of an index or data stream, ""
// when nothing is. The rules are those of Elasticsearch's create index API; what
// the placeholders of an event come to is checked when it is written.
func indexProblem(template string) string {
	problem := ""
	sample := placeholder.ReplaceAllStringFunc(template, func(p string) string {
		p = p[1 : len(p)-1]
		if p == "topic" || p == "partition" {
			return "0"
		}
		if layout, ok := strings.CutPrefix(p, "time:"); ok {
			day := time.Date(2023, 11, 22, 13, 44, 55, 0, time.UTC).Format(layout)
			if day == layout {
				problem = "has a {time:LAYOUT} without a date in it: write for example {time:2006.01.02}"
			}
			return strings.ToLower(day) // as the sink writes it
		}
		if p == "time" || !fieldPath.MatchString(p) {
			problem = "has an unknown placeholder: there are {topic}, {partition}, {time:2006.01.02} and {field.path}"
		}
		return "0"
	})
	switch {
	case problem != "":
		return problem
	case strings.ContainsAny(sample, "{}"):
		return "has a { or } without the other"
	case sample != strings.ToLower(sample):
		return "is not a legal name: it must be in lower case"
	case strings.ContainsAny(sample, `\/*?"<>|, #:`):
		return `is not a legal name: it must not hold \ / * ? " < > | space , # :`
	case strings.IndexAny(sample, "-_+") == 0:
		return "is not a legal name: it must not begin with - _ +"
	case sample == "." || sample == "..":
		return "is not a legal name"
	case len(sample) > 255:
		return "is not a legal name: it must be at most 255 bytes"
	}
	return ""
}
