// Package config holds the types of weir.yaml, their defaults, how the file is
// read, and what is wrong with it. It knows nothing of what the settings do.
package config

import "time"

//go:generate go run ./reference

// The comments on the fields are the reference a user reads: docs/configuration.md
// is generated from them. `is:"file"` marks a path: a relative one is joined to
// the folder of the YAML file. `is:"needed"` marks what has no default.

// Config is the whole of weir.yaml.
type Config struct {
	// How the brokers are reached.
	Kafka Kafka `mapstructure:"kafka"`
	// Bytes of records held in memory at a time, over all connectors; at least
	// 16MiB. Every connector has an equal share of it that others cannot take.
	// When a share is spent, that connector stops reading until the sink has
	// taken something: nothing is dropped. The process itself and the requests
	// being built come on top.
	Memory Bytes `mapstructure:"memory"`
	// Address (host:port) of health, metrics and status over HTTP. Beyond
	// loopback listen_auth.token or listen_tls.client_ca_file is required. If the
	// address is taken, weir does not start.
	Listen string `mapstructure:"listen"`
	// Who may ask the HTTP listener.
	ListenAuth ListenAuth `mapstructure:"listen_auth"`
	// HTTPS for the HTTP listener.
	ListenTLS ListenTLS `mapstructure:"listen_tls"`
	// What is logged, on standard error.
	Log Log `mapstructure:"log"`
	// The bridges to run, at least one.
	Connectors []Connector `mapstructure:"connectors"`
}

// Kafka says how the brokers are reached.
type Kafka struct {
	// Addresses (host:port) to begin with, at least one; the cluster tells of the
	// others. While none answers weir tries again, for ever, and is not ready.
	Brokers []string `mapstructure:"brokers" is:"needed"`
	// Name shown in the brokers' logs and used for their quotas: 1 to 100 of
	// a-z A-Z 0-9 . _ -
	ClientID string `mapstructure:"client_id"`
	// Encryption to the brokers.
	TLS TLS `mapstructure:"tls"`
	// Login to the brokers; without a mechanism there is none.
	SASL SASL `mapstructure:"sasl"`
	// The brokers' name (broker.rack) for where weir runs, to read from the
	// nearest replica. Empty: read from the leader. A name no broker has does no
	// harm.
	Rack string `mapstructure:"rack"`
}

// TLS says how a server is verified and how we identify to it.
type TLS struct {
	// Speak TLS. For an HTTP sink this key changes nothing: its URL says
	// http or https.
	Enabled bool `mapstructure:"enabled"`
	// File of PEM certificates that the server's certificate must descend from.
	// Empty: the system's roots.
	CAFile string `mapstructure:"ca_file" is:"file"`
	// File of our PEM certificate, for servers that ask for one (mTLS); together
	// with key_file. Both are read at each handshake: a renewed one is taken up
	// without a restart.
	CertFile string `mapstructure:"cert_file" is:"file"`
	// File of the PEM key of cert_file.
	KeyFile string `mapstructure:"key_file" is:"file"`
	// Name the server's certificate must be for. Empty: the host of the address.
	ServerName string `mapstructure:"server_name"`
	// Take any certificate. Whoever sits between can then read and change
	// everything, credentials included: for tests only.
	InsecureSkipVerify bool `mapstructure:"insecure_skip_verify"`
}

// SASL mechanisms.
const (
	SASLPlain       = "PLAIN"
	SASLScramSHA256 = "SCRAM-SHA-256"
	SASLScramSHA512 = "SCRAM-SHA-512"
	SASLOAuthBearer = "OAUTHBEARER"
)

// SASL says how we log in to the brokers. With OAUTHBEARER, Username and
// Password are the client id and the client secret of the client credentials
// grant at TokenURL.
type SASL struct {
	// PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER; empty: no login. PLAIN
	// and OAUTHBEARER show the secret to the server and need TLS, except to
	// loopback.
	Mechanism string `mapstructure:"mechanism"`
	// The user, or with OAUTHBEARER the client id.
	Username string `mapstructure:"username"`
	// The password, or with OAUTHBEARER the client secret. When it is wrong weir
	// tries again, for ever, and is not ready.
	Password Secret `mapstructure:"password"`
	// OAUTHBEARER: where a token is fetched with the client credentials grant;
	// https, or http to loopback.
	TokenURL string `mapstructure:"token_url"`
	// OAUTHBEARER: the scopes to ask for.
	Scopes []string `mapstructure:"scopes"`
	// OAUTHBEARER: file of PEM certificates that verify the token server. Empty:
	// the system's roots.
	TokenCAFile string `mapstructure:"token_ca_file" is:"file"`
}

