package kafka

import (
	"context"
	"crypto/tls"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"
	"golang.org/x/oauth2"

	"weir/sinks/httpclient"
)

// SASL is how we log in to the brokers.
//
// Password is called whenever it is needed, so that a rotated one is taken up
// without a restart:
//   - SCRAM: for each new connection.
//   - OAUTHBEARER: for each new token. A token is used until half a minute before
//     it expires, for all connections.
//   - PLAIN: when a client is made, since sarama takes the password as a fixed
//     text. Connections that stand are not affected by a rotation; a client whose
//     login is refused has to be closed and made anew, which the sink does.
//
// A SASL may be shared by any number of Options, and must not be copied.
type SASL struct {
	Mechanism string // PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER
	Username  string // with OAUTHBEARER: the client id
	Password  func() (string, error)

	// OAUTHBEARER alone: the token endpoint of the client credentials grant.
	TokenURL string
	Scopes   []string
	TokenTLS *tls.Config // nil: the system's roots

	once   sync.Once
	tokens oauth2.TokenSource
}

// apply puts the login into c.
func (s *SASL) apply(c *sarama.Config) error {
	if s == nil {
		return nil
	}
	sasl := &c.Net.SASL
	sasl.Enable = true
	sasl.Mechanism = sarama.SASLMechanism(s.Mechanism)
	sasl.User = s.Username
	// sarama refuses an empty password even where it never looks at it.
	sasl.Password = "unused"
	switch s.Mechanism {
	case sarama.SASLTypePlaintext:
		password, err := s.Password()
		if err != nil {
			return fmt.Errorf("kafka: password of %q: %w", s.Username, err)
		}
		sasl.Password = password
	case sarama.SASLTypeSCRAMSHA256:
		sasl.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &scramClient{sasl: s, hash: scram.SHA256} }
	case sarama.SASLTypeSCRAMSHA512:
		sasl.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &scramClient{sasl: s, hash: scram.SHA512} }
	case sarama.SASLTypeOAuth:
		sasl.TokenProvider = s
	default:
		return fmt.Errorf("kafka: unknown SASL mechanism %q", s.Mechanism)
	}
	return nil
}

// maxIterations is the most that Kafka itself allows for a stored credential
// (ScramMechanism.maxIterations). A server that asks for more would have us
// hash for minutes.
const maxIterations = 16384

// scramClient is one SCRAM exchange (RFC 5802).
type scramClient struct {
	sasl         *SASL
	hash         scram.HashGeneratorFcn
	conversation *scram.ClientConversation
}

// Begin reads the password; the one sarama hands over is a placeholder.
func (c *scramClient) Begin(user, _, authzID string) error {
	password, err := c.sasl.Password()
	if err != nil {
		return fmt.Errorf("password of %q: %w", user, err)
	}
	// Not prepared by SASLprep: Kafka hashes the bytes as they are.
	client, err := c.hash.NewClientUnprepped(user, password, authzID)
	if err != nil {
		return err
	}
	c.conversation = client.WithMinIterations(4096).NewConversation()
	return nil
}

// Step answers the server's challenge.
func (c *scramClient) Step(challenge string) (string, error) {
	for field := range strings.SplitSeq(challenge, ",") {
		if n, ok := strings.CutPrefix(field, "i="); ok {
			if i, err := strconv.Atoi(n); err != nil || i > maxIterations {
				return "", fmt.Errorf("SCRAM: the server asks for %.20q iterations, at most %d are allowed", n, maxIterations)
			}
		}
	}
	return c.conversation.Step(challenge)
}

// Done reports whether the exchange is over.
func (c *scramClient) Done() bool { return c.conversation.Done() }

// Token is an access token that is valid for at least half a minute.
//
// Errors: of the token endpoint, without what it was sent.
func (s *SASL) Token() (*sarama.AccessToken, error) {
	s.once.Do(func() {
		server := httpclient.TokenServer{URL: s.TokenURL, ClientID: s.Username, ClientSecret: s.Password, Scopes: s.Scopes}
		s.tokens = oauth2.ReuseTokenSourceWithExpiry(nil, tokenSource{httpclient.NewTokenServer(server, s.TokenTLS)}, 30*time.Second)
	})
	t, err := s.tokens.Token()
	if err != nil {
		return nil, err
	}
	return &sarama.AccessToken{Token: t.AccessToken}, nil
}

// tokenSource asks the token endpoint each time.
type tokenSource struct{ server *httpclient.TokenServer }

func (s tokenSource) Token() (*oauth2.Token, error) {
	// sarama holds the connection's lock while it waits for the token.
	t, failed := s.server.Token(context.Background())
	if failed != nil {
		return nil, fmt.Errorf("token endpoint: %w", failed)
	}
	return t, nil
}
