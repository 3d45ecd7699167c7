package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"weir/buffer"
	"weir/config"
	"weir/connector"
	"weir/connector/kafka"
	"weir/connector/transform"
	"weir/sinks"
	"weir/sinks/file"
)

// bridge is every connector of a configuration.
type bridge struct {
	links    []*link
	requests *prometheus.HistogramVec
	topics   topicMaker
	log      *slog.Logger
}

// link is one connector with its group and its ends.
type link struct {
	name      string
	sink      destination
	connector *connector.Connector
	group     *kafka.Group
	close     []func() // what to close once all has ended
}

// fetchShare is the part of a connector's memory that fetched data may take
// before lanes admit it: a quarter. The rest is the lanes' budget.
const fetchShare = 4

// newBridge makes all connectors; nothing is connected yet.
func newBridge(cfg *config.Config, log *slog.Logger) (*bridge, error) {
	b := &bridge{requests: requestSeconds(), log: log}
	options, err := kafkaOptions(cfg.Kafka, log)
	if err != nil {
		return nil, err
	}
	// Every connector has an equal part of the memory, which the others cannot
	// take: one that is stuck holds its part and no more.
	share := int64(cfg.Memory) / int64(len(cfg.Connectors))
	for _, c := range cfg.Connectors {
		l, err := b.newLink(cfg, c, options, share)
		if err != nil {
			b.close()
			return nil, fmt.Errorf("connector %s: %w", c.Name, err)
		}
		b.links = append(b.links, l)
	}
	return b, nil
}

func (b *bridge) newLink(cfg *config.Config, c config.Connector, options kafka.Options, share int64) (*link, error) {
	log := b.log.With("connector", c.Name)
	options.Logger = log
	l := &link{name: c.Name}
	fail := func(err error) (*link, error) {
		for _, f := range l.close {
			f()
		}
		return nil, err
	}

	sink, err := newDestination(cfg, c, log, observer(b.requests, c.Name))
	if err != nil {
		return fail(err)
	}
	l.sink = sink
	l.close = append(l.close, sink.Close)

	dead, closeDead, err := b.newDeadLetter(c.DeadLetter, options, log)
	if err != nil {
		return fail(err)
	}
	if closeDead != nil {
		l.close = append(l.close, closeDead)
	}

	fetch := share / fetchShare
	delivery, err := deliveryOptions(c, sink, share-fetch, log)
	if err != nil {
		return fail(err)
	}
	delivery.DeadLetter = dead
	l.connector = connector.New(delivery)

	g := kafka.GroupConfig{
		Options:    options,
		Group:      c.Group,
		Topics:     c.Topics,
		FetchBytes: fetch,
		Lane:       l.connector.Lane,
		Log:        log,
	}
	if g.Start, err = kafka.ParseStart(c.Start); err != nil {
		return fail(err)
	}
	if c.TopicsPattern != "" {
		if g.Pattern, err = regexp.Compile(c.TopicsPattern); err != nil {
			return fail(err)
		}
	}
	l.group = kafka.NewGroup(g)
	return l, nil
}

// deliveryOptions says how c delivers to sink, holding at most budget bytes of
// records.
func deliveryOptions(c config.Connector, sink sinks.Sink, budget int64, log *slog.Logger) (connector.Options, error) {
	decode, err := transform.Decode(c.Decode.Format)
	if err != nil {
		return connector.Options{}, err
	}
	return connector.Options{
		Name:         c.Name,
		BatchRecords: c.Batch.Records,
		BatchBytes:   int64(c.Batch.Bytes),
		Linger:       c.Batch.Linger,
		InFlightMin:  c.InFlight.Min,
		InFlightMax:  c.InFlight.Max,
		Ordered:      c.Ordered,
		RetryInitial: c.Retry.Initial,
		RetryMax:     c.Retry.Max,
		Drain:        c.Drain,
		Sink:         sink,
		Budget:       buffer.NewBudget(budget),
		Transforms:   []connector.Transform{decode},
		Log:          log,
	}, nil
}

// run runs every connector until ctx is done and all have drained.
func (b *bridge) run(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, len(b.links))
	for i, l := range b.links {
		wg.Go(func() {
			if err := l.group.Run(ctx); err != nil && ctx.Err() == nil {
				errs[i] = fmt.Errorf("connector %s: %w", l.name, err)
			}
			l.connector.Close()
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// kill ends all drains at once.
func (b *bridge) kill() {
	for _, l := range b.links {
		l.connector.Kill()
	}
}

func (b *bridge) close() {
	for _, l := range b.links {
		for _, f := range l.close {
			f()
		}
	}
}

// newDeadLetter makes the dead-letter destination, nil if there is none.
func (b *bridge) newDeadLetter(d config.DeadLetter, options kafka.Options, log *slog.Logger) (sinks.Sink, func(), error) {
	switch {
	case d.Topic != "":
		s := kafka.NewSink(options, d.Topic)
		s.Make = b.topics.make
		return s, func() { _ = s.Close() }, nil
	case d.File != "":
		s, err := file.New(d.File, log)
		if err != nil {
			return nil, nil, err
		}
		return s, func() { _ = s.Close() }, nil
	default:
		return nil, nil, nil
	}
}

// kafkaOptions says how the brokers are reached.
func kafkaOptions(k config.Kafka, log *slog.Logger) (kafka.Options, error) {
	o := kafka.Options{Brokers: k.Brokers, ClientID: k.ClientID, Rack: k.Rack, Logger: log}
	if k.TLS.Enabled {
		t, err := tlsConfig(k.TLS)
		if err != nil {
			return o, fmt.Errorf("kafka.tls: %w", err)
		}
		o.TLS = t
	}
	if k.SASL.Mechanism != "" {
		o.SASL = &kafka.SASL{
			Mechanism: k.SASL.Mechanism,
			Username:  k.SASL.Username,
			Password:  k.SASL.Password.Value,
			TokenURL:  k.SASL.TokenURL,
			Scopes:    k.SASL.Scopes,
		}
		if k.SASL.TokenCAFile != "" {
			t, err := tlsConfig(config.TLS{CAFile: k.SASL.TokenCAFile})
			if err != nil {
				return o, fmt.Errorf("kafka.sasl.token_ca_file: %w", err)
			}
			o.SASL.TokenTLS = t
		}
	}
	return o, nil
}

// tlsConfig verifies the server and, with a certificate of our own, says who we
// are. The certificate is read at each handshake, so that a renewed one is taken
// up without a restart.
func tlsConfig(c config.TLS) (*tls.Config, error) {
	t := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         c.ServerName,
		InsecureSkipVerify: c.InsecureSkipVerify, //nolint:gosec // the user's word, false by default
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file %s holds no certificate in PEM form", c.CAFile)
		}
	}
	if c.CertFile != "" {
		if _, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile); err != nil {
			return nil, fmt.Errorf("cert_file and key_file: %w", err)
		}
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
			return &pair, err
		}
	}
	return t, nil
}