// ListenAuth protects the admin listener; beyond loopback a token is required,
// or client certificates (ListenTLS).
type ListenAuth struct {
	// Bearer token a client must send, at least 16 characters: as long as its file
	// holds a shorter one nobody is let in. Empty: none is asked for, which is
	// allowed on loopback only. Without listen_tls it goes over the network as it
	// is, and weir warns.
	Token Secret `mapstructure:"token"`
}

// MinToken is the least length of ListenAuth.Token, in bytes.
const MinToken = 16

// ListenTLS makes the admin listener speak HTTPS, TLS 1.2 at least. The files are
// read at each handshake: renewed ones are taken up without a restart.
type ListenTLS struct {
	// File of the listener's PEM certificate, with those between it and the root;
	// together with key_file. Empty: plain HTTP.
	CertFile string `mapstructure:"cert_file" is:"file"`
	// File of the PEM key of cert_file.
	KeyFile string `mapstructure:"key_file" is:"file"`
	// File of PEM certificates that a client's certificate must descend from
	// (mTLS); instead of listen_auth.token. As with a token, /livez and a bare
	// /readyz are answered without, so that a container platform can ask them.
	ClientCAFile string `mapstructure:"client_ca_file" is:"file"`
}

// Log says what is logged and how.
type Log struct {
	// debug, info, warn or error: the least severe level that is logged.
	Level string `mapstructure:"level"`
	// text or json.
	Format string `mapstructure:"format"`
	// File that the begin and the end of each administrative action (an index
	// template installed, a topic made, a case sealed) are appended to, one line
	// each, made readable by its owner alone. The line goes to standard error, too.
	// Nothing is changed when the file cannot be opened. Empty: standard error only.
	AuditFile string `mapstructure:"audit_file" is:"file"`
}

// Connector is one entry of connectors: topics, one sink, and a consumer group
// of its own.
type Connector struct {
	// Name in logs, metrics and status, unique: 1 to 100 of a-z A-Z 0-9 . _ -
	Name string `mapstructure:"name" is:"needed"`
	// The topics to read; this or topics_pattern. One that does not exist yet is
	// waited for.
	Topics []string `mapstructure:"topics"`
	// Regular expression (RE2) of topic names, tried again as topics come and go.
	// It matches anywhere in the name unless it is anchored with ^ and $.
	TopicsPattern string `mapstructure:"topics_pattern"`
	// Consumer group, one for each connector; offsets are kept under it, so a
	// new name starts anew at start. Empty: weir.NAME.
	Group string `mapstructure:"group"`
	// Where a group without committed offsets begins: earliest, latest, or an
	// RFC 3339 time (2026-01-31T00:00:00Z). The default skips nothing.
	Start string `mapstructure:"start"`
	// How values are read.
	Decode Decode `mapstructure:"decode"`
	// When the open batch is sent: as soon as one of the three is reached.
	Batch Batch `mapstructure:"batch"`
	// Requests to the sink at a time.
	InFlight InFlight `mapstructure:"in_flight"`
	// Send no batch with records of a partition while one of an earlier batch is
	// unsettled. Of one batch, what the destination does not take at once follows
	// behind what it took. Each partition then waits for each of its answers: slower.
	Ordered bool `mapstructure:"ordered"`
	// The pause between attempts. There is no end to them: a record is
	// delivered, dead-lettered, or keeps its place.
	Retry Retry `mapstructure:"retry"`
	// How long what is in flight may take to finish when weir stops or a
	// partition is taken away; more than 0 and less than 60s. What is not settled
	// by then is read again by the next owner.
	Drain time.Duration `mapstructure:"drain"`
	// Where rejected records go. With neither a topic nor a file, a rejected
	// record blocks its partition, and health says so.
	DeadLetter DeadLetter `mapstructure:"dead_letter"`
	// The destination: exactly one of the keys below.
	Sink Sink `mapstructure:"sink"`
}

// Decode says how values are read.
type Decode struct {
	// json: a JSON object is sent as it came, anything else is wrapped as text.
	// raw: every value is wrapped as text.
	Format string `mapstructure:"format"`
}

