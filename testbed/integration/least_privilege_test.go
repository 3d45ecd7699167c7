//go:build integration

package integration

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"weir/testbed/bridge"
	"weir/testbed/broker"
	"weir/testbed/servers"
)

// The names are those of docs/security.md.
const (
	leastTopic = "edr.events"
	leastName  = "edr-to-elastic"
	leastGroup = "weir.edr-to-elastic"
	leastDLQ   = "weir.dlq"
	leastUser  = "weir"
)

// least is a broker with access control, an Elasticsearch with security behind a
// proxy that wants our certificate, and the rights that docs/security.md gives.
type least struct {
	*bed
	es   *elastic
	cfg  *bridge.Config
	key  string            // file of the API key
	keys map[string]string // by the name that the documentation gives it
	n    int               // events written that Elasticsearch takes
	dead int               // and that it does not

	elsewhere int64 // dead letters in another topic than the usual one
}

// Weir works with the rights that docs/security.md gives, to the letter, and with
// each of them missing it says which one, commits nothing that was not delivered,
// and goes on by itself when the right is there.
func TestLeastPrivilege(t *testing.T) {
	if os.Getenv("TESTBED") == "" {
		t.Skip("TESTBED does not name the folder of the scripts that start servers: this needs a broker with access control")
	}
	l := newLeast(t)

	t.Run("init", l.init)
	t.Run("check", l.check)
	t.Run("run", l.run)
	t.Run("without READ on the topic", func(t *testing.T) {
		l.withoutACL(t, kmsg.ACLResourceTypeTopic, leastTopic, kmsg.ACLOperationRead, `user "weir"`, "READ")
	})
	t.Run("without READ on the group", func(t *testing.T) {
		l.withoutACL(t, kmsg.ACLResourceTypeGroup, leastGroup, kmsg.ACLOperationRead, `user "weir"`, "READ right on the consumer group")
	})
	t.Run("without WRITE on the dead letters", func(t *testing.T) {
		l.withoutACL(t, kmsg.ACLResourceTypeTopic, leastDLQ, kmsg.ACLOperationWrite, `user "weir"`, "WRITE")
	})
	t.Run("without CREATE on the dead letters", l.withoutCreate)
	t.Run("without auto_configure", func(t *testing.T) {
		l.withoutPrivilege(t, "create_doc", "indices:admin/auto_create", "auto_configure")
	})
	t.Run("without create_doc", func(t *testing.T) {
		l.withoutPrivilege(t, "auto_configure", "indices:data/write/bulk", "create_doc")
	})
	t.Run("without our certificate", l.withoutCertificate)
	t.Run("dead letters", l.deadLetters)
}

// newLeastKafka is without Elasticsearch, and gives no rights. password is the file
// of the user's.
func newLeastKafka(t *testing.T) (l *least, password string) {
	l = &least{bed: newBed(t, 8*time.Minute), keys: map[string]string{}}
	extra := filepath.Join(l.dir, "extra.properties")
	l.must(os.WriteFile(extra, []byte("authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n"+
		"super.users=User:ANONYMOUS\n"), 0o600)) // the plaintext listener is the administrator's
	t.Setenv("WEIR_TEST_KAFKA", "")
	t.Setenv("KAFKA_EXTRA", extra)
	t.Setenv("KAFKA_HEAP", "300m")
	var err error
	l.kafka, err = set.Kafka(l.ctx)
	l.need(err)
	l.cl, err = broker.Dial(l.kafka.Addr)
	l.must(err)
	t.Cleanup(l.cl.Close)
	return l, l.addUser()
}

func newLeast(t *testing.T) *least {
	l, password := newLeastKafka(t)
	l.must(l.cl.CreateTopic(l.ctx, leastTopic, 2, nil))
	t.Setenv("ES_HEAP", "512m")
	l.es = l.ownNode(servers.ElasticOptions{Password: "testbed-pw"})
	front, ours := mutualTLS(t, l.es.URL)
	l.grantAsDocumented()
	l.key = filepath.Join(l.dir, "elastic.key")

	c := bridge.NewConfig(l.kafka.TLSAddr, leastTopic, front)
	bridge.Set(c.File, "kafka.tls", bridge.M{"enabled": true, "ca_file": l.kafka.CAFile})
	bridge.Set(c.File, "kafka.sasl", bridge.M{"mechanism": "SCRAM-SHA-512", "username": leastUser, "password": "${file:" + password + "}"})
	c.Connector["name"], c.Connector["dead_letter"], c.Connector["drain"] = leastName, bridge.M{"topic": leastDLQ}, "5s"
	c.Sink["index"] = "security-{topic}"
	c.Sink["auth"], c.Sink["tls"] = bridge.M{"api_key": "${file:" + l.key + "}"}, ours
	l.cfg = c
	return l
}

