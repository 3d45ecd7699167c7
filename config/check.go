package config

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"
)

// checker finds what is wrong with values of the right type.
type checker struct {
	*Config
	at     map[string]place
	read   Faults // what reading found: those places are not looked at again
	faults Faults
}

// rule is one check: the key it is about, whether it is broken, and what to say.
type rule struct {
	key     string
	broken  bool
	problem string
}

func check(cfg *Config, at map[string]place, read Faults) Faults {
	c := &checker{Config: cfg, at: at, read: read}
	c.top()
	c.kafka()
	for i := range cfg.Connectors {
		c.connector(fmt.Sprintf("connectors[%d]", i), &cfg.Connectors[i])
	}
	c.between()
	return c.faults
}

func (c *checker) rules(section string, rules ...rule) {
	for _, r := range rules {
		if r.broken {
			c.fault(join(section, r.key), "%s", r.problem)
		}
	}
}

// fault notes a fault at path, with the line of the nearest section above it if
// the file does not hold the key.
func (c *checker) fault(path, format string, args ...any) {
	if c.read.about(path) {
		return
	}
	at, ok := c.at[path]
	for above := path; !ok && above != ""; at, ok = c.at[above] {
		above = above[:max(0, strings.LastIndexAny(above, ".["))]
	}
	c.faults.add(path, at, format, args...)
}

func (c *checker) oneOf(path, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		c.fault(path, "must be one of %s", strings.Join(allowed, ", "))
	}
}

