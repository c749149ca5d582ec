package variable

import (
	"context"
	"net/http"
	"strings"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/web/ui"
	"interlock/internal/workspace"
)

func (s *Service) setPages(rt *web.Router) {
	const at = "/app/organizations/{org}/varsets"
	rt.Page("GET "+at, s.pageSets)
	rt.Page("POST "+at, s.pageCreateSet)
	rt.Page("GET "+at+"/{set}", s.pageSet)
	rt.Page("POST "+at+"/{set}", s.pageUpdateSet)
	rt.Page("POST "+at+"/{set}/targets", s.pageTarget)
	rt.Page("POST "+at+"/{set}/targets/remove", s.pageUntarget)
	rt.Page("POST "+at+"/{set}/vars", s.pageAddSetVar)
	rt.Page("GET "+at+"/{set}/vars/{var}", s.pageSetVar)
	rt.Page("POST "+at+"/{set}/vars/{var}", s.pageUpdateSetVar)
	rt.Page("POST "+at+"/{set}/vars/{var}/delete", s.pageDeleteSetVar)
	rt.Page("POST "+at+"/{set}/delete", s.pageDeleteSet)
}

func (v Varset) path(below ...string) string {
	return ui.OrgPath(v.OrgName, append([]string{"varsets", string(v.ID)}, below...)...)
}

// A setList is the page of an organization's sets.
type setList struct {
	Org   string
	Can   core.Right
	Rows  []Varset
	Total int64
	Page  jsonapi.Page
	Form  ui.Form
}

// orgOf returns the name of the organization of a request and what the reader
// may do there.
func (s *Service) orgOf(r *http.Request) (name string, have core.Right, err error) {
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		o, err := account.FindOrg(ctx, tx, r.PathValue("org"))
		if err != nil {
			return err
		}
		name = o.Name
		have, err = authz.OrgRights(ctx, tx, o.ID)
		return err
	})
	return name, have, err
}

func (s *Service) pageSets(r *http.Request) (web.Answer, error) { return s.setsPage(r, 0, ui.Form{}) }

func (s *Service) setsPage(r *http.Request, code int, f ui.Form) (web.Answer, error) {
	l := setList{Form: f, Page: jsonapi.Page{Number: ui.PageNumber(r.URL.Query()), Size: 50}}
	var err error
	if l.Org, l.Can, err = s.orgOf(r); err != nil {
		return web.Answer{}, err
	}
	l.Rows, l.Total, err = s.Varsets(r.Context(), l.Org, "", l.Page)
	return web.Answer{Page: setsPage(l), Status: code}, err
}

func typedSet(r *http.Request, v *Varset) {
	v.Name, v.Description = r.PostFormValue("name"), r.PostFormValue("description")
	v.Global, v.Priority = r.PostFormValue("scope") == "global", r.PostFormValue("priority") == "true"
}

func (s *Service) pageCreateSet(r *http.Request) (web.Answer, error) {
	var v Varset
	typedSet(r, &v)
	v, err := s.CreateVarset(r.Context(), r.PathValue("org"), v, nil)
	if ui.Typo(err) {
		return s.setsPage(r, http.StatusUnprocessableEntity, ui.Refused(r.PostForm, err))
	}
	return web.Answer{Goto: v.path()}, err
}

// setOf returns the set of a request, which must be of the organization in its
// path.
func (s *Service) setOf(r *http.Request) (Varset, error) {
	v, err := s.Varset(r.Context(), core.ID(r.PathValue("set")))
	if err == nil && !strings.EqualFold(v.OrgName, r.PathValue("org")) {
		err = authz.ErrHidden()
	}
	return v, err
}

// A setView is what the page of a set shows.
type setView struct {
	Varset
	OrgCan               core.Right
	Write                bool
	Vars                 []Variable
	On                   []ui.Option // workspaces and projects, by id; Hint says which it is
	Projects             []ui.Option // to choose from
	Settings, Add, Apply ui.Form
	Saved                bool
}

func (s *Service) pageSet(r *http.Request) (web.Answer, error) {
	return s.setPageOf(r, 0, func(*setView) {})
}

// setPageOf shows a set; say adds what this answer has to say.
func (s *Service) setPageOf(r *http.Request, code int, say func(*setView)) (web.Answer, error) {
	v, err := s.setOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	scope := "some"
	if v.Global {
		scope = "global"
	}
	x := setView{Varset: v, Saved: r.URL.Query().Has("saved"),
		Settings: ui.Fill("name", v.Name, "description", v.Description, "scope", scope, "priority", ui.Bool(v.Priority))}
	if x.Vars, err = s.SetVars(r.Context(), v.ID, ""); err != nil {
		return web.Answer{}, err
	}
	if _, x.OrgCan, err = s.orgOf(r); err != nil {
		return web.Answer{}, err
	}
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		if err := v.may(ctx, tx, true); err == nil {
			x.Write = true
		} else if core.KindOf(err) != core.NotFound {
			return err
		}
		option := func(r db.Row) (o ui.Option, err error) { return o, r.Scan(&o.Value, &o.Label, &o.Hint) }
		x.On, err = db.All(ctx, tx, option, `SELECT w.id, w.name, 'Workspace' FROM varset_target t JOIN workspace w ON w.id = t.target_id WHERE t.varset_id = $1
			UNION ALL SELECT p.id, p.name, 'Project' FROM varset_target t JOIN project p ON p.id = t.target_id WHERE t.varset_id = $1 ORDER BY 3, 2`, v.ID)
		return err
	})
	if err != nil {
		return web.Answer{}, err
	}
	if x.Write && v.ProjectID == "" {
		ps, _, err := s.Workspaces.Projects(r.Context(), v.OrgName, workspace.ProjectFilter{}, jsonapi.Page{Number: 1, Size: 500})
		if err != nil {
			return web.Answer{}, err
		}
		for _, p := range ps {
			x.Projects = append(x.Projects, ui.Option{Value: string(p.ID), Label: p.Name})
		}
	}
	say(&x)
	return web.Answer{Page: setPage(x), Status: code}, nil
}

