package account

import (
	"context"
	"net/http"
	"strconv"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

// orgAt is where the pages of an organization are.
const orgAt = " /app/organizations/{org}"

func (s *Service) orgPages(rt *web.Router) {
	rt.Page("GET"+orgAt+"/members", s.pageMembers)
	rt.Page("POST"+orgAt+"/members", s.pageAddMember)
	rt.Page("POST"+orgAt+"/members/remove", s.pageRemoveMember)
	rt.Page("GET"+orgAt+"/tokens", s.pageOrgTokens)
	rt.Page("POST"+orgAt+"/tokens", s.pageNewOrgToken)
	rt.Page("POST"+orgAt+"/tokens/revoke", s.pageDropOrgToken)
	rt.Page("GET"+orgAt+"/settings", s.pageOrgSettings)
	rt.Page("POST"+orgAt+"/settings", s.pageUpdateOrg)
	rt.Page("POST"+orgAt+"/settings/retention", s.pageOrgRetention)
	rt.Page("POST"+orgAt+"/settings/delete", s.pageDeleteOrg)
}

// An orgView is an organization and what the reader may do there.
type orgView struct {
	Org
	Can core.Right
}

func (s *Service) orgOf(r *http.Request) (v orgView, err error) {
	v.Org, v.Can, err = s.OrgByName(r.Context(), r.PathValue("org"))
	return v, err
}

// membersPerPage is the number of members on a page.
const membersPerPage = 50

// maxTeamsShown bounds the teams that a form offers.
const maxTeamsShown = 500

func (s *Service) pageMembers(r *http.Request) (web.Answer, error) {
	return s.membersPage(r, ui.Form{}, 0)
}

func (s *Service) membersPage(r *http.Request, f ui.Form, code int) (web.Answer, error) {
	o, err := s.orgOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	q := r.URL.Query()
	p := jsonapi.Page{Number: ui.PageNumber(q), Size: membersPerPage}
	ms, total, err := s.Members(r.Context(), o.Name, MemberFilter{Part: q.Get("q")}, p)
	if err != nil {
		return web.Answer{}, err
	}
	ts, _, _, err := s.Teams(r.Context(), o.Name, TeamFilter{}, jsonapi.Page{Number: 1, Size: maxTeamsShown})
	return web.Answer{Page: membersPage(o, ms, ts, total, p, q, f), Status: code}, err
}

func (s *Service) pageAddMember(r *http.Request) (web.Answer, error) {
	var teams []core.ID
	if t := r.PostFormValue("team"); t != "" {
		teams = []core.ID{core.ID(t)}
	}
	m, err := s.AddMember(r.Context(), r.PathValue("org"), r.PostFormValue("email"), teams)
	if ui.Typo(err) {
		return s.membersPage(r, ui.Refused(r.PostForm, err), http.StatusUnprocessableEntity)
	}
	return web.Answer{Goto: ui.OrgPath(m.Org, "members")}, err
}

func (s *Service) pageRemoveMember(r *http.Request) (web.Answer, error) {
	o, err := s.orgOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	err = s.RemoveMember(r.Context(), core.ID(r.PostFormValue("member")))
	if ui.Typo(err) {
		return s.membersPage(r, ui.Form{Msg: core.Message(err)}, http.StatusConflict)
	}
	return web.Answer{Goto: ui.OrgPath(o.Name, "members")}, err
}

// tokenKinds are the tokens that an organization has one of each.
var tokenKinds = map[string]core.SubjectKind{"organization": core.OrgKind, "audit": core.AuditKind}

func (s *Service) pageOrgTokens(r *http.Request) (web.Answer, error) {
	return s.orgTokensPage(r, Token{}, 0)
}

func (s *Service) orgTokensPage(r *http.Request, made Token, code int) (web.Answer, error) {
	o, err := s.orgOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	have := map[string]*Token{}
	for name, kind := range tokenKinds {
		t, err := s.OneToken(r.Context(), kind, o.ID)
		if err == nil {
			have[name] = &t
		} else if core.KindOf(err) != core.NotFound || !o.Can.Has(core.ManageOrgTokens) {
			return web.Answer{}, err
		}
	}
	return web.Answer{Page: orgTokensPage(o, have, made), Status: code}, nil
}

func (s *Service) pageNewOrgToken(r *http.Request) (web.Answer, error) {
	o, err := s.orgOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	expires, err := s.expiry(r)
	kind, ok := tokenKinds[r.PostFormValue("kind")]
	if err != nil || !ok {
		return web.Answer{}, core.Errorf(core.Malformed, "there is no such token")
	}
	t, err := s.ReplaceToken(r.Context(), kind, o.ID, expires)
	if err != nil {
		return web.Answer{}, err
	}
	return s.orgTokensPage(r, t, http.StatusCreated)
}

func (s *Service) pageDropOrgToken(r *http.Request) (web.Answer, error) {
	o, err := s.orgOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	// One that is gone already is what the caller wanted; who may not is told so.
	err = s.DropToken(r.Context(), tokenKinds[r.PostFormValue("kind")], o.ID)
	if core.KindOf(err) == core.NotFound && o.Can.Has(core.ManageOrgTokens) {
		err = nil
	}
	return web.Answer{Goto: ui.OrgPath(o.Name, "tokens")}, err
}

// agentPools lists the agent pools of an organization, for a form to offer.
func (s *Service) agentPools(ctx context.Context, org core.ID) (out []ui.Option, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		out, err = db.All(ctx, tx, func(r db.Row) (o ui.Option, err error) { return o, r.Scan(&o.Value, &o.Label) },
			`SELECT id, name FROM agent_pool WHERE org_id = $1 ORDER BY name_key LIMIT 500`, org)
		return err
	})
	return out, err
}

