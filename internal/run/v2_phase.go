package run

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"interlock/internal/account"
	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

func orgOf(ctx context.Context, tx *db.Tx, name string) (core.ID, error) {
	o, err := account.FindOrg(ctx, tx, name)
	return o.ID, err
}

// logTTL is how long a log address lives after the phase has ended; before
// that it does not end, for the CLI asks for it only once.
const logTTL = 30 * time.Minute

func (s *Service) logURL(p Phase) string {
	return s.Signer.Base + "/logs/" + string(p.ID) + "/" + s.Signer.Path("GET", "log/"+string(p.ID), logTTL)
}

type phaseAttributes struct {
	ExecutionDetails map[string]string    `json:"execution-details"`
	Generated        *bool                `json:"generated-configuration,omitempty"`
	HasChanges       *bool                `json:"has-changes,omitempty"`
	Additions        *int64               `json:"resource-additions"`
	Changes          *int64               `json:"resource-changes"`
	Destructions     *int64               `json:"resource-destructions"`
	Imports          *int64               `json:"resource-imports"`
	Structured       *bool                `json:"structured-run-output-enabled,omitempty"`
	Status           string               `json:"status"`
	StatusTimestamps map[string]time.Time `json:"status-timestamps"`
	LogReadURL       string               `json:"log-read-url"`
	Actions          map[string]bool      `json:"actions,omitempty"`
	Permissions      map[string]bool      `json:"permissions,omitempty"`
}

func (s *Service) phaseAttributes(p Phase) phaseAttributes {
	a := phaseAttributes{ExecutionDetails: map[string]string{"mode": "remote"}, Status: p.Status, StatusTimestamps: map[string]time.Time{}, LogReadURL: s.logURL(p)}
	for _, c := range []struct {
		at *(*int64)
		n  int64
	}{{&a.Additions, p.Additions}, {&a.Changes, p.Changes}, {&a.Destructions, p.Destructions}, {&a.Imports, p.Imports}} {
		if c.n >= 0 {
			*c.at = &c.n
		}
	}
	for name, at := range map[string]*time.Time{"queued-at": p.QueuedAt, "started-at": p.StartedAt} {
		if at != nil {
			a.StatusTimestamps[name] = *at
		}
	}
	if p.EndedAt != nil && p.StartedAt != nil {
		a.StatusTimestamps[p.Status+"-at"] = *p.EndedAt
	}
	return a
}

func (s *Service) planResource(p Phase, r Run) jsonapi.Resource {
	a := s.phaseAttributes(p)
	a.HasChanges, a.Structured, a.Generated = &r.HasChanges, &r.Structured, &p.Generated
	a.Actions = map[string]bool{"is-exportable": p.Status == PhaseFinished && r.PlanObject != ""}
	self := "/api/v2/plans/" + string(p.ID)
	return jsonapi.Resource{ID: string(p.ID), Type: "plans", Attributes: a,
		Relationships: map[string]jsonapi.Rel{"state-versions": {Data: []jsonapi.Ref{}}, "exports": {Data: []jsonapi.Ref{}}},
		Links:         map[string]any{"self": self, "json-output": self + "/json-output", "json-output-redacted": self + "/json-output-redacted"}}
}

func (s *Service) applyResource(p Phase) jsonapi.Resource {
	return jsonapi.Resource{ID: string(p.ID), Type: "applies", Attributes: s.phaseAttributes(p),
		Relationships: map[string]jsonapi.Rel{"state-versions": {Data: []jsonapi.Ref{}}},
		Links:         map[string]any{"self": "/api/v2/applies/" + string(p.ID)}}
}

func (s *Service) v2Plan(r *http.Request) (*jsonapi.Doc, error) {
	p, run, err := s.phaseFor(r.Context(), core.ID(r.PathValue("plan")), PlanPhase, 0)
	if err != nil {
		return nil, err
	}
	return s.planDoc(r.Context(), p, run)
}