var legalName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,100}$`)

func (c *checker) top() {
	c.rules("",
		rule{"memory", c.Memory < 16<<20, "must be at least 16MiB"},
		rule{"connectors", len(c.Connectors) == 0, "at least one is needed"},
	)
	c.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	c.oneOf("log.format", c.Log.Format, "text", "json")

	token, _ := c.ListenAuth.Token.Value() // a file that cannot be read is a fault already
	host, ok := c.hostPort("listen", c.Listen, 0)
	t := &c.ListenTLS
	c.rules("listen_auth",
		rule{"token", c.ListenAuth.Token.IsSet() && len(token) < MinToken, "must be at least 16 characters"},
		rule{"token", ok && !loopback(host) && !c.ListenAuth.Token.IsSet() && t.ClientCAFile == "",
			"is needed, since listen is reachable from other machines: set one of at least 16 characters, or listen_tls.client_ca_file, or listen on 127.0.0.1"},
		rule{"token", c.ListenAuth.Token.IsSet() && t.ClientCAFile != "",
			"and listen_tls.client_ca_file cannot both be set: which of the two opens the listener?"},
	)
	c.rules("listen_tls",
		rule{"cert_file", t.CertFile == "" && t.KeyFile != "", "is needed with key_file"},
		rule{"cert_file", t.CertFile == "" && t.KeyFile == "" && t.ClientCAFile != "", "is needed with client_ca_file, and key_file with it"},
		rule{"key_file", t.KeyFile == "" && t.CertFile != "", "is needed with cert_file"},
	)
	c.readable("listen_tls.cert_file", t.CertFile)
	c.readable("listen_tls.key_file", t.KeyFile)
	c.readable("listen_tls.client_ca_file", t.ClientCAFile)
}

func (c *checker) kafka() {
	k := &c.Kafka
	c.rules("kafka",
		rule{"brokers", len(k.Brokers) == 0, "at least one is needed, as HOST:PORT"},
		rule{"client_id", !legalName.MatchString(k.ClientID), "must be 1 to 100 of a-z A-Z 0-9 . _ -"},
	)
	c.brokers("kafka", k.Brokers, &k.TLS, &k.SASL)
}

// brokers checks how a cluster is reached.
func (c *checker) brokers(path string, brokers []string, t *TLS, s *SASL) {
	remote := false
	for i, b := range brokers {
		if host, ok := c.hostPort(fmt.Sprintf("%s.brokers[%d]", path, i), b, 1); ok && !loopback(host) {
			remote = true
		}
	}
	c.tls(path+".tls", t, t.Enabled, "enabled is not true")

	oauth, login := s.Mechanism == SASLOAuthBearer, s.Mechanism != ""
	sasl := path + ".sasl"
	if login {
		c.oneOf(sasl+".mechanism", s.Mechanism, SASLPlain, SASLScramSHA256, SASLScramSHA512, SASLOAuthBearer)
	}
	without := "is set, but mechanism is not: nothing would log in"
	c.rules(sasl,
		rule{"username", login && s.Username == "", "is needed for " + s.Mechanism},
		rule{"password", login && !s.Password.IsSet(), "is needed for " + s.Mechanism},
		rule{"username", !login && s.Username != "", without},
		rule{"password", !login && s.Password.IsSet(), without},
		rule{"token_url", oauth && s.TokenURL == "", "is needed for OAUTHBEARER"},
		rule{"token_url", !oauth && s.TokenURL != "", "is for OAUTHBEARER only"},
		rule{"scopes", !oauth && len(s.Scopes) > 0, "is for OAUTHBEARER only"},
		rule{"token_ca_file", !oauth && s.TokenCAFile != "", "is for OAUTHBEARER only"},
		rule{"mechanism", (oauth || s.Mechanism == SASLPlain) && remote && !t.Enabled,
			s.Mechanism + " would send the secret over the network unencrypted: set " + path + ".tls.enabled to true, or use SCRAM-SHA-512"},
	)
	if s.TokenURL != "" {
		if u := c.url(sasl+".token_url", s.TokenURL); u != nil && u.Scheme == "http" && !loopback(u.Hostname()) {
			c.fault(sasl+".token_url", "must be https: the client secret is sent there")
		}
	}
	c.readable(sasl+".token_ca_file", s.TokenCAFile)
}

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

func legalTopic(t string) bool { return topicName.MatchString(t) && t != "." && t != ".." }

const topicRule = "is not a legal topic name: 1 to 249 of a-z A-Z 0-9 . _ -"

func (c *checker) connector(path string, n *Connector) {
	for i, t := range n.Topics {
		c.rules(path,
			rule{fmt.Sprintf("topics[%d]", i), !legalTopic(t), topicRule},
			rule{fmt.Sprintf("topics[%d]", i), slices.Contains(n.Topics[:i], t), "is in the list already"},
		)
	}
	share := c.Memory / Bytes(len(c.Connectors))
	dl, b := &n.DeadLetter, &n.Batch
	_, err := time.Parse(time.RFC3339, n.Start)
	c.rules(path,
		rule{"name", !legalName.MatchString(n.Name), "is needed: 1 to 100 of a-z A-Z 0-9 . _ -"},
		rule{"topics", len(n.Topics) == 0 && n.TopicsPattern == "", "at least one is needed, or topics_pattern"},
		rule{"topics_pattern", len(n.Topics) > 0 && n.TopicsPattern != "", "and topics cannot both be set"},
		rule{"topics_pattern", n.TopicsPattern != "" && pattern(n.TopicsPattern) == nil, patternProblem(n.TopicsPattern)},
		rule{"group", len(n.Group) > 249, "must be at most 249 bytes"},
		rule{"start", n.Start != "earliest" && n.Start != "latest" && err != nil,
			"must be earliest, latest or an RFC 3339 time such as 2026-01-31T00:00:00Z"},

		rule{"batch.records", b.Records < 1 || b.Records > 100_000, "must be 1 to 100000"},
		rule{"batch.bytes", b.Bytes < 1<<10, "must be at least 1KiB"},
		rule{"batch.bytes", b.Bytes > share, fmt.Sprintf(
			"must be at most this connector's share of memory: %s / %d connectors = %s", c.Memory, len(c.Connectors), share)},
		rule{"batch.linger", b.Linger < 0 || b.Linger > time.Minute, "must be 0 to 1m"},
		rule{"in_flight.min", n.InFlight.Min < 1, "must be at least 1"},
		rule{"in_flight.max", n.InFlight.Max > 256, "must be at most 256"},
		rule{"in_flight.max", n.InFlight.Max < n.InFlight.Min, "must not be less than in_flight.min"},
		rule{"retry.initial", n.Retry.Initial < time.Millisecond, "must be at least 1ms"},
		rule{"retry.max", n.Retry.Max > time.Hour, "must be at most 1h"},
		rule{"retry.max", n.Retry.Max < n.Retry.Initial, "must not be less than retry.initial"},
		rule{"drain", n.Drain <= 0, "must be more than 0"},
		rule{"drain", n.Drain >= RebalanceTimeout, fmt.Sprintf("must be less than %s: "+
			"then Kafka gives the partition to another member, while its records are still being delivered here", written(RebalanceTimeout))},

		rule{"dead_letter.topic", dl.Topic != "" && dl.File != "", "and dead_letter.file cannot both be set"},
		rule{"dead_letter.topic", dl.Topic != "" && !legalTopic(dl.Topic), topicRule},
	)
	c.oneOf(path+".decode.format", n.Decode.Format, "json", "raw")
	c.oneOf(path+".dead_letter.reasons", dl.Reasons, "type", "full")
	c.sink(path+".sink", &n.Sink)
}

func (c *checker) sink(path string, s *Sink) {
	var known, given []string
	v := reflect.ValueOf(*s)
	for _, f := range fields(v.Type()) {
		known = append(known, f.key)
		if !v.Field(f.index).IsNil() {
			given = append(given, f.key)
		}
	}
	switch {
	case len(given) == 0:
		c.fault(path, "exactly one is needed: %s", strings.Join(known, ", "))
	case len(given) > 1:
		c.fault(path, "holds %s: exactly one is needed; another connector can send the same topics to another sink", strings.Join(given, " and "))
	}
	if s.Elasticsearch != nil {
		c.elasticsearch(path+".elasticsearch", s.Elasticsearch)
	}
	if s.SplunkHEC != nil {
		c.splunkHEC(path+".splunk_hec", s.SplunkHEC)
	}
	if s.HTTP != nil {
		c.http(path+".http", s.HTTP)
	}
	if s.Syslog != nil {
		c.syslog(path+".syslog", s.Syslog)
	}
	if s.File != nil {
		c.file(path+".file", s.File)
	}
	if s.Kafka != nil {
		c.kafkaSink(path+".kafka", s.Kafka)
	}
}

// pattern is the compiled expression, nil when it is not one.
func pattern(s string) *regexp.Regexp {
	if len(s) > 1000 {
		return nil
	}
	re, err := regexp.Compile(s)
	if err != nil {
		return nil
	}
	return re
}

func patternProblem(s string) string {
	if len(s) > 1000 {
		return "must be at most 1000 bytes"
	}
	var e *syntax.Error
	if _, err := regexp.Compile(s); errors.As(err, &e) {
		return "is not a regular expression: " + e.Code.String()
	}
	return ""
}

// between checks connectors against each other.
func (c *checker) between() {
	path := func(i int, key string) string { return fmt.Sprintf("connectors[%d].%s", i, key) }
	names, groups := map[string][]int{}, map[string][]int{}
	letters := map[string]int{} // dead-letter topic: a connector that writes to it
	for i, n := range c.Connectors {
		if n.Name != "" {
			names[n.Name] = append(names[n.Name], i)
			groups[n.Group] = append(groups[n.Group], i)
		}
		if n.DeadLetter.Topic != "" {
			letters[n.DeadLetter.Topic] = i
		}
	}
	for i, n := range c.Connectors {
		if j, ok := other(names[n.Name], i); ok {
			c.fault(path(i, "name"), "is also the name of connectors[%d]", j)
		} else if j, ok := other(groups[n.Group], i); ok {
			c.fault(path(i, "group"), "%q is also the group of connectors[%d] (%q): each would take partitions from the other and lose their records",
				n.Group, j, c.Connectors[j].Name)
		}
		const loop = "the dead-letter topic of connectors[%d]: its rejected records would come back for ever"
		for k, t := range n.Topics {
			if by, ok := letters[t]; ok {
				c.fault(path(i, fmt.Sprintf("topics[%d]", k)), "is "+loop, by)
			}
		}
		if re := pattern(n.TopicsPattern); n.TopicsPattern != "" && re != nil {
			for _, t := range slices.Sorted(maps.Keys(letters)) {
				if re.MatchString(t) {
					c.fault(path(i, "topics_pattern"), "matches "+loop, letters[t])
					break
				}
			}
		}
	}
}

// other is the first of list that is not i.
func other(list []int, i int) (int, bool) {
	for _, j := range list {
		if j != i {
			return j, true
		}
	}
	return 0, false
}

// tls checks a TLS section; used is whether TLS is spoken at all, and without
// says why not.
func (c *checker) tls(path string, t *TLS, used bool, without string) {
	unused := "is set, but not used, since " + without
	c.rules(path,
		rule{"cert_file", t.CertFile == "" && t.KeyFile != "", "is needed with key_file"},
		rule{"key_file", t.KeyFile == "" && t.CertFile != "", "is needed with cert_file"},
		rule{"ca_file", !used && t.CAFile != "", unused},
		rule{"cert_file", !used && t.CertFile != "", unused},
		rule{"key_file", !used && t.KeyFile != "", unused},
		rule{"server_name", !used && t.ServerName != "", unused},
		rule{"insecure_skip_verify", !used && t.InsecureSkipVerify, unused},
	)
	c.readable(path+".ca_file", t.CAFile)
	c.readable(path+".cert_file", t.CertFile)
	c.readable(path+".key_file", t.KeyFile)
}

// readable checks that the file is there and can be read.
func (c *checker) readable(path, file string) {
	if file == "" {
		return
	}
	info, err := os.Stat(file)
	if err == nil && !info.Mode().IsRegular() {
		c.fault(path, "%q is not a regular file", file)
		return
	}
	if err == nil {
		var f *os.File
		if f, err = os.Open(file); err == nil {
			defer f.Close()
			_, err = f.Read(make([]byte, 1))
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		c.fault(path, "cannot be read: %s", printablePath(err))
	}
}

// hostPort checks for HOST:PORT and returns the host.
func (c *checker) hostPort(path, s string, least int) (string, bool) {
	host, port, err := net.SplitHostPort(s)
	n, bad := strconv.Atoi(port)
	if err != nil || bad != nil || n < least || n > 65535 || least > 0 && host == "" || strings.ContainsAny(host, "@/ ") {
		c.fault(path, "must be HOST:PORT")
		return "", false
	}
	return host, true
}

// url checks for http or https with a host; nil when it is not that.
func (c *checker) url(path, s string) *url.URL {
	u, err := url.Parse(s) // err quotes s, which may hold a password
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		c.fault(path, "must be http://HOST:PORT or https://HOST:PORT")
	case u.User != nil:
		c.fault(path, "must not hold a user or password, which would show in logs: they have keys of their own")
	default:
		return u
	}
	return nil
}

func loopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}