// addUser makes the SCRAM user and gives the file of its password.
func (l *least) addUser() string {
	l.Helper()
	const password = "weir-password-marker"
	salt := []byte("0123456789abcdef")
	salted, err := pbkdf2.Key(sha512.New, password, salt, 4096, sha512.Size)
	l.must(err)
	u := kmsg.NewAlterUserSCRAMCredentialsRequestUpsertion()
	u.Name, u.Mechanism, u.Iterations, u.Salt, u.SaltedPassword = leastUser, 2, 4096, salt, salted // SCRAM-SHA-512
	req := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
	req.Upsertions = append(req.Upsertions, u)
	res, err := req.RequestWith(l.ctx, l.cl.Client)
	l.must(err)
	for _, r := range res.Results {
		l.must(kerr.ErrorForCode(r.ErrorCode))
	}
	file := filepath.Join(l.dir, "kafka-password")
	l.must(os.WriteFile(file, []byte(password), 0o600))
	return file
}

var (
	aclCommand = regexp.MustCompile(`(?m)^kafka-acls\.sh .*$`)
	jsonBlock  = regexp.MustCompile("(?s)```json\n(.*?)```")
)

// grantAsDocumented runs the commands of docs/security.md with Kafka's own tool,
// and makes the API keys of it.
func (l *least) grantAsDocumented() {
	l.Helper()
	page := l.grantACLs("security.md", 4)
	for _, m := range jsonBlock.FindAllSubmatch(page, -1) {
		name, key := l.makeKey(m[1])
		l.keys[name] = key
	}
	for _, name := range []string{"weir-run", "weir-check", "weir-init"} {
		if l.keys[name] == "" {
			l.Fatalf("docs/security.md gives no key %s", name)
		}
	}
}

// grantACLs runs the commands of a page of the documentation, which are to be n.
func (l *least) grantACLs(name string, n int) (page []byte) {
	l.Helper()
	page, commands := l.aclCommands(name, n)
	for _, c := range commands {
		l.runACL(c)
	}
	return page
}

// aclCommands are the commands of a page of the documentation, which are to be n.
func (l *least) aclCommands(name string, n int) (page []byte, commands []string) {
	l.Helper()
	root, err := servers.Root()
	l.must(err)
	page, err = os.ReadFile(filepath.Join(root, "docs", name))
	l.must(err)
	commands = aclCommand.FindAllString(string(page), -1)
	if len(commands) != n {
		l.Fatalf("docs/%s has %d kafka-acls.sh commands, want %d", name, len(commands), n)
	}
	return page, commands
}

// runACL runs a command with Kafka's own tool.
func (l *least) runACL(command string) {
	l.Helper()
	c := strings.NewReplacer("kafka-1.example.com:9093", l.kafka.Addr, "kafka-b1.example.com:9093", l.kafka.Addr, "--command-config admin.properties ", "").Replace(command)
	args := append([]string{"org.apache.kafka.tools.AclCommand"}, strings.Fields(c)[1:]...)
	out, err := exec.CommandContext(l.ctx, filepath.Join(os.Getenv("TESTBED"), "kafka", "kafka-cli"), args...).CombinedOutput()
	if err != nil {
		l.Fatalf("%s: %v\n%s", c, err, out)
	}
}

func (l *least) makeKey(body []byte) (name, key string) {
	l.Helper()
	var answer struct{ Name, Encoded string }
	l.es.must(http.MethodPost, "/_security/api_key", json.RawMessage(body), &answer)
	return answer.Name, answer.Encoded
}

func (l *least) useKey(key string) {
	l.Helper()
	l.must(os.WriteFile(l.key+".new", []byte(key), 0o600))
	l.must(os.Rename(l.key+".new", l.key))
}

// write produces n events that Elasticsearch takes and one that it does not.
func (l *least) write(n int) {
	l.Helper()
	records := synthetic(leastTopic, 2, l.n, n, 200)
	records = append(records, &kgo.Record{Topic: leastTopic, Value: []byte(`{"_id":"no field may be called this"}`)})
	l.must(l.cl.Write(l.ctx, records))
	l.n += n
	l.dead++
}

