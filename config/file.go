package config

import "time"

// File is the file sink.
type File struct {
	// Folder to write to; made when only it is missing. One weir process, and one
	// connector of it, has it at a time.
	Dir string `mapstructure:"dir" is:"file"`
	// Folders below dir, with slashes between them. They may hold {topic},
	// {partition}, {time:2006-01-02} (the record's timestamp in UTC, in Go's layout,
	// so that a record sent twice meets its own folder) and {field.path} of the event.
	// What is not fit for a name is written as % and two digits: no record can leave
	// dir. When it is changed, what is sent again right then can be stored twice.
	// Empty: all files in dir.
	Path string `mapstructure:"path"`
	// zstd, gzip or none.
	Compression string `mapstructure:"compression"`
	// A file is finished when it has this size on the disk, 1MiB to 64GiB.
	RotateBytes Bytes `mapstructure:"rotate_bytes"`
	// A file is finished when it is this old, 1m to 168h. Until then its name ends in
	// .open.
	RotateAfter time.Duration `mapstructure:"rotate_after"`
}

// DefaultFile is a File sink with every default.
func DefaultFile() File {
	return File{Path: "{topic}/{time:2006-01-02}", Compression: "zstd", RotateBytes: 128 << 20, RotateAfter: time.Hour}
}
