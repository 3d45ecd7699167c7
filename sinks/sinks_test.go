package sinks

import (
	"errors"
	"fmt"
	"net"
	"testing"
)

func TestInDoubtIsWhateverMayHaveBeenStored(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	for _, c := range []struct {
		name string
		err  RequestError
		want bool
	}{
		{"nothing is known", RequestError{}, true},
		{"the connection broke", RequestError{Err: &net.OpError{Op: "read", Net: "tcp", Err: errors.New("reset")}}, true},
		{"no connection", RequestError{Err: fmt.Errorf("shortened: %w", refused)}, false},
		{"an answer of success that cannot be read", RequestError{Status: 200}, true},
		{"internal error", RequestError{Status: 500}, true},
		{"a gateway that heard nothing", RequestError{Status: 504}, true},
		{"a server that gave up waiting", RequestError{Status: 408}, true},
		{"no room", RequestError{Status: 429}, false},
		{"busy", RequestError{Status: 503}, false},
		{"not our event", RequestError{Status: 401, Misconfigured: true}, false},
		{"certificates that do not match", RequestError{Misconfigured: true}, false},
		{"too large", RequestError{Status: 413, Split: true}, false},
		{"bad request", RequestError{Status: 400, Split: true}, false},
	} {
		if got := c.err.InDoubt(); got != c.want {
			t.Errorf("%s: in doubt is %v", c.name, got)
		}
	}
}
