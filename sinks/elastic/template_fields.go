package elastic

// typedFields are the fields of the Elastic Common Schema (8.17) that are worth a
// range search, by the type they get.
func typedFields() map[string][]string {
	f := map[string][]string{
		"ip": {
			"dns.resolved_ip", "host.ip", "network.forwarded_ip", "observer.ip", "orchestrator.resource.ip",
			"related.ip", "threat.enrichments.indicator.ip", "threat.indicator.ip",
		},
		"long": {
			"dns.answers.ttl",
			"event.duration", "event.sequence", "event.severity",
			"file.size",
			"host.disk.read.bytes", "host.disk.write.bytes",
			"host.network.egress.bytes", "host.network.egress.packets",
			"host.network.ingress.bytes", "host.network.ingress.packets", "host.uptime",
			"http.request.body.bytes", "http.request.bytes",
			"http.response.body.bytes", "http.response.bytes", "http.response.status_code",
			"log.origin.file.line", "log.syslog.facility.code", "log.syslog.priority", "log.syslog.severity.code",
			"network.bytes", "network.packets",
			"process.entry_leader.pid", "process.group_leader.pid", "process.session_leader.pid",
			"threat.indicator.port",
			"tls.client.x509.public_key_size", "tls.server.x509.public_key_size",
			"url.port",
		},
		"double": {
			"event.risk_score", "event.risk_score_norm", "host.cpu.usage",
			"risk.calculated_score", "risk.calculated_score_norm",
			"vulnerability.score.base", "vulnerability.score.environmental", "vulnerability.score.temporal",
		},
		"date": {
			"event.created", "event.end", "event.ingested", "event.start",
			"file.accessed", "file.created", "file.ctime", "file.mtime",
			"process.end", "process.start", "process.parent.end", "process.parent.start",
		},
	}
	for _, side := range []string{"client", "destination", "server", "source"} {
		f["ip"] = append(f["ip"], side+".ip", side+".nat.ip")
		f["long"] = append(f["long"], side+".as.number", side+".bytes", side+".packets", side+".port", side+".nat.port")
	}
	for _, p := range []string{"process", "process.parent"} {
		f["long"] = append(f["long"], p+".args_count", p+".exit_code", p+".pgid", p+".pid", p+".ppid", p+".thread.id", p+".uptime")
	}
	return f
}

// textFields are read by people and searched by word. They are not kept as a
// whole beside that: Windows' Message alone would cost 0.11 kB an event more.
// event.original is indexed, other than ECS has it, because a value that is not
// JSON is nowhere else.
var textFields = []string{"message", "Message", "error.message", "event.original"}

// addressNames are what common sources call an IP address: ECS-like names, then
// Sysmon and Windows Security, CloudTrail and other clouds, flow logs, Zeek. They
// are found at the top of the event and below any object.
var addressNames = []string{
	"ip", "*_ip",
	"SourceIp", "DestinationIp", "IpAddress", "SourceAddress", "DestAddress",
	"sourceIPAddress", "callerIp", "callerIpAddress", "CallerIpAddress", "ClientIP", "ClientIPAddress", "ActorIpAddress",
	"clientIp", "remoteIp", "srcip", "dstip", "srcaddr", "dstaddr",
	"id.orig_h", "id.resp_h",
}
