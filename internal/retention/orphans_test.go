package retention_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/blob"
	"interlock/internal/bus"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/db/dbtest"
	"interlock/internal/retention"
	"interlock/internal/secret"
	"interlock/internal/workspace"
)

func TestOnlyOldObjectsThatNothingNamesAreRemoved(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		box, err := secret.Open(t.Context(), d, make([]byte, secret.KeySize))
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		s, err := blob.Open(t.Context(), "file:"+dir, box)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		acc, bs := &account.Service{DB: d, Box: box}, bus.New()
		ws := &workspace.Service{DB: d, Bus: bs, DefaultEngine: func(string) string { return "terraform" }, Changed: func(core.ID) {}}
		acc.OrgCreated = append(acc.OrgCreated, workspace.AddDefaultProject)
		if err := acc.EnsureAdmin(t.Context(), account.NewUser{Username: "owner", Password: "long enough"}, ""); err != nil {
			t.Fatal(err)
		}
		u, err := acc.UserByName(t.Context(), "owner")
		if err != nil {
			t.Fatal(err)
		}
		owner := authz.With(t.Context(), core.Subject{Kind: core.UserKind, ID: u.ID, Name: "owner"})
		w, err := ws.Create(owner, "owner", "", workspace.Workspace{Name: "w"})
		if err != nil {
			t.Fatal(err)
		}
		err = d.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			if _, err := tx.Exec(ctx, `INSERT INTO config_version (id, workspace_id, number, status, source, auto_queue_runs, created_at, object) VALUES ('cv-1', $1, 1, 'uploaded', 'test', false, $2, 'configurations/named.x')`, w.ID, tx.Now()); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `INSERT INTO run (id, workspace_id, org_id, number, config_id, status, position, engine, engine_version, frozen, created_at)
				VALUES ('run-alive', $1, $2, 1, 'cv-1', 'planned', 1, 'terraform', '1', $4, $3)`, w.ID, w.OrgID, tx.Now(), []byte{})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for name, age := range map[string]time.Duration{
			"configurations/named.x": 99 * time.Hour, "plans/run-alive.1": 99 * time.Hour, "plans/run-gone.1": 99 * time.Hour, "tests/nobody.x": 25 * time.Hour, "tests/young.x": 23 * time.Hour,
			"logs/apply-gone": 48 * time.Hour, "elsewhere/x": 999 * time.Hour,
		} {
			if _, err := s.Put(t.Context(), name, strings.NewReader("x")); err != nil {
				t.Fatal(err)
			}
			at := time.Now().Add(-age)
			if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
				t.Fatal(err)
			}
		}
		n, err := (&retention.Service{DB: d, Blobs: s}).Orphans(t.Context())
		if err != nil || n != 3 {
			t.Errorf("removed %d, %v; want 3", n, err)
		}
		for name, want := range map[string]bool{"configurations/named.x": true, "plans/run-alive.1": true, "plans/run-gone.1": false, "tests/nobody.x": false, "tests/young.x": true, "logs/apply-gone": false, "elsewhere/x": true} {
			if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
				t.Errorf("%s: there is %v, want %v", name, err == nil, want)
			}
		}
	})
}

// A column that names objects and is not on the list would lose them.
func TestEveryColumnThatNamesObjectsIsLookedAt(t *testing.T) {
	have := map[string]bool{}
	for _, c := range retention.Columns {
		have[c[0]+"."+c[1]] = true
	}
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		q := `SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND (c.name = 'object' OR c.name LIKE '%\_object' ESCAPE '\')`
		if d.Kind() == "postgres" {
			q = `SELECT table_name::text, column_name::text FROM information_schema.columns WHERE table_schema = 'public' AND (column_name = 'object' OR column_name LIKE '%\_object')`
		}
		err := d.View(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			cols, err := db.All(ctx, tx, func(r db.Row) (c [2]string, err error) { return c, r.Scan(&c[0], &c[1]) }, q)
			if len(cols) < len(have) {
				t.Errorf("%d columns name objects, %d are on the list", len(cols), len(have))
			}
			for _, c := range cols {
				if !have[c[0]+"."+c[1]] {
					t.Errorf("%s.%s names objects and is not on the list", c[0], c[1])
				}
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}
