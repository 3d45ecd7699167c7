package httpclient

import (
	"errors"
	"strings"
	"sync"
)

// Credentials keeps what Read gives until it is refused, so that a secret that
// was changed in its file is taken up without a restart. The zero value has no
// Read and gives "". It is safe for concurrent use.
type Credentials struct {
	// Read gives the credentials as they are now.
	Read func() (string, error)

	mu    sync.Mutex
	value string
	known bool
}

// Value is what to send.
//
// Errors: those of Read; that the credentials hold a line break.
func (c *Credentials) Value() (string, error) {
	if c.Read == nil {
		return "", nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known {
		return c.value, nil
	}
	v, err := c.Read()
	if err != nil {
		return "", err
	}
	if strings.ContainsAny(v, "\r\n\x00") {
		// net/http would refuse it with an error that quotes it.
		return "", errors.New("the credentials hold a line break")
	}
	c.value, c.known = v, true
	return v, nil
}

// Refused makes the next Value read anew, unless that was done since.
func (c *Credentials) Refused(value string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.value == value {
		c.value, c.known = "", false
	}
}

// Forget makes the next Value read anew.
func (c *Credentials) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.value, c.known = "", false
}
