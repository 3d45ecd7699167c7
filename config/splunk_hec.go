package config

import "time"

// SplunkHEC is the splunk_hec sink.
type SplunkHEC struct {
	// Collectors, at least one: http or https, without user and password, without
	// /services/collector (which is added). They take turns; one that is not well
	// is left out until its health endpoint says that it is back. Acknowledgements
	// are asked for where the events were sent, so write the indexers here rather
	// than a load balancer before them.
	URLs []string `mapstructure:"urls" is:"needed"`
	// The collector's token, sent as Authorization: Splunk TOKEN. Needs https,
	// except to loopback.
	Token Secret `mapstructure:"token" is:"needed"`
	// Index to write to, fixed or with {topic}, {partition}, {time:2006.01.02} (the
	// record's timestamp in UTC, in Go's layout) and {field.path} of the event.
	// Empty, or when an event has no such field or it is not a legal name: the
	// token's own. One that the token may not write to stops its partition.
	Index string `mapstructure:"index"`
	// Source of the events, with the same placeholders. Empty: the token's own.
	Source string `mapstructure:"source"`
	// Source type, with the same placeholders. Empty: the token's own.
	Sourcetype string `mapstructure:"sourcetype"`
	// Host, with the same placeholders. Empty: the token's own.
	Host string `mapstructure:"host"`
	// Field of the event that holds its time, as a dotted path: a number of seconds
	// since 1970 (or milliseconds, microseconds or nanoseconds: its size tells), or
	// RFC 3339. All digits are kept. Empty, or when an event has none: the record's
	// timestamp.
	Time string `mapstructure:"time"`
	// Indexer acknowledgement. auto: asked for at the first contact, used if the
	// token has it; weir check --online and /status say which. required: nothing is
	// sent without. off: an event counts as delivered when Splunk has accepted it,
	// which it can still lose.
	Ack string `mapstructure:"ack"`
	// How long an acknowledgement may take before the events are sent again, 10s to
	// 1h. Indexers take minutes when they are busy, and what is sent again too early
	// is stored twice.
	AckTimeout time.Duration `mapstructure:"ack_timeout"`
	// Add kafka_topic, kafka_partition and kafka_offset as indexed fields, so that
	// a search can find gaps and duplicates.
	Track bool `mapstructure:"track"`
	// none or gzip, for requests.
	Compression string `mapstructure:"compression"`
	// How an https endpoint is verified.
	TLS TLS `mapstructure:"tls"`
	// Limit of one request, from sending to the whole answer, 1s to 10m. After it
	// nothing is known, and the batch is sent again.
	Timeout time.Duration `mapstructure:"timeout"`
}

// DefaultSplunkHEC is a SplunkHEC sink with every default.
func DefaultSplunkHEC() SplunkHEC {
	return SplunkHEC{Ack: "auto", AckTimeout: 5 * time.Minute, Track: true, Compression: "none", Timeout: 60 * time.Second}
}
