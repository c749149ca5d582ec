package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"interlock/internal/audit"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/fault"
	"interlock/internal/secret"
)

const keyUsage = `usage: interlock key rotate [--new-key KEY_OR_FILE] [--finish | --abort] [FLAGS]

Wraps the data keys, by which everything is encrypted, by a new encryption key,
while servers work. Repeat a command that was interrupted; it goes on.

Where the key is in the data directory's own file, one command does it all:
  interlock key rotate --data-dir DIR

Where servers get it by --encryption-key, both keys open the database between
two commands:
  interlock key rotate --encryption-key OLD --new-key NEW   NEW may be a file that
                                                            is to be made
  (restart each server with --encryption-key NEW, one after the other)
  interlock key rotate --encryption-key NEW --finish        OLD opens nothing any more

--abort, with the old key, gives a rotation up that was not finished.`

// KeyCommand is `interlock key`.
func KeyCommand(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 || args[0] != "rotate" {
		if len(args) > 0 && (args[0] == "help" || args[0] == "--help" || args[0] == "-h") {
			fmt.Fprintln(out, keyUsage)
			return UsageError{}
		}
		return UsageError{keyUsage}
	}
	var next string
	var finish, abort bool
	c, rest, err := ParseConfig("key rotate", args[1:], os.Getenv, out, func(fs *flag.FlagSet) {
		fs.StringVar(&next, "new-key", "", "the key to change to, or a file of it, which is made if it is not there; needed where --encryption-key is set")
		fs.BoolVar(&finish, "finish", false, "drop what the old key opens; --encryption-key is the new one")
		fs.BoolVar(&abort, "abort", false, "give a rotation up; --encryption-key is the old key")
	})
	if err != nil {
		return err
	}
	switch {
	case len(rest) > 0:
		return UsageError{fmt.Sprintf("key rotate takes no argument %q", rest[0])}
	case finish && abort, next != "" && (finish || abort):
		return UsageError{"--new-key, --finish and --abort exclude each other"}
	case c.EncryptionKey != "" && next == "" && !finish && !abort:
		return UsageError{"setting --new-key: \"\" is not possible where --encryption-key is set; allowed: a key, or a file of it, which is made if it is not there"}
	}
	key, err := keyForCommand(c)
	if err != nil {
		return err
	}
	// Two of these at once would make two keys of which one is lost.
	f, err := os.OpenFile(filepath.Join(c.DataDir, "key.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return UsageError{fmt.Sprintf("setting data-dir: %q is not writable; %v", c.DataDir, errors.Unwrap(err))}
	}
	defer f.Close()
	// A program that was just started by this process may hold the last one's
	// lock for a moment, until it has begun.
	for end := time.Now().Add(2 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("another interlock key command is at work on %s", c.DataDir)
	}
	d, err := db.Open(ctx, c.Database)
	if err != nil {
		return fmt.Errorf("%q cannot be opened: %s", hideSecret("database", c.Database), oneLine(err))
	}
	defer d.Close()
	box, err := secret.Load(ctx, d, key)
	if err != nil {
		return err
	}
	if _, err := audit.Open(ctx, d, box); err != nil {
		return err
	}
	r := rotation{d, c, out}
	switch {
	case abort:
		if err := secret.Abort(ctx, d, key, keyNote("rotation-aborted")); err != nil {
			return err
		}
		fmt.Fprintln(out, "No rotation is under way. The key that you gave is the one that opens the database.")
		return nil
	case finish:
		return r.finish(ctx, key)
	case next != "":
		return r.begin(ctx, key, next)
	}
	return r.file(ctx, key)
}

// keyNote adds a step of a rotation to the site's trail.
func keyNote(action string) secret.Note {
	return func(ctx context.Context, tx *db.Tx, keys int) error {
		return audit.Add(ctx, tx, "", "encryption-key", "", action, map[string]any{"data_keys": keys})
	}
}

type rotation struct {
	d   *db.DB
	c   *Config
	out io.Writer
}

func (r rotation) finish(ctx context.Context, key []byte) error {
	if err := secret.Finish(ctx, r.d, key, keyNote("rotation-finished")); err != nil {
		return err
	}
	fmt.Fprintln(r.out, "The rotation is finished: the key before opens nothing any more. Make a backup; older ones bring their own key along.")
	return nil
}

// begin changes to a key that the operator names, which is made where it names
// a file that is not there.
func (r rotation) begin(ctx context.Context, key []byte, setting string) error {
	next, err := secret.LoadKey(setting, "")
	if _, missing := os.Stat(setting); err != nil && errors.Is(missing, os.ErrNotExist) && filepath.IsAbs(setting) {
		next, err = secret.MakeKey(setting)
	}
	if err != nil {
		return UsageError{fmt.Sprintf("setting --new-key: the value cannot be used; %v (a file that is to be made is named by its whole path)", err)}
	}
	fault.Point("keys", core.ID("made"))
	if err := secret.Begin(ctx, r.d, key, next, keyNote("rotation-begun")); err != nil {
		return err
	}
	fault.Point("keys", core.ID("begun"))
	fmt.Fprintln(r.out, "Both keys open the database now. Restart each server with --encryption-key set to the new key, one after the other; then run")
	fmt.Fprintln(r.out, "  interlock key rotate --encryption-key NEW --finish")
	return nil
}

// file changes the key in the data directory's own file, from beginning to end.
// The new one waits beside it, in a file that outlives a crash: it is in use, or
// will be, once the data keys are wrapped by it. The old one is overwritten only
// when the new one opens all of them.
func (r rotation) file(ctx context.Context, key []byte) error {
	file := filepath.Join(r.c.DataDir, "encryption.key")
	waits := file + ".next"
	s, err := secret.Stand(ctx, r.d, key)
	if err != nil {
		return err
	}
	if s.New {
		return r.finish(ctx, key) // the file was changed already
	}
	next, err := secret.LoadKey("", waits)
	if errors.Is(err, secret.ErrNoKey) {
		next, err = secret.MakeKey(waits)
	}
	if err != nil {
		return fmt.Errorf("the new key in %s cannot be used: %w", waits, err)
	}
	fault.Point("keys", core.ID("made"))
	if err := secret.Begin(ctx, r.d, key, next, keyNote("rotation-begun")); err != nil {
		return err
	}
	fault.Point("keys", core.ID("begun"))
	if err := secret.MoveKey(waits, file); err != nil {
		return err
	}
	fault.Point("keys", core.ID("moved"))
	if err := r.finish(ctx, next); err != nil {
		return err
	}
	fault.Point("keys", core.ID("finished"))
	return nil
}

// stillRotating refuses a backup by the new key of a rotation that is not
// finished: the backup holds what the old one wrapped.
func stillRotating(ctx context.Context, d *db.DB, key []byte) error {
	s, err := secret.Stand(ctx, d, key)
	if err == nil && s.New && !s.Old {
		err = errors.New("a rotation of the encryption key is under way; finish it (interlock key rotate --finish), or make this backup with the old key")
	}
	return err
}
