package app

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"interlock/internal/admin"
	"interlock/internal/blob"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/executor"
	"interlock/internal/secret"
)

// examine makes the doctor's checks from within, for the page of the site's
// administrators: what stands open is asked, nothing is opened anew.
func (s *Server) examine(ctx context.Context) (out []admin.Check) {
	say := func(ok bool, what, detail string) {
		out = append(out, admin.Check{Good: ok, Bad: !ok, What: what, Detail: detail})
	}
	warn := func(what, detail string) { out = append(out, admin.Check{What: what, Detail: detail}) }
	checkDisk(s.cfg.DataDir, say)
	if err := s.db.Ping(ctx); err != nil {
		say(false, "database", err.Error())
	} else {
		say(true, "database", s.db.Kind()+" answers, and its schema was made current at the start")
	}
	if err := s.blobs.Probe(ctx); err != nil {
		say(false, "object-store", err.Error())
	} else {
		say(true, "object-store", blob.RedactAddress(s.cfg.ObjectStore)+" takes, gives and deletes an object")
	}
	checkUsers(ctx, s.db, warn)
	if sb := s.exec.Sandbox(); sb.Name() == "none" {
		warn("sandbox", sb.Note()+" Install bubblewrap.")
	} else {
		say(true, "sandbox", sb.Name()+": "+sb.Note())
	}
	if s.cfg.Runners > 0 {
		_, why := s.exec.Guarded()
		checkNetwork(s.cfg.RunNetwork, why, say, warn)
	}
	checkEngines(ctx, s.catalog, say, warn)
	return out
}

// checkNetwork says what runs reach; why is what keeps a guard from working.
func checkNetwork(network string, why error, say func(bool, string, string), warn func(string, string)) {
	switch {
	case network != networkGuarded:
		say(true, "run-network", network+", as it was set")
	case why != nil:
		warn("run-network", "not guarded here, so runs reach "+refusedToServer+": "+why.Error())
	default:
		say(true, "run-network", "guarded: runs do not reach "+refusedToServer)
	}
}

func checkEngines(ctx context.Context, catalog *executor.Catalog, say func(bool, string, string), warn func(string, string)) {
	if err := catalog.CheckPath(ctx); err != nil {
		say(false, "engine-path", core.Message(err))
	}
	es := catalog.Installed(ctx)
	for _, e := range es {
		say(true, "engine", e.Product+" "+e.Version+" at "+e.Path)
	}
	if len(es) == 0 {
		say(false, "engine", "no terraform or tofu found; put one on PATH, name it with --engine-path, or run `make engine`")
	}
	if _, err := exec.LookPath("git"); err != nil {
		warn("git", "not found; modules from git cannot be fetched")
	}
}

// lowDisk is the free space in bytes under which the doctor complains.
const lowDisk = 1 << 30

func checkDisk(dir string, say func(bool, string, string)) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		say(false, "data-dir", dir+": "+err.Error())
		return
	}
	free := int64(st.Bavail) * st.Bsize
	say(free > lowDisk, "data-dir", fmt.Sprintf("%s has %d MiB free", dir, free>>20))
	if fi, err := os.Stat(filepath.Join(dir, "encryption.key")); err == nil && fi.Mode().Perm()&0o077 != 0 {
		say(false, "key file", "others can read encryption.key; run chmod 600 on it")
	}
}

func checkBlobs(ctx context.Context, c *Config, box *secret.Box, say func(bool, string, string)) {
	s, err := blob.Open(ctx, c.ObjectStore, box)
	if err == nil {
		defer s.Close()
		err = s.Probe(ctx)
	}
	if err != nil {
		say(false, "object-store", err.Error())
		return
	}
	say(true, "object-store", blob.RedactAddress(c.ObjectStore)+" takes, gives and deletes an object")
}

func checkUsers(ctx context.Context, d *db.DB, warn func(string, string)) {
	_ = d.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM app_user WHERE site_admin AND suspended = false`)
		if err == nil && n == 0 {
			warn("users", "there is no administrator yet; the server prints a setup link at its start")
		}
		return err
	})
}