// planDoc is a plan with what only its own document tells: its exports, and
// whether the caller may make one.
func (s *Service) planDoc(ctx context.Context, p Phase, run Run) (*jsonapi.Doc, error) {
	res := s.planResource(p, run)
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		have, _, err := authz.WorkspaceRights(ctx, tx, run.WorkspaceID)
		if err != nil {
			return err
		}
		a := res.Attributes.(phaseAttributes)
		a.Permissions = map[string]bool{"can-export": have.Has(core.ReadMocks)}
		res.Attributes = a
		ids, err := db.All(ctx, tx, db.ID, `SELECT id FROM plan_export WHERE plan_id = $1 ORDER BY created_at DESC LIMIT 20`, p.ID)
		res.Relationships["exports"] = jsonapi.Rel{Data: refs("plan-exports", ids)}
		return err
	})
	return jsonapi.One(res), err
}

func (s *Service) v2RunPlan(r *http.Request) (*jsonapi.Doc, error) {
	v, err := s.Get(r.Context(), core.ID(r.PathValue("run")))
	if err != nil {
		return nil, err
	}
	return s.planDoc(r.Context(), v.Plan, v.Run)
}

func (s *Service) v2Apply(r *http.Request) (*jsonapi.Doc, error) {
	p, run, err := s.phaseFor(r.Context(), core.ID(r.PathValue("apply")), ApplyPhase, 0)
	if err != nil {
		return nil, err
	}
	res := s.applyResource(p)
	err = s.withStates(r.Context(), &res, run.ID)
	return jsonapi.One(res), err
}

func (s *Service) v2RunApply(r *http.Request) (*jsonapi.Doc, error) {
	v, err := s.Get(r.Context(), core.ID(r.PathValue("run")))
	if err != nil {
		return nil, err
	}
	res := s.applyResource(v.Apply)
	err = s.withStates(r.Context(), &res, v.ID)
	return jsonapi.One(res), err
}

// withStates names the state versions that an apply made.
func (s *Service) withStates(ctx context.Context, res *jsonapi.Resource, run core.ID) error {
	return s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		ids, err := db.All(ctx, tx, db.ID, `SELECT id FROM state_version WHERE run_id = $1 AND status = 'finalized' ORDER BY seq DESC`, run)
		refs := []jsonapi.Ref{}
		for _, id := range ids {
			refs = append(refs, jsonapi.Ref{ID: string(id), Type: "state-versions"})
		}
		res.Relationships["state-versions"] = jsonapi.Rel{Data: refs}
		return err
	})
}

// planJSON finds the plan of a request by its own id or its run's.
func (s *Service) planID(r *http.Request) (core.ID, error) {
	if id := r.PathValue("plan"); id != "" {
		return core.ID(id), nil
	}
	v, err := s.Get(r.Context(), core.ID(r.PathValue("run")))
	return v.Plan.ID, err
}

func (s *Service) v2PlanJSON(w http.ResponseWriter, r *http.Request) error {
	return s.redirectDocument(w, r, "json", core.ReadPlanJSON)
}

func (s *Service) v2PlanRedacted(w http.ResponseWriter, r *http.Request) error {
	return s.redirectDocument(w, r, "redacted", 0)
}

// documents are the forms in which a plan can be downloaded.
func documentOf(p Phase, form string) string {
	switch form {
	case "json":
		return p.JSONObject
	case "redacted":
		return p.SchemaObject
	}
	return ""
}

// redirectDocument leads to a document of a plan, or answers 204 while there
// is none.
func (s *Service) redirectDocument(w http.ResponseWriter, r *http.Request, form string, want core.Right) error {
	id, err := s.planID(r)
	if err != nil {
		return err
	}
	return s.LeadToPlan(w, r, id, form, want)
}

