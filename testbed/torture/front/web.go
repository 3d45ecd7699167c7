package front

import (
	"compress/gzip"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"
)

const (
	// patience is how long weir waits for an answer.
	patience = 2 * time.Second
	// sure is how old a request may be for its client to be there for certain: that
	// a client has given up is heard of a little later, and a busy machine takes its
	// time.
	sure = patience / 2
)

const (
	maxBody = 64 << 20 // bytes of one request, unpacked
	maxLine = 16 << 20
)

// serve answers clients of l with h.
func serve(l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	return s.Serve(l)
}

// visit is one request while it is answered.
type visit struct {
	w     http.ResponseWriter
	r     *http.Request
	began time.Time
	// refusal is how the backend refuses a whole request.
	refusal func(how Spoil) (status int, body []byte)
}

// there reports whether the client is there for certain.
func (v *visit) there() bool { return v.r.Context().Err() == nil && time.Since(v.began) < sure }

// body is the request's body, unpacked.
func (v *visit) body() (io.Reader, error) {
	body := io.Reader(v.r.Body)
	if v.r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(v.r.Body)
		if err != nil {
			return nil, err
		}
		body = z
	}
	return io.LimitReader(body, maxBody), nil
}

// hand gives the true answer, or spoils it after all was done. It reports whether
// the client had the whole of the true one. short is what it is with Short.
func (v *visit) hand(how Spoil, status int, body, short []byte) bool {
	switch how {
	case Well:
		v.w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		v.w.WriteHeader(status)
		_, err := v.w.Write(body)
		if err == nil {
			err = http.NewResponseController(v.w).Flush()
		}
		return err == nil && v.there()
	case Short:
		v.spoil(Short, short)
	default:
		v.spoil(how, body)
	}
	return false
}

// spoil gives anything but the true answer.
func (v *visit) spoil(how Spoil, body []byte) {
	switch how {
	case HTML:
		v.w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(v.w, "<html><body><h1>It works!</h1></body></html>")
	case Short:
		_, _ = v.w.Write(body)
	case Half:
		v.w.Header().Set("Content-Length", fmt.Sprint(max(2, len(body))))
		_, _ = v.w.Write(body[:len(body)/2])
		_ = http.NewResponseController(v.w).Flush()
		v.reset()
	case Never:
		<-v.r.Context().Done()
	case Reset:
		v.reset()
	default:
		status, body := v.refusal(how)
		v.w.WriteHeader(status)
		_, _ = v.w.Write(body)
	}
}

// reset ends the connection with an RST.
func (v *visit) reset() {
	conn, _, err := http.NewResponseController(v.w).Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
