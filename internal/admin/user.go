package admin

import (
	"context"
	"net/http"

	"interlock/internal/account"
	"interlock/internal/core"
	"interlock/internal/jsonapi"
)

type userAttributes struct {
	Username    string          `json:"username"`
	Email       string          `json:"email"`
	AvatarURL   string          `json:"avatar-url"`
	IsAdmin     bool            `json:"is-admin"`
	IsSuspended bool            `json:"is-suspended"`
	IsService   bool            `json:"is-service-account"`
	TwoFactor   map[string]bool `json:"two-factor"`
}

func userResource(u account.AdminUser, orgs bool) jsonapi.Resource {
	res := jsonapi.Resource{ID: string(u.ID), Type: "users", Attributes: userAttributes{Username: u.Username, Email: u.Email, AvatarURL: "/static/icon.svg",
		IsAdmin: u.SiteAdmin, IsSuspended: u.Suspended, IsService: u.Service, TwoFactor: map[string]bool{"enabled": false, "verified": false}},
		Links: map[string]any{"self": "/api/v2/users/" + string(u.ID)}}
	if orgs {
		refs := []jsonapi.Ref{}
		for _, o := range u.Orgs {
			refs = append(refs, jsonapi.Ref{ID: o, Type: "organizations"})
		}
		res.Relationships = map[string]jsonapi.Rel{"organizations": {Data: refs}}
	}
	return res
}

func userDoc(u account.AdminUser) *jsonapi.Doc { return jsonapi.One(userResource(u, true)) }

// orgsOf are short documents of the organizations of users, each once.
func orgsOf(us []account.AdminUser) (out []jsonapi.Resource) {
	seen := map[string]bool{}
	for _, u := range us {
		for _, o := range u.Orgs {
			if !seen[o] {
				seen[o] = true
				out = append(out, jsonapi.Resource{ID: o, Type: "organizations", Attributes: map[string]any{"name": o},
					Links: map[string]any{"self": "/api/v2/admin/organizations/" + o}})
			}
		}
	}
	return out
}

func (s *Service) users(r *http.Request) (*jsonapi.Doc, error) {
	inc, err := jsonapi.Includes(r, "organizations")
	if err != nil {
		return nil, err
	}
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	var f account.AdminUserFilter
	if f.Part, err = query(r, "q"); err != nil {
		return nil, err
	}
	if f.Admin, err = choice(r, "filter[admin]"); err != nil {
		return nil, err
	}
	if f.Suspended, err = choice(r, "filter[suspended]"); err != nil {
		return nil, err
	}
	us, total, err := s.Accounts.AdminUsers(r.Context(), f, p)
	if err != nil {
		return nil, err
	}
	d := jsonapi.Paged(r, us, p, int(total), func(u account.AdminUser) jsonapi.Resource { return userResource(u, true) })
	if inc["organizations"] {
		d.Included = orgsOf(us)
	}
	return d, nil
}

func (s *Service) user(r *http.Request) (*jsonapi.Doc, error) {
	u, err := s.Accounts.AdminUser(r.Context(), core.ID(r.PathValue("user")))
	return userDoc(u), err
}

func (s *Service) deleteUser(r *http.Request) (*jsonapi.Doc, error) {
	return nil, s.Accounts.DeleteUser(r.Context(), core.ID(r.PathValue("user")))
}

func (s *Service) userAction(f func(context.Context, core.ID) (account.AdminUser, error)) func(*http.Request) (*jsonapi.Doc, error) {
	return func(r *http.Request) (*jsonapi.Doc, error) {
		u, err := f(r.Context(), core.ID(r.PathValue("user")))
		return userDoc(u), err
	}
}
