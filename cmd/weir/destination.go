package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"weir/config"
	"weir/connector/kafka"
	"weir/sinks"
	"weir/sinks/archive"
	"weir/sinks/elastic"
	"weir/sinks/httpsink"
	"weir/sinks/splunk"
	"weir/sinks/syslog"
)

// destination is a sink as the commands use it.
type destination interface {
	sinks.Sink
	// Grade is what the sink can promise, as far as is known by now, and why.
	Grade() (sinks.Grade, string)
	// Check asks the destination whether it would take records, and sends none.
	Check(ctx context.Context) []sinks.Finding
	Close()
}

// newDestination makes the sink of c. This file is the only place that knows
// which sinks there are.
func newDestination(cfg *config.Config, c config.Connector, log *slog.Logger, observe func(status int, took time.Duration)) (destination, error) {
	s := c.Sink
	switch {
	case s.Elasticsearch != nil:
		return newElastic(c, observe)
	case s.SplunkHEC != nil:
		return newSplunk(c, observe)
	case s.HTTP != nil:
		return newHTTP(c, observe)
	case s.Syslog != nil:
		return newSyslog(s.Syslog, observe)
	case s.File != nil:
		f := s.File
		return archive.New(archive.Config{
			Dir: f.Dir, Path: f.Path, Compression: f.Compression,
			RotateBytes: int64(f.RotateBytes), RotateAfter: f.RotateAfter,
			Log: log, Observe: observe,
		})
	case s.Kafka != nil:
		return newKafka(cfg, c, log, observe)
	default:
		return nil, errors.New("no sink that could be made")
	}
}

func newElastic(c config.Connector, observe func(int, time.Duration)) (*elastic.Sink, error) {
	e := c.Sink.Elasticsearch
	t, err := tlsConfig(e.TLS)
	if err != nil {
		return nil, err
	}
	return elastic.New(elastic.Config{
		URLs:           e.URLs,
		Flavor:         e.Flavor,
		Index:          e.Index,
		DataStream:     e.DataStream,
		Op:             e.Op,
		ID:             e.ID,
		Pipeline:       e.Pipeline,
		Coordinates:    e.Coordinates,
		Compression:    e.Compression,
		Authorization:  authorization(e.Auth),
		TLS:            t,
		Timeout:        e.Timeout,
		IncludeReasons: c.DeadLetter.Reasons == "full",
		Observe:        observe,
	})
}

// authorization gives the header value that a asks for, nil for none. The
// secrets are read each time it is called.
func authorization(a config.Auth) func() (string, error) {
	switch {
	case a.APIKey.IsSet():
		return func() (string, error) {
			key, err := a.APIKey.Value()
			return "ApiKey " + key, err
		}
	case a.Username != "":
		return func() (string, error) {
			password, err := a.Password.Value()
			return "Basic " + base64.StdEncoding.EncodeToString([]byte(a.Username+":"+password)), err
		}
	default:
		return nil
	}
}

func newSplunk(c config.Connector, observe func(int, time.Duration)) (*splunk.Sink, error) {
	h := c.Sink.SplunkHEC
	t, err := tlsConfig(h.TLS)
	if err != nil {
		return nil, err
	}
	return splunk.New(splunk.Config{
		URLs: h.URLs, Token: h.Token.Value,
		Index: h.Index, Source: h.Source, Sourcetype: h.Sourcetype, Host: h.Host, Time: h.Time,
		Ack: h.Ack, AckTimeout: h.AckTimeout, Track: h.Track,
		Compression: h.Compression, TLS: t, Timeout: h.Timeout,
		IncludeReasons: c.DeadLetter.Reasons == "full", Observe: observe,
	})
}