// settled wants everything that was written in Elasticsearch or among the dead
// letters, once, and committed.
func (l *least) settled(p *bridge.Process) {
	l.Helper()
	l.waitCommitted(p, leastGroup, leastTopic)
	l.es.wantNumbers("security-*", l.n)
	if got, err := l.cl.Count(l.ctx, leastDLQ); err != nil || got < int64(l.dead) { // grade B
		l.Errorf("%d dead letters, %v, want %d", got, err, l.dead)
	}
}

// notAhead wants no more committed than was delivered.
func (l *least) notAhead() {
	l.Helper()
	committed, err := l.cl.Committed(l.ctx, leastGroup, leastTopic) // first: the others only grow
	l.must(err)
	var letters int64
	if _, found, err := l.cl.Metadata(l.ctx, leastDLQ); err == nil && found {
		letters, err = l.cl.Count(l.ctx, leastDLQ)
		l.must(err)
	}
	if stored := l.es.count("security-*", nil); sum(committed) > stored+letters+l.elsewhere {
		l.Errorf("%d committed, but %d stored and %d dead letters", sum(committed), stored, letters+l.elsewhere)
	}
}

// start runs the bridge. No secret of ours may be in what it logs.
func (l *least) start(t *testing.T, cfg *bridge.Config) *bridge.Process {
	t.Helper()
	p := l.weir(strings.ReplaceAll(t.Name(), "/", "-"), cfg)
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("log:\n%s", tail(p.Log(), 40))
		}
		for _, secret := range append([]string{"weir-password-marker"}, l.keys["weir-run"], l.keys["weir-check"]) {
			if strings.Contains(p.Log(), secret) {
				t.Errorf("the log shows the secret %s", secret)
			}
		}
	})
	return p
}

// for the subtests: a failure is the subtest's own.
func (l *least) in(t *testing.T) *least {
	own, es := *l, *l.es
	b := *l.bed
	b.T = t
	es.b, own.bed, own.es = &b, &b, &es
	return &own
}

func (l *least) init(t *testing.T) {
	m := l.in(t)
	m.useKey(m.keys["weir-run"])
	path := m.file("init")
	if out, err := combined(m.ctx, m.bin, "init", "-c", path); err == nil || !strings.Contains(out, "manage_index_templates") {
		t.Errorf("with the key of weir run: %v\n%s", err, out)
	}
	m.useKey(m.keys["weir-init"])
	out := m.command("init", "-c", path)
	if _, found, err := m.cl.Metadata(m.ctx, leastDLQ); err != nil || !found {
		t.Errorf("no dead-letter topic: %v\n%s", err, out)
	}
}

// file keeps the configuration in a file for a command.
func (l *least) file(name string) string { return l.bed.write(name, l.cfg) }

func (l *least) check(t *testing.T) {
	m := l.in(t)
	m.useKey(m.keys["weir-check"])
	out := m.command("check", "--online", "-c", m.file("check"))
	if strings.Contains(out, "FAIL") || strings.Contains(out, "cannot tell") || !strings.Contains(out, "weir's mapping is in force") {
		t.Errorf("with the documented rights:\n%s", out)
	}
}

func (l *least) run(t *testing.T) {
	m := l.in(t)
	m.useKey(m.keys["weir-run"])
	m.write(2000)
	p := m.start(t, m.cfg)
	m.settled(p)
	m.waitReady(p)
	m.stop(p)
	l.n, l.dead = m.n, m.dead
}

// withoutACL takes a right from a bridge that runs, and gives it back.
func (l *least) withoutACL(t *testing.T, kind kmsg.ACLResourceType, name string, op kmsg.ACLOperation, words ...string) {
	m := l.in(t)
	defer func() { l.n, l.dead = m.n, m.dead }()
	p := m.start(t, m.cfg)
	m.waitReady(p)
	m.revoke(kind, name, op)
	defer m.grant(kind, name, op) // whatever happens: the others need it
	m.write(300)
	m.waitUnready(p, words...)
	m.notAhead()
	if out, err := combined(m.ctx, m.bin, "check", "--online", "-c", m.file("check-acl")); err == nil || !strings.Contains(out, "FAIL") {
		t.Errorf("weir check --online finds nothing: %v\n%s", err, out)
	}
	m.grant(kind, name, op)
	m.settled(p)
	m.waitReady(p)
	m.stop(p)
}

