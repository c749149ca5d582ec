package notify

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/a-h/templ"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/web"
	"interlock/internal/web/ui"
	"interlock/internal/workspace"
)

// An owner is what the pages of notifications are about, a workspace or a
// project: where they are, and what is around them.
type owner struct {
	about Notification
	path  string
	what  string
	run   func(run core.ID) string // the page of a run; empty if that cannot be told
	frame func(title string, below ...ui.Crumb) templ.Component
}

func (p owner) to(below ...string) string {
	return strings.Join(append([]string{p.path}, below...), "/")
}

func (s *Service) pages(rt *web.Router) {
	const prj = "/app/organizations/{org}/projects/{project}/notifications"
	for at, find := range map[string]finder{"/app/{org}/{workspace}/notifications": workspaceOwner, prj: projectOwner} {
		pages{s, find}.mount(rt, at)
	}
}

// A finder finds what a request is about.
type finder func(ctx context.Context, tx *db.Tx, r *http.Request) (owner, error)

// pages are the pages about what find finds.
type pages struct {
	*Service
	find finder
}

func (s pages) mount(rt *web.Router, at string) {
	rt.Page("GET "+at, s.pageList)
	rt.Page("POST "+at, s.pageCreate)
	rt.Page("GET "+at+"/{notification}", s.pageShow)
	rt.Page("POST "+at+"/{notification}", s.pageUpdate)
	rt.Page("POST "+at+"/{notification}/verify", s.pageVerify)
	rt.Page("POST "+at+"/{notification}/delete", s.pageDelete)
}

func workspaceOwner(ctx context.Context, tx *db.Tx, r *http.Request) (p owner, err error) {
	found, err := workspace.Find(ctx, tx, r.PathValue("org"), r.PathValue("workspace"))
	if err != nil {
		return p, err
	}
	p.about = Notification{WorkspaceID: found.ID}
	if err := may(ctx, tx, p.about); err != nil {
		return p, err
	}
	vs, err := workspace.Views(ctx, tx, []workspace.Workspace{found})
	if err != nil {
		return p, err
	}
	w := vs[0]
	p.path, p.what = ui.WorkspacePath(w.OrgName, w.Name, "notifications"), "this workspace"
	p.run = func(id core.ID) string { return ui.WorkspacePath(w.OrgName, w.Name, "runs", string(id)) }
	p.frame = func(title string, below ...ui.Crumb) templ.Component {
		return workspace.Frame(w.Workspace, w.Can, "notifications", title, below...)
	}
	return p, nil
}

func projectOwner(ctx context.Context, tx *db.Tx, r *http.Request) (p owner, err error) {
	prj, err := workspace.GetProject(ctx, tx, core.ID(r.PathValue("project")), 0)
	if err == nil && !strings.EqualFold(prj.OrgName, r.PathValue("org")) {
		err = authz.ErrHidden()
	}
	if err != nil {
		return p, err
	}
	p.about = Notification{ProjectID: prj.ID}
	if err := may(ctx, tx, p.about); err != nil {
		return p, err
	}
	can, err := authz.OrgRights(ctx, tx, prj.OrgID)
	if err != nil {
		return p, err
	}
	at := ui.OrgPath(prj.OrgName, "projects", string(prj.ID))
	p.path, p.what = at+"/notifications", "all workspaces of the project"
	p.run = func(core.ID) string { return "" }
	p.frame = func(title string, below ...ui.Crumb) templ.Component {
		way := append([]ui.Crumb{{Name: prj.Name, Href: at}, {Name: "Notifications", Href: p.path}}, below...)
		return ui.OrgFrame(prj.OrgName, can, "projects", title, way...)
	}
	return p, nil
}

// ownerOf returns what a request is about and its notifications, for those who
// manage them.
func (s pages) ownerOf(r *http.Request) (p owner, ns []Notification, err error) {
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		if p, err = s.find(ctx, tx, r); err != nil {
			return err
		}
		where := map[bool]string{true: `n.workspace_id`, false: `n.project_id`}[p.about.WorkspaceID != ""]
		ns, err = db.All(ctx, tx, scan, `SELECT `+columns+` FROM notification n WHERE `+where+` = $1 ORDER BY n.created_at, n.id LIMIT 500`, p.about.WorkspaceID+p.about.ProjectID)
		return err
	})
	return p, ns, err
}

func (s pages) pageList(r *http.Request) (web.Answer, error) { return s.listPage(r, 0, ui.Form{}) }

func (s pages) listPage(r *http.Request, code int, f ui.Form) (web.Answer, error) {
	p, ns, err := s.ownerOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	return web.Answer{Page: listPage(p, ns, f), Status: code}, nil
}

