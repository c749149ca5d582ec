// Package planexport packs plans up as mock data, so that policies can be
// written and tried against them elsewhere. What is sensitive in a plan is not
// in its export.
package planexport

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/blob"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jobs"
	"interlock/internal/jsonapi"
	"interlock/internal/run"
	"interlock/internal/web"
)

// MockBundle is the one kind of export there is.
const MockBundle = "sentinel-mock-bundle-v0"

// The statuses of an export.
const (
	queued   = "queued"
	finished = "finished"
	errored  = "errored"
	expired  = "expired"
)

// lifetime is how long an export can be downloaded.
const lifetime = time.Hour

// An Export is a plan packed up.
type Export struct {
	ID        core.ID
	PlanID    core.ID
	DataType  string
	Status    string
	Error     string
	Object    string
	Size      int64
	CreatedBy core.ID
	CreatedAt time.Time
	EndedAt   *time.Time
	ExpiredAt *time.Time
}

// Service is what the API and the jobs call.
type Service struct {
	DB    *db.DB
	Blobs *blob.Store
	Runs  *run.Service
	Queue *jobs.Queue
}

const columns = `e.id, e.plan_id, e.data_type, e.status, e.error, e.object, e.size, e.created_by, e.created_at, e.ended_at, e.expired_at`

func scan(r db.Row) (e Export, err error) {
	return e, r.Scan(&e.ID, &e.PlanID, &e.DataType, &e.Status, &e.Error, &e.Object, &e.Size, &e.CreatedBy, &e.CreatedAt, &e.EndedAt, &e.ExpiredAt)
}

// may checks that the subject of ctx may export plans of the workspace that a
// plan belongs to.
func may(ctx context.Context, tx *db.Tx, plan core.ID) error {
	ws, err := db.One(ctx, tx, db.ID, `SELECT r.workspace_id FROM run r JOIN phase p ON p.run_id = r.id WHERE p.id = $1 AND p.kind = 'plan'`, plan)
	if err != nil {
		return err
	}
	return authz.Workspace(ctx, tx, ws, core.ReadRuns|core.ReadMocks)
}

func load(ctx context.Context, tx *db.Tx, id core.ID) (e Export, err error) {
	if e, err = db.One(ctx, tx, scan, `SELECT `+columns+` FROM plan_export e WHERE e.id = $1`, id); err != nil {
		return e, err
	}
	if over := e.EndedAt != nil && tx.Now().Sub(*e.EndedAt) > lifetime; over && e.Status == finished {
		at := e.EndedAt.Add(lifetime)
		e.Status, e.ExpiredAt = expired, &at // the sweep is on its way
	}
	return e, nil
}

// Create asks for an export. A plan has one at a time.
func (s *Service) Create(ctx context.Context, plan core.ID, dataType string) (e Export, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := may(ctx, tx, plan); err != nil {
			return err
		}
		if dataType != MockBundle {
			return core.Errorf(core.Invalid, "is not included in the list: %s", MockBundle).InField("data-type")
		}
		done, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM phase p JOIN run r ON r.id = p.run_id WHERE p.id = $1 AND p.status = 'finished' AND r.plan_object <> ''`, plan)
		if err != nil {
			return err
		}
		if done == 0 {
			return core.Errorf(core.Invalid, "the plan has not finished; it cannot be exported").InField("plan")
		}
		open, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM plan_export WHERE plan_id = $1 AND (status = 'queued' OR status = 'finished' AND ended_at > $2)`, plan, tx.Now().Add(-lifetime))
		if err != nil {
			return err
		}
		if open > 0 {
			return core.Errorf(core.Invalid, "an export of this plan is being made or can be downloaded already").InField("plan")
		}
		e = Export{ID: core.NewID("pe"), PlanID: plan, DataType: dataType, Status: queued, CreatedBy: authz.Subject(ctx).User(), CreatedAt: tx.Now()}
		_, err = tx.Exec(ctx, `INSERT INTO plan_export (id, plan_id, data_type, status, created_by, created_at) VALUES ($1, $2, $3, $4, $5, $6)`,
			e.ID, e.PlanID, e.DataType, e.Status, e.CreatedBy, e.CreatedAt)
		if err != nil {
			return err
		}
		return e.note(ctx, tx, "create")
	})
	if err == nil {
		_ = s.Queue.Once(context.WithoutCancel(ctx), export{e.ID}, attempts) // the sweep asks again
	}
	return e, err
}

