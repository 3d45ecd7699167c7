// Package syslog is the sink that sends events as syslog messages (RFC 5424) over
// TCP or TLS.
//
// # What an Ack means
//
// Syslog has no acknowledgement. A batch counts as delivered when it was written
// to a connection, the receiver's TCP stack has confirmed all of it (Linux: what is
// unsent and unacknowledged is asked for until it is nothing), and the receiver has
// not closed the connection by then. What the receiver had not yet read or stored
// when it died is lost all the same: this is GradeD. After anything else the whole
// batch is sent again, so that what had arrived is there twice.
package syslog

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"weir/sinks"
	"weir/sinks/template"
)

// Config says where and how to send. New checks it.
type Config struct {
	// Addresses of the receivers, HOST:PORT. Batches go to them in turn, past those
	// that cannot be reached.
	Addresses []string
	// TLS of the connections; nil: plain TCP.
	TLS *tls.Config
	// Framing of messages (RFC 6587): octet_counting or lf.
	Framing string
	// MaxMessage is how long a message may get, in bytes, without its frame. A longer
	// one is rejected: receivers cut it off without a word.
	MaxMessage int
	// Facility and Severity are names of RFC 5424 (local0, info).
	Facility, Severity string
	// SeverityField is the path of the field that a severity is made of; empty:
	// Severity for all. Its text is looked up in Severities and then in the names of
	// RFC 5424; Severity where it is in neither.
	SeverityField string
	Severities    map[string]string
	// Hostname, AppName, ProcID and MsgID are templates. Where one comes to nothing,
	// or needs a field that is missing, the message says "-". An empty Hostname is
	// the name of this machine.
	Hostname, AppName, ProcID, MsgID string
	// Time is the path of the field that holds the event's time; empty, or where that
	// is no time: the record's timestamp.
	Time string
	// Track adds the record's coordinates as structured data.
	Track bool
	// Payload is json, cef or leef.
	Payload string
	// Vendor, Product, Version, EventID, EventName and EventSeverity are templates for
	// the header of CEF and LEEF, which has no name and no severity.
	Vendor, Product, Version, EventID, EventName, EventSeverity string
	// Fields of the extension of CEF and LEEF, in order.
	Fields []Mapping
	// Timeout bounds the connecting and the sending of one batch.
	Timeout time.Duration
	// Observe is called once for every batch, with 200 when it counts as delivered,
	// else 0, and how long it took. Nil: not called.
	Observe func(status int, took time.Duration)
}

// A Mapping is one key of an extension. Exactly one of Field and Value is set.
type Mapping struct {
	Key   string
	Field string // the path of a field; left out where it is missing
	Value string // a fixed text
}

// Sink sends to one set of receivers. It is safe for concurrent use.
type Sink struct {
	cfg    Config
	layout layout
	counts bool // octet counting
	dialer net.Dialer

	encoders sync.Pool // of *encoder

	mu     sync.Mutex
	next   int // receiver whose turn it is
	peers  []*peer
	closed bool
}

// New checks cfg. It connects to nobody.
func New(cfg Config) (*Sink, error) {
	s := &Sink{cfg: cfg, counts: cfg.Framing == "octet_counting"}
	switch {
	case len(cfg.Addresses) == 0:
		return nil, errors.New("syslog: at least one address is needed")
	case !s.counts && cfg.Framing != "lf":
		return nil, fmt.Errorf("syslog: framing %q is neither octet_counting nor lf", cfg.Framing)
	case cfg.MaxMessage < minMessage || cfg.MaxMessage > maxMessage:
		return nil, fmt.Errorf("syslog: the longest message is %d to %d bytes", minMessage, maxMessage)
	case cfg.Timeout <= 0:
		return nil, errors.New("syslog: a timeout is needed")
	}
	var err error
	if s.layout, err = newLayout(cfg); err != nil {
		return nil, fmt.Errorf("syslog: %w", err)
	}
	for _, a := range cfg.Addresses {
		host, _, err := net.SplitHostPort(a)
		if err != nil {
			return nil, fmt.Errorf("syslog: address %q: %w", a, err)
		}
		p := &peer{address: a}
		if cfg.TLS != nil {
			p.tls = cfg.TLS.Clone()
			if p.tls.ServerName == "" {
				p.tls.ServerName = host
			}
		}
		s.peers = append(s.peers, p)
	}
	return s, nil
}

// The bounds of MaxMessage: what every receiver has to take (RFC 5424, 6.1), and
// what is held of one message at a time.
const (
	minMessage = 480
	maxMessage = 16 << 20
)

// Grade is what the sink promises, and why in a sentence.
func (s *Sink) Grade() (sinks.Grade, string) {
	return sinks.GradeD, "syslog has no acknowledgement: what a receiver had taken from the network and not stored when it died is lost, " +
		"and what was under way when a connection broke is sent again"
}