func newHTTP(c config.Connector, observe func(int, time.Duration)) (*httpsink.Sink, error) {
	h := c.Sink.HTTP
	t, err := tlsConfig(h.TLS)
	if err != nil {
		return nil, err
	}
	s := httpsink.Config{
		URL:            h.URL.Value,
		Method:         h.Method,
		Framing:        h.Framing,
		Event:          h.Event,
		Body:           h.Body,
		Compression:    h.Compression,
		MaxRecords:     h.MaxRecords,
		MaxBytes:       int64(h.MaxBytes),
		MaxEventBytes:  int64(h.MaxEventBytes),
		Parallel:       h.Parallel,
		AnswerType:     h.Answer.Type,
		AnswerRefused:  h.Answer.Refused,
		TLS:            t,
		Timeout:        h.Timeout,
		IncludeReasons: c.DeadLetter.Reasons == "full",
		Observe:        observe,
	}
	for _, header := range h.Headers {
		s.Headers = append(s.Headers, httpsink.Header{Name: header.Name, Value: header.Value.Value, Open: !header.Private()})
	}
	for _, v := range h.Verdicts {
		s.Verdicts = append(s.Verdicts, httpsink.StatusVerdict{Status: v.Status, Verdict: v.Verdict})
	}
	a := h.Auth
	switch {
	case a.Bearer.IsSet():
		s.Authorization = func() (string, error) {
			token, err := a.Bearer.Value()
			return "Bearer " + token, err
		}
	case a.Username != "":
		s.Authorization = func() (string, error) {
			password, err := a.Password.Value()
			return "Basic " + base64.StdEncoding.EncodeToString([]byte(a.Username+":"+password)), err
		}
	case a.OAuth2.TokenURL != "":
		o := a.OAuth2
		token, err := tlsConfig(config.TLS{CAFile: o.CAFile})
		if err != nil {
			return nil, fmt.Errorf("auth.oauth2.ca_file: %w", err)
		}
		s.OAuth2 = &httpsink.OAuth2{TokenURL: o.TokenURL, ClientID: o.ClientID, ClientSecret: o.ClientSecret.Value, Scopes: o.Scopes, TLS: token}
	}
	return httpsink.New(s)
}

func newSyslog(s *config.Syslog, observe func(int, time.Duration)) (*syslog.Sink, error) {
	c := syslog.Config{
		Addresses: s.Addresses, Framing: s.Framing, MaxMessage: int(s.MaxMessage),
		Facility: s.Facility, Severity: s.Severity, SeverityField: s.SeverityField, Severities: map[string]string{},
		Hostname: s.Hostname, AppName: s.AppName, ProcID: s.ProcID, MsgID: s.MsgID, Time: s.Time, Track: s.Track,
		Payload: s.Payload, Vendor: s.Vendor, Product: s.Product, Version: s.Version,
		EventID: s.EventID, EventName: s.EventName, EventSeverity: s.EventSeverity,
		Timeout: s.Timeout, Observe: observe,
	}
	if s.TLS.Enabled {
		t, err := tlsConfig(s.TLS)
		if err != nil {
			return nil, err
		}
		c.TLS = t
	}
	for _, v := range s.Severities {
		c.Severities[v.Value] = v.Severity
	}
	for _, f := range s.Fields {
		c.Fields = append(c.Fields, syslog.Mapping{Key: f.Key, Field: f.Field, Value: f.Value})
	}
	return syslog.New(c)
}

func newKafka(cfg *config.Config, c config.Connector, log *slog.Logger, observe func(int, time.Duration)) (*kafka.Destination, error) {
	k, brokers := c.Sink.Kafka, cfg.Kafka
	if len(k.Brokers) > 0 {
		brokers = config.Kafka{Brokers: k.Brokers, ClientID: cfg.Kafka.ClientID, TLS: k.TLS, SASL: k.SASL}
	}
	o, err := kafkaOptions(brokers, log)
	if err != nil {
		return nil, fmt.Errorf("sink.kafka: %w", err)
	}
	return kafka.NewDestination(kafka.DestinationConfig{
		Options: o, Topic: k.Topic, Sources: c.Topics, Compression: k.Compression, Track: k.Track, Observe: observe,
	})
}
