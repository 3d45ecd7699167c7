package config

import "time"

// Syslog is the syslog sink.
type Syslog struct {
	// Receivers (host:port), at least one. Batches go to them in turn, past those
	// that cannot be reached.
	Addresses []string `mapstructure:"addresses" is:"needed"`
	// TLS to the receivers; with enabled: false events go over the network
	// unencrypted.
	TLS TLS `mapstructure:"tls"`
	// How messages are told apart. octet_counting: each has its length before it
	// (RFC 6587, needed for TLS by RFC 5425). lf: each ends with a line break, for
	// receivers that know nothing else.
	Framing string `mapstructure:"framing"`
	// Longest message in bytes, 480 to 16MiB. A longer one is rejected to the dead
	// letters. Receivers cut off what is longer than they take, without a word:
	// write here what yours takes (QRadar: 4096 unless it was raised).
	MaxMessage Bytes `mapstructure:"max_message"`
	// Facility of all messages: kern, user, ..., local0 to local7.
	Facility string `mapstructure:"facility"`
	// Severity: emerg, alert, crit, err, warning, notice, info or debug.
	Severity string `mapstructure:"severity"`
	// Field of the event whose text is looked up in severities, and then among the
	// names above; severity holds where it is found in neither.
	SeverityField string `mapstructure:"severity_field"`
	// What the texts of severity_field mean.
	Severities []SyslogSeverity `mapstructure:"severities"`
	// HOSTNAME of the message, fixed or with {topic}, {partition}, {time:2006.01.02}
	// and {field.path} of the event. A field that is missing makes it "-". Empty: the
	// name of this machine. Many receivers tell log sources apart by it.
	Hostname string `mapstructure:"hostname"`
	// APP-NAME, with the same placeholders; 48 characters at most are sent.
	AppName string `mapstructure:"app_name"`
	// PROCID, with the same placeholders; 128 characters at most are sent.
	ProcID string `mapstructure:"procid"`
	// MSGID, with the same placeholders; 32 characters at most are sent.
	MsgID string `mapstructure:"msgid"`
	// Field of the event that holds its time, as a number of seconds or
	// milliseconds, or in RFC 3339. Empty, or when an event has none: the record's
	// timestamp.
	Time string `mapstructure:"time"`
	// Add [kafka@32473 topic="..." partition="..." offset="..."] as structured data,
	// so that a search can find duplicates.
	Track bool `mapstructure:"track"`
	// json: the event as it came. cef or leef (2.0): a header and the fields.
	Payload string `mapstructure:"payload"`
	// CEF and LEEF: the device's vendor. This and the next keys of the header may hold
	// the same placeholders; a field that is missing makes it "-".
	Vendor string `mapstructure:"vendor"`
	// CEF and LEEF: the device's product.
	Product string `mapstructure:"product"`
	// CEF and LEEF: the device's version.
	Version string `mapstructure:"version"`
	// CEF and LEEF: the kind of event.
	EventID string `mapstructure:"event_id"`
	// CEF: the event's name for people.
	EventName string `mapstructure:"event_name"`
	// CEF: 0 to 10, or Unknown, Low, Medium, High, Very-High.
	EventSeverity string `mapstructure:"event_severity"`
	// CEF and LEEF: the extension, in this order. The time is added as rt or
	// devTime unless it is listed here.
	Fields []SyslogField `mapstructure:"fields"`
	// Limit of connecting and sending one batch, 1s to 10m. After it nothing is
	// known, and the batch is sent again.
	Timeout time.Duration `mapstructure:"timeout"`
}

// SyslogSeverity is what one text of a field means.
type SyslogSeverity struct {
	// Text of the field, in any case.
	Value string `mapstructure:"value"`
	// What it means: emerg to debug.
	Severity string `mapstructure:"severity"`
}

// SyslogField is one key of a CEF or LEEF extension.
type SyslogField struct {
	// The key, such as src: 1 to 64 of a-z A-Z 0-9 _ .
	Key string `mapstructure:"key"`
	// Path of the field of the event; this or value. Left out where it is missing.
	Field string `mapstructure:"field"`
	// A fixed text; this or field.
	Value string `mapstructure:"value"`
}

// DefaultSyslog is a Syslog sink with every default.
func DefaultSyslog() Syslog {
	return Syslog{
		Framing: "octet_counting", MaxMessage: 64 << 10, Facility: "local0", Severity: "info", AppName: "{topic}", Track: true,
		Payload: "json", Vendor: "weir", Product: "weir", Version: "1", EventID: "{topic}", EventName: "{topic}", EventSeverity: "5",
		Timeout: 60 * time.Second,
	}
}
