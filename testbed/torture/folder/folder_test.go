package folder

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const (
	prefix = "edr.events-115bcd2e6d8017df-p3-"
	head   = `{"topic":"edr.events","topic_id":"Jb3KpkzXQ7qFbOQ1Cq9wMA","cluster":"c","partition":3,"offset":`
)

// line is the line of an event with that number and offset.
func line(offset int) string { return fmt.Sprintf(`%s%d,"event":{"n":%d}}`+"\n", head, offset, offset) }

// put writes a file below dir.
func put(t *testing.T, dir, name string, content []byte) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// read is the offsets in dir, sorted, and what was wrong.
func read(dir string) (offsets []int64, faults []string) {
	for r, err := range Read(dir) {
		if err != nil {
			faults = append(faults, err.Error())
			continue
		}
		offsets = append(offsets, r.Offset)
	}
	slices.Sort(offsets)
	return offsets, faults
}

// offsets checks that dir holds these, and that there is nothing wrong with it.
func offsets(t *testing.T, dir string, want ...int64) {
	t.Helper()
	if got, faults := read(dir); !slices.Equal(got, want) || len(faults) > 0 {
		t.Errorf("read %v, want %v; wrong: %q", got, want, faults)
	}
}

func zipped(lines string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(lines))
	_ = z.Close()
	return b.Bytes()
}

// What the command zstd makes of two events at the offsets 7 and 9, and of a value of
// 300,000 times the letter a at the offset 8.
const (
	zstdTwo  = "28b52ffd04588d0300c246181d508d3306acd1285cdbbbb9ecfeb24a338e18885e9666121f38aaaa5dd5c99c81269953d1dd93be62f465328ade6ad1dd6bdb362ee0eab51ed94a4763ad161c208d34501cc443901827116140c3f214d6a1a650cb75ecc1001162ebabc1b74f010400200bae63dcb8423b109b62cfe3a853"
	zstdLong = "28b52ffd045844030052c6161d608b3306a83593eeef32d635e95efc7312d54d88095be3c00002005017ea5c25474de3205f8d9aa68d49fe34b66c9f72e3ebfce94692b3c60b8a0701320494c57280040a03e2708964419c33ac8147fbe8a480c7e8f962aeed9102008fe43f2e4788cd26020010616500002061227d0a010046141d08012f3e65b2"
)

func unhex(t *testing.T, texts ...string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(texts, ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, ".weir.lock", nil)
	put(t, dir, prefix+"0000000000000000007-0000000000000000009.ndjson.zst", unhex(t, zstdTwo, zstdLong))
	put(t, dir, "edr/2026/"+prefix+"0000000000000000010-0000000000000000012.ndjson.gz", slices.Concat(zipped(line(12)), zipped(line(10)+line(11))))
	put(t, dir, "edr/"+prefix+"0000000000000000013-0000000000000000014.ndjson", []byte(line(13)+line(14)))
	put(t, dir, "edr/"+prefix+"0000000000000000015.ndjson.gz.open", zipped(line(15)))
	put(t, dir, "edr/"+prefix+"0000000000000000015.ndjson.gz.open-123.torn", zipped(line(16)))
	offsets(t, dir, 7, 8, 9, 10, 11, 12, 13, 14, 15)
}

