// Package moduletest runs the tests that come with modules of the private
// registry: what is behind `terraform test -cloud-run`. A person uploads a
// configuration, queues a test of it, and reads its log; a worker of the
// server runs the engine in the same sandbox as runs. Tests make real
// resources and get the module's own variables, so all of it is for those who
// manage modules.
package moduletest

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"interlock/internal/account"
	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/blob"
	"interlock/internal/bus"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/executor"
	"interlock/internal/jsonapi"
	"interlock/internal/secret"
	"interlock/internal/web"
)

// Service is what the API calls.
type Service struct {
	DB     *db.DB
	Blobs  *blob.Store
	Box    *secret.Box
	Bus    *bus.Bus
	Signer *web.Signer
}

// The statuses of a test. A queued one is waiting for a worker.
const (
	Queued   = "queued"
	Running  = "running"
	Finished = "finished"
	Errored  = "errored"
	Canceled = "canceled"
)

// Options are what a person asks of a test. Values are HCL literals.
type Options struct {
	Filters     []string          `json:"filters,omitempty"`
	Directory   string            `json:"directory,omitempty"`
	Verbose     bool              `json:"verbose,omitempty"`
	Parallelism int               `json:"parallelism,omitempty"`
	Variables   map[string]string `json:"variables,omitempty"`
}

// A Test is one run of a module's tests.
type Test struct {
	ID, OrgID, ModuleID, ConfigID    core.ID
	Status                           string
	Outcome                          string // pass, fail, error, skip or pending
	Passed, Failed, Errored, Skipped int64
	Reason                           string // why it is errored, where the log does not say
	Cancel                           string // "", asked or forced
	LogSize                          int64
	Epoch                            int64
	CreatedAt                        time.Time
	StartedAt, EndedAt, ForceAt      *time.Time
}

// Ended reports whether nothing more will happen.
func (t Test) Ended() bool { return t.Status != Queued && t.Status != Running }

const columns = `t.id, t.org_id, t.module_id, t.config_id, t.status, t.outcome, t.passed, t.failed, t.errored, t.skipped, t.reason, t.cancel, t.log_size, t.epoch, t.created_at, t.started_at, t.ended_at, t.force_at`

func scan(r db.Row) (t Test, err error) {
	return t, r.Scan(&t.ID, &t.OrgID, &t.ModuleID, &t.ConfigID, &t.Status, &t.Outcome, &t.Passed, &t.Failed, &t.Errored, &t.Skipped, &t.Reason, &t.Cancel, &t.LogSize, &t.Epoch, &t.CreatedAt, &t.StartedAt, &t.EndedAt, &t.ForceAt)
}

func optionsPlace(id core.ID) string { return "module_test/options/" + string(id) }

// topic is where news of tests are told; dispatch, that one is waiting.
func topic(id core.ID) string { return "module-test/" + string(id) }

const dispatch = "module-test"

// An Address names a module as the registry does.
type Address struct{ Org, Registry, Namespace, Name, Provider string }

// module finds a private module whose organization lets the subject of ctx
// manage modules. What may not be managed does not exist.
func module(ctx context.Context, tx *db.Tx, a Address) (org account.Org, id core.ID, err error) {
	if org, err = account.FindOrg(ctx, tx, a.Org); err != nil {
		return org, "", err
	}
	have, err := authz.OrgRights(ctx, tx, org.ID)
	if err != nil {
		return org, "", err
	}
	if authz.Subject(ctx).Kind == core.RunKind || !have.Has(core.ReadOrg|core.ManageModules) || a.Registry != "private" || !strings.EqualFold(a.Namespace, org.Name) {
		return org, "", authz.ErrHidden()
	}
	id, err = db.One(ctx, tx, db.ID, `SELECT id FROM registry_module WHERE org_id = $1 AND registry = 'private' AND name_key = $2 AND provider = $3`, org.ID, strings.ToLower(a.Name), a.Provider)
	return org, id, err
}

// NewConfig makes the place for a configuration that is to be tested.
func (s *Service) NewConfig(ctx context.Context, a Address) (id core.ID, err error) {
	id = core.NewID("cv")
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		org, m, err := module(ctx, tx, a)
		if err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, `INSERT INTO module_test_config (id, module_id, created_at) VALUES ($1, $2, $3)`, id, m, tx.Now()); err != nil {
			return err
		}
		return audit.Add(ctx, tx, org.ID, "configuration_version", id, "create", map[string]any{"module": m})
	})
	return id, err
}

