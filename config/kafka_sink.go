package config

// KafkaSink is the kafka sink.
type KafkaSink struct {
	// Topic to write to; {topic} in it stands for the topic of the record, as in
	// archive.{topic}. weir does not make it: while it is missing nothing is
	// delivered, and health says so. It must not be one whose records come back
	// here.
	Topic string `mapstructure:"topic" is:"needed"`
	// Addresses (host:port) of another cluster to write to; the cluster tells of
	// the others. Empty: the one under kafka, with its tls and sasl.
	Brokers []string `mapstructure:"brokers"`
	// Encryption to the brokers of another cluster.
	TLS TLS `mapstructure:"tls"`
	// Login to the brokers of another cluster; without a mechanism there is none.
	SASL SASL `mapstructure:"sasl"`
	// none, gzip, snappy, lz4 or zstd: how the records are stored. It costs CPU time
	// here, and saves network, and disk in the cluster.
	Compression string `mapstructure:"compression"`
	// Add the headers weir.topic, weir.topic_id, weir.partition, weir.offset and
	// weir.timestamp, so that gaps and duplicates can be found: about 150 bytes a
	// record before compression.
	Track bool `mapstructure:"track"`
}

// DefaultKafkaSink is a KafkaSink with every default.
func DefaultKafkaSink() KafkaSink {
	return KafkaSink{Compression: "lz4", Track: true}
}