// LeadToPlan is the answer that leads to a document of a plan: json, which
// takes the right want, or redacted.
func (s *Service) LeadToPlan(w http.ResponseWriter, r *http.Request, plan core.ID, form string, want core.Right) error {
	p, object, err := s.planDocument(r.Context(), plan, want, func(p Phase) string { return documentOf(p, form) })
	if err != nil {
		return err
	}
	if object == "" {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	u := s.Signer.Base + "/download/plans/" + string(p.ID) + "/" + form + "/" + s.Signer.PathFor(r.Context(), "GET", "plan/"+form+"/"+string(p.ID), time.Minute)
	http.Redirect(w, r, u, http.StatusTemporaryRedirect)
	return nil
}

func (s *Service) servePlanDocument(w http.ResponseWriter, r *http.Request) {
	b, err := func() ([]byte, error) {
		id, form := core.ID(r.PathValue("plan")), r.PathValue("form")
		if err := s.Signer.Check("GET", "plan/"+form+"/"+string(id), r.PathValue("capability")); err != nil {
			return nil, err
		}
		var p Phase
		asked := web.Asked(r.Context(), r.PathValue("capability"))
		err := s.DB.View(asked, func(ctx context.Context, tx *db.Tx) (err error) {
			if p, err = loadPhase(ctx, tx, id); err != nil {
				return err
			}
			w, err := db.One(ctx, tx, db.ID, `SELECT workspace_id FROM run WHERE id = $1`, p.RunID)
			if err != nil {
				return err
			}
			want := core.ReadRuns
			if form == "json" {
				want = core.ReadPlanJSON
			}
			return authz.Still(ctx, tx, w, want)
		})
		if err != nil {
			return nil, err
		}
		if form == "json" {
			// The one form with what is sensitive in clear.
			if err := s.readingPlan(asked, p); err != nil {
				return nil, err
			}
		}
		return s.Blobs.Bytes(r.Context(), documentOf(p, form), maxPlan)
	}()
	if err != nil {
		web.Answer2017(w, r, err)
		return
	}
	web.WriteJSON(w, r, json.RawMessage(b))
}

// readingPlan notes that the subject of ctx is about to get the JSON of a plan.
func (s *Service) readingPlan(ctx context.Context, p Phase) error {
	return s.reads.Note(ctx, s.DB, func(ctx context.Context, tx *db.Tx) (core.ID, error) {
		return db.One(ctx, tx, db.ID, `SELECT org_id FROM run WHERE id = $1`, p.RunID)
	}, audit.Read{Type: "plan", Resource: p.ID, Action: "read_json", Meta: map[string]any{"run": p.RunID}})
}

func (s *Service) v2ErroredState(w http.ResponseWriter, r *http.Request) error {
	_, run, err := s.phaseFor(r.Context(), core.ID(r.PathValue("apply")), ApplyPhase, core.ReadState)
	if err != nil {
		return err
	}
	v, err := s.States.QuarantinedOf(r.Context(), run.ID)
	if err != nil {
		return err
	}
	http.Redirect(w, r, s.States.DownloadURL(r.Context(), v), http.StatusTemporaryRedirect)
	return nil
}

// The bounds of one read of a log.
const (
	defaultLogRead = 64 << 10
	maxLogRead     = 1 << 20
	// logWait is how long a read waits for something new: a client sees a line
	// when it is printed, not when it next asks.
	logWait = 2 * time.Second
)

// serveLog serves pieces of a log to whoever holds its address.
func (s *Service) serveLog(w http.ResponseWriter, r *http.Request) {
	id := core.ID(r.PathValue("phase"))
	t, err := func() (t LogTail, err error) {
		expired, err := s.Signer.Genuine("GET", "log/"+string(id), r.PathValue("capability"))
		if err != nil {
			return t, err
		}
		if expired {
			var p Phase
			err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
				p, err = loadPhase(ctx, tx, id)
				return err
			})
			if err != nil || p.EndedAt != nil && s.DB.Now().Sub(*p.EndedAt) > logTTL {
				return t, authz.ErrHidden()
			}
		}
		q := r.URL.Query()
		offset, limit := int64(0), int64(defaultLogRead)
		for name, at := range map[string]*int64{"offset": &offset, "limit": &limit} {
			if v := q.Get(name); v != "" {
				n, err := strconv.ParseInt(v, 10, 64)
				if err != nil && !errors.Is(err, strconv.ErrRange) || n < 0 {
					return t, core.Errorf(core.Malformed, "%s is not a positive number", name)
				}
				*at = n // the largest number for one that is larger still: past every end
			}
		}
		if limit == 0 {
			return t, nil
		}
		s.Bus.Publish(LogReadTopic(id))
		return s.ReadLog(r.Context(), id, offset, int(min(limit, maxLogRead)), logWait)
	}()
	if err != nil {
		web.Answer2017(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(t.Data)))
	_, _ = w.Write(t.Data)
}
