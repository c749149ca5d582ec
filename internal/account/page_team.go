package account

import (
	"net/http"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

func (s *Service) teamPages(rt *web.Router) {
	rt.Page("GET"+orgAt+"/teams", s.pageTeams)
	rt.Page("POST"+orgAt+"/teams", s.pageCreateTeam)
	rt.Page("GET"+orgAt+"/teams/{team}", s.pageTeam)
	rt.Page("POST"+orgAt+"/teams/{team}", s.pageUpdateTeam)
	rt.Page("POST"+orgAt+"/teams/{team}/members", s.pageTeamAdd)
	rt.Page("POST"+orgAt+"/teams/{team}/members/remove", s.pageTeamRemove)
	rt.Page("POST"+orgAt+"/teams/{team}/tokens", s.pageTeamToken)
	rt.Page("POST"+orgAt+"/teams/{team}/tokens/revoke", s.pageTeamRevoke)
	rt.Page("POST"+orgAt+"/teams/{team}/delete", s.pageDeleteTeam)
}

func (s *Service) pageTeams(r *http.Request) (web.Answer, error) { return s.teamsPage(r, ui.Form{}, 0) }

func (s *Service) teamsPage(r *http.Request, f ui.Form, code int) (web.Answer, error) {
	o, err := s.orgOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	p := jsonapi.Page{Number: ui.PageNumber(r.URL.Query()), Size: membersPerPage}
	ts, _, total, err := s.Teams(r.Context(), o.Name, TeamFilter{}, p)
	return web.Answer{Page: teamsPage(o, ts, total, p, f), Status: code}, err
}

func (s *Service) pageCreateTeam(r *http.Request) (web.Answer, error) {
	t := NewTeam()
	t.Name, t.Visibility = r.PostFormValue("name"), r.PostFormValue("visibility")
	t, _, err := s.CreateTeam(r.Context(), r.PathValue("org"), t)
	if ui.Typo(err) {
		return s.teamsPage(r, ui.Refused(r.PostForm, err), http.StatusUnprocessableEntity)
	}
	return web.Answer{Goto: t.path()}, err
}

func (t Team) path(below ...string) string {
	return ui.OrgPath(t.OrgName, append([]string{"teams", string(t.ID)}, below...)...)
}

// A teamView is what the page of a team shows.
type teamView struct {
	Team
	Org      orgView
	Members  []Membership
	Total    int64
	Page     jsonapi.Page
	Tokens   []Token
	CanToken bool

	Made                    Token
	Settings, Add, NewToken ui.Form
	Alert                   string
	Saved                   bool
}

// teamOf returns the team of a request, which must be of the organization in
// its path.
func (s *Service) teamOf(r *http.Request) (t Team, o orgView, err error) {
	if o, err = s.orgOf(r); err != nil {
		return t, o, err
	}
	t, _, err = s.Team(r.Context(), core.ID(r.PathValue("team")))
	if err == nil && t.OrgID != o.ID {
		err = authz.ErrHidden()
	}
	return t, o, err
}

func storedTeam(t Team) ui.Form {
	f := ui.Fill("name", t.Name, "visibility", t.Visibility, "member-tokens", ui.Bool(t.MemberTokens))
	for _, p := range core.OrgPermissions() {
		f.Values.Set(p, ui.Bool(t.Access[p] || t.Owners))
	}
	return f
}

func (s *Service) pageTeam(r *http.Request) (web.Answer, error) {
	return s.teamPage(r, 0, func(*teamView) {})
}

// teamPage shows a team; set adds what this answer has to say.
func (s *Service) teamPage(r *http.Request, code int, set func(*teamView)) (web.Answer, error) {
	t, o, err := s.teamOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	v := teamView{Team: t, Org: o, Settings: storedTeam(t), Saved: r.URL.Query().Has("saved"),
		Page: jsonapi.Page{Number: ui.PageNumber(r.URL.Query()), Size: membersPerPage}, CanToken: t.canToken(o.Can, authz.Subject(r.Context()))}
	if v.Members, v.Total, err = s.TeamMemberships(r.Context(), t.ID, "", v.Page); err != nil {
		return web.Answer{}, err
	}
	if v.CanToken {
		all, _, err := s.TeamTokens(r.Context(), o.Name, TokenFilter{Team: t.Name, Sort: "-created-at"}, jsonapi.Page{Number: 1, Size: 200})
		if err != nil {
			return web.Answer{}, err
		}
		for _, tok := range all {
			if tok.OwnerID == t.ID {
				v.Tokens = append(v.Tokens, tok)
			}
		}
	}
	set(&v)
	return web.Answer{Page: teamPage(v), Status: code}, nil
}

func (s *Service) pageUpdateTeam(r *http.Request) (web.Answer, error) {
	t, o, err := s.teamOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	t, _, err = s.UpdateTeam(r.Context(), t.ID, func(t *Team) {
		if t.CanManage(o.Can) {
			if !t.Owners {
				t.Name, t.Visibility = r.PostFormValue("name"), r.PostFormValue("visibility")
			}
			t.MemberTokens = r.PostFormValue("member-tokens") == "true"
		}
		if t.CanAccess(o.Can) {
			for _, p := range core.OrgPermissions() {
				t.Access[p] = r.PostFormValue(p) == "true"
			}
		}
	})
	if ui.Typo(err) {
		return s.teamPage(r, http.StatusUnprocessableEntity, func(v *teamView) { v.Settings = ui.Refused(r.PostForm, err) })
	}
	return web.Answer{Goto: t.path() + "?saved"}, err
}

func (s *Service) pageTeamAdd(r *http.Request) (web.Answer, error) {
	t, o, err := s.teamOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	if _, err = s.AddMember(r.Context(), o.Name, r.PostFormValue("email"), []core.ID{t.ID}); ui.Typo(err) {
		return s.teamPage(r, http.StatusUnprocessableEntity, func(v *teamView) { v.Add = ui.Refused(r.PostForm, err) })
	}
	return web.Answer{Goto: t.path()}, err
}

func (s *Service) pageTeamRemove(r *http.Request) (web.Answer, error) {
	t, _, err := s.teamOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	if err = s.SetTeamMemberships(r.Context(), t.ID, []core.ID{core.ID(r.PostFormValue("member"))}, false); ui.Typo(err) {
		return s.teamPage(r, http.StatusConflict, func(v *teamView) { v.Alert = core.Message(err) })
	}
	return web.Answer{Goto: t.path()}, err
}

// expiry reads the life that was chosen for a token; nil for the default.
func (s *Service) expiry(r *http.Request) (*time.Time, error) {
	days, ok := lifetimes[r.PostFormValue("expires")]
	if !ok {
		return nil, core.Errorf(core.Malformed, "a token cannot have this life")
	}
	if days == 0 {
		return nil, nil
	}
	at := s.DB.Now().UTC().AddDate(0, 0, days)
	return &at, nil
}

func (s *Service) pageTeamToken(r *http.Request) (web.Answer, error) {
	t, _, err := s.teamOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	expires, err := s.expiry(r)
	if err != nil {
		return web.Answer{}, err
	}
	made, err := s.AddTeamToken(r.Context(), t.ID, r.PostFormValue("description"), expires)
	if ui.Typo(err) {
		return s.teamPage(r, http.StatusUnprocessableEntity, func(v *teamView) { v.NewToken = ui.Refused(r.PostForm, err) })
	}
	if err != nil {
		return web.Answer{}, err
	}
	return s.teamPage(r, http.StatusCreated, func(v *teamView) { v.Made = made })
}

func (s *Service) pageTeamRevoke(r *http.Request) (web.Answer, error) {
	t, _, err := s.teamOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	tok, err := s.Token(r.Context(), core.ID(r.PostFormValue("token")))
	if err == nil && tok.OwnerID != t.ID {
		err = authz.ErrHidden()
	}
	if err == nil {
		err = s.DeleteToken(r.Context(), tok.ID)
	}
	return web.Answer{Goto: t.path()}, err
}

func (s *Service) pageDeleteTeam(r *http.Request) (web.Answer, error) {
	t, _, err := s.teamOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	if err = s.DeleteTeam(r.Context(), t.ID); ui.Typo(err) {
		return s.teamPage(r, http.StatusConflict, func(v *teamView) { v.Alert = core.Message(err) })
	}
	return web.Answer{Goto: ui.OrgPath(t.OrgName, "teams")}, err
}