func TestTornEndIsOfAFileThatIsWrittenTo(t *testing.T) {
	for extension, frames := range map[string][]byte{
		".ndjson":     []byte(line(7) + line(9)),
		".ndjson.gz":  slices.Concat(zipped(line(7)), zipped(line(9))),
		".ndjson.zst": unhex(t, zstdTwo, zstdLong),
	} {
		for _, cut := range []int{1, 3, 5, 40} {
			torn := frames[:len(frames)-cut]
			open, finished := t.TempDir(), t.TempDir()
			put(t, open, prefix+"0000000000000000007.ndjson"+strings.TrimPrefix(extension, ".ndjson")+".open", torn)
			put(t, finished, prefix+"0000000000000000007-0000000000000000009"+extension, torn)
			want := []int64{7}
			if extension == ".ndjson.zst" {
				want = []int64{7, 9}
			}
			offsets(t, open, want...)
			if _, faults := read(finished); len(faults) != 1 || !strings.Contains(faults[0], "the frame at byte") {
				t.Errorf("%s without %d bytes: %q", extension, cut, faults)
			}
		}
		// What a power loss leaves.
		zeros := t.TempDir()
		put(t, zeros, prefix+"0000000000000000007"+extension+".open", append(bytes.Clone(frames), 0, 0, 0, 0, 0, '\n'))
		if got, faults := read(zeros); len(got) < 2 || len(faults) > 0 {
			t.Errorf("%s with zeros behind it: %v %q", extension, got, faults)
		}
		damaged := bytes.Clone(frames)
		damaged[len(frames)-6] ^= 1
		dir := t.TempDir()
		put(t, dir, prefix+"0000000000000000007-0000000000000000009"+extension, damaged)
		if _, faults := read(dir); len(faults) == 0 && extension != ".ndjson" {
			t.Errorf("%s: a bit is another one, and nobody says so", extension)
		}
	}
}

func TestWhatAFileMustNotHold(t *testing.T) {
	f := func(name, lines, want string) {
		t.Helper()
		dir := t.TempDir()
		put(t, dir, name, []byte(lines))
		if _, faults := read(dir); len(faults) != 1 || !strings.Contains(faults[0], want) {
			t.Errorf("%s: %q, want %q", name, faults, want)
		}
	}
	const seven = prefix + "0000000000000000007-0000000000000000007.ndjson"
	f("notes.txt", "", "not the name of a file")
	f(prefix+"7-7.ndjson", line(7), "not the name of a file")
	f(prefix+"0000000000000000007.ndjson", line(7), "not the name of a file")
	f(seven+".open", line(7), "not the name of a file")
	f("edr.events-115bcd2e6d8017df-p99999999999-0000000000000000007-0000000000000000007.ndjson", line(7), "out of range")
	f(prefix+"0000000000000000007-0000000000000000008.ndjson", line(7), "it holds the offsets 7 to 7")
	f(prefix+"0000000000000000006-0000000000000000007.ndjson", line(7), "it holds the offsets 7 to 7")
	f(seven, "", "it holds the offsets 1 to 0")
	f(strings.Replace(seven, "-p3-", "-p4-", 1), line(7), "does not belong into the file")
	f(strings.Replace(seven, "df-p3", "de-p3", 1), line(7), "does not belong into the file")
	f(seven, line(7)+`{"topic":1}`+"\n", "topic: ")
}

// The name of a file says the topic's id; of a topic without one the cluster and the
// topic.
func TestTopicWithoutAnID(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "t-9ec4fc936c71f631-p0-0000000000000000001-0000000000000000001.ndjson", []byte(`{"topic":"t","topic_id":"","cluster":"c","partition":0,"offset":1}`+"\n"))
	offsets(t, dir, 1)
}

// Each name is listed while the file has it, and read once.
func TestFileIsReadOnceUnderTwoNames(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, prefix+"0000000000000000007.ndjson.open", []byte(line(7)))
	var got []int64
	for r, err := range Read(dir) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r.Offset)
		err := os.Rename(filepath.Join(dir, prefix+"0000000000000000007.ndjson.open"), filepath.Join(dir, prefix+"0000000000000000007-0000000000000000007.ndjson"))
		if err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(got, []int64{7}) {
		t.Errorf("read %v", got)
	}
}

func TestReaderMayStop(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, prefix+"0000000000000000007-0000000000000000008.ndjson", []byte(line(7)+line(8)))
	for r, err := range Read(dir) {
		if err != nil || r.Offset != 7 {
			t.Errorf("read %v, %v", r, err)
		}
		break
	}
	for _, err := range Read(filepath.Join(dir, "missing")) {
		if err == nil {
			t.Error("a folder that is not there is read")
		}
		break
	}
}

