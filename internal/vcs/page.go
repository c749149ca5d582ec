package vcs

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/outbound"
	"interlock/internal/web"
	"interlock/internal/web/ui"
	"interlock/internal/workspace"
)

func (s *Service) pages(rt *web.Router) {
	const at = "/app/organizations/{org}/vcs"
	rt.Page("GET "+at, func(r *http.Request) (web.Answer, error) { return s.clientsPage(r, 0, ui.Form{}) })
	rt.Page("POST "+at, s.pageCreate)
	rt.Page("GET "+at+"/{client}", func(r *http.Request) (web.Answer, error) { return s.clientPage(r, 0, nil) })
	rt.Page("POST "+at+"/{client}", s.pageUpdate)
	rt.Page("POST "+at+"/{client}/delete", s.pageDelete)
	rt.Page("POST "+at+"/{client}/test", s.pageTest)
	rt.Page("POST "+at+"/{client}/discover", s.pageDiscover)
	rt.Page("POST "+at+"/{client}/workspaces", s.pageAdopt)
	s.workspacePages(rt)
}

// A clientList is the page of an organization's connections.
type clientList struct {
	Org     account.Org
	Can     core.Right
	Clients []Client
	Total   int64
	Page    jsonapi.Page
	Form    ui.Form
}

func vcsPath(org string, below ...string) string {
	return ui.OrgPath(org, append([]string{"vcs"}, below...)...)
}

func (s *Service) orgOf(r *http.Request) (o account.Org, can core.Right, err error) {
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		if o, err = s.org(ctx, tx, r.PathValue("org")); err != nil {
			return err
		}
		can, err = authz.OrgRights(ctx, tx, o.ID)
		return err
	})
	return o, can, err
}

func (s *Service) clientsPage(r *http.Request, code int, f ui.Form) (web.Answer, error) {
	o, can, err := s.orgOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	l := clientList{Org: o, Can: can, Form: f, Page: jsonapi.Page{Number: ui.PageNumber(r.URL.Query()), Size: 50}}
	l.Clients, l.Total, err = s.Clients(r.Context(), o.Name, l.Page)
	return web.Answer{Page: listPage(l), Status: code}, err
}

// typed reads a connection from a form; empty secrets stay as they are.
func typed(r *http.Request) (in Input) {
	text := func(name string) *string {
		v := strings.TrimSpace(ui.Text(r.PostFormValue(name)))
		return &v
	}
	secret := func(name string) *string {
		if v := text(name); *v != "" {
			return v
		}
		return nil
	}
	in = Input{Name: text("name"), Key: text("key"), Token: secret("token"), SSHKey: secret("ssh-key")}
	if v := text("service-provider"); *v != "" {
		in.Provider = v
	}
	in.HTTPURL, in.APIURL = secret("http-url"), secret("api-url")
	return in
}

// hidden takes the secrets out of a form that is shown again.
func hidden(r *http.Request, err error) ui.Form {
	f := ui.Refused(r.PostForm, err)
	f.Values = url.Values{}
	for k, v := range r.PostForm {
		if k != "token" && k != "ssh-key" {
			f.Values[k] = v
		}
	}
	switch f.Field {
	case "oauth-token-string":
		f.Field = "token"
	case "private-key":
		f.Field = "ssh-key"
	}
	return f
}

func (s *Service) pageCreate(r *http.Request) (web.Answer, error) {
	in := typed(r)
	if in.APIURL == nil {
		in.APIURL = apiOf(in)
	}
	c, err := s.CreateClient(r.Context(), r.PathValue("org"), in)
	if ui.Typo(err) {
		return s.clientsPage(r, http.StatusUnprocessableEntity, hidden(r, err))
	}
	return web.Answer{Goto: vcsPath(c.OrgName, string(c.ID))}, err
}

