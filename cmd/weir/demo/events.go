package demo

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// event is one record to write.
type event struct {
	key, value []byte
	time       time.Time
}

// kind is a sort of traffic.
type kind uint8

const (
	everyday kind = iota // what a quiet network sends
	phishing             // an Office program that starts a shell, and the names it asks for
	scan                 // one address that tries every port of a host
)

// events makes security events. The same seed and the same times make the same
// events. All addresses and names are those reserved for documentation.
type events struct {
	rnd  *rand.Rand
	port int // the next port of the scan
}

func newEvents(seed uint64) *events {
	return &events{rnd: rand.New(rand.NewPCG(seed, 0x77656972))}
}

// next makes event n. A small share is what real topics also hold: an old
// firewall's event with a port written as a word, which a SIEM refuses because
// ports are numbers there, and syslog lines that are not JSON at all.
func (e *events) next(n int64, k kind, now time.Time) event {
	now = now.UTC().Truncate(time.Millisecond)
	h := e.host()
	b := make([]byte, 0, 1024)
	switch k {
	case phishing:
		if e.rnd.IntN(3) == 0 {
			b = e.dns(b, n, now, h, "invoice-portal.example")
		} else {
			b = e.process(b, n, now, h, macro)
		}
	case scan:
		h = firewall
		e.port = e.port%65535 + 1
		b = e.firewall(b, n, now, "denied", "203.0.113.66", "192.0.2.10", fmt.Sprint(e.port))
	default:
		switch at := e.rnd.IntN(1000); {
		case at < 5:
			h = firewall
			b = e.firewall(b, n, now, "allowed", e.inside(), e.outside(), `"https"`)
		case at < 7:
			h = bastion
			b = e.syslog(b, n, now)
		case at < 257:
			b = e.process(b, n, now, h, programs[e.rnd.IntN(len(programs))])
		case at < 437:
			b = e.connection(b, n, now, h)
		case at < 607:
			b = e.logon(b, n, now, h)
		case at < 757:
			b = e.dns(b, n, now, h, names[e.rnd.IntN(len(names))])
		case at < 917:
			h = firewall
			b = e.firewall(b, n, now, pick(e, "allowed", "allowed", "allowed", "denied"), e.inside(), e.outside(), fmt.Sprint(pick(e, 53, 80, 123, 443, 443, 8443)))
		default:
			h = cloud
			b = e.cloudTrail(b, n, now)
		}
	}
	return event{key: []byte(h), value: b, time: now}
}

const (
	firewall = "fw-edge-01"
	bastion  = "bastion-01"
	cloud    = "111122223333" // the account number of AWS' own examples
)

func pick[T any](e *events, of ...T) T { return of[e.rnd.IntN(len(of))] }

func (e *events) host() string {
	return fmt.Sprintf("%s-%02d", pick(e, "ws-fin", "ws-hr", "ws-dev", "srv-app", "srv-db", "dc"), 1+e.rnd.IntN(12))
}

func (e *events) user() string {
	return pick(e, "alice.kim", "bob.martin", "carla.diaz", "deniz.aydin", "erik.lund", "fatou.ba", "svc-backup", "svc-deploy")
}

