package workspace

import (
	"encoding/json"
	"net/http"

	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

func (s *Service) shareRoutes(rt *web.Router) {
	const consumers = "/api/v2/workspaces/{workspace}/relationships/remote-state-consumers"
	rt.V2("GET "+consumers, 200, byID(s.v2Consumers))
	rt.V2("POST "+consumers, 204, byID(s.v2SetConsumers("add")))
	rt.V2("PATCH "+consumers, 204, byID(s.v2SetConsumers("replace")))
	rt.V2("DELETE "+consumers, 204, byID(s.v2SetConsumers("remove")))
	const retention = "/api/v2/workspaces/{workspace}/relationships/data-retention-policy"
	rt.V2("GET "+retention, 200, byID(s.v2Retention))
	rt.V2("POST "+retention, 201, byID(s.v2SetRetention))
	rt.V2("PATCH "+retention, 200, byID(s.v2SetRetention))
	rt.V2("DELETE "+retention, 204, byID(func(r *http.Request, id core.ID) (*jsonapi.Doc, error) {
		_, err := s.SetRetention(r.Context(), id, 0)
		return nil, err
	}))
}

func (s *Service) v2Consumers(r *http.Request, id core.ID) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	vs, total, err := s.Consumers(r.Context(), id, p)
	if err != nil {
		return nil, err
	}
	return s.paged(r, vs, p, total, nil)
}

func (s *Service) v2SetConsumers(how string) handler {
	return func(r *http.Request, id core.ID) (*jsonapi.Doc, error) {
		ids, err := idsIn(r)
		if err != nil {
			return nil, err
		}
		return nil, s.SetConsumers(r.Context(), id, ids, how)
	}
}

// The types of a data retention policy.
const (
	deleteOlder = "data-retention-policy-delete-olders"
	dontDelete  = "data-retention-policy-dont-deletes"
)

func (p Retention) kind() string {
	if p.Days < 0 {
		return dontDelete
	}
	return deleteOlder
}

func retentionDoc(p Retention) *jsonapi.Doc {
	if p.ID == "" {
		return &jsonapi.Doc{Data: json.RawMessage("null")}
	}
	r := jsonapi.Resource{ID: string(p.ID), Type: p.kind(), Attributes: map[string]any{}}
	if p.Days > 0 {
		r.Attributes = map[string]any{"delete-older-than-n-days": p.Days}
	}
	return jsonapi.One(r)
}

func (s *Service) v2Retention(r *http.Request, id core.ID) (*jsonapi.Doc, error) {
	v, err := s.ByID(r.Context(), id)
	return retentionDoc(v.Retention), err
}

func (s *Service) v2SetRetention(r *http.Request, id core.ID) (*jsonapi.Doc, error) {
	var in struct {
		Data struct {
			Type       string `json:"type"`
			Attributes struct {
				Days *int64 `json:"delete-older-than-n-days"`
			} `json:"attributes"`
		} `json:"data"`
	}
	if err := jsonapi.DecodePlain(r.Body, &in); err != nil {
		return nil, err
	}
	days := int64(-1)
	switch d := in.Data.Attributes.Days; {
	case in.Data.Type == dontDelete:
	case in.Data.Type != deleteOlder && in.Data.Type != "data-retention-policies":
		return nil, core.Errorf(core.Invalid, "must be %s or %s", deleteOlder, dontDelete).InField("type")
	case d == nil || *d < 1:
		return nil, core.Errorf(core.Invalid, "must be at least 1").InField("delete-older-than-n-days")
	default:
		days = *d
	}
	p, err := s.SetRetention(r.Context(), id, days)
	return retentionDoc(p), err
}
