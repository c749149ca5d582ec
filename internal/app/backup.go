package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"interlock/internal/account"
	"interlock/internal/backup"
	"interlock/internal/blob"
	"interlock/internal/bus"
	"interlock/internal/db"
	"interlock/internal/drift"
	"interlock/internal/moduletest"
	"interlock/internal/retention"
	"interlock/internal/run"
	"interlock/internal/runtrigger"
	"interlock/internal/schedule"
	"interlock/internal/secret"
	"interlock/internal/vcs"
)

// fileCommand reads what the commands on a backup have in common: FILE, which
// may stand before or after the flags, and the passphrase.
func fileCommand(command string, args []string, out io.Writer, more func(*flag.FlagSet)) (c *Config, file, passphrase string, err error) {
	var from string
	flags := func(fs *flag.FlagSet) {
		fs.StringVar(&from, "passphrase-file", "", "file whose first line is the passphrase of the backup [INTERLOCK_BACKUP_PASSPHRASE is the passphrase itself]")
		if more != nil {
			more(fs)
		}
	}
	if c, file, err = oneFile(command, args, out, flags); err != nil {
		return nil, "", "", err
	}
	passphrase = os.Getenv("INTERLOCK_BACKUP_PASSPHRASE")
	if from != "" {
		b, err := os.ReadFile(from)
		if err != nil {
			return nil, "", "", UsageError{fmt.Sprintf("setting --passphrase-file: %q cannot be read; %v", from, errors.Unwrap(err))}
		}
		passphrase, _, _ = strings.Cut(string(b), "\n")
		passphrase = strings.TrimSuffix(passphrase, "\r")
	}
	if passphrase == "" {
		return nil, "", "", UsageError{"there is no passphrase for the backup; put one into INTERLOCK_BACKUP_PASSPHRASE, or into a file that --passphrase-file names"}
	}
	return c, file, passphrase, nil
}

// oneFile reads the settings of a command on a file, which may stand before,
// after or between the flags.
func oneFile(command string, args []string, out io.Writer, flags func(*flag.FlagSet)) (c *Config, file string, err error) {
	var files []string
	for {
		var rest []string
		if c, rest, err = ParseConfig(command+" FILE", args, os.Getenv, out, flags); err != nil {
			return nil, "", err
		}
		if len(rest) == 0 {
			break
		}
		files = append(files, rest[0])
		args = append(append([]string{}, args[:len(args)-len(rest)]...), rest[1:]...)
	}
	slog.SetDefault(slog.New(slog.DiscardHandler))
	if len(files) != 1 || files[0] == "" {
		return nil, "", UsageError{fmt.Sprintf("usage: interlock %s FILE [FLAGS]; %d files were named", command, len(files))}
	}
	return c, files[0], nil
}

func sayTo(out io.Writer) func(string) {
	return func(s string) { fmt.Fprintf(out, "%s  %s\n", time.Now().UTC().Format("15:04:05"), s) }
}

// BackupCommand is `interlock backup FILE`.
func BackupCommand(ctx context.Context, args []string, version string, out io.Writer) error {
	c, file, passphrase, err := fileCommand("backup", args, out, nil)
	if err != nil {
		return err
	}
	key, err := keyForCommand(c)
	if err != nil {
		return err
	}
	// The schema stays as it is: a server of another version may be at work.
	d, err := db.OpenAsIs(ctx, c.Database)
	if err != nil {
		return fmt.Errorf("setting database: %q cannot be opened: %s", hideSecret("database", c.Database), oneLine(err))
	}
	defer d.Close()
	err = d.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		list, err := tx.Migrations(ctx)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return fmt.Errorf("setting database: %q is empty; has the server been started?", hideSecret("database", c.Database))
		}
		if u := db.Unknown(list); len(u) > 0 {
			return fmt.Errorf("the database belongs to a newer Interlock (%s is unknown to this one); make the backup with that version", u[0])
		}
		return nil
	})
	if err != nil {
		return err
	}
	box, err := secret.Load(ctx, d, key)
	if err != nil {
		return err
	}
	if err := stillRotating(ctx, d, key); err != nil {
		return err
	}
	blobs, err := blob.Open(ctx, c.ObjectStore, box)
	if err != nil {
		return fmt.Errorf("setting object-store: %q cannot be opened: %w", blob.RedactAddress(c.ObjectStore), err)
	}
	defer blobs.Close()
	sum, err := backup.Write(ctx, backup.Source{DB: d, Blobs: blobs, Key: key, Columns: retention.Columns, Version: version, Say: sayTo(out)}, file, passphrase)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s holds %s; %d bytes\n", file, sum, sum.File)
	return nil
}

// VerifyCommand is `interlock verify FILE`.
func VerifyCommand(ctx context.Context, args []string, out io.Writer) error {
	_, file, passphrase, err := fileCommand("verify", args, out, nil)
	if err != nil {
		return err
	}
	sum, err := backup.Verify(ctx, file, passphrase)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s is good: %s; %d bytes\n", file, sum, sum.File)
	return nil
}

