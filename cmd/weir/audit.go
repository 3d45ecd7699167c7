package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"syscall"
	"time"

	"weir/config"
)

// auditLog keeps account of what weir changes in the systems around it: who did
// what to what, and how it ended. It is opened before the change, so that none is
// made that could not be written down.
type auditLog struct {
	handler slog.Handler
	file    *os.File // nil: there is only standard error
	config  string
	who     string
	host    string
}

// openAudit writes to errs and, if the configuration names one, to the audit
// file. path is that of the configuration, "" for none.
//
// Errors: the audit file cannot be opened, or is none.
func openAudit(c config.Log, path string, errs io.Writer) (*auditLog, error) {
	a := &auditLog{config: path, who: whoami()}
	if abs, err := filepath.Abs(path); err == nil && path != "" {
		a.config = abs
	}
	a.host, _ = os.Hostname()
	// Whatever the level: an audit trail with gaps is none.
	always := config.Log{Level: "debug", Format: c.Format}
	a.handler = newLog(always, errs).Handler()
	if c.AuditFile == "" {
		return a, nil
	}
	// No link is followed and nothing is waited for, as with a pipe in its place.
	f, err := os.OpenFile(c.AuditFile, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log.audit_file: %w", err)
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		_ = f.Close()
		return nil, fmt.Errorf("log.audit_file: %q is not a regular file", c.AuditFile)
	}
	a.file = f
	a.handler = slog.NewMultiHandler(a.handler, newLog(always, f).Handler())
	return a, nil
}

// action is what is kept account of: what changes a state that others rely on, or
// uses the key that they believe. docs/security.md lists them all.
type action int

const (
	installTemplate action = iota
	makeTopic
	redriveLetters
	rehydrate
	cancelCase
	sealCase
	makeKey
	actions // how many there are
)

func (a action) String() string {
	return [actions]string{
		installTemplate: "install index template",
		makeTopic:       "make topic",
		redriveLetters:  "redrive dead letters",
		rehydrate:       "rehydrate",
		cancelCase:      "remove the group of a case",
		sealCase:        "seal a case",
		makeKey:         "make a signing key",
	}[a]
}

// change is an action that has begun.
type change struct {
	log    *auditLog
	action action
	target string
}

// begin notes that an action on target, its name, begins. Nothing of it may be done
// before.
//
// Errors: the line could not be written down for good. Nothing may be done then.
func (a *auditLog) begin(what action, target string) (*change, error) {
	return &change{a, what, target}, a.line("begin to "+what.String(), target, nil)
}

// end notes how it ended, with failure, nil for success. how is said beside the
// target.
//
// Errors: failure; the line could not be written down for good.
func (c *change) end(how string, failure error) error {
	return errors.Join(failure, c.log.note(c.action, c.target+how, failure))
}

// note writes one line about an action on target, its name, that ended with
// failure, nil for success.
//
// Errors: the line could not be written down for good.
func (a *auditLog) note(what action, target string, failure error) error {
	return a.line(what.String(), target, failure)
}

func (a *auditLog) line(action, target string, failure error) error {
	level, result := slog.LevelInfo, "done"
	if failure != nil {
		level, result = slog.LevelError, "failed: "+failure.Error()
	}
	line := slog.NewRecord(time.Now(), level, "audit", 0)
	line.AddAttrs(slog.String("action", action), slog.String("target", target), slog.String("result", result))
	line.AddAttrs(slog.String("who", a.who), slog.String("host", a.host), slog.String("config", a.config))
	err := a.handler.Handle(context.Background(), line)
	if a.file != nil {
		err = errors.Join(err, a.file.Sync())
	}
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

func (a *auditLog) close() {
	if a.file != nil {
		_ = a.file.Close()
	}
}

// whoami is the user that the operating system knows us as. The number is
// always in it: without an entry in the user database the name is what the
// environment says.
func whoami() string {
	uid := os.Getuid()
	if u, err := user.Current(); err == nil && u.Username != "" {
		return fmt.Sprintf("%s (uid %d)", u.Username, uid)
	}
	return fmt.Sprintf("uid %d", uid)
}