// Create queues a test of an uploaded configuration.
func (s *Service) Create(ctx context.Context, a Address, config core.ID, o Options) (t Test, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		org, m, err := module(ctx, tx, a)
		if err != nil {
			return err
		}
		if config == "" {
			return core.Errorf(core.Invalid, "can't be blank").InField("configuration-version")
		}
		if err := o.check(); err != nil {
			return err
		}
		object, err := db.One(ctx, tx, text, `SELECT object FROM module_test_config WHERE id = $1 AND module_id = $2`, config, m)
		if err != nil {
			return err
		}
		if object == "" {
			return core.Errorf(core.Invalid, "has not been uploaded yet").InField("configuration-version")
		}
		t = Test{ID: core.NewID("trun"), OrgID: org.ID, ModuleID: m, ConfigID: config, Status: Queued, Outcome: "pending", CreatedAt: tx.Now()}
		doc, err := json.Marshal(o)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO module_test (id, org_id, module_id, config_id, status, options, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			t.ID, t.OrgID, t.ModuleID, t.ConfigID, t.Status, s.Box.Seal(optionsPlace(t.ID), doc), t.CreatedAt)
		if err != nil {
			return err
		}
		return audit.Add(ctx, tx, org.ID, "test-run", t.ID, "create", map[string]any{"module": a.Name + "/" + a.Provider})
	})
	if err == nil {
		s.Bus.Publish(dispatch)
	}
	return t, err
}

func (o *Options) check() error {
	spec := executor.TestSpec{Filters: o.Filters, Directory: o.Directory}
	if err := spec.Check(); err != nil {
		return err
	}
	if o.Parallelism < 0 || o.Parallelism > 256 {
		return core.Errorf(core.Invalid, "must be between 1 and 256").InField("parallelism")
	}
	if len(o.Filters) > 1000 || len(o.Variables) > 1000 {
		return core.Errorf(core.Invalid, "a test takes at most 1000 filters and 1000 variables")
	}
	for k, v := range o.Variables {
		lit, err := executor.Literal(v)
		if err != nil {
			return core.Wrap(err, core.Invalid, "the value of "+k+" is not a valid HCL value: "+core.Message(err)).InField("variables")
		}
		o.Variables[k] = lit
	}
	return nil
}

func text(r db.Row) (v string, err error) { return v, r.Scan(&v) }

// Get returns a test of a module. One that is queued is answered only when it
// no longer is, or after wait: the CLI asks again at once.
func (s *Service) Get(ctx context.Context, a Address, id core.ID, wait time.Duration) (t Test, err error) {
	news, stop := s.Bus.Listen(topic(id))
	defer stop()
	over := time.NewTimer(wait)
	defer over.Stop()
	for {
		err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
			t, err = s.get(ctx, tx, a, id)
			return err
		})
		if err != nil || t.Status != Queued {
			return t, err
		}
		select {
		case <-news:
		case <-over.C:
			return t, nil
		case <-ctx.Done():
			return t, nil
		}
	}
}

func (s *Service) get(ctx context.Context, tx *db.Tx, a Address, id core.ID) (Test, error) {
	_, m, err := module(ctx, tx, a)
	if err != nil {
		return Test{}, err
	}
	return db.One(ctx, tx, scan, `SELECT `+columns+` FROM module_test t WHERE t.id = $1 AND t.module_id = $2`, id, m)
}

// List returns a page of the tests of a module, the newest first.
func (s *Service) List(ctx context.Context, a Address, p jsonapi.Page) (ts []Test, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, m, err := module(ctx, tx, a)
		if err != nil {
			return err
		}
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM module_test WHERE module_id = $1`, m); err != nil {
			return err
		}
		ts, err = db.All(ctx, tx, scan, `SELECT `+columns+` FROM module_test t WHERE t.module_id = $1 ORDER BY t.created_at DESC, t.id LIMIT $2 OFFSET $3`, m, p.Size, p.Offset())
		return err
	})
	return ts, total, err
}

// Cancel asks the engine of a test to stop and to destroy what it has made;
// with force it is killed, and what it has made stays.
func (s *Service) Cancel(ctx context.Context, a Address, id core.ID, force bool) error {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		t, err := s.get(ctx, tx, a, id)
		if err != nil {
			return err
		}
		how := "asked"
		switch {
		case t.Ended():
			return core.Errorf(core.Conflict, "the test is over: it is %s", t.Status)
		case t.Status == Queued:
			_, err = tx.Exec(ctx, `UPDATE module_test SET status = $2, cancel = $3, ended_at = $4 WHERE id = $1`, id, Canceled, how, tx.Now())
		case force && t.Cancel == "":
			return core.Errorf(core.Conflict, "cancel the test before you force it: the engine then destroys what its tests have made")
		case force:
			how = "forced"
			_, err = tx.Exec(ctx, `UPDATE module_test SET cancel = $2, force_at = $3 WHERE id = $1`, id, how, tx.Now())
		default:
			_, err = tx.Exec(ctx, `UPDATE module_test SET cancel = $2 WHERE id = $1 AND cancel = ''`, id, how)
		}
		if err != nil {
			return err
		}
		return audit.Add(ctx, tx, t.OrgID, "test-run", id, "cancel", map[string]any{"force": force})
	})
	if err == nil {
		s.Bus.Publish(topic(id))
	}
	return err
}
