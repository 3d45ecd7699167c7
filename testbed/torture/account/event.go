package account

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"strings"
)

// bad marks an event that the backend refuses by its content, for good.
var bad = []byte(`"kind":"bad"`)

// badEvery is how many events there are to one that is refused by its content.
const badEvery = 41

var filler = strings.Repeat("the quick brown fox jumps over the lazy dog. ", 4000)

// Value is the value of event n of a round. It follows from its number, so that
// the account need not keep it to know whether it arrived as it was sent.
func Value(round string, n int64) []byte {
	kind := "ok"
	if n%badEvery == 0 {
		kind = "bad"
	}
	size := 120 + int(n*7919%500)
	if n%5000 == 0 {
		size = 100_000
	}
	text := filler[n%40:][:size]
	return fmt.Appendf(nil, `{"n":%d,"round":%q,"kind":"%s","crc":%d,"text":"%s"}`, n, round, kind, crc32.ChecksumIEEE([]byte(text)), text)
}

// Rejected reports whether the backend refuses an event for its content.
func Rejected(event []byte) bool { return bytes.Contains(event, bad) }
