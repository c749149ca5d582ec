package surgery

import (
	"net/http"
	"time"

	"interlock/internal/core"
	"interlock/internal/executor"
	"interlock/internal/jsonapi"
	"interlock/internal/tfdata"
	"interlock/internal/web"
)

// Routes mounts the API, an extension of ours, and the pages.
func (s *Service) Routes(rt *web.Router) {
	const of, at = "/api/v2/workspaces/{workspace}/state-operations", "/api/v2/state-operations/{operation}"
	rt.V2("POST "+of, 201, s.v2Stage)
	rt.V2("GET "+of, 200, func(r *http.Request) (*jsonapi.Doc, error) {
		p, err := jsonapi.PageOf(r)
		if err != nil {
			return nil, err
		}
		os, total, err := s.List(r.Context(), core.ID(r.PathValue("workspace")), p)
		return jsonapi.Paged(r, os, p, int(total), resource), err
	})
	rt.V2("GET "+at, 200, func(r *http.Request) (*jsonapi.Doc, error) {
		o, err := s.Get(r.Context(), core.ID(r.PathValue("operation")))
		return jsonapi.One(resource(o)), err
	})
	rt.V2("POST "+at+"/actions/apply", 200, func(r *http.Request) (*jsonapi.Doc, error) { return v2Decide(r, s, s.Apply) })
	rt.V2("POST "+at+"/actions/undo", 200, func(r *http.Request) (*jsonapi.Doc, error) { return v2Decide(r, s, s.Undo) })
	rt.V2("POST "+at+"/actions/discard", 200, func(r *http.Request) (*jsonapi.Doc, error) {
		o, err := s.Discard(r.Context(), core.ID(r.PathValue("operation")))
		return jsonapi.One(resource(o)), err
	})
	s.pages(rt)
}

// An edit is an operation as the API has it: source and destination are what
// stands first and second on a line. Of an import these are address and id.
type edit struct {
	Operation   string `json:"operation"`
	Source      string `json:"source"`
	Destination string `json:"destination,omitempty"`
}

func (s *Service) v2Stage(r *http.Request) (*jsonapi.Doc, error) {
	ws := core.ID(r.PathValue("workspace"))
	// The right comes before what is wrong with the input.
	if _, _, err := s.may(r.Context(), ws); err != nil {
		return nil, err
	}
	var in struct {
		Operations []edit `json:"operations"`
	}
	if _, err := jsonapi.Decode(r.Body, "state-operations", &in); err != nil {
		return nil, err
	}
	edits := make([]executor.Edit, len(in.Operations))
	for i, e := range in.Operations {
		edits[i] = executor.Edit{Operation: e.Operation, From: e.Source, To: e.Destination}
	}
	o, err := s.Stage(r.Context(), ws, edits, "tfe-api")
	return jsonapi.One(resource(o)), err
}

func v2Decide(r *http.Request, s *Service, f decision) (*jsonapi.Doc, error) {
	id := core.ID(r.PathValue("operation"))
	if _, _, err := s.found(r.Context(), id, core.ReadState|core.WriteState); err != nil {
		return nil, err
	}
	var in struct {
		Reason string `json:"reason"`
	}
	if err := jsonapi.DecodePlain(r.Body, &in); err != nil {
		return nil, err
	}
	o, err := f(r.Context(), id, in.Reason)
	return jsonapi.One(resource(o)), err
}

type attributes struct {
	Operations []edit                 `json:"operations"`
	Changes    []tfdata.AddressChange `json:"changes"`
	Status     string                 `json:"status"`
	Serial     int64                  `json:"state-serial"`
	Reason     string                 `json:"reason"`
	UndoReason string                 `json:"undo-reason"`
	CreatedAt  time.Time              `json:"created-at"`
	DecidedAt  *time.Time             `json:"decided-at"`
}

func resource(o Operation) jsonapi.Resource {
	a := attributes{Operations: make([]edit, len(o.Edits)), Changes: o.Changes, Status: o.Status, Serial: o.BaseSerial, Reason: o.Reason, UndoReason: o.UndoReason, CreatedAt: o.CreatedAt, DecidedAt: o.DecidedAt}
	for i, e := range o.Edits {
		a.Operations[i] = edit{e.Operation, e.From, e.To}
	}
	rels := map[string]jsonapi.Rel{"workspace": jsonapi.To("workspaces", o.Workspace), "state-version": jsonapi.To("state-versions", o.Base)}
	if o.Run != "" {
		rels["run"] = jsonapi.To("runs", o.Run)
	}
	for name, id := range map[string]core.ID{"result-state-version": o.Result, "undo-state-version": o.Undo} {
		if id != "" {
			rels[name] = jsonapi.To("state-versions", id)
		}
	}
	if o.CreatedBy != "" {
		rels["created-by"] = jsonapi.To("users", o.CreatedBy)
	}
	return jsonapi.Resource{ID: string(o.ID), Type: "state-operations", Attributes: a, Relationships: rels, Links: map[string]any{"self": "/api/v2/state-operations/" + string(o.ID)}}
}
