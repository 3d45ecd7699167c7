package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

func TestMetadataNamesClusterAndTopicIDs(t *testing.T) {
	c, o := fakeCluster(t, kfake.ClusterID("c-1"), kfake.SeedTopics(4, "edr"))
	m, err := o.Metadata(t.Context(), "edr", "none")
	if err != nil {
		t.Fatal(err)
	}
	want := sarama.Uuid(c.TopicInfo("edr").TopicID)
	if id := m.Topics["edr"].ID; id != want.String() || len(id) != 22 || m.Topics["none"].ID != "" {
		t.Errorf("topics %+v, want %s and none", m.Topics, want)
	}
	if m.ClusterID != "c-1" {
		t.Errorf("cluster %q", m.ClusterID)
	}
	if c.TopicInfo("none") != nil {
		t.Error("asking made the topic")
	}
}

func TestMetadataOfAnOldBrokerHasNoTopicID(t *testing.T) {
	_, o := fakeCluster(t, kfake.MaxVersions(kversion.V2_1_0()), kfake.SeedTopics(4, "edr"))
	m, err := o.Metadata(t.Context(), "edr")
	if err != nil {
		t.Fatal(err)
	}
	if topic := m.Topics["edr"]; topic.ID != "" || len(topic.Partitions) != 4 || topic.Err != nil {
		t.Errorf("topic %+v", topic)
	}
}

func TestMetadataGoesToTheNextBroker(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(1, "edr"))
	o.Brokers = append([]string{"127.0.0.1:1"}, o.Brokers...)
	if _, err := o.Metadata(t.Context(), "edr"); err != nil {
		t.Error(err)
	}
}