// Close closes idle connections. Those in use are closed when their batch is done.
func (s *Sink) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, p := range s.peers {
		for _, c := range p.idle {
			c.close()
		}
		p.idle = nil
	}
}

// layout is what all messages of a sink have in common.
type layout struct {
	facility   int
	severity   int
	severityAt template.Field
	bySeverity bool
	severities map[string]int
	timeAt     template.Field
	byTime     bool
	hostname   *template.Template
	appName    *template.Template
	procID     *template.Template
	msgID      *template.Template
	track      bool
	payload    payload
	head       []*template.Template // of CEF and LEEF, behind the name of the format
	fields     []field
	stamped    bool // the mapping has a key for the time
	max        int
}

type payload uint8

const (
	payloadJSON payload = iota
	payloadCEF
	payloadLEEF
)

// field is a Mapping, read.
type field struct {
	key   string
	fixed bool
	value []byte
	at    template.Field
}

var (
	facilities = strings.Fields("kern user mail daemon auth syslog lpr news uucp cron authpriv ftp ntp audit alert clock local0 local1 local2 local3 local4 local5 local6 local7")
	severities = strings.Fields("emerg alert crit err warning notice info debug")
)

func index(names []string, name string) int {
	for i, n := range names {
		if n == name {
			return i
		}
	}
	return -1
}

func newLayout(cfg Config) (layout, error) {
	l := layout{track: cfg.Track, max: cfg.MaxMessage, severities: map[string]int{}}
	if l.facility = index(facilities, cfg.Facility); l.facility < 0 {
		return l, fmt.Errorf("facility %q is none of %s", cfg.Facility, strings.Join(facilities, ", "))
	}
	known := func(name string) (int, error) {
		n := index(severities, name)
		if n < 0 {
			return 0, fmt.Errorf("severity %q is none of %s", name, strings.Join(severities, ", "))
		}
		return n, nil
	}
	for n, name := range severities {
		l.severities[name] = n
	}
	var err error
	if l.severity, err = known(cfg.Severity); err != nil {
		return l, err
	}
	for text, name := range cfg.Severities {
		if l.severities[strings.ToLower(text)], err = known(name); err != nil {
			return l, err
		}
	}
	if cfg.SeverityField != "" {
		l.bySeverity = true
		if l.severityAt, err = template.ParseField(cfg.SeverityField); err != nil {
			return l, err
		}
	}
	if cfg.Time != "" {
		l.byTime = true
		if l.timeAt, err = template.ParseField(cfg.Time); err != nil {
			return l, err
		}
	}
	if cfg.Hostname == "" {
		if cfg.Hostname, err = os.Hostname(); err != nil {
			return l, fmt.Errorf("the name of this machine: %w", err)
		}
		cfg.Hostname = strings.NewReplacer("{", "_", "}", "_").Replace(cfg.Hostname)
	}
	head := []string{cfg.Vendor, cfg.Product, cfg.Version, cfg.EventID}
	switch cfg.Payload {
	case "json":
		head = nil
	case "cef":
		l.payload = payloadCEF
		head = append(head, cfg.EventName, cfg.EventSeverity)
	case "leef":
		l.payload = payloadLEEF
	default:
		return l, fmt.Errorf("payload %q is none of json, cef, leef", cfg.Payload)
	}
	l.head = make([]*template.Template, len(head))
	for _, t := range []struct {
		to   **template.Template
		text string
	}{{&l.hostname, cfg.Hostname}, {&l.appName, cfg.AppName}, {&l.procID, cfg.ProcID}, {&l.msgID, cfg.MsgID}} {
		if *t.to, err = template.Parse(t.text); err != nil {
			return l, err
		}
	}
	for i, text := range head {
		if l.head[i], err = template.Parse(text); err != nil {
			return l, err
		}
	}
	for _, m := range cfg.Fields {
		f := field{key: m.Key, fixed: m.Field == "", value: []byte(m.Value)}
		switch {
		case !legalKey(m.Key):
			return l, fmt.Errorf("key %q of a field: want 1 to 64 of letters, digits, _ and dots", m.Key)
		case l.payload == payloadJSON:
			return l, errors.New("fields are for cef and leef: json sends the whole event")
		case (m.Field == "") == (m.Value == ""):
			return l, fmt.Errorf("field %q: exactly one of a field and a value is needed", m.Key)
		case !f.fixed:
			if f.at, err = template.ParseField(m.Field); err != nil {
				return l, err
			}
		}
		l.stamped = l.stamped || l.payload == payloadCEF && m.Key == "rt" || l.payload == payloadLEEF && m.Key == "devTime"
		l.fields = append(l.fields, f)
	}
	return l, nil
}

// legalKey: what CEF and LEEF parsers take for a key.
func legalKey(k string) bool {
	if k == "" || len(k) > 64 {
		return false
	}
	for _, c := range []byte(k) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '.' {
			return false
		}
	}
	return true
}