// apiOf is where the API of a well-known forge is, if nobody said.
func apiOf(in Input) *string {
	if in.HTTPURL == nil || in.Provider == nil {
		return nil
	}
	u := strings.TrimRight(*in.HTTPURL, "/")
	switch {
	case *in.Provider == "github":
		u = "https://api.github.com"
	case *in.Provider == "github_enterprise":
		u += "/api/v3"
	case strings.HasPrefix(*in.Provider, "gitlab"):
		u += "/api/v4"
	case *in.Provider == "bitbucket_hosted":
		u = "https://api.bitbucket.org/2.0"
	case strings.HasPrefix(*in.Provider, "bitbucket"):
		u += "/rest/api/1.0"
	}
	return &u
}

// A clientView is the page of one connection.
type clientView struct {
	Client
	Can          core.Right
	Repositories []Repository
	Workspaces   map[string]int64 // of each repository
	Form, Find   ui.Form
	Test         string // what came of a test
	TestOK       bool
	Roots        []Root
	Found        bool // roots were looked for
	Saved        bool
}

func (s *Service) clientPage(r *http.Request, code int, set func(*clientView)) (web.Answer, error) {
	v, err := s.clientView(r)
	if err != nil {
		return web.Answer{}, err
	}
	if set != nil {
		set(&v)
	}
	return web.Answer{Page: clientShow(v), Status: code}, nil
}