// Batch bounds one request: it is sent when any of the three is reached.
type Batch struct {
	// Records in a request at most, 1 to 100000.
	Records int `mapstructure:"records"`
	// Bytes of records in a request at most, before compression; at least 1KiB,
	// at most the connector's share of memory. A larger record goes alone.
	// Times in_flight.max it is what can be on its way at a time.
	Bytes Bytes `mapstructure:"bytes"`
	// How long the first record of a batch waits for others, 0 to 1m. 0: not at
	// all, which makes many small requests.
	Linger time.Duration `mapstructure:"linger"`
}

// InFlight bounds the requests at a time; between the two the number adapts.
type InFlight struct {
	// Requests at a time at least, 1 to max.
	Min int `mapstructure:"min"`
	// Requests at a time at most, up to 256. The number grows while the sink
	// keeps up and is cut when it answers 429 or 503 or gets slower.
	Max int `mapstructure:"max"`
}

// Retry shapes the pause between attempts. There is no end to them.
type Retry struct {
	// Pause after the first failure, at least 1ms; it grows with each further one.
	Initial time.Duration `mapstructure:"initial"`
	// Longest pause, at most 1h. A Retry-After of the sink goes before both.
	Max time.Duration `mapstructure:"max"`
}

// DeadLetter says where rejected records go: a topic of the same cluster or a
// file. With neither, a rejected record blocks its lane.
type DeadLetter struct {
	// Topic of the same cluster; this or file. It must not be one that a
	// connector reads. While it refuses, the partition waits: nothing is lost.
	Topic string `mapstructure:"topic"`
	// File that rejected records are appended to; this or topic.
	File string `mapstructure:"file" is:"file"`
	// What is kept of the sink's reason. type: its kind only. full: its text too,
	// which can quote the event.
	Reasons string `mapstructure:"reasons"`
}

// Sink holds exactly one destination.
type Sink struct {
	// Elasticsearch 8 or 9, or OpenSearch, through the bulk API.
	Elasticsearch *Elasticsearch `mapstructure:"elasticsearch"`
	// Splunk, or what speaks its HTTP Event Collector (CrowdStrike LogScale).
	SplunkHEC *SplunkHEC `mapstructure:"splunk_hec"`
	// Any intake of JSON over HTTP.
	HTTP *HTTP `mapstructure:"http"`
	// Syslog (RFC 5424) over TCP or TLS.
	Syslog *Syslog `mapstructure:"syslog"`
	// An archive in a folder of this machine.
	File *File `mapstructure:"file"`
	// A topic of this cluster or of another one.
	Kafka *KafkaSink `mapstructure:"kafka"`
}

// RebalanceTimeout is how long Kafka waits for a member to give back its
// partitions. Drain has to be shorter, or a partition could be given away while
// its records are still being delivered.
const RebalanceTimeout = 60 * time.Second

// Default is a Config with every default but those of a connector, which
// DefaultConnector gives.
func Default() Config {
	return Config{
		Kafka:  Kafka{ClientID: "weir"},
		Memory: 256 << 20,
		Listen: "127.0.0.1:9600",
		Log:    Log{Level: "info", Format: "text"},
	}
}

// DefaultConnector is a Connector with every default but those that depend on
// others (Group is weir.NAME).
func DefaultConnector() Connector {
	return Connector{
		Start:      "earliest",
		Decode:     Decode{Format: "json"},
		Batch:      Batch{Records: 5000, Bytes: 5 << 20, Linger: 200 * time.Millisecond},
		InFlight:   InFlight{Min: 1, Max: 8},
		Retry:      Retry{Initial: 200 * time.Millisecond, Max: 60 * time.Second},
		Drain:      20 * time.Second,
		DeadLetter: DeadLetter{Reasons: "type"},
	}
}

// DefaultSink has every kind of sink with its defaults; a connector has one of
// them.
func DefaultSink() Sink {
	es, hec, http, syslog, file, kafka := DefaultElasticsearch(), DefaultSplunkHEC(), DefaultHTTP(), DefaultSyslog(), DefaultFile(), DefaultKafkaSink()
	return Sink{Elasticsearch: &es, SplunkHEC: &hec, HTTP: &http, Syslog: &syslog, File: &file, Kafka: &kafka}
}