func minutes(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

func storedOrg(o Org) ui.Form {
	return ui.Fill("name", o.Name, "email", o.Email, "default-execution-mode", o.DefaultMode, "default-agent-pool", string(o.DefaultPool),
		"allow-force-delete", ui.Bool(o.ForceDelete), "user-tokens", ui.Bool(o.UserTokens), "two-factor", ui.Bool(o.TwoFactor),
		"session-timeout", minutes(o.SessionTimeout), "session-remember", minutes(o.SessionRemember))
}

func (s *Service) pageOrgSettings(r *http.Request) (web.Answer, error) {
	o, err := s.orgOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	return s.orgSettingsPage(r, o, orgForms{set: storedOrg(o.Org), keep: storedRetention(o.Org)}, 0)
}

// orgForms are the forms of the page of settings.
type orgForms struct{ set, keep, del ui.Form }

func (s *Service) orgSettingsPage(r *http.Request, o orgView, f orgForms, code int) (web.Answer, error) {
	var pools []ui.Option
	var err error
	if o.Can.Has(core.UpdateOrg) {
		pools, err = s.agentPools(r.Context(), o.ID)
	}
	return web.Answer{Page: orgSettings(o, f.set, f.keep, f.del, pools, r.URL.Query().Has("saved")), Status: code}, err
}

// number reads a whole number that may be left empty for 0.
func number(r *http.Request, name string) (int64, error) {
	v := r.PostFormValue(name)
	if v == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil {
		return 0, core.Errorf(core.Invalid, "must be a whole number").InField(name)
	}
	return n, nil
}

func (s *Service) pageUpdateOrg(r *http.Request) (web.Answer, error) {
	before, err := s.orgOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	o, err := s.UpdateOrg(r.Context(), before.Name, func(o *Org) (err error) {
		o.Name, o.Email = r.PostFormValue("name"), r.PostFormValue("email")
		o.DefaultMode, o.DefaultPool = r.PostFormValue("default-execution-mode"), ""
		if o.DefaultMode == "agent" {
			o.DefaultPool = core.ID(r.PostFormValue("default-agent-pool"))
		}
		o.ForceDelete, o.UserTokens = r.PostFormValue("allow-force-delete") == "true", r.PostFormValue("user-tokens") == "true"
		if demand := r.PostFormValue("two-factor") == "true"; demand != o.TwoFactor {
			if o.TwoFactor = demand; demand && authz.Subject(r.Context()).OneFactor {
				return core.Errorf(core.Invalid, "would lock you out: switch on your own second factor first, on the page Two-factor of your account").InField("two-factor")
			}
		}
		if o.SessionTimeout, err = number(r, "session-timeout"); err != nil {
			return err
		}
		o.SessionRemember, err = number(r, "session-remember")
		return err
	})
	if ui.Typo(err) {
		return s.orgSettingsPage(r, before, orgForms{set: ui.Refused(r.PostForm, err), keep: storedRetention(before.Org)}, http.StatusUnprocessableEntity)
	}
	return web.Answer{Goto: ui.OrgPath(o.Name, "settings") + "?saved"}, err
}

func storedRetention(o Org) ui.Form {
	if o.Retention.ID != "" && o.Retention.Days == 0 {
		return ui.Retention(-1)
	}
	return ui.Retention(o.Retention.Days)
}

func (s *Service) pageOrgRetention(r *http.Request) (web.Answer, error) {
	o, err := s.orgOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	if !o.Can.Has(core.UpdateOrg) {
		return web.Answer{}, authz.ErrHidden()
	}
	_ = r.ParseForm()
	days, err := ui.ReadRetention(r.PostForm)
	if err == nil {
		var rule *Retention
		if days != 0 {
			rule = &Retention{Days: max(days, 0)}
		}
		_, err = s.SetRetention(r.Context(), o.Name, rule)
	}
	if ui.Typo(err) {
		f := ui.Refused(r.PostForm, err)
		f.Field = "days"
		return s.orgSettingsPage(r, o, orgForms{set: storedOrg(o.Org), keep: f}, http.StatusUnprocessableEntity)
	}
	return web.Answer{Goto: ui.OrgPath(o.Name, "settings") + "?saved"}, err
}

// pageDeleteOrg deletes an organization once its name was typed.
func (s *Service) pageDeleteOrg(r *http.Request) (web.Answer, error) {
	o, err := s.orgOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	if !o.Can.Has(core.DeleteOrg) {
		return web.Answer{}, authz.ErrHidden()
	}
	if r.PostFormValue("confirm") != o.Name {
		err = core.Errorf(core.Invalid, "is not %q", o.Name).InField("confirm")
	} else {
		err = s.DeleteOrg(r.Context(), o.Name)
	}
	if ui.Typo(err) {
		return s.orgSettingsPage(r, o, orgForms{set: storedOrg(o.Org), keep: storedRetention(o.Org), del: ui.Refused(r.PostForm, err)}, http.StatusUnprocessableEntity)
	}
	return web.Answer{Goto: "/app/organizations"}, err
}
