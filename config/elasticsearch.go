package config

import "time"

// Elasticsearch is the elasticsearch sink, which is OpenSearch's as well.
type Elasticsearch struct {
	// Nodes, at least one: http or https, without user and password. A node that
	// does not answer is left alone for a while.
	URLs []string `mapstructure:"urls" is:"needed"`
	// The server: elasticsearch (8 and 9) or opensearch (3). What another server
	// answers is not taken.
	Flavor string `mapstructure:"flavor"`
	// Index to write to; this or data_stream. It may hold {topic}, {partition},
	// {time:2006.01.02} (the record's timestamp in UTC, in Go's layout, so that a
	// record sent twice meets its own index) and {field.path} of the event. What
	// they come to is written in lower case.
	Index string `mapstructure:"index"`
	// Data stream to write to; this or index, with the same placeholders. op must
	// be create.
	DataStream string `mapstructure:"data_stream"`
	// create: a record that is there already is left alone. index: it is
	// overwritten.
	Op string `mapstructure:"op"`
	// The document's id. offset: made of cluster, topic, partition and offset, so
	// that sending twice is harmless. key: the record's key. {field.path}: a field
	// of the event. none: the server makes one, and what is sent twice is there
	// twice.
	ID string `mapstructure:"id"`
	// Ingest pipeline to run. Empty: the index's own.
	Pipeline string `mapstructure:"pipeline"`
	// Add kafka.topic, kafka.partition, kafka.offset and kafka.timestamp to each
	// event.
	Coordinates bool `mapstructure:"coordinates"`
	// none or gzip, for requests. gzip costs CPU time here and saves network.
	Compression string `mapstructure:"compression"`
	// Login: an API key, or a user and a password, or nothing. Needs https,
	// except to loopback.
	Auth Auth `mapstructure:"auth"`
	// How an https node is verified.
	TLS TLS `mapstructure:"tls"`
	// Limit of one request, from sending to the whole answer, 1s to 10m. After
	// it nothing is known, and the batch is sent again.
	Timeout time.Duration `mapstructure:"timeout"`
}

// Auth is how we log in to an HTTP sink: an API key, or a user and a password.
type Auth struct {
	// API key in its encoded form. OpenSearch has them from 3.7 on, where they are
	// switched on.
	APIKey Secret `mapstructure:"api_key"`
	// User; together with password.
	Username string `mapstructure:"username"`
	// Password of the user.
	Password Secret `mapstructure:"password"`
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
