package syslog

import (
	"context"
	"crypto/tls"

	"weir/sinks"
)

// Check connects to each receiver, with TLS if that is configured. It sends no
// message.
func (s *Sink) Check(ctx context.Context) []sinks.Finding {
	var found []sinks.Finding
	for _, p := range s.peers {
		f := sinks.Finding{What: "receiver " + p.address, State: sinks.Good, Detail: "takes connections; whether it understands what is sent it does not say"}
		c, err := s.dial(ctx, p)
		switch {
		case err != nil:
			f.State, f.Detail = sinks.Bad, err.Error()
		default:
			if secure, ok := c.Conn.(*tls.Conn); ok {
				f.Detail += "; " + tls.VersionName(secure.ConnectionState().Version)
			}
			c.close()
		}
		found = append(found, f)
	}
	return found
}
