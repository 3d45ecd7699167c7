package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Kafka is a running broker.
type Kafka struct {
	Addr string // plaintext, host:port
	// The second listener: SASL_SSL with SCRAM-SHA-512. Empty where there is none.
	TLSAddr, CAFile, User, Password string
	// Data is the folder of its logs, a folder a partition; empty where it is not
	// ours.
	Data string
}

// Kafka finds or starts a broker.
//
// Errors: ErrNone when there is no way to one; what the start script said.
func (s *Set) Kafka(ctx context.Context) (*Kafka, error) {
	if addr := os.Getenv("WEIR_TEST_KAFKA"); addr != "" {
		return &Kafka{Addr: addr}, nil
	}
	if s.testbed == "" {
		if err := s.compose(ctx, "kafka"); err != nil {
			return nil, err
		}
		return &Kafka{Addr: "127.0.0.1:9092"}, nil
	}
	port, err := freePorts(21000+os.Getpid()%300*10, 10, 0, 1, 2) // the broker, its controller, its TLS listener
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(s.dir, "kafka-"+strconv.Itoa(port))
	// A last stop has no use for a graceful one: the data is thrown away.
	s.atClose(func() error {
		return errors.Join(s.script(context.Background(), "kafka/kafka-down", nil, "--kill", dir), os.RemoveAll(dir))
	})
	env := []string{"KAFKA_PORT=" + strconv.Itoa(port), "KAFKA_TLS=1", "KAFKA_TIERED=1", "KAFKA_LOG_LEVEL=WARN"}
	if err := s.script(ctx, "kafka/kafka-up", env, dir); err != nil {
		return nil, err
	}
	return &Kafka{
		Addr:     fmt.Sprintf("127.0.0.1:%d", port),
		TLSAddr:  fmt.Sprintf("127.0.0.1:%d", port+2),
		CAFile:   filepath.Join(dir, "tls", "ca.crt"),
		User:     "tester",
		Password: "tester-secret",
		Data:     filepath.Join(dir, "data"),
	}, nil
}
