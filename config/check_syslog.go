package config

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"
)

var (
	syslogFacilities = strings.Fields("kern user mail daemon auth syslog lpr news uucp cron authpriv ftp ntp audit alert clock " +
		"local0 local1 local2 local3 local4 local5 local6 local7")
	syslogSeverities = strings.Fields("emerg alert crit err warning notice info debug")
	extensionKey     = regexp.MustCompile(`^[a-zA-Z0-9_.]{1,64}$`)
)

func (c *checker) syslog(path string, s *Syslog) {
	for i, a := range s.Addresses {
		c.hostPort(fmt.Sprintf("%s.addresses[%d]", path, i), a, 1)
	}
	c.tls(path+".tls", &s.TLS, s.TLS.Enabled, "enabled is not true")
	isPath := func(p string) bool { return p == "" || fieldPath.MatchString(p) }
	const pathRule = "must be a dotted path of names, without braces: at most 16"
	c.rules(path,
		rule{"addresses", len(s.Addresses) == 0, "at least one is needed, as HOST:PORT"},
		rule{"max_message", s.MaxMessage < 480 || s.MaxMessage > 16<<20, "must be 480 to 16MiB"},
		rule{"severity_field", !isPath(s.SeverityField), pathRule},
		rule{"severities", s.SeverityField == "" && len(s.Severities) > 0, "is set, but not used, since severity_field is not set"},
		rule{"time", !isPath(s.Time), pathRule},
		rule{"fields", s.Payload == "json" && len(s.Fields) > 0, "is for cef and leef: json sends the whole event"},
		rule{"timeout", s.Timeout < time.Second || s.Timeout > 10*time.Minute, "must be 1s to 10m"},
	)
	c.oneOf(path+".framing", s.Framing, "octet_counting", "lf")
	c.oneOf(path+".payload", s.Payload, "json", "cef", "leef")
	c.oneOf(path+".facility", s.Facility, syslogFacilities...)
	c.oneOf(path+".severity", s.Severity, syslogSeverities...)
	for _, t := range []struct{ key, text string }{
		{"hostname", s.Hostname}, {"app_name", s.AppName}, {"procid", s.ProcID}, {"msgid", s.MsgID}, {"vendor", s.Vendor}, {"product", s.Product},
		{"version", s.Version}, {"event_id", s.EventID}, {"event_name", s.EventName}, {"event_severity", s.EventSeverity},
	} {
		problem := templateProblem(t.text)
		c.rules(path, rule{t.key, problem != "", problem})
	}
	for i, v := range s.Severities {
		at := fmt.Sprintf("%s.severities[%d]", path, i)
		twice := slices.ContainsFunc(s.Severities[:i], func(o SyslogSeverity) bool { return strings.EqualFold(o.Value, v.Value) })
		c.rules(at,
			rule{"value", v.Value == "", "is needed"},
			rule{"value", v.Value != "" && twice, "is in the list already"},
		)
		c.oneOf(at+".severity", v.Severity, syslogSeverities...)
	}
	for i, f := range s.Fields {
		at := fmt.Sprintf("%s.fields[%d]", path, i)
		twice := slices.ContainsFunc(s.Fields[:i], func(o SyslogField) bool { return o.Key == f.Key })
		c.rules(at,
			rule{"key", !extensionKey.MatchString(f.Key), "is needed: 1 to 64 of a-z A-Z 0-9 _ ."},
			rule{"key", f.Key != "" && twice, "is in the list already"},
			rule{"field", f.Field == "" && f.Value == "", "is needed, or value"},
			rule{"field", f.Field != "" && f.Value != "", "and value cannot both be set"},
			rule{"field", !isPath(f.Field), pathRule},
		)
	}
}

// warnSyslog warns of what a syslog sink sends unencrypted or to anybody.
func warnSyslog(path string, s *Syslog, warn func(key, format string, args ...any)) {
	if s.TLS.InsecureSkipVerify {
		warn(path+".tls.insecure_skip_verify", unverified)
	}
	for i, a := range s.Addresses {
		if host, _, err := net.SplitHostPort(a); err == nil && !s.TLS.Enabled && !loopback(host) {
			warn(fmt.Sprintf("%s.addresses[%d]", path, i), "events go over the network unencrypted, since tls.enabled is false")
			break // one says it for all
		}
	}
}