// Get returns an export of a plan that the subject of ctx may export.
func (s *Service) Get(ctx context.Context, id core.ID) (e Export, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if e, err = load(ctx, tx, id); err != nil {
			return err
		}
		return may(ctx, tx, e.PlanID)
	})
	return e, err
}

// Delete removes an export.
func (s *Service) Delete(ctx context.Context, id core.ID) error {
	var e Export
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if e, err = load(ctx, tx, id); err != nil {
			return err
		}
		if err := may(ctx, tx, e.PlanID); err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, `DELETE FROM plan_export WHERE id = $1`, id); err != nil {
			return err
		}
		return e.note(ctx, tx, "destroy")
	})
	if err == nil && e.Object != "" {
		_ = s.Blobs.Delete(context.WithoutCancel(ctx), e.Object)
	}
	return err
}

// note adds what was done to the export to its organization's trail.
func (e Export) note(ctx context.Context, tx *db.Tx, action string) error {
	org, err := db.One(ctx, tx, db.ID, `SELECT r.org_id FROM run r JOIN phase p ON p.run_id = r.id WHERE p.id = $1`, e.PlanID)
	if err != nil {
		return err
	}
	return audit.Add(ctx, tx, org, "plan_export", e.ID, action, map[string]any{"plan": e.PlanID})
}

// export is the job that makes an export; sweep the one that looks for those
// whose job was lost or whose time is over.
type export struct {
	ID core.ID `json:"id"`
}

type sweep struct{}

func (export) Kind() string { return "plan_export" }
func (sweep) Kind() string  { return "plan_export_sweep" }

// attempts is how often an export is tried.
const attempts = 3

// Jobs adds the jobs of exports to k.
func (s *Service) Jobs(k *jobs.Kinds) {
	jobs.On(k, func(ctx context.Context, j export, attempt, most int) error {
		return s.make(ctx, j.ID, attempt >= most)
	})
	jobs.On(k, func(ctx context.Context, _ sweep, _, _ int) error { return s.sweep(ctx) })
	jobs.Every(k, time.Minute, sweep{})
}