// withoutCreate has a dead-letter topic that is missing and may not be made.
func (l *least) withoutCreate(t *testing.T) {
	m := l.in(t)
	defer func() { l.n, l.dead = m.n, m.dead }()
	before, err := m.cl.Count(m.ctx, leastDLQ)
	m.must(err)
	const other = "weir.dlq.other"
	m.cfg.Connector["dead_letter"] = bridge.M{"topic": other}
	defer func() { m.cfg.Connector["dead_letter"] = bridge.M{"topic": leastDLQ} }()
	// Without WRITE Kafka does not say whether the topic exists.
	m.grant(kmsg.ACLResourceTypeTopic, other, kmsg.ACLOperationWrite)
	m.write(300)
	p := m.start(t, m.cfg)
	m.waitUnready(p, `user "weir" has no CREATE right on it`, "kafka-acls.sh", "kafka-topics.sh")
	m.notAhead()
	m.grant(kmsg.ACLResourceTypeTopic, other, kmsg.ACLOperationCreate)
	m.waitCommitted(p, leastGroup, leastTopic)
	m.es.wantNumbers("security-*", m.n)
	if l.elsewhere, err = m.cl.Count(m.ctx, other); err != nil || l.elsewhere < 1 {
		t.Errorf("%d dead letters, %v", l.elsewhere, err)
	}
	if got, err := m.cl.Count(m.ctx, leastDLQ); err != nil || got != before {
		t.Errorf("%d dead letters in the other topic, %v", got-before, err)
	}
	m.dead-- // it is not in the topic that the others count
	m.stop(p)
}

// withoutPrivilege runs with a key that has one of the two rights, and hands it
// the right key while it runs. The index is a new one.
func (l *least) withoutPrivilege(t *testing.T, has string, words ...string) {
	m := l.in(t)
	defer func() { l.n, l.dead = m.n, m.dead }()
	index := m.cfg.Sink["index"]
	defer func() { m.cfg.Sink["index"] = index }()
	m.cfg.Sink["index"] = "security-without-" + words[len(words)-1]
	_, poor := m.makeKey(fmt.Appendf(nil, `{"name":"poor","role_descriptors":{"r":{"indices":[{"names":["security-*"],"privileges":[%q]}]}}}`, has))
	m.useKey(poor)
	before, err := m.cl.Committed(m.ctx, leastGroup, leastTopic)
	m.must(err)
	m.write(300)
	p := m.start(t, m.cfg)
	m.waitUnready(p, append(words, "403")...)
	after, err := m.cl.Committed(m.ctx, leastGroup, leastTopic)
	m.must(err)
	// The one that Elasticsearch would refuse is not told from the others.
	if sum(after) != sum(before) {
		t.Errorf("%d committed without the right, %d before", sum(after), sum(before))
	}
	m.useKey(m.keys["weir-run"])
	m.settled(p)
	m.waitReady(p)
	m.stop(p)
}

func (l *least) withoutCertificate(t *testing.T) {
	m := l.in(t)
	defer func() { l.n, l.dead = m.n, m.dead }()
	m.useKey(m.keys["weir-run"])
	ours := m.cfg.Sink["tls"].(bridge.M)
	m.cfg.Sink["tls"] = bridge.M{"ca_file": ours["ca_file"]}
	m.write(100)
	p := m.start(t, m.cfg)
	m.waitUnready(p, "certificate required")
	m.notAhead()
	m.stop(p)
	m.cfg.Sink["tls"] = ours
	p = m.weir("with-certificate", m.cfg)
	m.settled(p)
	m.stop(p)
}

// deadLetters looks at the dead letters and sends them again with the rights that
// docs/dlq.md adds; without them, weir says which one is missing.
func (l *least) deadLetters(t *testing.T) {
	m := l.in(t)
	m.useKey(m.keys["weir-run"])
	path := m.file("dlq")
	if out, err := combined(m.ctx, m.bin, "dlq", "ls", "-c", path); err == nil || !strings.Contains(out, "READ") || !strings.Contains(out, leastDLQ) {
		t.Errorf("without READ on the dead letters: %v\n%s", err, out)
	}
	m.grantACLs("dlq.md", 2)
	m.eventually("the rights are in force", nil, func() (bool, error) {
		out, err := combined(m.ctx, m.bin, "dlq", "ls", "-c", path)
		return err == nil && strings.Contains(out, leastName), fmt.Errorf("%w: %s", err, out)
	})
	before := m.waiting(path)
	if before < int64(m.dead) {
		t.Errorf("%d dead letters wait, want at least %d", before, m.dead)
	}
	// What is wrong with them is not mended: they are refused again, and stay.
	out, err := combined(m.ctx, m.bin, "dlq", "redrive", "--connector", leastName, "-c", path)
	if after := m.waiting(path); after != before || strings.Contains(out, "right") {
		t.Errorf("%d dead letters wait, %d before: %v\n%s", after, before, err, out)
	}
}