func TestMetadataEndsWithItsContext(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		conn, err := silent.Accept()
		if err == nil {
			defer func() { _ = conn.Close() }()
			_, _ = conn.Read(make([]byte, 1)) // the question is there
		}
		stop()
	}()
	_, err = Options{Brokers: []string{silent.Addr().String()}}.Metadata(ctx, "edr")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestEnsureTopicMakesWhatIsMissing(t *testing.T) {
	for name, versions := range map[string]*kversion.Versions{"newest": kversion.Stable(), "2.4": kversion.V2_4_0()} {
		t.Run(name, func(t *testing.T) {
			c, o := fakeCluster(t, kfake.MaxVersions(versions))
			var wg sync.WaitGroup
			for range 4 { // several instances start at the same time
				wg.Go(func() {
					if _, err := EnsureTopic(t.Context(), o, "dlq", 3, -1); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			info := c.TopicInfo("dlq")
			if info == nil || len(c.PartitionInfos("dlq")) != 3 {
				t.Fatalf("topic %+v", info)
			}
			id := info.TopicID
			if _, err := EnsureTopic(t.Context(), o, "dlq", 5, -1); err != nil {
				t.Fatal(err)
			}
			if c.TopicInfo("dlq").TopicID != id || len(c.PartitionInfos("dlq")) != 3 {
				t.Error("a topic that was there was touched")
			}
		})
	}
}

func acl(kind kmsg.ACLResourceType, name string, op kmsg.ACLOperation) kfake.ACL {
	return kfake.ACL{Resource: kind, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: op, Allow: true}
}

// guarded is a cluster on which user weir may do what acls say, and an
// administrator everything.
func guarded(t *testing.T, acls ...kfake.ACL) (c *kfake.Cluster, weir, admin Options) {
	t.Helper()
	c, o := fakeCluster(t, kfake.EnableSASL(), kfake.EnableACLs(), kfake.SeedTopics(2, "edr"),
		kfake.Superuser("PLAIN", "root", "root-secret"), kfake.User("SCRAM-SHA-256", "weir", "weir-secret", acls...))
	weir, admin = o, o
	weir.SASL = &SASL{Mechanism: "SCRAM-SHA-256", Username: "weir", Password: fixed("weir-secret")}
	admin.SASL = &SASL{Mechanism: "PLAIN", Username: "root", Password: fixed("root-secret")}
	return c, weir, admin
}

func TestEnsureTopicSaysWhatItIsNotAllowed(t *testing.T) {
	_, weir, admin := guarded(t, acl(kmsg.ACLResourceTypeTopic, "dlq", kmsg.ACLOperationDescribe))
	_, err := EnsureTopic(t.Context(), weir, "dlq", 3, -1)
	if err == nil {
		t.Fatal("made a topic without a right to")
	}
	for _, want := range []string{`"dlq"`, `"weir"`, "CREATE", "kafka-acls.sh", "User:weir", "kafka-topics.sh", "--partitions 3", weir.Brokers[0]} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	if !errors.Is(err, sarama.ErrTopicAuthorizationFailed) && !errors.Is(err, sarama.ErrClusterAuthorizationFailed) {
		t.Errorf("cause %v", err)
	}
	if _, err := EnsureTopic(t.Context(), admin, "dlq", 3, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := EnsureTopic(t.Context(), weir, "dlq", 3, -1); err != nil {
		t.Errorf("once somebody else made it: %v", err)
	}
}

func TestEnsureTopicPassesOnWhatTheBrokerSays(t *testing.T) {
	c, o := fakeCluster(t)
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Topic: "dlq", Err: kerr.InvalidReplicationFactor})
	_, err := EnsureTopic(t.Context(), o, "dlq", 3, 9)
	if !errors.Is(err, sarama.ErrInvalidReplicationFactor) || !strings.Contains(err.Error(), "--create") {
		t.Errorf("error %v", err)
	}
}

// find is the finding about what.
func find(t *testing.T, found []Finding, what string) Finding {
	t.Helper()
	for _, f := range found {
		if f.What == what {
			return f
		}
	}
	t.Fatalf("nothing about %q in %+v", what, found)
	return Finding{}
}

func TestCheckFindsEverythingInOrderAndMakesNothing(t *testing.T) {
	for name, versions := range map[string]*kversion.Versions{"newest": kversion.Stable(), "2.1": kversion.V2_1_0(), "2.8": kversion.V2_8_0()} {
		t.Run(name, func(t *testing.T) {
			c, o := fakeCluster(t, kfake.SeedTopics(2, "edr.a", "edr.b"), kfake.MaxVersions(versions))
			subject := Subject{Group: "g", Topics: []string{"edr.a", "edr.b"}, DeadLetter: "edr.b"}
			for _, f := range Check(t.Context(), o, subject) {
				if !f.OK {
					t.Errorf("%+v", f)
				}
			}
			subject = Subject{Group: "g", Pattern: regexp.MustCompile(`^edr\.`)}
			found := Check(t.Context(), o, subject)
			find(t, found, "topic edr.a")
			find(t, found, "topic edr.b")
			if c.GroupInfo("g") != nil {
				t.Error("the group was made")
			}
		})
	}
}

func TestCheckSaysWhatIsMissing(t *testing.T) {
	c, o := fakeCluster(t)
	found := Check(t.Context(), o, Subject{Topics: []string{"none"}, DeadLetter: "dlq"})
	if f := find(t, found, "topic none"); f.OK || !strings.Contains(f.Detail, "does not exist") {
		t.Errorf("%+v", f)
	}
	if f := find(t, found, "dead-letter topic dlq"); !f.OK || !strings.Contains(f.Detail, "may make it") {
		t.Errorf("%+v", f)
	}
	found = Check(t.Context(), o, Subject{Pattern: regexp.MustCompile("^edr")})
	if f := find(t, found, `topics matching "^edr"`); f.OK {
		t.Errorf("%+v", f)
	}
	if c.TopicInfo("none") != nil || c.TopicInfo("dlq") != nil {
		t.Error("a topic was made")
	}
}

func TestCheckSaysWhichRightIsMissing(t *testing.T) {
	const topic, group = kmsg.ACLResourceTypeTopic, kmsg.ACLResourceTypeGroup
	const read, write, describe = kmsg.ACLOperationRead, kmsg.ACLOperationWrite, kmsg.ACLOperationDescribe
	all := []kfake.ACL{acl(topic, "edr", read), acl(group, "g", read), acl(topic, "dlq", write)}
	for name, c := range map[string]struct {
		acls []kfake.ACL
		what string
		says string
	}{
		"topic unseen":       {all[1:], "topic edr", `user "weir" lacks a right`},
		"topic not read":     {append([]kfake.ACL{acl(topic, "edr", describe)}, all[1:]...), "topic edr", "no READ right"},
		"group unseen":       {[]kfake.ACL{all[0], all[2]}, "group g", "READ right on the consumer group"},
		"group not read":     {[]kfake.ACL{all[0], acl(group, "g", describe), all[2]}, "group g", "no READ right"},
		"dlq unseen":         {all[:2], "dead-letter topic dlq", `user "weir" lacks a right`},
		"dlq not written":    {[]kfake.ACL{all[0], all[1], acl(topic, "dlq", describe)}, "dead-letter topic dlq", "no WRITE right"},
		"everything is fine": {all, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			cluster, weir, _ := guarded(t, c.acls...)
			if err := cluster.CreateTopic("dlq", 1, nil); err != nil {
				t.Fatal(err)
			}
			for _, f := range Check(t.Context(), weir, Subject{Group: "g", Topics: []string{"edr"}, DeadLetter: "dlq"}) {
				if f.OK == (f.What == c.what) || f.What == c.what && !strings.Contains(f.Detail, c.says) {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

func TestCheckSaysWhenTheDeadLetterTopicCannotBeMade(t *testing.T) {
	_, weir, _ := guarded(t, acl(kmsg.ACLResourceTypeTopic, "dlq", kmsg.ACLOperationDescribe))
	f := find(t, Check(t.Context(), weir, Subject{DeadLetter: "dlq"}), "dead-letter topic dlq")
	if f.OK || !strings.Contains(f.Detail, "CREATE") || !strings.Contains(f.Detail, "kafka-topics.sh") {
		t.Errorf("%+v", f)
	}
}

func TestCheckSaysWhenOthersShareTheGroupInAnotherWay(t *testing.T) {
	c, o := fakeCluster(t, kfake.SeedTopics(2, "edr"))
	cfg := sarama.NewConfig() // range, as many do
	cfg.ClientID = "other"
	other, err := sarama.NewConsumerGroup(o.Brokers, "g", cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = other.Consume(ctx, []string{"edr"}, idle{})
	}()
	defer func() { stop(); <-done; _ = other.Close() }()
	if _, err := c.WaitGroupStable(ctx, "g", 1); err != nil {
		t.Fatal(err)
	}
	f := find(t, Check(ctx, o, Subject{Group: "g"}), "group g")
	if f.OK || !strings.Contains(f.Detail, `"range"`) {
		t.Errorf("%+v", f)
	}
}

// idle is a member that takes nothing.
type idle struct{}

func (idle) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (idle) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (idle) ConsumeClaim(s sarama.ConsumerGroupSession, _ sarama.ConsumerGroupClaim) error {
	<-s.Context().Done()
	return nil
}

func TestCheckExplainsWhyABrokerIsNotReached(t *testing.T) {
	cert := httptest.NewUnstartedServer(nil)
	cert.Config.ErrorLog = log.New(io.Discard, "", 0)
	cert.StartTLS()
	defer cert.Close()
	serverTLS := &tls.Config{Certificates: cert.TLS.Certificates}
	_, secure := fakeCluster(t, kfake.TLS(serverTLS), kfake.SeedTopics(1, "edr"))
	_, login := fakeCluster(t, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "weir", "right-secret"))
	mutual := serverTLS.Clone()
	mutual.ClientAuth = tls.RequireAnyClientCert
	_, clientCert := fakeCluster(t, kfake.TLS(mutual))
	otherName := trusting(cert)
	otherName.ServerName = "kafka.invalid"
	scram := func(password string) *SASL {
		return &SASL{Mechanism: "SCRAM-SHA-512", Username: "weir", Password: fixed(password)}
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()

	for name, c := range map[string]struct {
		o    Options
		says string
	}{
		"right":                     {Options{Brokers: secure.Brokers, TLS: trusting(cert)}, ""},
		"right password":            {Options{Brokers: login.Brokers, SASL: scram("right-secret")}, ""},
		"nobody there":              {Options{Brokers: []string{"127.0.0.1:1"}}, "nothing listens there"},
		"unknown name":              {Options{Brokers: []string{"no-such-host.invalid:9092"}}, "its name is unknown"},
		"unknown CA":                {Options{Brokers: secure.Brokers, TLS: &tls.Config{}}, "not trusted"},
		"certificate of another":    {Options{Brokers: secure.Brokers, TLS: otherName}, "not for this name"},
		"plaintext to a TLS port":   {Options{Brokers: secure.Brokers}, "TLS on this port"},
		"no client certificate":     {Options{Brokers: clientCert.Brokers, TLS: trusting(cert)}, "client certificate"},
		"wrong password":            {Options{Brokers: login.Brokers, SASL: scram("wrong-secret")}, "the password right?"},
		"no login":                  {Options{Brokers: login.Brokers}, "wants a login"},
		"mechanism not offered":     {Options{Brokers: login.Brokers, SASL: &SASL{Mechanism: "OAUTHBEARER", Username: "weir", Password: fixed("x")}}, "OAUTHBEARER"},
		"takes the call, is silent": {Options{Brokers: []string{silent.Addr().String()}}, "deadline"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			if name == "takes the call, is silent" {
				var stop context.CancelFunc
				ctx, stop = context.WithTimeout(ctx, 200*time.Millisecond)
				defer stop()
			}
			found := Check(ctx, c.o, Subject{Topics: []string{"edr"}})
			f := find(t, found, "broker "+c.o.Brokers[0])
			if f.OK != (c.says == "") || !strings.Contains(f.Detail, c.says) {
				t.Errorf("%+v", f)
			}
			if strings.Contains(f.Detail, "secret") {
				t.Errorf("a secret in %q", f.Detail)
			}
			if !f.OK && len(found) != 1 {
				t.Errorf("the same told more than once: %+v", found)
			}
		})
	}
}

// The most common fault of a new cluster: it answers, and sends everybody to an
// address that only it can reach.
func TestCheckFindsAdvertisedAddressesThatCannotBeReached(t *testing.T) {
	c, o := fakeCluster(t, kfake.SeedTopics(1, "edr"))
	c.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		b := kmsg.NewMetadataResponseBroker()
		b.Host, b.Port = "127.0.0.1", 1
		resp.Brokers = append(resp.Brokers, b)
		return resp, nil, true
	})
	found := Check(t.Context(), o, Subject{})
	if f := find(t, found, "broker "+o.Brokers[0]); !f.OK {
		t.Errorf("%+v", f)
	}
	if f := find(t, found, "broker 127.0.0.1:1"); f.OK || !strings.Contains(f.Detail, "advertise") {
		t.Errorf("%+v", f)
	}
}

func TestPrintableEscapesWhatATerminalWouldObey(t *testing.T) {
	if got := printable("a \"b\"\x1b[31m\n"+strings.Repeat("x", 100), 20); strings.ContainsAny(got, "\x1b\n") || len(got) > 40 || !strings.Contains(got, `"b"`) {
		t.Errorf("%q", got)
	}
}

// A coordinator that is on its way is waited for, and who is told to stop meanwhile
// says both what was waited for and that it was told to.
func TestCoordinatorIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		began := time.Now()
		err := patiently(t.Context(), func() error {
			if asked++; asked < 20 {
				return sarama.ErrConsumerCoordinatorNotAvailable
			}
			return nil
		})
		if err != nil || asked != 20 {
			t.Errorf("asked %d times, %v", asked, err)
		}
		err = patiently(t.Context(), func() error { return sarama.ErrNotCoordinatorForConsumer })
		if !errors.Is(err, sarama.ErrNotCoordinatorForConsumer) || time.Since(began) > 20*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithCancel(t.Context())
		err = patiently(ctx, func() error {
			cancel()
			return sarama.ErrConsumerCoordinatorNotAvailable
		})
		if !errors.Is(err, context.Canceled) || !errors.Is(err, sarama.ErrConsumerCoordinatorNotAvailable) {
			t.Errorf("%v, told to stop while there was no coordinator", err)
		}
		asked = 0
		err = patiently(t.Context(), func() error { asked++; return sarama.ErrGroupAuthorizationFailed })
		if !errors.Is(err, sarama.ErrGroupAuthorizationFailed) || asked != 1 {
			t.Errorf("asked %d times about a right that is missing: %v", asked, err)
		}
	})
}