// make packs the plan of an export, unless that has happened.
func (s *Service) make(ctx context.Context, id core.ID, last bool) error {
	var e Export
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		e, err = load(ctx, tx, id)
		return err
	})
	if core.KindOf(err) == core.NotFound || err == nil && e.Status != queued {
		return nil
	}
	if err != nil {
		return err
	}
	object := "plan-exports/" + string(id)
	size, err := s.pack(ctx, e, object)
	if err != nil && !last {
		return err
	}
	status, text := finished, ""
	if err != nil {
		status, text, object = errored, core.Message(err), ""
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE plan_export SET status = $2, error = $3, object = $4, size = $5, ended_at = $6 WHERE id = $1 AND status = 'queued'`, id, status, text, object, size, tx.Now())
		return err
	})
}

func (s *Service) pack(ctx context.Context, e Export, object string) (int64, error) {
	v, plan, err := s.Runs.RedactedPlan(ctx, e.PlanID)
	if err != nil {
		return 0, err
	}
	b, err := bundle(v, plan)
	if err != nil {
		return 0, err
	}
	info, err := s.Blobs.Put(ctx, object, bytes.NewReader(b))
	return info.Size, err
}

func (s *Service) sweep(ctx context.Context) error {
	var waiting []core.ID
	var over []Export
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if waiting, err = db.All(ctx, tx, db.ID, `SELECT id FROM plan_export WHERE status = 'queued' AND created_at < $1 ORDER BY created_at LIMIT 100`, tx.Now().Add(-10*time.Second)); err != nil {
			return err
		}
		if over, err = db.All(ctx, tx, scan, `SELECT `+columns+` FROM plan_export e WHERE e.status = 'finished' AND e.ended_at < $1 LIMIT 100`, tx.Now().Add(-lifetime)); err != nil {
			return err
		}
		for _, e := range over {
			if _, err := tx.Exec(ctx, `UPDATE plan_export SET status = 'expired', object = '', expired_at = $2 WHERE id = $1`, e.ID, tx.Now()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, e := range over {
		_ = s.Blobs.Delete(ctx, e.Object)
	}
	for _, id := range waiting {
		if err := s.Queue.Once(ctx, export{id}, attempts); err != nil {
			return err
		}
	}
	return nil
}

// Routes mounts the API.
func (s *Service) Routes(rt *web.Router) {
	rt.V2("POST /api/v2/plan-exports", 201, s.v2Create)
	rt.V2("GET /api/v2/plan-exports/{export}", 200, s.v2Get)
	rt.V2("DELETE /api/v2/plan-exports/{export}", 204, s.v2Delete)
	rt.V2Raw("GET /api/v2/plan-exports/{export}/download", s.v2Download)
}

type attributes struct {
	DataType   string               `json:"data-type"`
	Status     string               `json:"status"`
	Timestamps map[string]time.Time `json:"status-timestamps"`
	Error      *string              `json:"error-message"`
}

func resource(e Export) jsonapi.Resource {
	a := attributes{DataType: e.DataType, Status: e.Status, Timestamps: map[string]time.Time{"queued-at": e.CreatedAt}}
	if e.EndedAt != nil {
		word := finished
		if e.Error != "" {
			word, a.Error = errored, &e.Error
		}
		a.Timestamps[word+"-at"] = *e.EndedAt
	}
	if e.ExpiredAt != nil {
		a.Timestamps["expired-at"] = *e.ExpiredAt
	}
	self := "/api/v2/plan-exports/" + string(e.ID)
	links := map[string]any{"self": self}
	if e.Status == finished {
		links["download"] = self + "/download"
	}
	return jsonapi.Resource{ID: string(e.ID), Type: "plan-exports", Attributes: a, Links: links,
		Relationships: map[string]jsonapi.Rel{"plan": jsonapi.To("plans", e.PlanID)}}
}

func (s *Service) v2Create(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		DataType string `json:"data-type"`
	}
	rels, err := jsonapi.Decode(r.Body, "plan-exports", &in)
	if err != nil {
		return nil, err
	}
	plan := rels.ID("plan")
	if plan == "" {
		return nil, core.Errorf(core.Invalid, "can't be blank").InField("plan")
	}
	e, err := s.Create(r.Context(), plan, in.DataType)
	return jsonapi.One(resource(e)), err
}

func (s *Service) v2Get(r *http.Request) (*jsonapi.Doc, error) {
	e, err := s.Get(r.Context(), core.ID(r.PathValue("export")))
	return jsonapi.One(resource(e)), err
}

func (s *Service) v2Delete(r *http.Request) (*jsonapi.Doc, error) {
	return nil, s.Delete(r.Context(), core.ID(r.PathValue("export")))
}

func (s *Service) v2Download(w http.ResponseWriter, r *http.Request) error {
	e, err := s.Get(r.Context(), core.ID(r.PathValue("export")))
	if err != nil {
		return err
	}
	if e.Status != finished {
		return authz.ErrHidden()
	}
	body, err := s.Blobs.Get(r.Context(), e.Object)
	if err != nil {
		return err
	}
	defer body.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename="`+string(e.ID)+`.tar.gz"`)
	if _, err := io.Copy(w, body); err != nil && !strings.Contains(err.Error(), "broken pipe") {
		panic(http.ErrAbortHandler) // half an export must not look whole
	}
	return nil
}
