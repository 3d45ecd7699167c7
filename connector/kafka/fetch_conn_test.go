package kafka

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
)

// sarama is to see nothing of a fetch answer but its head, and all of every other
// answer: it logs in anew over the same connection.
func TestSaramaIsKeptFromRecords(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(1, "t"))
	write(t, client(t, o), numbered("t", 0, 0, 10)...)
	cfg, err := o.config()
	if err != nil {
		t.Fatal(err)
	}
	d := &fetchDialer{clearDialer: newClearDialer(t.Context(), cfg)}
	cfg.Net.Proxy.Enable, cfg.Net.Proxy.Dialer = true, d
	b := sarama.NewBroker(o.Brokers[0])
	if err := b.Open(cfg); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for range 3 {
		for version := int16(4); version <= 12; version++ {
			req := &sarama.FetchRequest{Version: version, MinBytes: 1, MaxBytes: 1 << 20, SessionEpoch: -1}
			req.AddBlock("t", 0, 0, 1<<20, -1)
			resp, err := b.Fetch(req)
			if err != nil {
				t.Fatalf("version %d: %v", version, err)
			}
			if len(resp.Blocks) > 0 {
				t.Fatalf("version %d: sarama is given %d topics", version, len(resp.Blocks))
			}
			a, err := parseAnswer(d.conn.answer, d.conn.version)
			if err != nil || d.conn.version != version {
				t.Fatalf("version %d, asked for %d: %v", d.conn.version, version, err)
			}
			if p := a.partitions[partitionKey{"t", 0}]; p == nil || len(handedOut(t, unpacked(0, p.recordData, testMax, testMax))) != 10 {
				t.Fatalf("version %d: %v", version, p)
			}
		}
		if resp, err := b.GetMetadata(sarama.NewMetadataRequest(sarama.MaxVersion, []string{"t"})); err != nil || len(resp.Topics) != 1 {
			t.Fatalf("another answer does not pass: %v", err)
		}
	}
}

// loopOf is a fetcher's loop for the broker of o.
func loopOf(t *testing.T, o Options) *leaderLoop {
	l := newLeaderLoop(newTestFetcher(t, o, 8<<20), 0, o.Brokers[0])
	t.Cleanup(l.disconnect)
	return l
}

func TestRecordsAreReadOverTLSAndWithALogin(t *testing.T) {
	cert := httptest.NewUnstartedServer(nil)
	cert.Config.ErrorLog = log.New(io.Discard, "", 0)
	cert.StartTLS()
	defer cert.Close()
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		_, o := fakeCluster(t, kfake.SeedTopics(1, "t"), kfake.TLS(&tls.Config{Certificates: cert.TLS.Certificates}),
			kfake.EnableSASL(), kfake.Superuser(mechanism, "weir", "secret"), kfake.Superuser("PLAIN", "root", "secret"))
		o.TLS = trusting(cert)
		o.SASL = &SASL{Mechanism: mechanism, Username: "weir", Password: fixed("secret")}
		cl := client(t, o, kgo.DialTLSConfig(o.TLS.Clone()), kgo.SASL(plain.Auth{User: "root", Pass: "secret"}.AsMechanism()))
		write(t, cl, numbered("t", 0, 0, 1000)...)
		wantNumbers(t, readUntil(t, newTestFetcher(t, o, 8<<20).Add(at("t", 0), 0), 1000), 0, 1000)

		o.SASL = &SASL{Mechanism: mechanism, Username: "weir", Password: fixed("another")}
		if err := loopOf(t, o).connect(); !IsAuth(err) && (err == nil || !strings.Contains(err.Error(), "the password right?")) {
			t.Errorf("%s with a wrong password: %v", mechanism, err)
		}
	}
}

// Records are read from nobody but the broker: its certificate has to be for its
// name, and from an authority that is trusted.
func TestRecordsAreReadFromTheRightBrokerOnly(t *testing.T) {
	cert := httptest.NewUnstartedServer(nil)
	cert.Config.ErrorLog = log.New(io.Discard, "", 0)
	cert.StartTLS()
	defer cert.Close()
	_, o := fakeCluster(t, kfake.SeedTopics(1, "t"), kfake.TLS(&tls.Config{Certificates: cert.TLS.Certificates}))

	o.TLS = trusting(cert)
	if err := loopOf(t, o).connect(); err != nil {
		t.Errorf("the right one: %v", err)
	}
	o.TLS = &tls.Config{}
	if err := loopOf(t, o).connect(); err == nil || !strings.Contains(err.Error(), "an authority that is not trusted") {
		t.Errorf("an unknown authority: %v", err)
	}
	o.TLS = trusting(cert)
	o.TLS.ServerName = "kafka.invalid"
	if err := loopOf(t, o).connect(); err == nil || !strings.Contains(err.Error(), "not for this name") {
		t.Errorf("another name: %v", err)
	}

	// A broker without TLS hangs up at what makes no sense to it.
	plaintext, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plaintext.Close()
	go func() {
		for {
			conn, err := plaintext.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1000))
			_ = conn.Close()
		}
	}()
	o.Brokers, o.TLS = []string{plaintext.Addr().String()}, trusting(cert)
	if err := loopOf(t, o).connect(); err == nil || !strings.Contains(err.Error(), "it hung up at our TLS handshake") {
		t.Errorf("a broker without TLS: %v", err)
	}
}
