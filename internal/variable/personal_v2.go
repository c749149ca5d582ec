package variable

import (
	"net/http"

	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

// The variables of a person, an extension of ours: type personal-vars.
func (s *Service) personalRoutes(rt *web.Router) {
	const at = "/api/v2/account/vars"
	rt.V2("GET "+at, 200, func(r *http.Request) (*jsonapi.Doc, error) {
		vs, err := s.Personals(r.Context())
		return jsonapi.List(vs, personalResource), err
	})
	rt.V2("POST "+at, 201, func(r *http.Request) (*jsonapi.Doc, error) {
		if _, err := person(r.Context()); err != nil {
			return nil, err
		}
		var in struct {
			input
			Org       string `json:"organization"`
			Workspace string `json:"workspace"`
		}
		if _, err := jsonapi.Decode(r.Body, "personal-vars", &in); err != nil {
			return nil, err
		}
		var v Variable
		in.apply(&v)
		p, err := s.AddPersonal(r.Context(), in.Org, in.Workspace, v)
		return jsonapi.One(personalResource(p)), err
	})
	rt.V2("PATCH "+at+"/{var}", 200, func(r *http.Request) (*jsonapi.Doc, error) {
		if _, err := person(r.Context()); err != nil {
			return nil, err
		}
		var in input
		if _, err := jsonapi.Decode(r.Body, "personal-vars", &in); err != nil {
			return nil, err
		}
		p, err := s.ChangePersonal(r.Context(), core.ID(r.PathValue("var")), in.apply)
		return jsonapi.One(personalResource(p)), err
	})
	rt.V2("DELETE "+at+"/{var}", 204, func(r *http.Request) (*jsonapi.Doc, error) {
		return nil, s.DropPersonal(r.Context(), core.ID(r.PathValue("var")))
	})
	const page = "/app/account/variables"
	rt.Page("GET "+page, func(r *http.Request) (web.Answer, error) { return s.personalAnswer(r, ui.Fill("category", Env), 0) })
	rt.Page("POST "+page, func(r *http.Request) (web.Answer, error) {
		var v Variable
		typed(r, &v)
		v.Category = r.PostFormValue("category")
		_, err := s.AddPersonal(r.Context(), r.PostFormValue("organization"), r.PostFormValue("workspace"), v)
		if ui.Typo(err) {
			return s.personalAnswer(r, refused(r, err), http.StatusUnprocessableEntity)
		}
		return web.Answer{Goto: page}, err
	})
	rt.Page("POST "+page+"/delete", func(r *http.Request) (web.Answer, error) {
		err := s.DropPersonal(r.Context(), core.ID(r.PostFormValue("variable")))
		if core.KindOf(err) == core.NotFound {
			err = nil // one that is gone already is what the caller wanted
		}
		return web.Answer{Goto: page}, err
	})
}

func (s *Service) personalAnswer(r *http.Request, f ui.Form, code int) (web.Answer, error) {
	vs, err := s.Personals(r.Context())
	return web.Answer{Page: personalPage(vs, f), Status: code}, err
}

func personalResource(p Personal) jsonapi.Resource {
	x := resource(p.Variable)
	x.Type = "personal-vars"
	x.Attributes = struct {
		attributes
		Org       string  `json:"organization"`
		Workspace *string `json:"workspace"`
	}{x.Attributes.(attributes), p.OrgName, optional(p.WorkspaceName)}
	x.Relationships = nil
	x.Links = map[string]any{"self": "/api/v2/account/vars/" + string(p.ID)}
	return x
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