// A case and the kafka sink work with the rights that docs/rehydrate.md and
// docs/kafka.md give, to the letter. The rights are given one after the other, and
// before each it is said what is missing, and nothing is done.
func TestLeastPrivilegeOfACase(t *testing.T) {
	if os.Getenv("TESTBED") == "" {
		t.Skip("TESTBED does not name the folder of the scripts that start servers: this needs a broker with access control")
	}
	l, password := newLeastKafka(t)
	to := time.Now().Add(-time.Hour).Truncate(time.Second).UTC()
	from := to.Add(-time.Hour)
	for _, topic := range []string{"cold", "edr", "archive.edr.events"} {
		l.must(l.cl.CreateTopic(l.ctx, topic, 2, nil))
	}
	const n = 400
	for _, topic := range []string{"cold", "edr"} {
		records := synthetic(topic, 2, 0, n/2, 200)
		for i, r := range records {
			r.Timestamp = from.Add(time.Duration(i) * time.Second)
		}
		l.must(l.cl.Write(l.ctx, records))
	}
	config, plan, key := filepath.Join(l.dir, "case.yaml"), filepath.Join(l.dir, "acme-7.plan.json"), filepath.Join(l.dir, "key")
	access := fmt.Sprintf(`tls: {enabled: true, ca_file: %q}, sasl: {mechanism: SCRAM-SHA-512, username: %s, password: "${file:%s}"}`, l.kafka.CAFile, leastUser, password)
	l.must(os.WriteFile(config, fmt.Appendf(nil, "kafka: {brokers: [%q], %s}\nconnectors:\n- {name: copy, topics: [edr], sink: {kafka: {topic: archive.edr.events}}}\n", l.kafka.TLSAddr, access), 0o600))

	planning := []string{"rehydrate", "plan", "-c", config, "--case", "acme-7", "--topics", "cold,edr", "--from", from.Format(time.RFC3339), "--to", to.Format(time.RFC3339), "-o", plan}
	of := func(what string, more ...string) []string {
		return append([]string{"rehydrate", what, "-c", config, "--plan", plan}, more...)
	}
	run := of("run", "--connector", "copy", "--bag", filepath.Join(l.dir, "bag"))
	seal := of("seal", "--key", key, "--examiner", "E", "--purpose", "p", "--bag", filepath.Join(l.dir, "bag"), "-o", filepath.Join(l.dir, "sealed"))
	verify := []string{"verify", "--kafka", "-c", config, "--manifest", filepath.Join(l.dir, "sealed"), "--key", key + ".pub"}
	refused := func(words string, args []string) {
		t.Helper()
		if out, err := combined(l.ctx, l.bin, args...); err == nil || !strings.Contains(out, words) || strings.Contains(out, "weir-password-marker") {
			t.Errorf("%s: want %q: %v\n%s", args[1], words, err, out)
		}
	}
	// Brokers hear of a right a moment after it was given.
	works := func(says string, args []string) (out string) {
		t.Helper()
		l.eventually(args[1]+" works", nil, func() (bool, error) {
			var err error
			out, err = combined(l.ctx, l.bin, args...)
			return err == nil && strings.Contains(out, says), fmt.Errorf("%w: %s", err, out)
		})
		return out
	}
	_, rights := l.aclCommands("rehydrate.md", 5)
	const readTopics, readGroup, deleteGroup, topicConfigs, clusterConfigs = 0, 1, 2, 3, 4
	grant := func(which int, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(rights[which], w) {
				t.Fatalf("docs/rehydrate.md: command %d is %q, want one with %q", which, rights[which], w)
			}
		}
		l.runACL(rights[which])
	}

	refused(`user "weir" lacks a right on the topic: READ`, planning)
	grant(readTopics, "--operation Read", "--topic edr")
	if out := works("sha256", planning); !strings.Contains(out, "DESCRIBE_CONFIGS") {
		t.Errorf("the plan does not say what it could not ask for:\n%s", out)
	}
	refused("READ right on the consumer group", run)
	refused("READ right on the consumer group", of("status"))
	grant(readGroup, "--operation Read", "--group weir.rehydrate.")
	works("not begun", of("status"))

	// The sink's own right.
	worker := l.bed.start("without-write", run...)
	l.eventually("the worker says that WRITE is missing", nil, func() (bool, error) {
		text, err := os.ReadFile(worker.log)
		return strings.Contains(string(text), "WRITE"), err
	})
	l.grantACLs("kafka.md", 1)
	l.exit(worker, 0)
	if s := l.status(config, plan); s.State != "done" || s.Counts.Delivered+s.Counts.Duplicates != n {
		t.Errorf("%+v", s)
	}
	if got, err := l.cl.Count(l.ctx, "archive.edr.events"); err != nil || got < n {
		t.Errorf("%d records in the destination, %v", got, err)
	}
	l.command("keygen", "--out", key)
	works("is sealed", seal)
	works("everything holds", verify)

	// What nobody needs, and what it is good for.
	grant(topicConfigs, "--operation DescribeConfigs", "--topic edr")
	grant(clusterConfigs, "--operation DescribeConfigs", "--cluster")
	l.eventually("the plan knows the topics' configuration", nil, func() (bool, error) {
		other := filepath.Join(l.dir, fmt.Sprint(time.Now().UnixNano(), ".json"))
		out, err := combined(l.ctx, l.bin, append(planning[:len(planning)-1:len(planning)-1], other)...)
		return err == nil && !strings.Contains(out, "DESCRIBE_CONFIGS"), fmt.Errorf("%w: %s", err, out)
	})
	out, err := combined(l.ctx, l.bin, of("run", "--connector", "copy")...) // all is done
	if err != nil || strings.Contains(out, "do not say how much metadata") {
		t.Errorf("with DESCRIBE_CONFIGS on the cluster: %v\n%s", err, out)
	}

	refused("lacks the DELETE right on the consumer group", of("cancel", "--yes"))
	grant(deleteGroup, "--operation Delete", "--group weir.rehydrate.")
	works("is removed", of("cancel", "--yes"))
}