func TestLines(t *testing.T) {
	one := int64(-1)
	long := strings.Repeat("a", 300_000)
	for text, want := range map[string]Record{
		`7,"timestamp":-1,"timestamp_type":"LogAppendTime","key":"","event":{"a": "<\u003c>","a":1.0e+4}}`: {
			Timestamp: &one, Appended: true, Key: []byte{}, Value: []byte(`{"a": "<\u003c>","a":1.0e+4}`)},
		`7}`:                                {},
		`7,"value":""}`:                     {Value: []byte{}},
		`7,"value":"a\n\u0000\"\\\u2028日"}`: {Value: []byte("a\n\x00\"\\\u2028日")},
		`7,"key_base64":"/wA=","value_base64":"/w=="}`: {Key: []byte{0xff, 0}, Value: []byte{0xff}},
		`7,"headers":[{"key":"k","value":"v"},{"key":"k"},{"key_base64":"/w==","value":""}]}`: {
			Headers: []Header{{[]byte("k"), []byte("v")}, {[]byte("k"), nil}, {[]byte{0xff}, []byte{}}}},
		`7,"value":"` + long + `"}`: {Value: []byte(long)},
	} {
		r, err := parseLine([]byte(head + text + "\n"))
		if err != nil {
			t.Errorf("%.200s: %v", text, err)
			continue
		}
		want.Topic, want.TopicID, want.Cluster, want.Partition, want.Offset = "edr.events", "Jb3KpkzXQ7qFbOQ1Cq9wMA", "c", 3, 7
		if !reflect.DeepEqual(*r, want) {
			t.Errorf("%.200s: read %+v, want %+v", text, r, want)
		}
	}
}

func TestLinesThatAreNone(t *testing.T) {
	for _, text := range []string{
		"", "\n", "7\n", head + "7}", head + "7} \n", head + "7}\n}\n", head + "7}{}\n", head + "7,}\n", head + "\"7\"}\n", head + "7.5}\n", head + "99999999999999999999}\n",
		head + "7,\"more\":1}\n", head + "7,\"event\":1}\n", head + "7,\"event\":null}\n", head + "7,\"key\":null}\n", head + "7,\"key\":\"a\",\"key\":\"a\"}\n",
		head + "7,\"key\":\"a\",\"key_base64\":\"/w==\"}\n", head + "7,\"event\":{},\"value\":\"\"}\n", head + "7,\"value_base64\":\"YQ==\"}\n", head + "7,\"value_base64\":\"/w\"}\n",
		head + "7,\"value_base64\":\"_w==\"}\n", head + "7,\"value\":\"\xff\"}\n", head + "7,\"timestamp_type\":\"CreateTime\"}\n", head + "7,\"timestamp\":null}\n",
		head + "7,\"headers\":{}}\n", head + "7,\"headers\":[1]}\n", head + "7,\"headers\":[{}]}\n", head + "7,\"headers\":[{\"key\":\"a\",\"b\":1}]}\n", head + "7,\"headers\":[{\"key\":\"a\"}\n",
		`{"topic":"t","topic_id":"","cluster":"c","offset":1,"partition":0}` + "\n",
		`{"topic":"t","topic_id":"","partition":0,"offset":1}` + "\n",
		`{"topic":"t"}` + "\n",
	} {
		if r, err := parseLine([]byte(text)); err == nil {
			t.Errorf("%q is read as %+v", text, r)
		}
	}
}

func TestZstdFramesOfEachKindOfHeader(t *testing.T) {
	// Made by hand: a frame whose length is known, of one byte, many times, and the one
	// of each size of the fields in front of it.
	block := "030000" + "61" // the last one, 0 times a
	for _, head := range []string{"2400", "640000", "a400000000", "e40000000000000000", "0458", "44580000", "84" + "58" + "00000000", "c4" + "58" + "0000000000000000", "055801", "06580101", "075801010101"} {
		frame := unhex(t, "28b52ffd", head, block, "99e9d851")
		if size, err := zstdSize(append(bytes.Clone(frame), 1, 2, 3)); err != nil || size != len(frame) {
			t.Errorf("%s: %d bytes of %d, %v", head, size, len(frame), err)
		}
		for n := range frame {
			if _, err := zstdSize(frame[:n]); err == nil {
				t.Errorf("%s: whole with %d bytes", head, n)
			}
		}
	}
	if _, err := zstdSize(unhex(t, "28b52ffd", "2000", block)); err == nil {
		t.Error("a frame without a checksum")
	}
}
