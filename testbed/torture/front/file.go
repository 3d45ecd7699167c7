package front

import "weir/testbed/torture/account"

// File is the archive on disk. It has no front: the judge reads the folders.
var File = Protocol{
	Name:  "file",
	Grade: "A",
	Rules: account.Rules{Folders: true},
	Sink: func(t Target) map[string]any {
		section := map[string]any{"dir": t.Dir, "rotate_bytes": "1MiB", "rotate_after": "1m"}
		if t.Gzip {
			section["compression"] = "gzip"
		}
		return map[string]any{"file": section}
	},
}