func (s *Service) pageUpdateSet(r *http.Request) (web.Answer, error) {
	v, err := s.setOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	if v, err = s.UpdateVarset(r.Context(), v.ID, func(v *Varset) { typedSet(r, v) }, nil, nil); ui.Typo(err) {
		return s.setPageOf(r, http.StatusUnprocessableEntity, func(x *setView) { x.Settings = ui.Refused(r.PostForm, err) })
	}
	return web.Answer{Goto: v.path() + "?saved"}, err
}

// pageTarget applies a set to a project, or to a workspace by its name.
func (s *Service) pageTarget(r *http.Request) (web.Answer, error) {
	v, err := s.setOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	to := core.ID(r.PostFormValue("project"))
	if name := strings.TrimSpace(r.PostFormValue("workspace")); name != "" {
		var w workspace.View
		if w, err = s.Workspaces.ByName(r.Context(), v.OrgName, name); core.KindOf(err) == core.NotFound {
			err = core.Errorf(core.Invalid, "does not exist in this organization").InField("workspace")
		}
		to = w.ID
	}
	if err == nil {
		err = s.Target(r.Context(), v.ID, []core.ID{to}, true)
	}
	if ui.Typo(err) {
		return s.setPageOf(r, http.StatusUnprocessableEntity, func(x *setView) { x.Apply = ui.Refused(r.PostForm, err) })
	}
	return web.Answer{Goto: v.path()}, err
}

func (s *Service) pageUntarget(r *http.Request) (web.Answer, error) {
	v, err := s.setOf(r)
	if err == nil {
		err = s.Target(r.Context(), v.ID, []core.ID{core.ID(r.PostFormValue("target"))}, false)
	}
	return web.Answer{Goto: v.path()}, err
}

func (s *Service) pageAddSetVar(r *http.Request) (web.Answer, error) {
	set, err := s.setOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	var v Variable
	typed(r, &v)
	v.Category = r.PostFormValue("category")
	if _, err = s.AddSetVar(r.Context(), set.ID, v); ui.Typo(err) {
		return s.setPageOf(r, http.StatusUnprocessableEntity, func(x *setView) { x.Add = refused(r, err) })
	}
	return web.Answer{Goto: set.path()}, err
}

func (s *Service) pageSetVar(r *http.Request) (web.Answer, error) {
	return s.setVarPage(r, 0, nil)
}

func (s *Service) setVarPage(r *http.Request, code int, f *ui.Form) (web.Answer, error) {
	set, err := s.setOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	_, can, err := s.orgOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	v, err := s.SetVar(r.Context(), set.ID, "", core.ID(r.PathValue("var")))
	if err != nil {
		return web.Answer{}, err
	}
	if f == nil {
		stored := ui.Fill("key", v.Key, "value", v.Value, "description", v.Description, "hcl", ui.Bool(v.HCL), "sensitive", ui.Bool(v.Sensitive))
		f = &stored
	} else if v.Sensitive {
		f.Values.Del("value")
	}
	return web.Answer{Page: setVarPage(set, can, v, *f), Status: code}, nil
}

func (s *Service) pageUpdateSetVar(r *http.Request) (web.Answer, error) {
	set, err := s.setOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	if _, err = s.UpdateSetVar(r.Context(), set.ID, core.ID(r.PathValue("var")), func(v *Variable) { typed(r, v) }); ui.Typo(err) {
		f := refused(r, err)
		return s.setVarPage(r, http.StatusUnprocessableEntity, &f)
	}
	return web.Answer{Goto: set.path()}, err
}

func (s *Service) pageDeleteSetVar(r *http.Request) (web.Answer, error) {
	set, err := s.setOf(r)
	if err == nil {
		err = s.DeleteSetVar(r.Context(), set.ID, core.ID(r.PathValue("var")))
	}
	return web.Answer{Goto: set.path()}, err
}

func (s *Service) pageDeleteSet(r *http.Request) (web.Answer, error) {
	v, err := s.setOf(r)
	if err == nil {
		err = s.DeleteVarset(r.Context(), v.ID)
	}
	return web.Answer{Goto: ui.OrgPath(v.OrgName, "varsets")}, err
}

// A given is a variable that a workspace has from a set.
type given struct {
	Variable
	Set string
}

// given lists what a workspace has from sets, and by id its own variables that
// a set overrides, with the name of that set.
func (s *Service) given(ctx context.Context, ws core.ID, own []Variable) (from []given, over map[core.ID]string, err error) {
	all, err := s.AllOf(ctx, ws)
	if err != nil {
		return nil, nil, err
	}
	sets, _, err := s.VarsetsOf(ctx, ws, "", jsonapi.Page{Number: 1, Size: 1000})
	if err != nil {
		return nil, nil, err
	}
	name := map[core.ID]string{}
	for _, v := range sets {
		name[v.ID] = v.Name
	}
	over = map[core.ID]string{}
	by := map[[2]string]string{}
	for _, v := range all {
		if v.VarsetID != "" {
			from = append(from, given{v, name[v.VarsetID]})
			by[[2]string{v.Category, v.Key}] = name[v.VarsetID]
		}
	}
	for _, v := range own {
		if set, ok := by[[2]string{v.Category, v.Key}]; ok {
			over[v.ID] = set
		}
	}
	return from, over, nil
}