func (e *events) inside() string {
	return fmt.Sprintf("%s.%d", pick(e, "192.0.2", "198.51.100"), 1+e.rnd.IntN(254))
}
func (e *events) outside() string { return fmt.Sprintf("203.0.113.%d", 1+e.rnd.IntN(254)) }
func (e *events) ephemeral() int  { return 49152 + e.rnd.IntN(16384) }
func (e *events) pid() int        { return 4 * (200 + e.rnd.IntN(8000)) }
func (e *events) hex(n int) string {
	return fmt.Sprintf("%016x%016x%016x%016x", e.rnd.Uint64(), e.rnd.Uint64(), e.rnd.Uint64(), e.rnd.Uint64())[:n]
}
func (e *events) guid() string {
	h := e.hex(32)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// program is a process with its parent, as they stand in JSON.
type program struct{ image, command, parent string }

var programs = []program{
	{`C:\\Windows\\System32\\svchost.exe`, `C:\\Windows\\system32\\svchost.exe -k netsvcs -p -s Schedule`, `C:\\Windows\\System32\\services.exe`},
	{`C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe`, `\"chrome.exe\" --type=renderer --lang=en-US`, `C:\\Windows\\explorer.exe`},
	{`C:\\Windows\\System32\\cmd.exe`, `cmd.exe /c \"net use Z: \\\\files.example.com\\finance\"`, `C:\\Windows\\explorer.exe`},
	{`C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe`, `powershell.exe -NoProfile -File C:\\Ops\\inventory.ps1`, `C:\\Windows\\System32\\taskhostw.exe`},
	{`C:\\Windows\\System32\\wbem\\WmiPrvSE.exe`, `C:\\Windows\\system32\\wbem\\wmiprvse.exe -secured -Embedding`, `C:\\Windows\\System32\\svchost.exe`},
	{`C:\\Program Files\\Backup\\agent.exe`, `agent.exe --job nightly --target \\\\vault.example.com\\daily`, `C:\\Windows\\System32\\services.exe`},
}

var macro = program{
	`C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe`,
	`powershell.exe -w hidden -nop -enc SQBuAHYAbwBrAGUALQBXAGUAYgBSAGUAcQB1AGUAcwB0AA==`,
	`C:\\Program Files\\Microsoft Office\\root\\Office16\\WINWORD.EXE`,
}

var names = []string{"www.example.com", "mail.example.com", "updates.example.net", "cdn.example.org", "files.example.com", "time.example.net", "login.example.org"}

// begin writes what every event has: time, number and class.
func begin(b []byte, n int64, now time.Time, class string) []byte {
	b = append(b, `{"@timestamp":"`...)
	b = now.AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = append(b, `","ecs":{"version":"8.17.0"},"event":{"id":"`...)
	b = appendMark(b, n)
	return fmt.Appendf(b, `","kind":"event",%s}`, class)
}

func (e *events) windows(b []byte, host string) []byte {
	return fmt.Appendf(b, `,"host":{"name":"%s","domain":"corp.example.com","ip":["%s"],"os":{"type":"windows","version":"10.0.19045"}}`, host, e.inside())
}

// process is Sysmon's event 1.
func (e *events) process(b []byte, n int64, now time.Time, host string, p program) []byte {
	b = begin(b, n, now, `"category":["process"],"type":["start"],"code":"1","provider":"Microsoft-Windows-Sysmon"`)
	b = e.windows(b, host)
	return fmt.Appendf(b, `,"user":{"name":"%s","domain":"CORP"},"process":{"entity_id":"{%s}","pid":%d,"executable":"%s","command_line":"%s","hash":{"sha256":"%s"},"parent":{"pid":%d,"executable":"%s"}},"winlog":{"channel":"Microsoft-Windows-Sysmon/Operational","event_id":1,"record_id":%d}}`,
		e.user(), e.guid(), e.pid(), p.image, p.command, e.hex(64), e.pid(), p.parent, 1_000_000+n)
}

// connection is Sysmon's event 3.
func (e *events) connection(b []byte, n int64, now time.Time, host string) []byte {
	b = begin(b, n, now, `"category":["network"],"type":["connection","start"],"code":"3","provider":"Microsoft-Windows-Sysmon"`)
	b = e.windows(b, host)
	p := programs[e.rnd.IntN(len(programs))]
	return fmt.Appendf(b, `,"user":{"name":"%s","domain":"CORP"},"process":{"pid":%d,"executable":"%s"},"network":{"transport":"tcp","direction":"egress"},"source":{"ip":"%s","port":%d},"destination":{"ip":"%s","port":%d,"domain":"%s"},"winlog":{"channel":"Microsoft-Windows-Sysmon/Operational","event_id":3,"record_id":%d}}`,
		e.user(), e.pid(), p.image, e.inside(), e.ephemeral(), e.outside(), pick(e, 80, 443, 445, 3389), names[e.rnd.IntN(len(names))], 1_000_000+n)
}

// logon is Windows' event 4624 or, one time in eight, 4625.
func (e *events) logon(b []byte, n int64, now time.Time, host string) []byte {
	code, outcome, status := 4624, "success", ""
	if e.rnd.IntN(8) == 0 {
		code, outcome, status = 4625, "failure", `"Status":"0xc000006d","SubStatus":"0xc000006a",`
	}
	b = begin(b, n, now, fmt.Sprintf(`"category":["authentication"],"type":["start"],"code":"%d","outcome":"%s","provider":"Microsoft-Windows-Security-Auditing"`, code, outcome))
	b = e.windows(b, host)
	return fmt.Appendf(b, `,"user":{"name":"%s","domain":"CORP"},"source":{"ip":"%s","port":%d},"winlog":{"channel":"Security","event_id":%d,"record_id":%d,"event_data":{%s"LogonType":"%d","LogonProcessName":"NtLmSsp","AuthenticationPackageName":"NTLM","WorkstationName":"%s","TargetLogonId":"0x%x"}}}`,
		e.user(), e.inside(), e.ephemeral(), code, 1_000_000+n, status, pick(e, 2, 3, 3, 3, 5, 10), host, e.rnd.Uint32())
}

// dns is Sysmon's event 22.
func (e *events) dns(b []byte, n int64, now time.Time, host, name string) []byte {
	b = begin(b, n, now, `"category":["network"],"type":["protocol"],"code":"22","provider":"Microsoft-Windows-Sysmon"`)
	b = e.windows(b, host)
	p := programs[e.rnd.IntN(len(programs))]
	return fmt.Appendf(b, `,"process":{"entity_id":"{%s}","pid":%d,"executable":"%s"},"dns":{"question":{"name":"%s","type":"A"},"answers":[{"type":"A","data":"%s","ttl":%d}],"response_code":"NOERROR"},"winlog":{"channel":"Microsoft-Windows-Sysmon/Operational","event_id":22,"record_id":%d}}`,
		e.guid(), e.pid(), p.image, name, e.outside(), 30*(1+e.rnd.IntN(20)), 1_000_000+n)
}

// firewall is an edge firewall's verdict; port is a JSON value.
func (e *events) firewall(b []byte, n int64, now time.Time, verdict, from, to, port string) []byte {
	b = begin(b, n, now, fmt.Sprintf(`"category":["network"],"type":["connection","%s"],"action":"%s","dataset":"firewall.traffic","duration":%d`, verdict, verdict, e.rnd.IntN(9_000_000)))
	return fmt.Appendf(b, `,"observer":{"name":"%s","type":"firewall","vendor":"Example Networks","ingress":{"zone":"untrust"},"egress":{"zone":"dmz"}},"rule":{"name":"%s","id":"%d"},"network":{"transport":"tcp","bytes":%d,"packets":%d,"community_id":"1:%s="},"source":{"ip":"%s","port":%d},"destination":{"ip":"%s","port":%s}}`,
		firewall, pick(e, "default-deny", "web-out", "dmz-in", "dns-out"), 100+e.rnd.IntN(40), e.rnd.IntN(90_000), 1+e.rnd.IntN(80), e.hex(27), from, e.ephemeral(), to, port)
}

// cloudTrail is a call of the AWS API.
func (e *events) cloudTrail(b []byte, n int64, now time.Time) []byte {
	service, call := "s3.amazonaws.com", pick(e, "GetObject", "PutObject", "ListBuckets")
	if e.rnd.IntN(2) == 0 {
		service, call = "iam.amazonaws.com", pick(e, "ListUsers", "AttachUserPolicy", "GetRole")
	}
	u := e.user()
	b = begin(b, n, now, fmt.Sprintf(`"category":["iam"],"type":["info"],"action":"%s","provider":"%s","dataset":"aws.cloudtrail"`, call, service))
	return fmt.Appendf(b, `,"cloud":{"provider":"aws","region":"%s","account":{"id":"%s"}},"user":{"name":"%s"},"source":{"ip":"%s"},"user_agent":{"original":"aws-cli/2.17.0 Python/3.12.4 Linux/6.8"},"aws":{"cloudtrail":{"event_version":"1.09","event_type":"AwsApiCall","request_id":"%s","user_identity":{"type":"IAMUser","arn":"arn:aws:iam::%s:user/%s"},"read_only":%t}}}`,
		pick(e, "eu-central-1", "us-east-1"), cloud, u, e.outside(), e.guid(), cloud, u, e.rnd.IntN(3) > 0)
}

// syslog is a line as RFC 5424 has it.
func (e *events) syslog(b []byte, n int64, now time.Time) []byte {
	b = append(b, "<86>1 "...)
	b = now.AppendFormat(b, time.RFC3339)
	b = fmt.Appendf(b, ` %s sshd %d `, bastion, e.pid())
	b = appendMark(b, n)
	return fmt.Appendf(b, ` - Failed password for invalid user %s from %s port %d ssh2`, pick(e, "admin", "oracle", "test", `"root"`), e.outside(), e.ephemeral())
}
