package config

import (
	"regexp"
	"time"
)

// HTTP is the http sink.
type HTTP struct {
	// Where requests go: http or https, without user and password. It counts as a
	// secret, since for some intakes its path is one: only scheme and host are ever
	// shown. With http, all of it goes over the network unencrypted, which is a
	// warning, and a fault where a parameter is called like a credential.
	URL Secret `mapstructure:"url" is:"needed"`
	// POST or PUT.
	Method string `mapstructure:"method"`
	// Headers of each request. A Content-Type here takes the place of the framing's.
	// They need https, except to loopback; those that are known to hold no secret do
	// not: Accept, Content-Type, X-Scope-OrgID (Loki), AccountID, ProjectID and VL-...
	// (VictoriaLogs), X-Sumo-... (Sumo Logic).
	Headers []HTTPHeader `mapstructure:"headers"`
	// Login: bearer, or username and password, or oauth2, or nothing. Needs https,
	// except to loopback.
	Auth HTTPAuth `mapstructure:"auth"`
	// How events follow each other in a request. json_array: [A,B]. ndjson: each on
	// a line. concatenated: one right behind the other. single: one event a request.
	Framing string `mapstructure:"framing"`
	// What is sent of a record: JSON with placeholders in it, on one line. {event}:
	// the value, a JSON object, as it came; what is none is wrapped as text in
	// event.original. {event_text}: the value as text. {event_base64}: its bytes.
	// {topic}, {partition}, {offset}, {key}. {time:2006-01-02T15:04:05.000Z}: the
	// record's timestamp in UTC, in Go's layout; {time:unix}, {time:unix_ms},
	// {time:unix_nano}. {field.path}: a text, number or boolean of the event, as
	// text. Each is escaped, and gets quotes if it is text and stands outside a
	// string.
	Event string `mapstructure:"event"`
	// What is around the events: JSON with one {events}, which becomes the array of
	// them. Needs framing json_array. Empty: nothing.
	Body string `mapstructure:"body"`
	// Events in a request at most. A larger batch goes out as several requests. 0:
	// as many as the batch has.
	MaxRecords int `mapstructure:"max_records"`
	// Bytes of a request at most, before compression; at least 1KiB. A larger event
	// goes alone. 0: as many as the batch comes to.
	MaxBytes Bytes `mapstructure:"max_bytes"`
	// Bytes of one event as it is sent at most. A longer one is rejected without
	// being sent: for intakes that cut or drop such events and say nothing. 0: none
	// is.
	MaxEventBytes Bytes `mapstructure:"max_event_bytes"`
	// Requests of one batch at a time, 1 to 64, times in_flight in all. With ordered
	// it must be 1.
	Parallel int `mapstructure:"parallel"`
	// What a status means; the first that fits. The others mean what they usually
	// do: see the page of this sink.
	Verdicts []HTTPVerdict `mapstructure:"verdicts"`
	// What an answer must be like, beside its status, to count as delivered.
	Answer HTTPAnswer `mapstructure:"answer"`
	// none or gzip, for requests. gzip costs CPU time here and saves network.
	Compression string `mapstructure:"compression"`
	// How an https server is verified.
	TLS TLS `mapstructure:"tls"`
	// Limit of one request, 1s to 10m. After it nothing is known, and its events are
	// sent again.
	Timeout time.Duration `mapstructure:"timeout"`
}

// HTTPHeader is one header of each request.
type HTTPHeader struct {
	// Name, each once.
	Name string `mapstructure:"name" is:"needed"`
	// Value. It counts as a secret.
	Value Secret `mapstructure:"value" is:"needed"`
}

// openHeader is what headers are called that say what is sent, or for whom, and not
// who we are. Of any other that is not known: what tells one customer from the
// others at one intake is the name of a team at another.
var openHeader = regexp.MustCompile(`(?i)^(accept|content-type|x-scope-orgid|accountid|projectid|vl-.+|x-sumo-.+)$`)

// Private reports whether the value can be a secret, and so must not go over a
// network unencrypted.
func (h *HTTPHeader) Private() bool { return !openHeader.MatchString(h.Name) }

// HTTPAuth is how we log in: one of the three, or nothing.
type HTTPAuth struct {
	// Bearer token.
	Bearer Secret `mapstructure:"bearer"`
	// User; together with password.
	Username string `mapstructure:"username"`
	// Password of the user.
	Password Secret `mapstructure:"password"`
	// A bearer token that is fetched with the client credentials grant, and anew
	// before it expires or when it is refused.
	OAuth2 HTTPOAuth2 `mapstructure:"oauth2"`
}

// HTTPOAuth2 is the client credentials grant of OAuth 2.
type HTTPOAuth2 struct {
	// Where tokens are fetched: https, or http to loopback.
	TokenURL string `mapstructure:"token_url"`
	// The client's id.
	ClientID string `mapstructure:"client_id"`
	// The client's secret.
	ClientSecret Secret `mapstructure:"client_secret"`
	// The scopes to ask for.
	Scopes []string `mapstructure:"scopes"`
	// File of PEM certificates that verify the token server. Empty: the system's
	// roots.
	CAFile string `mapstructure:"ca_file" is:"file"`
}

// HTTPVerdict says what a status means.
type HTTPVerdict struct {
	// A status or a range, in quotes: "409", "500-599".
	Status string `mapstructure:"status" is:"needed"`
	// ack: delivered. retry: sent again. split: sent again in halves, down to the one
	// event, which is then rejected. reject: the event is rejected; for requests of
	// one event only. misconfigured: sent again, with an alarm that a setting is
	// wrong.
	Verdict string `mapstructure:"verdict" is:"needed"`
}

// HTTPAnswer says what an answer must be like to count as delivered.
type HTTPAnswer struct {
	// Media type it must have. Empty: any but HTML, which is a proxy's or a login
	// page's.
	Type string `mapstructure:"type"`
	// Dotted path of what tells, in a JSON answer, that something was refused: it is
	// there, and is not 0, false or empty. The request is then split until it is
	// known what. OTLP: partialSuccess.rejectedLogRecords.
	Refused string `mapstructure:"refused"`
}

// DefaultHTTP is an HTTP sink with every default.
func DefaultHTTP() HTTP {
	return HTTP{
		Method:      "POST",
		Framing:     "json_array",
		Event:       "{event}",
		MaxRecords:  1000,
		MaxBytes:    1 << 20,
		Parallel:    4,
		Compression: "none",
		Timeout:     60 * time.Second,
	}
}
