package bridge

import (
	"fmt"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

// M is a mapping of weir.yaml.
type M = map[string]any

// Config is a weir.yaml with one connector, named after its topic, that a test
// then alters.
type Config struct {
	File      M
	Connector M
	Sink      M // the connector's elasticsearch section
}

// NewConfig reads topic into the sink at url. Dead letters go to topic.dlq.
func NewConfig(brokers, topic, url string) *Config {
	sink := M{"urls": []string{url}, "index": topic}
	connector := M{
		"name":        topic,
		"topics":      []string{topic},
		"dead_letter": M{"topic": topic + ".dlq"},
		"retry":       M{"initial": "100ms", "max": "2s"},
		"sink":        M{"elasticsearch": sink},
	}
	file := M{
		"kafka":      M{"brokers": []string{brokers}},
		"connectors": []M{connector},
	}
	return &Config{File: file, Connector: connector, Sink: sink}
}

// Group is the consumer group of the connector.
func (c *Config) Group() string {
	if g, ok := c.Connector["group"].(string); ok {
		return g
	}
	return fmt.Sprintf("weir.%s", c.Connector["name"])
}

// Set sets the value at a dotted path of the file, connector or sink section.
func Set(section M, path string, value any) {
	keys := strings.Split(path, ".")
	for _, k := range keys[:len(keys)-1] {
		next, ok := section[k].(M)
		if !ok {
			next = M{}
			section[k] = next
		}
		section = next
	}
	section[keys[len(keys)-1]] = value
}

// Fill is a copy of section with word replaced by text wherever it is a value.
func Fill(section M, word, text string) M {
	out := M{}
	for k, v := range section {
		switch v := v.(type) {
		case M:
			out[k] = Fill(v, word, text)
		case []string:
			list := make([]string, len(v))
			for i, s := range v {
				list[i] = strings.ReplaceAll(s, word, text)
			}
			out[k] = list
		case string:
			out[k] = strings.ReplaceAll(v, word, text)
		default:
			out[k] = v
		}
	}
	return out
}

// Write writes the configuration to path.
func (c *Config) Write(path string) error {
	text, err := yaml.Marshal(c.File)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}