// typed reads the form of a notification.
func typed(r *http.Request) Input {
	value := func(name string) *string { v := strings.TrimSpace(r.PostFormValue(name)); return &v }
	enabled := r.PostFormValue("enabled") == "true"
	in := Input{Name: value("name"), URL: value("url"), Enabled: &enabled, Triggers: &[]string{}, Emails: &[]string{}}
	if token := r.PostFormValue("token"); token != "" {
		in.Token = &token
	}
	for _, t := range triggers() {
		if slices.Contains(r.PostForm["triggers"], t) {
			*in.Triggers = append(*in.Triggers, t)
		}
	}
	for line := range strings.Lines(ui.Text(r.PostFormValue("email-addresses"))) {
		if line = strings.TrimSpace(line); line != "" {
			*in.Emails = append(*in.Emails, line)
		}
	}
	return in
}

// refused keeps what was typed, except the secret.
func refused(r *http.Request, err error) ui.Form {
	f := ui.Refused(r.PostForm, err)
	f.Values.Del("token")
	return f
}

func (s pages) pageCreate(r *http.Request) (web.Answer, error) {
	p, _, err := s.ownerOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	_ = r.ParseForm() // what cannot be read is missing
	in, destination := typed(r), r.PostFormValue("destination-type")
	in.Destination = &destination
	n, err := s.Create(r.Context(), p.about, in)
	if ui.Typo(err) {
		return s.listPage(r, http.StatusUnprocessableEntity, refused(r, err))
	}
	return web.Answer{Goto: p.to(string(n.ID))}, err
}

// A showView is what the page of a notification shows.
type showView struct {
	Notification
	Owner owner
	Log   []delivery
	Form  ui.Form
	Alert string
	Done  string
}

// one returns the notification of a request, which must be about what its
// path says.
func (s pages) one(r *http.Request) (v showView, err error) {
	p, ns, err := s.ownerOf(r)
	if err != nil {
		return v, err
	}
	i := slices.IndexFunc(ns, func(n Notification) bool { return string(n.ID) == r.PathValue("notification") })
	if i < 0 {
		return v, authz.ErrHidden()
	}
	v.Notification, v.Owner = ns[i], p
	return v, nil
}

// shownDeliveries is how many deliveries the page tells of.
const shownDeliveries = 50

func (s pages) showPage(r *http.Request, code int, say func(*showView)) (web.Answer, error) {
	v, err := s.one(r)
	if err != nil {
		return web.Answer{}, err
	}
	v.Form = ui.Fill("name", v.Name, "url", v.URL, "enabled", ui.Bool(v.Enabled), "destination-type", v.Destination, "email-addresses", strings.Join(v.Emails, "\n"))
	v.Form.Values["triggers"] = v.Triggers
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		v.Log, err = db.All(ctx, tx, scanDelivery, `SELECT `+deliveryColumns+` FROM delivery WHERE notification_id = $1 ORDER BY created_at DESC LIMIT $2`, v.ID, shownDeliveries)
		return err
	})
	say(&v)
	return web.Answer{Page: showPage(v), Status: code}, err
}

func (s pages) pageShow(r *http.Request) (web.Answer, error) {
	return s.showPage(r, 0, func(v *showView) {
		if r.URL.Query().Has("saved") {
			v.Done = "Saved."
		}
		if r.URL.Query().Has("verified") {
			v.Done = "The test message was taken."
		}
	})
}

func (s pages) pageUpdate(r *http.Request) (web.Answer, error) {
	v, err := s.one(r)
	if err != nil {
		return web.Answer{}, err
	}
	_ = r.ParseForm()
	in := typed(r)
	in.Users = &v.Users // the form does not show them; they stay
	if _, err = s.Update(r.Context(), v.ID, in); ui.Typo(err) {
		return s.showPage(r, http.StatusUnprocessableEntity, func(v *showView) { v.Form = refused(r, err) })
	}
	return web.Answer{Goto: v.Owner.to(string(v.ID)) + "?saved"}, err
}

func (s pages) pageVerify(r *http.Request) (web.Answer, error) {
	v, err := s.one(r)
	if err != nil {
		return web.Answer{}, err
	}
	if _, err = s.Verify(r.Context(), v.ID); ui.Typo(err) {
		return s.showPage(r, http.StatusUnprocessableEntity, func(v *showView) { v.Alert = core.Message(err) })
	}
	return web.Answer{Goto: v.Owner.to(string(v.ID)) + "?verified"}, err
}

func (s pages) pageDelete(r *http.Request) (web.Answer, error) {
	v, err := s.one(r)
	if err == nil {
		err = s.Delete(r.Context(), v.ID)
	}
	return web.Answer{Goto: v.Owner.path}, err
}