// RestoreCommand is `interlock restore FILE`: it makes the installation of a
// backup in a data directory, a database and an object store that are empty.
func RestoreCommand(ctx context.Context, args []string, out io.Writer) (err error) {
	restart := false
	c, file, passphrase, err := fileCommand("restore", args, out, func(fs *flag.FlagSet) {
		fs.BoolVar(&restart, "restart", false, "remove what a restore that was cut off has left, and begin again")
	})
	if err != nil {
		return err
	}
	half, err := placeIsEmpty(ctx, c, restart)
	if err != nil {
		return err
	}
	var lock *os.File
	defer func() {
		if lock != nil {
			_ = lock.Close()
		}
	}()
	runs := 0
	mark := filepath.Join(c.DataDir, restoreMark)
	t := backup.Target{
		Database: c.Database, ObjectStore: c.ObjectStore, Restart: half, Say: sayTo(out),
		Begin: func(was []byte) ([]byte, error) {
			if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
				return nil, err
			}
			if lock, err = lockDir(c.DataDir); err != nil {
				return nil, err
			}
			if err := writeMark(mark, file); err != nil {
				return nil, err
			}
			return keyForRestore(c, was)
		},
		Finish: func(ctx context.Context, d *db.DB, blobs *blob.Store, box *secret.Box) (err error) {
			runs, err = endWhatWas(ctx, d, blobs, box)
			return err
		},
		Done: func() error { return errors.Join(os.Remove(mark), syncDir(c.DataDir)) },
	}
	sum, err := backup.Restore(ctx, t, file, passphrase)
	if err != nil {
		return errors.New(oneLine(err))
	}
	fmt.Fprintf(out, "restored %s\n", sum)
	fmt.Fprintf(out, "%d runs that had not ended are errored (restored); people sign in again; tokens go on to work\n", runs)
	fmt.Fprintf(out, "start the server with --data-dir=%s --database=%s --object-store=%s\n", c.DataDir, hideSecret("database", c.Database), blob.RedactAddress(c.ObjectStore))
	return nil
}

// placeIsEmpty refuses a place with anything in it but a key. half tells that
// there is an unfinished restore, which may be begun again.
func placeIsEmpty(ctx context.Context, c *Config, restart bool) (half bool, err error) {
	merr := notHalfRestored(c)
	derr := db.Check(ctx, c.Database, false)
	half = merr != nil || errors.Is(derr, db.ErrHalfRestored)
	if half {
		if !restart {
			return true, fmt.Errorf("setting data-dir: %q: %w", c.DataDir, db.ErrHalfRestored)
		}
		return true, nil
	}
	if derr != nil {
		return false, fmt.Errorf("setting database: %q: %s", hideSecret("database", c.Database), oneLine(derr))
	}
	es, err := os.ReadDir(c.DataDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, UsageError{fmt.Sprintf("setting data-dir: %q is not possible; %v", c.DataDir, errors.Unwrap(err))}
	}
	for _, e := range es {
		if n := e.Name(); n != "encryption.key" && n != "lost+found" {
			return false, fmt.Errorf("setting data-dir: %q is not empty (it has %s); restore into an empty place", c.DataDir, n)
		}
	}
	return false, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func writeMark(mark, file string) error {
	f, err := os.OpenFile(mark, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "restore of %s, begun at %s\n", file, time.Now().UTC().Format(time.RFC3339))
	return errors.Join(err, f.Sync(), f.Close(), syncDir(filepath.Dir(mark)))
}

func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("setting data-dir: %q is in use by another interlock process", dir)
	}
	return f, nil
}

// keyForRestore is the key that is set, or that of the data directory; without
// either the backup's own is put there.
func keyForRestore(c *Config, was []byte) ([]byte, error) {
	file := filepath.Join(c.DataDir, "encryption.key")
	key, err := secret.LoadKey(c.EncryptionKey, file)
	if errors.Is(err, secret.ErrNoKey) {
		return was, secret.WriteKey(file, was)
	}
	if err != nil {
		return nil, fmt.Errorf("setting encryption-key: the value cannot be used; %w", err)
	}
	return key, nil
}

// endWhatWas ends what the backup holds unfinished, so that nothing goes on by
// itself, and what gave access for a while only.
func endWhatWas(ctx context.Context, d *db.DB, blobs *blob.Store, box *secret.Box) (runs int, err error) {
	accounts := &account.Service{DB: d, Box: box}
	rs := &run.Service{DB: d, Blobs: blobs, Box: box, Bus: bus.New(), Accounts: accounts}
	if runs, err = rs.Restored(ctx); err != nil {
		return runs, err
	}
	for _, f := range []func(context.Context, *db.Tx) error{account.Restored, runtrigger.Restored, moduletest.Restored, vcs.Restored, schedule.Restored, drift.Restored} {
		if err := d.Do(ctx, f); err != nil {
			return runs, err
		}
	}
	return runs, nil
}