func (l *least) grant(kind kmsg.ACLResourceType, name string, op kmsg.ACLOperation) {
	l.Helper()
	c := kmsg.NewCreateACLsRequestCreation()
	c.ResourceType, c.ResourceName, c.ResourcePatternType = kind, name, kmsg.ACLResourcePatternTypeLiteral
	c.Principal, c.Host, c.Operation, c.PermissionType = "User:"+leastUser, "*", op, kmsg.ACLPermissionTypeAllow
	req := kmsg.NewPtrCreateACLsRequest()
	req.Creations = append(req.Creations, c)
	res, err := req.RequestWith(context.WithoutCancel(l.ctx), l.cl.Client)
	l.must(err)
	for _, r := range res.Results {
		l.must(kerr.ErrorForCode(r.ErrorCode))
	}
}

func (l *least) revoke(kind kmsg.ACLResourceType, name string, op kmsg.ACLOperation) {
	l.Helper()
	f := kmsg.NewDeleteACLsRequestFilter()
	f.ResourceType, f.ResourceName, f.ResourcePatternType = kind, kmsg.StringPtr(name), kmsg.ACLResourcePatternTypeLiteral
	f.Principal, f.Operation, f.PermissionType = kmsg.StringPtr("User:"+leastUser), op, kmsg.ACLPermissionTypeAllow
	req := kmsg.NewPtrDeleteACLsRequest()
	req.Filters = append(req.Filters, f)
	res, err := req.RequestWith(l.ctx, l.cl.Client)
	l.must(err)
	for _, r := range res.Results {
		l.must(kerr.ErrorForCode(r.ErrorCode))
		if len(r.MatchingACLs) != 1 {
			l.Fatalf("%d such rights, want 1: the documentation gives another one", len(r.MatchingACLs))
		}
	}
}

// mutualTLS puts a proxy before url that speaks TLS and wants our certificate;
// ours is the sink's tls section for it.
func mutualTLS(t *testing.T, to string) (front string, ours bridge.M) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	file := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		must(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: leastUser}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	must(err)
	known, err := x509.ParseCertificate(der)
	must(err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)

	target, err := url.Parse(to)
	must(err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	quiet := log.New(new(bytes.Buffer), "", 0)
	proxy.ErrorLog = quiet
	srv := httptest.NewUnstartedServer(proxy)
	srv.Config.ErrorLog = quiet
	srv.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool()}
	srv.TLS.ClientCAs.AddCert(known)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.URL, bridge.M{
		"ca_file":   file("ca.pem", "CERTIFICATE", srv.Certificate().Raw),
		"cert_file": file("client.pem", "CERTIFICATE", der),
		"key_file":  file("client.key", "PRIVATE KEY", secret),
	}
}
