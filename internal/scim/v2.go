package scim

import (
	"context"
	"net/http"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

type tokenAttributes struct {
	Description string     `json:"description"`
	Token       *string    `json:"token"` // only when it is made
	CreatedAt   time.Time  `json:"created-at"`
	LastUsedAt  *time.Time `json:"last-used-at"`
	ExpiredAt   time.Time  `json:"expired-at"`
	URL         string     `json:"url"`
}

func (s *Service) resource(t Token) jsonapi.Resource {
	a := tokenAttributes{Description: t.Description, CreatedAt: t.CreatedAt, LastUsedAt: t.LastUsedAt, ExpiredAt: t.ExpiresAt, URL: s.Base + at}
	if v := t.Secret.Reveal(); v != "" {
		a.Token = &v
	}
	return jsonapi.Resource{ID: string(t.ID), Type: "scim-tokens", Attributes: a, Links: map[string]any{"self": "/api/v2/scim-tokens/" + string(t.ID)}}
}

func (s *Service) api(rt *web.Router) {
	const of = "/api/v2/organizations/{org}/scim-tokens"
	rt.V2("GET "+of, 200, func(r *http.Request) (*jsonapi.Doc, error) {
		ts, err := s.Tokens(r.Context(), r.PathValue("org"))
		if err != nil {
			return nil, err
		}
		return jsonapi.Paged(r, ts, jsonapi.Page{Number: 1, Size: maxTokens}, len(ts), s.resource), nil
	})
	rt.V2("POST "+of, 201, func(r *http.Request) (*jsonapi.Doc, error) {
		if _, err := s.Tokens(r.Context(), r.PathValue("org")); err != nil {
			return nil, err // who may not is told so before what they sent is read
		}
		var in struct {
			Description jsonapi.Opt[string]    `json:"description"`
			ExpiredAt   jsonapi.Opt[time.Time] `json:"expired-at"`
		}
		if _, err := jsonapi.Decode(r.Body, "scim-tokens", &in); err != nil {
			return nil, err
		}
		var expires *time.Time
		if in.ExpiredAt.Set && !in.ExpiredAt.Null {
			expires = &in.ExpiredAt.Value
		}
		t, err := s.CreateToken(r.Context(), r.PathValue("org"), in.Description.Value, expires)
		return jsonapi.One(s.resource(t)), err
	})
	rt.V2("GET /api/v2/scim-tokens/{token}", 200, func(r *http.Request) (*jsonapi.Doc, error) {
		var t Token
		err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
			t, err = s.token(ctx, tx, core.ID(r.PathValue("token")))
			return err
		})
		return jsonapi.One(s.resource(t)), err
	})
	rt.V2("DELETE /api/v2/scim-tokens/{token}", 204, func(r *http.Request) (*jsonapi.Doc, error) {
		return nil, s.Revoke(r.Context(), core.ID(r.PathValue("token")))
	})
}
