package config

import (
	"regexp"
	"strings"
	"time"
)

func (c *checker) file(path string, s *File) {
	problem := foldersProblem(s.Path)
	c.rules(path,
		rule{"dir", s.Dir == "", "is needed"},
		rule{"path", problem != "", problem},
		rule{"rotate_bytes", s.RotateBytes < 1<<20 || s.RotateBytes > 64<<30, "must be 1MiB to 64GiB"},
		rule{"rotate_after", s.RotateAfter < time.Minute || s.RotateAfter > 7*24*time.Hour, "must be 1m to 168h"},
	)
	c.oneOf(path+".compression", s.Compression, "zstd", "gzip", "none")
}

var folderName = regexp.MustCompile(`^[a-zA-Z0-9_=+@,-][a-zA-Z0-9._=+@,-]{0,119}$`)

// foldersProblem says what is wrong with the path of an archive, "" when nothing
// is.
func foldersProblem(path string) string {
	if path == "" {
		return ""
	}
	if strings.Count(path, "/") >= 16 {
		return "has more than 16 folders"
	}
	for folder := range strings.SplitSeq(path, "/") {
		problem := templateProblem(folder)
		sample := placeholder.ReplaceAllString(folder, "0")
		switch {
		case strings.Count(folder, "{") != strings.Count(folder, "}"):
			return "has a { or } without the other; no / may stand between them: write {time:2006}/{time:01}"
		case problem != "":
			return problem
		case folder == "" || folder == "." || folder == "..":
			return "must be folders with / between them, relative to dir"
		case sample == folder && !folderName.MatchString(sample):
			return "has a folder that is none: 1 to 120 of a-z A-Z 0-9 . _ - = + @ , and no dot first"
		}
	}
	return ""
}

// templateProblem says what is wrong with a text that placeholders stand in, ""
// when nothing is.
func templateProblem(template string) string {
	problem := ""
	rest := placeholder.ReplaceAllStringFunc(template, func(p string) string {
		p = p[1 : len(p)-1]
		if layout, ok := strings.CutPrefix(p, "time:"); ok {
			if time.Date(2001, 9, 19, 17, 38, 49, 123456789, time.UTC).Format(layout) == layout {
				problem = "has a {time:LAYOUT} without a time in it: write for example {time:2006-01-02}"
			}
		} else if p == "time" || !fieldPath.MatchString(p) {
			problem = "has an unknown placeholder: there are {topic}, {partition}, {time:2006-01-02} and {field.path}"
		}
		return ""
	})
	if problem == "" && strings.ContainsAny(rest, "{}") {
		problem = "has a { or } without the other"
	}
	return problem
}
