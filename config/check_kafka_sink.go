package config

import (
	"fmt"
	"net"
	"slices"
	"strings"
)

func (c *checker) kafkaSink(path string, s *KafkaSink) {
	sample := strings.ReplaceAll(s.Topic, "{topic}", "t")
	c.rules(path,
		rule{"topic", s.Topic == "", "is needed"},
		rule{"topic", s.Topic != "" && strings.ContainsAny(sample, "{}"), "has an unknown placeholder: there is {topic} alone"},
		rule{"topic", s.Topic != "" && !strings.ContainsAny(sample, "{}") && !legalTopic(sample), topicRule},
	)
	c.oneOf(path+".compression", s.Compression, "none", "gzip", "snappy", "lz4", "zstd")

	if len(s.Brokers) > 0 {
		c.brokers(path, s.Brokers, &s.TLS, &s.SASL)
	} else {
		m := &s.SASL
		login := m.Mechanism != "" || m.Username != "" || m.Password.IsSet() || m.TokenURL != "" || len(m.Scopes) > 0 || m.TokenCAFile != ""
		c.rules(path,
			rule{"tls", s.TLS != (TLS{}), "is set, but brokers is not: kafka.tls is used"},
			rule{"sasl", login, "is set, but brokers is not: kafka.sasl is used"},
		)
	}
	c.rounds(path, s)
}

// rounds looks for records that would come back: to the connector that wrote
// them, at once or by way of others, or to a dead-letter topic, of which only
// dead letters are expected. A cluster that is the same one under other
// addresses is found out when records are written.
func (c *checker) rounds(path string, s *KafkaSink) {
	if !c.sameCluster(s) {
		return
	}
	own := slices.IndexFunc(c.Connectors, func(n Connector) bool { return n.Sink.Kafka == s })
	n := &c.Connectors[own]
	if strings.Contains(s.Topic, "{topic}") && n.TopicsPattern != "" {
		c.fault(path+".topic", "must not hold {topic} in the cluster that is read, together with topics_pattern, "+
			"which could match what is written: list the topics instead")
		return
	}
	for i := range c.Connectors {
		if dl := c.Connectors[i].DeadLetter.Topic; dl != "" && slices.Contains(c.written(n), dl) {
			c.fault(path+".topic", "is the dead-letter topic of connectors[%d]", i)
		}
	}
	seen := make([]bool, len(c.Connectors))
	var follow func(from int) (back bool)
	follow = func(from int) bool {
		for _, topic := range c.written(&c.Connectors[from]) {
			for i := range c.Connectors {
				if !c.Connectors[i].reads(topic) {
					continue
				}
				if i == own {
					return true
				}
				if !seen[i] {
					seen[i] = true
					if follow(i) {
						return true
					}
				}
			}
		}
		return false
	}
	if follow(own) {
		c.fault(path+".topic", "comes back to this connector, which would write it again, for ever")
	}
}

// written are the topics that n writes to in the cluster that is read. Those of
// a pattern are not known.
func (c *checker) written(n *Connector) []string {
	s := n.Sink.Kafka
	if s == nil || !c.sameCluster(s) {
		return nil
	}
	if !strings.Contains(s.Topic, "{topic}") {
		return []string{s.Topic}
	}
	var topics []string
	for _, t := range n.Topics {
		topics = append(topics, strings.ReplaceAll(s.Topic, "{topic}", t))
	}
	return topics
}

// reads reports whether the connector reads topic.
func (n *Connector) reads(topic string) bool {
	if n.TopicsPattern == "" {
		return slices.Contains(n.Topics, topic)
	}
	re := pattern(n.TopicsPattern)
	return re != nil && re.MatchString(topic)
}

// sameCluster reports whether s writes to the cluster that is read, as far as the
// addresses tell.
func (c *checker) sameCluster(s *KafkaSink) bool {
	return len(s.Brokers) == 0 || slices.ContainsFunc(s.Brokers, func(b string) bool {
		return slices.ContainsFunc(c.Kafka.Brokers, func(k string) bool { return strings.EqualFold(b, k) })
	})
}

// warnKafkaSink warns of what goes to another cluster unencrypted or to anybody.
// For the same cluster the warnings of kafka stand.
func warnKafkaSink(path string, s *KafkaSink, warn func(key, format string, args ...any)) {
	if s.TLS.Enabled {
		if s.TLS.InsecureSkipVerify {
			warn(path+".tls.insecure_skip_verify", unverified)
		}
		return
	}
	for i, b := range s.Brokers {
		if host, _, err := net.SplitHostPort(b); err == nil && !loopback(host) {
			warn(fmt.Sprintf("%s.brokers[%d]", path, i), "events go over the network unencrypted, since %s.tls.enabled is false", path)
			break // one says it for all
		}
	}
}
