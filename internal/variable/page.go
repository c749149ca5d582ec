package variable

import (
	"net/http"

	"interlock/internal/core"
	"interlock/internal/web"
	"interlock/internal/web/ui"
	"interlock/internal/workspace"
)

func (s *Service) pages(rt *web.Router) {
	rt.Page("GET /app/{org}/{workspace}/variables", s.pageList)
	rt.Page("POST /app/{org}/{workspace}/variables", s.pageCreate)
	rt.Page("GET /app/{org}/{workspace}/variables/{var}", s.pageEdit)
	rt.Page("POST /app/{org}/{workspace}/variables/{var}", s.pageUpdate)
	rt.Page("POST /app/{org}/{workspace}/variables/{var}/delete", s.pageDelete)
	s.setPages(rt)
}

func (s *Service) workspaceOf(r *http.Request) (workspace.View, error) {
	return s.Workspaces.ByName(r.Context(), r.PathValue("org"), r.PathValue("workspace"))
}

func (s *Service) pageList(r *http.Request) (web.Answer, error) {
	w, err := s.workspaceOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	return s.listPage(r, w, ui.Form{}, 0)
}

func (s *Service) listPage(r *http.Request, w workspace.View, f ui.Form, code int) (web.Answer, error) {
	vs, err := s.List(r.Context(), w.ID)
	if err != nil {
		return web.Answer{}, err
	}
	from, over, err := s.given(r.Context(), w.ID, vs)
	if err != nil {
		return web.Answer{}, err
	}
	es, err := s.History(r.Context(), w.ID, "")
	return web.Answer{Page: listPage(w, vs, from, over, es, f), Status: code}, err
}

// refused keeps what was typed, except a secret.
func refused(r *http.Request, err error) ui.Form {
	f := ui.Refused(r.PostForm, err)
	if f.Is("sensitive") == "true" {
		f.Values.Del("value")
	}
	return f
}

func (s *Service) pageCreate(r *http.Request) (web.Answer, error) {
	w, err := s.workspaceOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	var v Variable
	typed(r, &v)
	v.Category = r.PostFormValue("category")
	if _, err = s.Create(r.Context(), w.ID, v); ui.Typo(err) {
		return s.listPage(r, w, refused(r, err), http.StatusUnprocessableEntity)
	}
	return web.Answer{Goto: path(w)}, err
}

// typed takes a form over into v. An empty value leaves a secret as it is.
func typed(r *http.Request, v *Variable) {
	v.Key, v.Description = r.PostFormValue("key"), r.PostFormValue("description")
	if value := ui.Text(r.PostFormValue("value")); value != "" || !v.Sensitive {
		v.Value = value
	}
	v.HCL = r.PostFormValue("hcl") == "true"
	v.Sensitive = v.Sensitive || r.PostFormValue("sensitive") == "true"
}

func (s *Service) pageEdit(r *http.Request) (web.Answer, error) {
	w, err := s.workspaceOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	v, err := s.Get(r.Context(), w.ID, core.ID(r.PathValue("var")))
	f := ui.Fill("key", v.Key, "value", v.Value, "description", v.Description, "hcl", ui.Bool(v.HCL), "sensitive", ui.Bool(v.Sensitive))
	if err != nil {
		return web.Answer{}, err
	}
	es, err := s.History(r.Context(), w.ID, v.ID)
	return web.Answer{Page: editPage(w, v, es, f)}, err
}

func (s *Service) pageUpdate(r *http.Request) (web.Answer, error) {
	w, err := s.workspaceOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	id := core.ID(r.PathValue("var"))
	_, err = s.Update(r.Context(), w.ID, id, func(v *Variable) { typed(r, v) })
	if ui.Typo(err) {
		v, gerr := s.Get(r.Context(), w.ID, id)
		f := refused(r, err)
		if v.Sensitive {
			f.Values.Del("value")
		}
		return web.Answer{Page: editPage(w, v, nil, f), Status: http.StatusUnprocessableEntity}, gerr
	}
	return web.Answer{Goto: path(w)}, err
}

func (s *Service) pageDelete(r *http.Request) (web.Answer, error) {
	w, err := s.workspaceOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	// One that is gone already is what the caller wanted.
	if err := s.Delete(r.Context(), w.ID, core.ID(r.PathValue("var"))); err != nil && core.KindOf(err) != core.NotFound {
		return web.Answer{}, err
	}
	return web.Goto(path(w))
}

func path(w workspace.View, below ...string) string {
	return ui.WorkspacePath(w.OrgName, w.Name, append([]string{"variables"}, below...)...)
}
