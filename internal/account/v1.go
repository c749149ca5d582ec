package account

import (
	"context"
	"net"
	"net/http"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/web"
)

func (s *Service) v1Routes(rt *web.Router) {
	rt.V1("GET /api/v1/user/{username}", s.v1User)
	rt.V1Open("POST /api/v1/authenticate", s.v1Authenticate)
	rt.V1("GET /api/v1/authenticate", func(*http.Request) (any, error) { return nil, nil })
}

// v1User shows whose a name of the shared namespace is: a user or an
// organization.
func (s *Service) v1User(r *http.Request) (any, error) {
	ctx := r.Context()
	u, err := s.UserByName(ctx, r.PathValue("username"))
	name := u.Username
	switch core.KindOf(err) {
	case core.NotFound:
		var o Org
		o, _, err = s.OrgByName(ctx, r.PathValue("username"))
		name = o.Name
	default:
		if err == nil {
			err = s.sharesOrg(ctx, authz.Subject(ctx), u.ID)
		}
	}
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"username": name, "avatar_url": "", "profile_html": "", "profile_markdown": "", "boxes": []any{},
	}, nil
}

func (s *Service) v1Authenticate(w http.ResponseWriter, r *http.Request) error {
	in, err := web.ReadInput(r)
	if err != nil {
		return err
	}
	who, err := in.Object("user")
	if err != nil {
		return err
	}
	var f [3]string
	for i, k := range []string{"login", "password", "description"} {
		if f[i], err = who.String(k); err != nil {
			return err
		}
	}
	u, err := s.CheckLogin(r.Context(), f[0], f[1], RemoteHost(r))
	if err != nil {
		return err
	}
	t, err := s.IssueUserToken(r.Context(), u.ID, f[2], nil)
	if err != nil {
		return err
	}
	web.WriteJSON(w, r, map[string]string{"token": t.Secret.Reveal()})
	return nil
}

// RemoteHost is the address a request comes from, without its port.
func RemoteHost(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// sharesOrg hides user id from whoever has no organization in common with it.
func (s *Service) sharesOrg(ctx context.Context, sub core.Subject, id core.ID) error {
	if sub.ID == id {
		return nil
	}
	return s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		cond, arg := authz.VisibleOrgs(sub, 2)
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM org_member x JOIN organization o ON o.id = x.org_id WHERE x.user_id = $1 AND `+cond, id, arg)
		if err == nil && n == 0 {
			return authz.ErrHidden()
		}
		return err
	})
}
