// Package config holds the types of weir.yaml, their defaults, how the file is
// read, and what is wrong with it. It knows nothing of what the settings do.
package config

import "time"

// Config is the whole of weir.yaml.
type Config struct {
	Kafka      Kafka       `mapstructure:"kafka"`
	Memory     Bytes       `mapstructure:"memory"`
	Listen     string      `mapstructure:"listen"`
	ListenAuth ListenAuth  `mapstructure:"listen_auth"`
	Log        Log         `mapstructure:"log"`
	Connectors []Connector `mapstructure:"connectors"`
}

// Kafka says how the brokers are reached.
type Kafka struct {
	Brokers  []string `mapstructure:"brokers"`
	ClientID string   `mapstructure:"client_id"`
	TLS      TLS      `mapstructure:"tls"`
	SASL     SASL     `mapstructure:"sasl"`
	Rack     string   `mapstructure:"rack"`
}

// TLS says how a server is verified and how we identify to it. Enabled is
// meant for Kafka; an HTTP sink uses TLS when its URL says https.
type TLS struct {
	Enabled            bool   `mapstructure:"enabled"`
	CAFile             string `mapstructure:"ca_file"`
	CertFile           string `mapstructure:"cert_file"`
	KeyFile            string `mapstructure:"key_file"`
	ServerName         string `mapstructure:"server_name"`
	InsecureSkipVerify bool   `mapstructure:"insecure_skip_verify"`
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
	Mechanism string   `mapstructure:"mechanism"`
	Username  string   `mapstructure:"username"`
	Password  Secret   `mapstructure:"password"`
	TokenURL  string   `mapstructure:"token_url"`
	Scopes    []string `mapstructure:"scopes"`
	// TokenCAFile verifies the token server; empty: the system's roots.
	TokenCAFile string `mapstructure:"token_ca_file"`
}

// ListenAuth protects the admin listener; it is required beyond loopback.
type ListenAuth struct {
	Token Secret `mapstructure:"token"`
}

// Log says what is logged and how.
type Log struct {
	Level  string `mapstructure:"level"`  // debug | info | warn | error
	Format string `mapstructure:"format"` // text | json
}

// Connector is one entry of connectors: topics, one sink, and a consumer group
// of its own.
type Connector struct {
	Name          string        `mapstructure:"name"`
	Topics        []string      `mapstructure:"topics"`
	TopicsPattern string        `mapstructure:"topics_pattern"`
	Group         string        `mapstructure:"group"`
	Start         string        `mapstructure:"start"` // earliest | latest | RFC 3339 time
	Decode        Decode        `mapstructure:"decode"`
	Batch         Batch         `mapstructure:"batch"`
	InFlight      InFlight      `mapstructure:"in_flight"`
	Ordered       bool          `mapstructure:"ordered"`
	Retry         Retry         `mapstructure:"retry"`
	Drain         time.Duration `mapstructure:"drain"`
	DeadLetter    DeadLetter    `mapstructure:"dead_letter"`
	Sink          Sink          `mapstructure:"sink"`
}

// Decode says how values are read.
type Decode struct {
	Format string `mapstructure:"format"` // json | raw
}

// Batch bounds one request: it is sent when any of the three is reached.
type Batch struct {
	Records int           `mapstructure:"records"`
	Bytes   Bytes         `mapstructure:"bytes"`
	Linger  time.Duration `mapstructure:"linger"`
}

// InFlight bounds the requests at a time; between the two the number adapts.
type InFlight struct {
	Min int `mapstructure:"min"`
	Max int `mapstructure:"max"`
}

// Retry shapes the pause between attempts. There is no end to them.
type Retry struct {
	Initial time.Duration `mapstructure:"initial"`
	Max     time.Duration `mapstructure:"max"`
}

// DeadLetter says where rejected records go: a topic of the same cluster or a
// file. With neither, a rejected record blocks its lane.
type DeadLetter struct {
	Topic   string `mapstructure:"topic"`
	File    string `mapstructure:"file"`
	Reasons string `mapstructure:"reasons"` // type | full: whether the sink's reason text, which can quote the event, is kept
}

// Sink holds exactly one destination.
type Sink struct {
	Elasticsearch *Elasticsearch `mapstructure:"elasticsearch"`
}

// Elasticsearch is the elasticsearch sink.
type Elasticsearch struct {
	URLs        []string      `mapstructure:"urls"`
	Flavor      string        `mapstructure:"flavor"` // elasticsearch
	Index       string        `mapstructure:"index"`
	DataStream  string        `mapstructure:"data_stream"`
	Op          string        `mapstructure:"op"` // create | index
	ID          string        `mapstructure:"id"` // offset | key | none | {field.path}
	Pipeline    string        `mapstructure:"pipeline"`
	Coordinates bool          `mapstructure:"coordinates"` // add kafka.{topic,partition,offset,timestamp}
	Compression string        `mapstructure:"compression"` // none | gzip
	Auth        Auth          `mapstructure:"auth"`
	TLS         TLS           `mapstructure:"tls"`
	Timeout     time.Duration `mapstructure:"timeout"`
}

// Auth is how we log in to an HTTP sink: an API key, or a user and a password.
type Auth struct {
	APIKey   Secret `mapstructure:"api_key"`
	Username string `mapstructure:"username"`
	Password Secret `mapstructure:"password"`
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

// DefaultElasticsearch is an Elasticsearch sink with every default.
func DefaultElasticsearch() Elasticsearch {
	return Elasticsearch{
		Flavor:      "elasticsearch",
		Op:          "create",
		ID:          "offset",
		Coordinates: true,
		Compression: "none",
		Timeout:     60 * time.Second,
	}
}
