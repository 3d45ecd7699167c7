package config

import (
	"fmt"
	"strings"
	"time"
)

func (c *checker) splunkHEC(path string, s *SplunkHEC) {
	var plain, remote bool // a URL is http; one of those is not loopback
	for i, text := range s.URLs {
		at := fmt.Sprintf("%s.urls[%d]", path, i)
		u := c.url(at, text)
		if u == nil {
			continue
		}
		if u.RawQuery != "" || u.Fragment != "" {
			c.fault(at, "must end with the path: no ? and no #")
		}
		if strings.Contains(u.Path, "/services/collector") {
			c.fault(at, "must not hold /services/collector, which is added")
		}
		if u.Scheme == "http" {
			plain = true
			remote = remote || !loopback(u.Hostname())
		}
	}
	c.tls(path+".tls", &s.TLS, !plain, "a URL says http")

	index := hecIndexProblem(s.Index)
	source, sourcetype, host := hecTextProblem(s.Source), hecTextProblem(s.Sourcetype), hecTextProblem(s.Host)
	c.rules(path,
		rule{"urls", len(s.URLs) == 0, "at least one is needed"},
		rule{"token", !s.Token.IsSet(), "is needed"},
		rule{"token", remote && s.Token.IsSet(), "would go over the network unencrypted, since a URL says http: write https there"},
		rule{"index", index != "", index},
		rule{"source", source != "", source},
		rule{"sourcetype", sourcetype != "", sourcetype},
		rule{"host", host != "", host},
		rule{"time", s.Time != "" && !fieldPath.MatchString(s.Time), "must be a dotted path of names, without braces: at most 16"},
		rule{"ack_timeout", s.AckTimeout < 10*time.Second || s.AckTimeout > time.Hour, "must be 10s to 1h"},
		rule{"tls.enabled", s.TLS.Enabled && plain, "is true, but a URL says http: write https there"},
		rule{"timeout", s.Timeout < time.Second || s.Timeout > 10*time.Minute, "must be 1s to 10m"},
	)
	c.oneOf(path+".ack", s.Ack, "auto", "required", "off")
	c.oneOf(path+".compression", s.Compression, "none", "gzip")
}

// hecTextProblem says what is wrong with a template, "" when nothing is.
func hecTextProblem(template string) string {
	_, problem := hecSample(template)
	return problem
}

// hecIndexProblem says what is wrong with the template of an index, "" when
// nothing is. What the placeholders come to is looked at when they do.
func hecIndexProblem(template string) string {
	sample, problem := hecSample(template)
	if problem != "" {
		return problem
	}
	for i, r := range sample {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		case i > 0 && strings.ContainsRune("._-", r):
		case i == 0 && strings.ContainsRune("._-", r):
			return "is not a legal name: it must not begin with . _ -"
		default:
			return "is not a legal name: letters, digits and . _ - only"
		}
	}
	return ""
}

// hecSample is the template with something legal in place of its placeholders.
func hecSample(template string) (sample, problem string) {
	sample = placeholder.ReplaceAllStringFunc(template, func(p string) string {
		p = p[1 : len(p)-1]
		if layout, ok := strings.CutPrefix(p, "time:"); ok {
			day := time.Date(2023, 11, 22, 13, 44, 55, 678, time.UTC).Format(layout)
			if day == layout {
				problem = "has a {time:LAYOUT} without a date in it: write for example {time:2006.01.02}"
			}
			return day
		}
		if p == "time" || !fieldPath.MatchString(p) {
			problem = "has an unknown placeholder: there are {topic}, {partition}, {time:2006.01.02} and {field.path}"
		}
		return "0"
	})
	if problem == "" && strings.ContainsAny(sample, "{}") {
		problem = "has a { or } without the other"
	}
	return sample, problem
}
