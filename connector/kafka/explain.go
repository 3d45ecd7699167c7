package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/IBM/sarama"
)

// BrokerError is what went wrong with a broker, in a sentence for the person
// who has to mend it.
type BrokerError struct {
	Addr string // "" when it is not known which broker it was
	Why  string // what it most probably means, "" when there is nothing to add
	Err  error
}

func (e *BrokerError) Error() string {
	s := "kafka"
	if e.Addr != "" {
		s += " broker " + e.Addr
	}
	if e.Why != "" {
		s += ": " + e.Why
	}
	return s + ": " + printable(e.Err.Error(), 500)
}

func (e *BrokerError) Unwrap() error { return e.Err }

// Explain says in a sentence what err, as sarama returned it, most probably
// means. A nil error stays nil.
func (o Options) Explain(err error) error { return o.explain("", err, nil) }

func (o Options) explain(addr string, err error, heard *wire) error {
	if err == nil {
		return nil
	}
	if _, done := errors.AsType[*BrokerError](err); done {
		return err
	}
	return &BrokerError{Addr: addr, Why: o.why(addr, err, heard), Err: err}
}

// lacks says which right on what it is that b's refusal err is about, where that is
// another one than Explain would take it for.
func (o Options) lacks(b *sarama.Broker, right, what string, err error) error {
	user := ""
	if o.SASL != nil {
		user = o.SASL.Username
	}
	return &BrokerError{Addr: b.Addr(), Why: fmt.Sprintf("%s lacks the %s right on %s", who(user), right, what), Err: err}
}

// IsAuth reports whether err is a refused login: trying again with the same
// password will not help, and some brokers slow down who does.
func IsAuth(err error) bool {
	return errors.Is(err, sarama.ErrSASLAuthenticationFailed)
}

// IsAway reports whether err says nothing but that no broker can be talked to:
// none listens, answers in time, or keeps the connection. Waiting may mend that; a
// refused login or certificate it does not.
func IsAway(err error) bool {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		list := all.Unwrap()
		return len(list) > 0 && !slices.ContainsFunc(list, func(err error) bool { return !IsAway(err) })
	}
	if one := errors.Unwrap(err); one != nil && IsAway(one) {
		return true
	}
	var (
		dns     *net.DNSError
		network net.Error
	)
	return closed(err) || errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &dns) ||
		errors.As(err, &network) && network.Timeout() || errors.Is(err, os.ErrDeadlineExceeded)
}

func (o Options) why(addr string, err error, heard *wire) string {
	user, mechanism := "", ""
	if o.SASL != nil {
		user, mechanism = o.SASL.Username, o.SASL.Mechanism
	}
	var (
		host    x509.HostnameError
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		remote  *net.OpError
		record  tls.RecordHeaderError
		dns     *net.DNSError
		network net.Error
	)
	switch {
	case errors.Is(err, sarama.ErrSASLAuthenticationFailed) && mechanism == sarama.SASLTypeOAuth:
		return fmt.Sprintf("it refuses the token of client %q", user)
	case errors.Is(err, sarama.ErrSASLAuthenticationFailed):
		return fmt.Sprintf("it refuses the login of %q with %s: wrong user name or password", user, mechanism)
	case errors.Is(err, sarama.ErrUnsupportedSASLMechanism):
		return fmt.Sprintf("it does not offer the login mechanism %s on this port", mechanism)
	case errors.Is(err, sarama.ErrIllegalSASLState):
		return "it wants no login on this port, but a mechanism is configured"
	case errors.Is(err, sarama.ErrTopicAuthorizationFailed):
		return fmt.Sprintf("%s lacks a right on the topic: READ to read from it, WRITE if it takes the dead letters", who(user))
	case errors.Is(err, sarama.ErrGroupAuthorizationFailed):
		return fmt.Sprintf("%s lacks the READ right on the consumer group", who(user))
	case errors.Is(err, sarama.ErrClusterAuthorizationFailed):
		return fmt.Sprintf("%s lacks a right on the cluster", who(user))
	case errors.As(err, &unknown):
		return "its certificate is signed by an authority that is not trusted: give the right one as CA file"
	case errors.As(err, &host):
		return "its certificate is not for this name: use the name that is in it as address, or set the server name"
	case errors.As(err, &invalid):
		return "its certificate is not valid"
	case errors.As(err, &remote) && remote.Op == "remote error": // how crypto/tls passes on an alert
		return "it broke off the TLS handshake: does it want a client certificate, or another one?"
	case errors.As(err, &record):
		return "it does not speak TLS on this port"
	case errors.As(err, &dns):
		return "its name is unknown"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there"
	case closed(err) && heard != nil:
		return heard.why(o, o.answers.has(addr))
	case errors.As(err, &network) && network.Timeout(), errors.Is(err, os.ErrDeadlineExceeded):
		if heard != nil && heard.dialled && heard.bytes == 0 {
			return "it took the connection but says nothing: does it speak TLS on one side only?"
		}
		return "it does not answer in time"
	}
	return ""
}

func who(user string) string {
	if user == "" {
		return "we, not logged in,"
	}
	return fmt.Sprintf("user %q", user)
}

// closed reports whether the other side hung up.
func closed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// wire is what was heard on a connection that failed.
type wire struct {
	dialled bool
	bytes   int64
	first   byte
}

// why explains a connection that the broker closed. A broker that is spoken to
// in the wrong protocol just hangs up, so what it said until then is all there
// is to go by, and whether it ever was of use: one that was is not of another
// protocol now.
func (w *wire) why(o Options, worked bool) string {
	const tlsAlert, tlsHandshake = 0x15, 0x16
	switch {
	case !w.dialled:
		return ""
	case worked && o.SASL != nil:
		return "it hung up, though it has answered before: is it being restarted, or was the login changed?"
	case worked:
		return "it hung up, though it has answered before: is it being restarted?"
	case o.TLS != nil && w.first != tlsAlert && w.first != tlsHandshake:
		return "it hung up at our TLS handshake: it probably speaks plaintext on this port (tls.enabled is on)"
	case o.TLS == nil && (w.bytes == 0 || w.first == tlsAlert):
		return "it hung up at our first request: it probably speaks TLS on this port (tls.enabled is off)"
	case o.SASL == nil:
		return "it hung up after the first answer: this port probably wants a login (sasl.mechanism is empty)"
	}
	return "it hung up while or after we logged in: are the user name and the password right?"
}

// answers remembers which addresses have answered a question. The zero value
// and nil know of none.
type answers struct{ addrs sync.Map }

func (a *answers) note(addr string) {
	if a != nil {
		a.addrs.Store(addr, true)
	}
}

func (a *answers) has(addr string) bool {
	if a == nil {
		return false
	}
	_, ok := a.addrs.Load(addr)
	return ok
}

// printable is text of at most max bytes in which what is not printable is
// escaped: it may be quoted from a server, and ends up in a terminal.
func printable(text string, max int) string {
	text = strings.Join(strings.Fields(text), " ") // joined errors come in lines
	if len(text) > max {
		text = text[:max] + "..."
	}
	quoted := fmt.Sprintf("%q", text)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}
