package httpsink

import (
	"context"
	"fmt"
	"net/http"

	"weir/sinks"
	"weir/sinks/httpclient"
)

// Check finds out whether the intake can be reached and, as far as that goes
// without sending an event, whether it takes the credentials. It writes nothing.
func (s *Sink) Check(ctx context.Context) []sinks.Finding {
	var found []sinks.Finding
	add := func(what string, state sinks.State, format string, args ...any) {
		found = append(found, sinks.Finding{What: what, State: state, Detail: fmt.Sprintf(format, args...)})
	}
	said, failed := s.login.say(ctx)
	if failed != nil {
		add("login", sinks.Bad, "%s", failed)
		return found
	}
	if s.login.tokens != nil {
		add("token server", sinks.Good, "%s gave a token", s.login.tokens.endpoint)
	}
	a, err := s.client.Do(ctx, httpclient.Request{Method: http.MethodHead, URL: said.url, Header: said.header})
	if err != nil {
		add("intake", sinks.Bad, "%s", said.failed(err))
		return found
	}
	switch {
	case a.Status == http.StatusUnauthorized, a.Status == http.StatusForbidden:
		s.login.refused(said)
		add("intake", sinks.Bad, "%s answered %d: %s", said.endpoint, a.Status, meaning(a.Status))
	case a.Status == http.StatusBadGateway, a.Status == http.StatusServiceUnavailable, a.Status == http.StatusGatewayTimeout:
		add("intake", sinks.Doubtful, "%s answered %d: it can be reached, but takes nothing now", said.endpoint, a.Status)
	case a.Status >= 300 && a.Status < 400:
		add("intake", sinks.Doubtful, "%s answered %d: %s", said.endpoint, a.Status, meaning(a.Status))
	default:
		// Many intakes answer 404 or 405 to anything but what they are for.
		add("intake", sinks.Good, "%s can be reached (%d to a HEAD request); whether it takes events shows with the first one", said.endpoint, a.Status)
	}
	return found
}
