package notify

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/web"
	"interlock/internal/web/ui"
	"interlock/internal/workspace"
)

func (s *Service) pages(rt *web.Router) {
	const at = "/app/{org}/{workspace}/notifications"
	rt.Page("GET "+at, s.pageList)
	rt.Page("POST "+at, s.pageCreate)
	rt.Page("GET "+at+"/{notification}", s.pageShow)
	rt.Page("POST "+at+"/{notification}", s.pageUpdate)
	rt.Page("POST "+at+"/{notification}/verify", s.pageVerify)
	rt.Page("POST "+at+"/{notification}/delete", s.pageDelete)
}

// workspaceOf returns the workspace of a request and its notifications, for
// those who manage them.
func (s *Service) workspaceOf(r *http.Request) (w workspace.View, ns []Notification, err error) {
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		found, err := workspace.Find(ctx, tx, r.PathValue("org"), r.PathValue("workspace"))
		if err != nil {
			return err
		}
		if err := may(ctx, tx, Notification{WorkspaceID: found.ID}); err != nil {
			return err
		}
		vs, err := workspace.Views(ctx, tx, []workspace.Workspace{found})
		if err != nil {
			return err
		}
		w = vs[0]
		ns, err = db.All(ctx, tx, scan, `SELECT `+columns+` FROM notification n WHERE n.workspace_id = $1 ORDER BY n.created_at, n.id LIMIT 500`, w.ID)
		return err
	})
	return w, ns, err
}

func path(w workspace.View, below ...string) string {
	return ui.WorkspacePath(w.OrgName, w.Name, append([]string{"notifications"}, below...)...)
}

func (s *Service) pageList(r *http.Request) (web.Answer, error) { return s.listPage(r, 0, ui.Form{}) }

func (s *Service) listPage(r *http.Request, code int, f ui.Form) (web.Answer, error) {
	w, ns, err := s.workspaceOf(r)
	return web.Answer{Page: listPage(w, ns, f), Status: code}, err
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

func (s *Service) pageCreate(r *http.Request) (web.Answer, error) {
	w, _, err := s.workspaceOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	_ = r.ParseForm() // what cannot be read is missing
	in, destination := typed(r), r.PostFormValue("destination-type")
	in.Destination = &destination
	n, err := s.Create(r.Context(), Notification{WorkspaceID: w.ID}, in)
	if ui.Typo(err) {
		return s.listPage(r, http.StatusUnprocessableEntity, refused(r, err))
	}
	return web.Answer{Goto: path(w, string(n.ID))}, err
}

// A showView is what the page of a notification shows.
type showView struct {
	Notification
	Workspace workspace.View
	Log       []delivery
	Form      ui.Form
	Alert     string
	Done      string
}

// find returns the notification of a request, which must be of the workspace in
// its path.
func (s *Service) find(r *http.Request) (v showView, err error) {
	w, ns, err := s.workspaceOf(r)
	if err != nil {
		return v, err
	}
	i := slices.IndexFunc(ns, func(n Notification) bool { return string(n.ID) == r.PathValue("notification") })
	if i < 0 {
		return v, authz.ErrHidden()
	}
	v.Notification, v.Workspace = ns[i], w
	return v, nil
}

// shownDeliveries is how many deliveries the page tells of.
const shownDeliveries = 50

func (s *Service) showPage(r *http.Request, code int, say func(*showView)) (web.Answer, error) {
	v, err := s.find(r)
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

func (s *Service) pageShow(r *http.Request) (web.Answer, error) {
	return s.showPage(r, 0, func(v *showView) {
		if r.URL.Query().Has("saved") {
			v.Done = "Saved."
		}
		if r.URL.Query().Has("verified") {
			v.Done = "The test message was taken."
		}
	})
}

func (s *Service) pageUpdate(r *http.Request) (web.Answer, error) {
	v, err := s.find(r)
	if err != nil {
		return web.Answer{}, err
	}
	_ = r.ParseForm()
	in := typed(r)
	in.Users = &v.Users // the form does not show them; they stay
	if _, err = s.Update(r.Context(), v.ID, in); ui.Typo(err) {
		return s.showPage(r, http.StatusUnprocessableEntity, func(v *showView) { v.Form = refused(r, err) })
	}
	return web.Answer{Goto: path(v.Workspace, string(v.ID)) + "?saved"}, err
}

func (s *Service) pageVerify(r *http.Request) (web.Answer, error) {
	v, err := s.find(r)
	if err != nil {
		return web.Answer{}, err
	}
	if _, err = s.Verify(r.Context(), v.ID); ui.Typo(err) {
		return s.showPage(r, http.StatusUnprocessableEntity, func(v *showView) { v.Alert = core.Message(err) })
	}
	return web.Answer{Goto: path(v.Workspace, string(v.ID)) + "?verified"}, err
}

func (s *Service) pageDelete(r *http.Request) (web.Answer, error) {
	v, err := s.find(r)
	if err == nil {
		err = s.Delete(r.Context(), v.ID)
	}
	return web.Answer{Goto: path(v.Workspace)}, err
}
