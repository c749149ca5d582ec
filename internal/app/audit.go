package app

import (
	"context"
	"crypto/ed25519"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"interlock/internal/audit"
	"interlock/internal/core"
	"interlock/internal/db"
)

const auditUsage = `usage: interlock audit verify|export|key [FLAGS]

  verify   hold the audit trail against its chains and signatures; says OK with
           counts, or the first row that is not what was written (status 1)
  export   write the trail as JSON lines with its checkpoints
  key      print the public key, by which others verify an export

verify and export work beside running servers and without any. An export is
verified with verify --file FILE --public-key KEY, with nothing else at hand.`

// AuditCommand is `interlock audit`.
func AuditCommand(ctx context.Context, args []string, out io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "verify":
			return auditVerify(ctx, args[1:], out)
		case "export":
			return auditExport(ctx, args[1:], out)
		case "key":
			return auditKey(ctx, args[1:], out)
		case "help", "--help", "-h":
			fmt.Fprintln(out, auditUsage)
			return UsageError{}
		}
	}
	return UsageError{auditUsage}
}

// points collects --checkpoint, which may be given several times.
type points []audit.Point

func (p *points) add(v string) error {
	x, err := audit.ParsePoint(v)
	*p = append(*p, x)
	return err
}

func auditVerify(ctx context.Context, args []string, out io.Writer) error {
	var file, public string
	var kept points
	c, rest, err := ParseConfig("audit verify", args, os.Getenv, out, func(fs *flag.FlagSet) {
		fs.StringVar(&file, "file", "", "verify this export instead of the database")
		fs.StringVar(&public, "public-key", "", "the key to trust, as interlock audit key prints it, or a file of it; the database is then opened without the encryption key")
		fs.Func("checkpoint", "CHAIN:SEQ:HASH that was kept elsewhere, as from the server's log; may be given several times", kept.add)
	})
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return UsageError{fmt.Sprintf("audit verify takes no argument %q; an export is named with --file", rest[0])}
	}
	var key ed25519.PublicKey
	if public != "" {
		text := public
		if b, err := os.ReadFile(public); err == nil {
			text = string(b)
		}
		if key, err = audit.ParsePublicKey(text); err != nil {
			return UsageError{fmt.Sprintf("setting --public-key: %q is not possible; %v", public, err)}
		}
	}
	var rep audit.Report
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("the export cannot be read: %w", err)
		}
		defer f.Close()
		var keys audit.Keys
		rep, keys, err = audit.VerifyExport(f, key, kept)
		if err != nil {
			return sayBroken(err)
		}
		if key == nil {
			for _, k := range keys {
				fmt.Fprintf(out, "NOTE: no --public-key was given, so the file was held against the key that it names itself, %s; compare that with interlock audit key\n", audit.PublicKey(k))
			}
		}
	} else {
		d, keys, err := auditKeys(ctx, c, key)
		if err != nil {
			return err
		}
		defer d.Close()
		if rep, err = audit.Verify(ctx, d, keys, kept); err != nil {
			return sayBroken(err)
		}
	}
	fmt.Fprintf(out, "OK: %d chains, %d rows, %d checkpoints\n", rep.Chains, rep.Rows, rep.Checkpoints)
	if rep.Loose > 0 {
		fmt.Fprintf(out, "NOTE: %d rows of servers of the version before wait to be chained\n", rep.Loose)
	}
	return nil
}

func sayBroken(err error) error {
	if b, ok := errors.AsType[*audit.Broken](err); ok {
		return fmt.Errorf("the audit trail is BROKEN: %w", b)
	}
	return err
}

// auditKeys opens the database and finds the key that its signatures must have:
// the one that was given, or the one that lies sealed under the encryption key.
// What the database says in clear is not trusted.
func auditKeys(ctx context.Context, c *Config, public ed25519.PublicKey) (*db.DB, audit.Keys, error) {
	if public == nil {
		d, box, err := openForCommand(ctx, c)
		if err != nil {
			return nil, nil, err
		}
		s, err := audit.Load(ctx, d, box)
		if err != nil {
			d.Close()
			return nil, nil, fmt.Errorf("the audit trail is BROKEN: its key cannot be used: %w", err)
		}
		return d, s.Keys(), nil
	}
	if path, ok := strings.CutPrefix(c.Database, "sqlite:"); ok {
		if _, err := os.Stat(path); err != nil {
			return nil, nil, fmt.Errorf("there is no database at %s; has the server been started?", path)
		}
	}
	d, err := db.Open(ctx, c.Database)
	if err != nil {
		return nil, nil, fmt.Errorf("%q cannot be opened: %s", hideSecret("database", c.Database), oneLine(err))
	}
	stored, err := audit.StoredKeys(ctx, d)
	keys := audit.Keys{}
	for id, k := range stored {
		if k.Equal(public) {
			keys[id] = k
		}
	}
	if err == nil && len(keys) == 0 {
		err = errors.New("the audit trail is BROKEN: it is signed with another key than the one that was given")
	}
	if err != nil {
		d.Close()
		return nil, nil, err
	}
	return d, keys, nil
}

