package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"interlock/internal/audit"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/db/dbtest"
	"interlock/internal/secret"
)

func open(t *testing.T, d *db.DB) *audit.Signer {
	t.Helper()
	box, err := secret.Open(t.Context(), d, make([]byte, secret.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	s, err := audit.Open(t.Context(), d, box)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func add(t *testing.T, d *db.DB, orgs ...core.ID) {
	t.Helper()
	err := d.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		for _, org := range orgs {
			if err := audit.Add(ctx, tx, org, "workspace", "ws-1", "update", map[string]any{"name": "ä\"<b>\u2028", "n": 1.5}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// run executes statements that must touch something, exec any.
func run(t *testing.T, d *db.DB, qs ...string)  { t.Helper(); runAll(t, d, true, qs) }
func exec(t *testing.T, d *db.DB, qs ...string) { t.Helper(); runAll(t, d, false, qs) }

func runAll(t *testing.T, d *db.DB, touch bool, qs []string) {
	t.Helper()
	err := d.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		for _, q := range qs {
			n, err := tx.Exec(ctx, q)
			if err != nil {
				return fmt.Errorf("%s: %w", q, err)
			}
			if touch && n == 0 && !strings.HasPrefix(q, "CREATE") {
				return errors.New(q + ": nothing touched")
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Whatever somebody does to the rows by SQL, the first row that is not what
// Interlock wrote is named.
func TestTamperingIsFound(t *testing.T) {
	const cols = `org_id, at, actor_kind, actor_id, actor_name, token_id, request_id, resource_type, resource_id, action, meta`
	cases := []struct {
		name string
		sql  []string
		want string
	}{
		{"nothing", nil, ""},
		{"content changed", []string{`UPDATE audit_event SET actor_name = 'mallory' WHERE org_id = 'org-a' AND seq = 7`}, "chain org-a, row 7 ("},
		{"time changed", []string{`UPDATE audit_event SET at = '2020-01-01 00:00:00' WHERE org_id = 'org-a' AND seq = 7`}, "chain org-a, row 7 ("},
		{"meta changed", []string{`UPDATE audit_event SET meta = '{}' WHERE org_id = 'org-a' AND seq = 7`}, "chain org-a, row 7 ("},
		{"middle deleted", []string{`DELETE FROM audit_event WHERE org_id = 'org-a' AND seq IN (8, 9)`}, "chain org-a, row 8: rows 8 to 9 are missing"},
		{"first deleted", []string{`DELETE FROM audit_event WHERE org_id = 'org-a' AND seq = 1`}, "chain org-a, row 1: row 1 is missing"},
		{"end deleted", []string{`DELETE FROM audit_event WHERE org_id = 'org-a' AND seq = 300`}, "chain org-a, row 300: row 300 is missing"},
		{"end deleted and the head taken back", []string{`DELETE FROM audit_event WHERE org_id = 'org-a' AND seq = 300`,
			`UPDATE audit_head SET seq = 299, hash = (SELECT hash FROM audit_event WHERE org_id = 'org-a' AND seq = 299) WHERE org_id = 'org-a'`}, "the signature of the head is not genuine"},
		{"cut back to a checkpoint", []string{`DELETE FROM audit_event WHERE org_id = 'org-a' AND seq > 260`, `DELETE FROM audit_head WHERE org_id = 'org-a'`,
			`INSERT INTO audit_head SELECT * FROM audit_checkpoint WHERE org_id = 'org-a' AND seq = 260`}, "the signature of the head is not genuine"},
		{"swapped places", []string{`UPDATE audit_event SET seq = 9000 WHERE org_id = 'org-a' AND seq = 4`, `UPDATE audit_event SET seq = 4 WHERE org_id = 'org-a' AND seq = 5`,
			`UPDATE audit_event SET seq = 5 WHERE org_id = 'org-a' AND seq = 9000`}, "chain org-a, row 4 ("},
		{"swapped chains", []string{`UPDATE audit_event SET org_id = 'x' WHERE org_id = 'org-a' AND seq = 2`, `UPDATE audit_event SET org_id = 'org-a' WHERE org_id = 'org-b' AND seq = 2`,
			`UPDATE audit_event SET org_id = 'org-b' WHERE org_id = 'x'`}, "chain org-a, row 2 ("},
		{"whole chains swapped", []string{`UPDATE audit_event SET org_id = 'x' WHERE org_id = 'org-a'`, `UPDATE audit_event SET org_id = 'org-a' WHERE org_id = 'org-b'`,
			`UPDATE audit_event SET org_id = 'org-b' WHERE org_id = 'x'`}, "chain org-a, row 1 ("},
		{"put in at the end", []string{`INSERT INTO audit_event (id, ` + cols + `, seq, prev, hash) SELECT 'forged', ` + cols + `, 301, prev, hash FROM audit_event WHERE org_id = 'org-a' AND seq = 300`},
			"chain org-a, row 301"},
		{"put in without a chain", []string{`INSERT INTO audit_event (id, ` + cols + `) SELECT 'forged', ` + cols + ` FROM audit_event WHERE org_id = 'org-a' AND seq = 300`}, "(forged): the row is in no chain"},
		{"put in a chain of its own", []string{`INSERT INTO audit_event (id, ` + cols + `, seq) SELECT 'forged', 'org-z', at, actor_kind, actor_id, actor_name, token_id, request_id, resource_type, resource_id, action, meta, 1
			FROM audit_event WHERE org_id = 'org-a' AND seq = 300`}, "chain org-z, row 1: there is no head"},
		{"a chain removed", []string{`DELETE FROM audit_event WHERE org_id = 'org-b'`, `DELETE FROM audit_head WHERE org_id = 'org-b'`}, "chain org-b, row 1: the whole chain is missing"},
		{"everything removed", []string{`DELETE FROM audit_event`, `DELETE FROM audit_head`, `DELETE FROM audit_checkpoint`}, "no chain of the site"},
		{"checkpoint changed", []string{`UPDATE audit_checkpoint SET hash = (SELECT hash FROM audit_event WHERE org_id = 'org-a' AND seq = 1) WHERE org_id = 'org-a'`}, "the signature of the checkpoint is not genuine"},
	}
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := open(t, d)
		for range 30 {
			add(t, d, "org-a", "org-a", "org-b", "org-a", "org-a", "org-a", "org-a", "org-a", "org-a", "org-a", "org-a")
		}
		for _, table := range []string{"event", "head", "checkpoint"} {
			run(t, d, `CREATE TABLE kept_`+table+` AS SELECT * FROM audit_`+table)
		}
		for _, c := range cases {
			run(t, d, c.sql...)
			r, err := audit.Verify(t.Context(), d, s.Keys(), nil)
			if c.want == "" && (err != nil || r.Chains != 3 || r.Rows != 300+30+3 || r.Checkpoints != 1) {
				t.Errorf("%s: got %+v, %v", c.name, r, err)
			}
			if _, ok := errors.AsType[*audit.Broken](err); c.want != "" && (!ok || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s: got %v, want %q", c.name, err, c.want)
			}
			for _, table := range []string{"event", "head", "checkpoint"} {
				exec(t, d, `DELETE FROM audit_`+table, `INSERT INTO audit_`+table+` SELECT * FROM kept_`+table)
			}
		}
	})
}

// Who rewrites a chain with all its hashes still has no key to sign it.
func TestARewrittenChainIsFound(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := open(t, d)
		for range 5 {
			add(t, d, "org-a")
		}
		if _, err := audit.Checkpoint(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		add(t, d, "org-a")
		rewrite := func() {
			es := rows(t, d, "org-a")
			prev := ""
			for i := range es {
				e := &es[i]
				if e.Seq == 3 {
					e.ActorName = "somebody else"
				}
				e.Prev = prev
				e.Hash = e.Digest()
				prev = e.Hash
				run(t, d, fmt.Sprintf(`UPDATE audit_event SET actor_name = '%s', prev = '%s', hash = '%s' WHERE id = '%s'`, e.ActorName, e.Prev, e.Hash, e.ID))
			}
			run(t, d, fmt.Sprintf(`UPDATE audit_head SET hash = '%s' WHERE org_id = 'org-a'`, prev))
		}
		before := rows(t, d, "org-a")[3]
		rewrite()
		if _, err := audit.Verify(t.Context(), d, s.Keys(), nil); err == nil || !strings.Contains(err.Error(), "one of the rows 1 to 5") {
			t.Errorf("got %v", err)
		}
		run(t, d, `DELETE FROM audit_checkpoint`)
		if _, err := audit.Verify(t.Context(), d, s.Keys(), nil); err == nil || !strings.Contains(err.Error(), "the head is not genuine") {
			t.Errorf("without checkpoints got %v", err)
		}
		kept := []audit.Point{{Chain: "org-a", Seq: before.Seq, Hash: before.Hash}}
		if _, err := audit.Verify(t.Context(), d, s.Keys(), kept); err == nil || !strings.Contains(err.Error(), "row 4") {
			t.Errorf("with a checkpoint from elsewhere got %v", err)
		}
	})
}

func rows(t *testing.T, d *db.DB, org core.ID) (es []audit.Event) {
	t.Helper()
	err := d.View(t.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		es, err = db.All(ctx, tx, audit.Scan, `SELECT `+audit.Columns+` FROM audit_event WHERE org_id = $1 ORDER BY seq`, org)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return es
}

// A chain's order is that of its commits, however many write at once, and what
// is rolled back leaves no gap.
func TestManyWritersMakeOneChain(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := open(t, d)
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := range 25 {
					orgs := []core.ID{"org-a", core.ID(fmt.Sprintf("org-%d", (w+i)%5)), ""}
					if w%2 == 0 {
						orgs[0], orgs[2] = orgs[2], orgs[0]
					}
					err := d.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
						for _, o := range orgs {
							if err := audit.Add(ctx, tx, o, "workspace", "ws", "update", nil); err != nil {
								return err
							}
						}
						if i%5 == 4 {
							return errors.New("no")
						}
						return nil
					})
					if (err != nil) != (i%5 == 4) {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		r, err := audit.Verify(t.Context(), d, s.Keys(), nil)
		if err != nil || r.Rows < 8*20*3+1+5 || r.Rows > 8*20*3+1+5*8 { // two may begin a chain at once, and each says so
			t.Errorf("got %+v, %v", r, err)
		}
	})
}

// Rows of the time before chains are taken in once, also those that a server of
// that version still writes during the upgrade; later ones are not.
func TestRowsFromBeforeAreChained(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		old := func(n int) {
			for i := range n {
				run(t, d, fmt.Sprintf(`INSERT INTO audit_event (id, org_id, at, actor_kind, actor_id, actor_name, resource_type, resource_id, action)
					VALUES ('%d-%d', 'org-%d', '2026-01-01 10:00:%02d.123456', 'user', 'u', 'ann', 'run', 'run-1', 'create')`, n, i, i%2, i%60))
			}
		}
		old(450)
		s := open(t, d)
		add(t, d, "org-1")
		old(3)
		if r, err := audit.Verify(t.Context(), d, s.Keys(), nil); err != nil || r.Rows != 450+1+1+2 || r.Loose != 3 {
			t.Errorf("got %+v, %v", r, err)
		}
		s = open(t, d)
		if r, err := audit.Verify(t.Context(), d, s.Keys(), nil); err != nil || r.Rows != 450+1+1+2+3 || r.Loose != 0 {
			t.Errorf("got %+v, %v", r, err)
		}
		run(t, d, `UPDATE audit_key SET adopt_until = '2026-01-01 00:00:00'`)
		old(2)
		s = open(t, d)
		if _, err := audit.Verify(t.Context(), d, s.Keys(), nil); err == nil || !strings.Contains(err.Error(), "in no chain (2 such)") {
			t.Errorf("got %v", err)
		}
	})
}

// An export is held against the public key alone.
func TestExportIsVerifiedByItself(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := open(t, d)
		for range 300 {
			add(t, d, "org-a")
		}
		middle := time.Now().UTC()
		time.Sleep(2 * time.Millisecond) // the time that splits them
		for range 300 {
			add(t, d, "org-a", "org-b")
		}
		export := func(sel audit.Selection) []byte {
			var out bytes.Buffer
			if _, err := audit.Export(t.Context(), d, s, sel, &out); err != nil {
				t.Fatal(err)
			}
			return out.Bytes()
		}
		all, a := export(audit.Selection{}), core.ID("org-a")
		for _, c := range []struct {
			name           string
			sel            audit.Selection
			chains, lo, hi int64
		}{
			{"all", audit.Selection{}, 3, 903, 903},
			{"one chain", audit.Selection{Chain: &a}, 1, 600, 600},
			{"since", audit.Selection{Chain: &a, Since: middle}, 1, 300, 300},
			{"until", audit.Selection{Chain: &a, Until: middle}, 1, 300, 512},
			{"none", audit.Selection{Until: time.Unix(0, 0)}, 0, 0, 0},
		} {
			r, _, err := audit.VerifyExport(bytes.NewReader(export(c.sel)), s.Public(), nil)
			if err != nil || r.Chains != c.chains || r.Rows < c.lo || r.Rows > c.hi {
				t.Errorf("%s: got %+v, %v", c.name, r, err)
			}
		}
		lines := bytes.SplitAfter(all, []byte("\n"))
		find := func(s string) int {
			for i, l := range lines {
				if bytes.Contains(l, []byte(s)) {
					return i
				}
			}
			t.Fatal("no line with " + s)
			return 0
		}
		at := find(`"organization":"org-a","seq":40,`)
		edit := func(f func(ls [][]byte) [][]byte) []byte {
			ls := make([][]byte, len(lines))
			copy(ls, lines)
			return bytes.Join(f(ls), nil)
		}
		for name, b := range map[string][]byte{
			"changed": edit(func(ls [][]byte) [][]byte {
				ls[at] = bytes.Replace(ls[at], []byte(`"update"`), []byte(`"delete"`), 1)
				return ls
			}),
			"deleted":     edit(func(ls [][]byte) [][]byte { return append(ls[:at], ls[at+1:]...) }),
			"reordered":   edit(func(ls [][]byte) [][]byte { ls[at], ls[at+1] = ls[at+1], ls[at]; return ls }),
			"doubled":     edit(func(ls [][]byte) [][]byte { ls[at+1] = append(bytes.Clone(ls[at]), ls[at+1]...); return ls }),
			"cut":         bytes.Join(lines[:at], nil),
			"without end": bytes.Join(lines[:len(lines)-2], nil),
			"without a chain": edit(func(ls [][]byte) [][]byte {
				from := find(`{"kind":"chain","organization":"org-b"`)
				return append(ls[:from:from], ls[len(ls)-2:]...)
			}),
			"not an export": []byte("hello\n"),
			"empty":         nil,
		} {
			_, _, err := audit.VerifyExport(bytes.NewReader(b), s.Public(), nil)
			if _, ok := errors.AsType[*audit.Broken](err); !ok {
				t.Errorf("%s: got %v", name, err)
			}
			if (name == "changed" || name == "deleted") && !strings.Contains(fmt.Sprint(err), "row 40") {
				t.Errorf("%s: got %v", name, err)
			}
		}
		other := make([]byte, 32)
		if _, _, err := audit.VerifyExport(bytes.NewReader(all), other, nil); err == nil {
			t.Error("an export of another key was accepted")
		}
	})
}