func (s *Service) clientView(r *http.Request) (v clientView, err error) {
	o, can, err := s.orgOf(r)
	if err != nil {
		return v, err
	}
	v.Can, v.Saved, v.Workspaces = can, r.URL.Query().Has("saved"), map[string]int64{}
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		if v.Client, err = s.client(ctx, tx, core.ID(r.PathValue("client"))); err != nil {
			return err
		}
		if v.OrgID != o.ID {
			return authz.ErrHidden()
		}
		if v.Repositories, err = db.All(ctx, tx, scanRepo, `SELECT `+repoColumns+` FROM vcs_repository r JOIN oauth_token t ON t.id = r.token_id
			WHERE t.client_id = $1 ORDER BY r.identifier LIMIT 200`, v.ID); err != nil {
			return err
		}
		for _, x := range v.Repositories {
			if v.Workspaces[x.Identifier], err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM workspace WHERE vcs_token_id = $1 AND vcs_identifier = $2`, x.TokenID, x.Identifier); err != nil {
				return err
			}
		}
		return nil
	})
	v.Form = ui.Fill("name", v.Name, "key", v.Key)
	return v, err
}

func (s *Service) pageUpdate(r *http.Request) (web.Answer, error) {
	v, err := s.clientView(r)
	if err != nil {
		return web.Answer{}, err
	}
	in := typed(r)
	in.Provider, in.HTTPURL, in.APIURL = nil, nil, nil
	_, err = s.UpdateClient(r.Context(), v.ID, in)
	if ui.Typo(err) {
		return s.clientPage(r, http.StatusUnprocessableEntity, func(x *clientView) { x.Form = hidden(r, err) })
	}
	return web.Answer{Goto: vcsPath(v.OrgName, string(v.ID)) + "?saved"}, err
}

func (s *Service) pageDelete(r *http.Request) (web.Answer, error) {
	v, err := s.clientView(r)
	if err == nil {
		err = s.DeleteClient(r.Context(), v.ID)
	}
	return web.Answer{Goto: vcsPath(v.OrgName)}, err
}

// pageTest asks the forge who we are, or a git server for one of the
// repositories.
func (s *Service) pageTest(r *http.Request) (web.Answer, error) {
	v, err := s.clientView(r)
	if err != nil {
		return web.Answer{}, err
	}
	said, terr := s.test(r.Context(), v)
	return s.clientPage(r, 0, func(x *clientView) {
		if x.Test, x.TestOK = said, terr == nil; terr != nil {
			x.Test = core.Message(outbound.Reason(terr))
		}
	})
}

func (s *Service) test(ctx context.Context, v clientView) (string, error) {
	if len(v.Tokens) == 0 {
		return "", core.Errorf(core.Invalid, "the connection has no token")
	}
	var o opened
	if err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		o, err = s.open(ctx, tx, v.Tokens[0].ID)
		return err
	}); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if o.forge != nil {
		name, err := o.forge.User(ctx)
		return "It works: the token is " + name + "'s.", err
	}
	if len(v.Repositories) == 0 {
		return "", core.Errorf(core.Invalid, "a git server can be tried once a workspace is connected to one of its repositories")
	}
	if err := o.ready(ctx, v.Repositories[0].Identifier); err != nil {
		return "", err
	}
	_, err := s.Git.Refs(ctx, &o.remote)
	return "It works: " + v.Repositories[0].Identifier + " was read.", err
}

func (s *Service) pageDiscover(r *http.Request) (web.Answer, error) {
	v, err := s.clientView(r)
	if err != nil {
		return web.Answer{}, err
	}
	roots, err := s.Discover(r.Context(), v.ID, r.PostFormValue("repository"), strings.TrimSpace(r.PostFormValue("branch")))
	if ui.Typo(err) {
		return s.clientPage(r, http.StatusUnprocessableEntity, func(x *clientView) { x.Find = ui.Refused(r.PostForm, err) })
	}
	if err != nil {
		return web.Answer{}, err
	}
	return s.clientPage(r, 0, func(x *clientView) {
		x.Roots, x.Found, x.Find = roots, true, ui.Form{Values: r.PostForm}
	})
}

// pageAdopt makes a workspace of a directory that was found.
func (s *Service) pageAdopt(r *http.Request) (web.Answer, error) {
	v, err := s.clientView(r)
	if err != nil {
		return web.Answer{}, err
	}
	if len(v.Tokens) == 0 {
		return web.Answer{}, core.Errorf(core.Conflict, "the connection has no token")
	}
	w := workspace.Defaults()
	value := r.PostFormValue
	w.Name, w.WorkingDirectory, w.ExecutionMode, w.Source = strings.TrimSpace(value("name")), value("dir"), "", "tfe-ui"
	w.Repo = workspace.Repo{TokenID: v.Tokens[0].ID, Identifier: strings.Trim(strings.TrimSpace(value("repository")), "/"), Branch: strings.TrimSpace(value("branch"))}
	w.TriggerPrefixes = nil
	for p := range strings.FieldsSeq(value("prefixes")) {
		w.TriggerPrefixes = append(w.TriggerPrefixes, p)
	}
	made, err := s.Workspaces.Create(r.Context(), v.OrgName, "", w)
	if ui.Typo(err) {
		return s.clientPage(r, http.StatusUnprocessableEntity, func(x *clientView) {
			x.Find = ui.Form{Values: r.PostForm, Field: "workspace", Msg: "cannot be made: its " + strings.TrimSpace(ui.Refused(r.PostForm, err).Field+" "+core.Message(err))}
		})
	}
	return web.Answer{Goto: ui.WorkspacePath(made.OrgName, made.Name, "version-control")}, err
}

// options are the connections that a workspace may use, by token.
func (s *Service) options(ctx context.Context, tx *db.Tx, w workspace.Workspace) (out []ui.Option, err error) {
	cs, err := db.All(ctx, tx, func(r db.Row) (x [4]string, err error) { return x, r.Scan(&x[0], &x[1], &x[2], &x[3]) },
		`SELECT t.id, c.name, c.provider, c.http_url FROM oauth_client c JOIN oauth_token t ON t.client_id = c.id
		WHERE c.org_id = $1 AND (c.org_scoped OR EXISTS (SELECT 1 FROM oauth_client_project p WHERE p.client_id = c.id AND p.project_id = $2))
		ORDER BY c.created_at, c.id LIMIT 500`, w.OrgID, w.ProjectID)
	for _, c := range cs {
		name := label(c[2]) + " " + c[3]
		if c[1] != "" {
			name = c[1] + " (" + name + ")"
		}
		out = append(out, ui.Option{Value: c[0], Label: name})
	}
	return out, err
}