func auditExport(ctx context.Context, args []string, out io.Writer) error {
	var org, since, until, to string
	c, rest, err := ParseConfig("audit export", args, os.Getenv, out, func(fs *flag.FlagSet) {
		fs.StringVar(&org, "organization", "", "name or id of the only organization to export, or site (default: everything)")
		fs.StringVar(&since, "since", "", "leave out what was before this time, as 2026-01-31T12:00:00Z")
		fs.StringVar(&until, "until", "", "leave out what was at this time or later")
		fs.StringVar(&to, "out", "", "file to write (default: standard output)")
	})
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return UsageError{fmt.Sprintf("audit export takes no argument %q", rest[0])}
	}
	var sel audit.Selection
	for _, t := range []struct {
		name, v string
		at      *time.Time
	}{{"since", since, &sel.Since}, {"until", until, &sel.Until}} {
		if t.v != "" {
			if *t.at, err = time.Parse(time.RFC3339, t.v); err != nil {
				return UsageError{fmt.Sprintf("setting --%s: %q is not possible; allowed: a time such as 2026-01-31T12:00:00Z", t.name, t.v)}
			}
		}
	}
	d, box, err := openForCommand(ctx, c)
	if err != nil {
		return err
	}
	defer d.Close()
	s, err := audit.Load(ctx, d, box)
	if core.KindOf(err) == core.NotFound {
		return errors.New("there is no audit trail yet; start the server once")
	}
	if err != nil {
		return err
	}
	if org != "" {
		chain, err := chainOf(ctx, d, org)
		if err != nil {
			return err
		}
		sel.Chain = &chain
	}
	w := out
	var f *os.File
	if to != "" {
		if f, err = os.CreateTemp(filepath.Dir(to), ".audit-*"); err != nil {
			return fmt.Errorf("the export cannot be written: %w", err)
		}
		defer os.Remove(f.Name())
		w = f
	}
	rep, err := audit.Export(ctx, d, s, sel, w)
	if f != nil {
		// Whole or not at all.
		if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
			err = os.Rename(f.Name(), to)
		}
	}
	if err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	fmt.Fprintf(os.Stderr, "%d chains, %d rows, %d checkpoints; verify with --public-key %s\n", rep.Chains, rep.Rows, rep.Checkpoints, audit.PublicKey(s.Public()))
	return nil
}

// chainOf finds the chain of an organization, which may be gone.
func chainOf(ctx context.Context, d *db.DB, org string) (core.ID, error) {
	if org == "site" {
		return "", nil
	}
	var ids []core.ID
	err := d.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		ids, err = db.All(ctx, tx, db.ID, `SELECT id FROM organization WHERE lower(name) = lower($1) OR id = $1`, org)
		if err == nil && len(ids) == 0 {
			ids, err = db.All(ctx, tx, db.ID, `SELECT org_id FROM audit_head WHERE org_id = $1`, org)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	if len(ids) == 0 {
		return "", fmt.Errorf("there is no organization %q; one that was deleted is named by its id", org)
	}
	return ids[0], nil
}

func auditKey(ctx context.Context, args []string, out io.Writer) error {
	c, rest, err := ParseConfig("audit key", args, os.Getenv, out, nil)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return UsageError{fmt.Sprintf("audit key takes no argument %q", rest[0])}
	}
	d, box, err := openForCommand(ctx, c)
	if err != nil {
		return err
	}
	defer d.Close()
	s, err := audit.Load(ctx, d, box)
	if err != nil {
		return fmt.Errorf("the key that signs the audit trail cannot be had: %w", err)
	}
	fmt.Fprintln(out, audit.PublicKey(s.Public()))
	return nil
}
