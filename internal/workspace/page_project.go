package workspace

import (
	"net/http"
	"strings"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

func (s *Service) projectPages(rt *web.Router) {
	const at = "/app/organizations/{org}/projects"
	rt.Page("GET "+at, s.pageProjects)
	rt.Page("POST "+at, s.pageCreateProject)
	rt.Page("GET "+at+"/{project}", s.pageProject)
	rt.Page("POST "+at+"/{project}", s.pageUpdateProject)
	rt.Page("POST "+at+"/{project}/delete", s.pageDeleteProject)
	s.grantPages(rt, at+"/{project}", onProjects, func(r *http.Request) (place, error) {
		v, err := s.projectOfPage(r)
		return place{v.ID, v.OrgName, v.Name, v.path(), v.path("access"), func(code int, f ui.Form) (web.Answer, error) {
			return s.projectPage(r, code, func(x *projectPageView) { x.Access.Form = f })
		}}, err
	})
}

func (p Project) path(below ...string) string {
	return ui.OrgPath(p.OrgName, append([]string{"projects", string(p.ID)}, below...)...)
}

// A projectList is the page of an organization's projects.
type projectList struct {
	Org   account.Org
	Can   core.Right
	Rows  []ProjectView
	Total int64
	Page  jsonapi.Page
	Form  ui.Form
}

func (s *Service) pageProjects(r *http.Request) (web.Answer, error) {
	return s.projectsPage(r, 0, ui.Form{})
}

func (s *Service) projectsPage(r *http.Request, code int, f ui.Form) (web.Answer, error) {
	o, have, err := s.orgAnd(r.Context(), r.PathValue("org"))
	if err != nil {
		return web.Answer{}, err
	}
	l := projectList{Org: o, Can: have, Form: f, Page: jsonapi.Page{Number: ui.PageNumber(r.URL.Query()), Size: perPage}}
	l.Rows, l.Total, err = s.Projects(r.Context(), o.Name, ProjectFilter{}, l.Page)
	return web.Answer{Page: projectsPage(l), Status: code}, err
}

func (s *Service) pageCreateProject(r *http.Request) (web.Answer, error) {
	p, err := s.CreateProject(r.Context(), r.PathValue("org"), Project{Name: r.PostFormValue("name"), Description: ui.Text(r.PostFormValue("description"))}, nil)
	if ui.Typo(err) {
		return s.projectsPage(r, http.StatusUnprocessableEntity, ui.Refused(r.PostForm, err))
	}
	return web.Answer{Goto: p.path()}, err
}

// A projectPageView is what the page of a project shows.
type projectPageView struct {
	ProjectView
	OrgCan     core.Right
	Workspaces []View
	Access     accessView
	SeeAccess  bool
	Form       ui.Form
	Alert      string
	Saved      bool
}

// projectOfPage returns the project of a request, which must be of the
// organization in its path.
func (s *Service) projectOfPage(r *http.Request) (ProjectView, error) {
	v, err := s.ProjectByID(r.Context(), core.ID(r.PathValue("project")))
	if err == nil && !strings.EqualFold(v.OrgName, r.PathValue("org")) {
		err = authz.ErrHidden()
	}
	return v, err
}

func storedProject(p Project) ui.Form {
	mode := p.ExecutionMode
	if !p.OwnMode {
		mode = inherited
	}
	return ui.Fill("name", p.Name, "description", p.Description, "default-execution-mode", mode, "auto-destroy-after", p.AutoDestroyAfter)
}

func (s *Service) pageProject(r *http.Request) (web.Answer, error) {
	return s.projectPage(r, 0, func(*projectPageView) {})
}

// shownWorkspaces bounds how many workspaces the page of a project lists.
const shownWorkspaces = 20

// projectPage shows a project; set adds what this answer has to say.
func (s *Service) projectPage(r *http.Request, code int, set func(*projectPageView)) (web.Answer, error) {
	p, err := s.projectOfPage(r)
	if err != nil {
		return web.Answer{}, err
	}
	v := projectPageView{ProjectView: p, Form: storedProject(p.Project), Saved: r.URL.Query().Has("saved"), SeeAccess: p.Can.Has(core.ReadProjectAccess)}
	if _, v.OrgCan, err = s.orgAnd(r.Context(), p.OrgName); err != nil {
		return web.Answer{}, err
	}
	if v.Workspaces, _, err = s.List(r.Context(), p.OrgName, Filter{Project: p.ID}, jsonapi.Page{Number: 1, Size: shownWorkspaces}); err != nil {
		return web.Answer{}, err
	}
	if v.SeeAccess {
		if v.Access, err = s.access(r.Context(), onProjects, p.ID, p.OrgID); err != nil {
			return web.Answer{}, err
		}
		v.Access.Path, v.Access.Manage = p.path("access"), p.Can.Has(core.ManageProjectAccess)
	}
	set(&v)
	return web.Answer{Page: projectPage(v), Status: code}, nil
}

func (s *Service) pageUpdateProject(r *http.Request) (web.Answer, error) {
	p, err := s.projectOfPage(r)
	if err != nil {
		return web.Answer{}, err
	}
	p, err = s.UpdateProject(r.Context(), p.ID, func(p *Project) error {
		p.Name, p.Description, p.AutoDestroyAfter = r.PostFormValue("name"), ui.Text(r.PostFormValue("description")), strings.TrimSpace(r.PostFormValue("auto-destroy-after"))
		switch mode := r.PostFormValue("default-execution-mode"); mode {
		case inherited:
			p.OwnMode, p.AgentPoolID = false, ""
		case "agent": // chosen with its pool over the API; the form keeps it
		default:
			p.OwnMode, p.ExecutionMode, p.AgentPoolID = true, mode, ""
		}
		return nil
	})
	if ui.Typo(err) {
		f := ui.Refused(r.PostForm, err)
		if f.Field == "auto-destroy-activity-duration" {
			f.Field = "auto-destroy-after"
		}
		return s.projectPage(r, http.StatusUnprocessableEntity, func(v *projectPageView) { v.Form = f })
	}
	return web.Answer{Goto: p.path() + "?saved"}, err
}

func (s *Service) pageDeleteProject(r *http.Request) (web.Answer, error) {
	p, err := s.projectOfPage(r)
	if err != nil {
		return web.Answer{}, err
	}
	if err = s.DeleteProject(r.Context(), p.ID); ui.Typo(err) {
		return s.projectPage(r, http.StatusConflict, func(v *projectPageView) { v.Alert = core.Message(err) })
	}
	return web.Answer{Goto: ui.OrgPath(p.OrgName, "projects")}, err
}
