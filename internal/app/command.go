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
	"time"

	"interlock/internal/account"
	"interlock/internal/audit"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/executor"
	"interlock/internal/secret"
)

// ServerCommand is `interlock server`.
func ServerCommand(ctx context.Context, args []string, version string, out io.Writer) error {
	c, rest, err := ParseConfig("server", args, os.Getenv, out, nil)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return UsageError{fmt.Sprintf("server takes no argument %q", rest[0])}
	}
	slog.SetDefault(c.logger(os.Stderr))
	roomy(ctx)
	return Run(ctx, c, func(s *Server) {
		fmt.Fprintf(out, "Interlock %s is ready at %s\n", version, s.URL)
		if s.CAFile != "" {
			fmt.Fprintf(out, "Its certificate is signed by %s; give clients SSL_CERT_FILE=%s\n", s.CAFile, s.CAFile)
		}
		if s.Setup != "" {
			fmt.Fprintf(out, "There is no user yet. Open this link once to make the administrator:\n  %s\n", s.Setup)
		}
	})
}

// TokenCommand is `interlock token create`: a way in for the operator, who
// holds the database and its key.
func TokenCommand(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 || args[0] != "create" {
		return UsageError{"usage: interlock token create --user NAME [--description TEXT] [--expires DURATION]"}
	}
	var user, description string
	var expires time.Duration
	c, rest, err := ParseConfig("token create", args[1:], os.Getenv, out, func(fs *flag.FlagSet) {
		fs.StringVar(&user, "user", "", "name of the user that the token speaks for")
		fs.StringVar(&description, "description", "made by the operator", "what the token is for")
		fs.DurationVar(&expires, "expires", 0, "how long it works, as 720h; 0: until it is revoked")
	})
	if err != nil {
		return err
	}
	switch {
	case len(rest) > 0:
		return UsageError{fmt.Sprintf("token create takes no argument %q", rest[0])}
	case user == "":
		return UsageError{"setting --user: \"\" is not possible; allowed: the name of a user"}
	case expires < 0:
		return UsageError{fmt.Sprintf("setting --expires: %q is not possible; allowed: a duration such as 720h, or 0", expires)}
	}
	d, box, err := openForCommand(ctx, c)
	if err != nil {
		return err
	}
	defer d.Close()
	if _, err := audit.Open(ctx, d, box); err != nil {
		return err
	}
	acc := &account.Service{DB: d, Box: box}
	u, err := acc.UserByName(ctx, user)
	if core.KindOf(err) == core.NotFound {
		return fmt.Errorf("there is no user %q", user)
	}
	if err != nil {
		return err
	}
	var at *time.Time
	if expires > 0 {
		t := time.Now().UTC().Add(expires)
		at = &t
	}
	t, err := acc.IssueUserToken(ctx, u.ID, description, at)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, t.Secret.Reveal())
	return nil
}

func openForCommand(ctx context.Context, c *Config) (*db.DB, *secret.Box, error) {
	key, err := keyForCommand(c)
	if err != nil {
		return nil, nil, err
	}
	d, err := db.Open(ctx, c.Database)
	if err != nil {
		return nil, nil, fmt.Errorf("%q cannot be opened: %s", hideSecret("database", c.Database), oneLine(err))
	}
	box, err := secret.Load(ctx, d, key)
	if err != nil {
		d.Close()
		return nil, nil, err
	}
	return d, box, nil
}

// keyForCommand finds the key of a deployment that is there.
func keyForCommand(c *Config) ([]byte, error) {
	if err := notHalfRestored(c); err != nil {
		return nil, err
	}
	if path, ok := strings.CutPrefix(c.Database, "sqlite:"); ok {
		if _, err := os.Stat(path); err != nil { // opening it would make one
			return nil, fmt.Errorf("there is no database at %s; has the server been started, and is --data-dir the server's?", path)
		}
	}
	file := filepath.Join(c.DataDir, "encryption.key")
	key, err := secret.LoadKey(c.EncryptionKey, file)
	if errors.Is(err, secret.ErrNoKey) {
		return nil, fmt.Errorf("the key file %s is missing; put it back, or name the key with --encryption-key (is --data-dir the server's?)", file)
	}
	if err != nil {
		return nil, fmt.Errorf("setting encryption-key: the value cannot be used; %w", err)
	}
	return key, nil
}

// restoreMark is the file that a data directory has while a restore is not done.
const restoreMark = "restore-not-finished"

// notHalfRestored refuses a data directory that a restore has not finished.
func notHalfRestored(c *Config) error {
	if _, err := os.Stat(filepath.Join(c.DataDir, restoreMark)); err != nil {
		return nil
	}
	return fmt.Errorf("setting data-dir: %q: %w", c.DataDir, db.ErrHalfRestored)
}

// DoctorCommand is `interlock doctor`: it looks at everything a server needs
// and says what is wrong and what to do. It changes nothing but a probe object.
func DoctorCommand(ctx context.Context, args []string, out io.Writer) error {
	c, rest, err := ParseConfig("doctor", args, os.Getenv, out, nil)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return UsageError{fmt.Sprintf("doctor takes no argument %q", rest[0])}
	}
	slog.SetDefault(slog.New(slog.DiscardHandler))
	bad := 0
	say := func(ok bool, what, detail string) {
		word := "ok   "
		if !ok {
			word = "WRONG"
			bad++
		}
		fmt.Fprintf(out, "%s  %-14s %s\n", word, what, detail)
	}
	warn := func(what, detail string) { fmt.Fprintf(out, "note   %-14s %s\n", what, detail) }

	checkDisk(c.DataDir, say)
	d, box, err := openForCommand(ctx, c)
	if err != nil {
		say(false, "database", err.Error())
	} else {
		defer d.Close()
		say(true, "database", d.Kind()+" answers, the schema is current and the encryption key fits")
		if key, err := keyForCommand(c); err == nil {
			if s, err := secret.Stand(ctx, d, key); err == nil && s.UnderWay {
				warn("encryption key", "a rotation is under way: two keys open the database; finish it with interlock key rotate --finish")
			}
		}
		checkBlobs(ctx, c, box, say)
		checkUsers(ctx, d, warn)
	}
	self, _ := os.Executable()
	if sb, err := executor.DetectSandbox(c.Sandbox, self); err != nil {
		say(false, "sandbox", core.Message(err))
	} else if sb.Name() == "none" {
		warn("sandbox", sb.Note()+" Install bubblewrap.")
	} else {
		say(true, "sandbox", sb.Name()+": "+sb.Note())
		if c.Runners > 0 {
			checkNetwork(c.RunNetwork, sb.TryGuard(""), say, warn)
		}
	}
	checkEngines(ctx, executor.NewCatalog(executor.CatalogConfig{DataDir: c.DataDir, EnginePath: c.EnginePath, Mirror: c.EngineMirror}), say, warn)
	if bad > 0 {
		return fmt.Errorf("%d of the checks failed", bad)
	}
	return nil
}
