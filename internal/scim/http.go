package scim

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/web"
)

// at is where a directory finds us. The organization is that of its token.
const at = "/scim/v2"

// Pages of lists.
const (
	pageSize = 100
	pageMost = 200
)

// handler answers with a status and a document; nil is none.
type handler func(r *http.Request, t Token) (int, any, error)

// Routes mounts SCIM, the API of its tokens and their page.
func (s *Service) Routes(rt *web.Router) {
	on := func(pattern string, f handler) {
		method, path, _ := strings.Cut(pattern, " ")
		rt.Raw(method+" "+at+path, s.serve(f))
	}
	on("GET /ServiceProviderConfig", s.config)
	on("GET /ResourceTypes", s.resourceTypes)
	on("GET /ResourceTypes/{type}", s.resourceType)
	on("GET /Schemas", s.schemas)
	on("GET /Schemas/{schema}", s.schema)
	on("GET /Users", s.listUsers)
	on("POST /Users", s.postUser)
	on("GET /Users/{id}", s.getUser)
	on("PUT /Users/{id}", s.putUser)
	on("PATCH /Users/{id}", s.patchUser)
	on("DELETE /Users/{id}", s.deleteUser)
	on("GET /Groups", s.listGroups)
	on("POST /Groups", s.postGroup)
	on("GET /Groups/{id}", s.getGroup)
	on("PUT /Groups/{id}", s.putGroup)
	on("PATCH /Groups/{id}", s.patchGroup)
	on("DELETE /Groups/{id}", s.deleteGroup)
	s.api(rt)
	s.pages(rt)
}

func (s *Service) serve(f handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		scheme, bearer, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		var t Token
		err := error(core.Errorf(core.Unknown, "a token of the organization's directory is needed (Authorization: Bearer …)"))
		if strings.EqualFold(scheme, "Bearer") && bearer != "" {
			t, err = s.identify(r.Context(), strings.TrimSpace(bearer))
		}
		var code int
		var doc any
		if err == nil {
			ctx := authz.With(r.Context(), core.Subject{Kind: core.OrgKind, ID: t.OrgID, OrgID: t.OrgID, Name: t.Org, TokenID: t.ID})
			code, doc, err = f(r.WithContext(ctx), t)
		}
		if err != nil {
			code, doc = failure(r, err)
		}
		if code == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Bearer realm="scim"`)
		}
		if doc == nil {
			w.WriteHeader(code)
			return
		}
		w.Header().Set("Content-Type", "application/scim+json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(doc) // who left does not wait for it
	}
}

// failure is an error in SCIM's form. What broke on our side is only logged.
func failure(r *http.Request, err error) (int, any) {
	code, kind, msg := 0, "", ""
	if f, ok := errors.AsType[fault](err); ok {
		code, kind, msg = f.status, f.kind, f.msg
	} else {
		code, msg = web.Code(core.KindOf(err)), core.Message(err)
		switch core.KindOf(err) {
		case core.Internal:
			slog.ErrorContext(r.Context(), "request failed", "method", r.Method, "route", r.Pattern, "err", err)
			msg = "something went wrong on our side"
		case core.Denied:
			code, msg = http.StatusNotFound, "not found"
		case core.Invalid:
			code, kind = http.StatusBadRequest, "invalidValue"
		}
	}
	doc := map[string]any{"schemas": []string{errorSchema}, "status": strconv.Itoa(code), "detail": msg}
	if kind != "" {
		doc["scimType"] = kind
	}
	return code, doc
}

// decode reads a body, which must name a schema.
func decode(r *http.Request, schema string, v any, schemas func() []string) error {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return core.Wrap(err, core.TooLarge, "the request body is too large")
		}
		return bad("invalidSyntax", "the request body ended early")
	}
	if err := json.Unmarshal(b, v); err != nil {
		if f, ok := errors.AsType[fault](err); ok {
			return f
		}
		return bad("invalidSyntax", "the request body is not the JSON of what it should be")
	}
	if !slices.Contains(schemas(), schema) {
		return bad("invalidSyntax", "schemas must name %s", schema)
	}
	return nil
}

// window reads which part of a list is wanted.
func window(q url.Values) (start, count int, err error) {
	start, count = 1, pageSize
	for name, to := range map[string]*int{"startIndex": &start, "count": &count} {
		if v := q.Get(name); v != "" {
			if *to, err = strconv.Atoi(v); err != nil || *to > 1<<30 {
				return 0, 0, bad("invalidValue", "%s must be a number", name)
			}
		}
	}
	return max(start, 1), min(max(count, 0), pageMost), nil
}

func list[T any](total int64, start int, items []T) any {
	if items == nil {
		items = []T{}
	}
	return map[string]any{"schemas": []string{listSchema}, "totalResults": total, "startIndex": start, "itemsPerPage": len(items), "Resources": items}
}

func (s *Service) userDoc(p person) userDoc {
	d := p.doc
	on := flag(p.active)
	d.Schemas, d.ID, d.Active = []string{userSchema}, p.id, &on
	d.Meta = &meta{"User", p.created, p.modified, s.Base + at + "/Users/" + string(p.id)}
	return d
}

func (s *Service) groupDoc(g group, members []ref) groupDoc {
	return groupDoc{Schemas: []string{groupSchema}, ID: g.ID, ExternalID: g.external, DisplayName: g.Name, Members: members,
		Meta: &meta{"Group", g.created, g.modified, s.Base + at + "/Groups/" + string(g.ID)}}
}

func (s *Service) listUsers(r *http.Request, t Token) (int, any, error) {
	q := r.URL.Query()
	start, count, err := window(q)
	if err != nil {
		return 0, nil, err
	}
	f, err := parseFilter(q.Get("filter"), "userName", "externalId", "id")
	if err != nil {
		return 0, nil, err
	}
	var ds []userDoc
	var total int64
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		ps, n, err := s.persons(ctx, tx, t.OrgID, f, count, start-1)
		total = n
		for _, p := range ps {
			ds = append(ds, s.userDoc(p))
		}
		return err
	})
	return 200, list(total, start, ds), err
}

// user does something with the user of a request in a transaction. Tokens that
// are remembered are looked up anew, so that a suspension counts at once.
func (s *Service) user(r *http.Request, t Token, f func(context.Context, *db.Tx, person) (person, error)) (code int, doc any, err error) {
	var p person
	err = s.DB.Do(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		if p, err = s.person(ctx, tx, t.OrgID, core.ID(r.PathValue("id"))); err == nil {
			p, err = f(ctx, tx, p)
		}
		return err
	})
	s.Accounts.ForgetTokens()
	return 200, s.userDoc(p), err
}

func (s *Service) getUser(r *http.Request, t Token) (code int, doc any, err error) {
	var p person
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		p, err = s.person(ctx, tx, t.OrgID, core.ID(r.PathValue("id")))
		return err
	})
	return 200, s.userDoc(p), err
}

func (s *Service) postUser(r *http.Request, t Token) (int, any, error) {
	var d userDoc
	if err := decode(r, userSchema, &d, func() []string { return d.Schemas }); err != nil {
		return 0, nil, err
	}
	var p person
	err := s.DB.Do(r.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		p, err = s.addUser(ctx, tx, t, d)
		return err
	})
	s.Accounts.ForgetTokens()
	return 201, s.userDoc(p), err
}

func (s *Service) putUser(r *http.Request, t Token) (int, any, error) {
	var d userDoc
	if err := decode(r, userSchema, &d, func() []string { return d.Schemas }); err != nil {
		return 0, nil, err
	}
	return s.user(r, t, func(ctx context.Context, tx *db.Tx, p person) (person, error) {
		if d.Active == nil { // what is not said stays (RFC 7644, 3.5.1)
			on := flag(p.active)
			d.Active = &on
		}
		return s.change(ctx, tx, p, d)
	})
}

func (s *Service) patchUser(r *http.Request, t Token) (int, any, error) {
	var c patch
	if err := decode(r, patchSchema, &c, func() []string { return c.Schemas }); err != nil {
		return 0, nil, err
	}
	if err := c.check(); err != nil {
		return 0, nil, err
	}
	return s.user(r, t, func(ctx context.Context, tx *db.Tx, p person) (person, error) {
		d := s.userDoc(p)
		for _, o := range c.Ops {
			if err := d.apply(o); err != nil {
				return p, err
			}
		}
		return s.change(ctx, tx, p, d)
	})
}

func (s *Service) deleteUser(r *http.Request, t Token) (int, any, error) {
	_, _, err := s.user(r, t, func(ctx context.Context, tx *db.Tx, p person) (person, error) { return p, s.drop(ctx, tx, p) })
	return 204, nil, err
}

// whole reports whether the members of groups are wanted.
func whole(q url.Values) bool {
	for _, v := range strings.Split(q.Get("excludedAttributes"), ",") {
		if strings.EqualFold(strings.TrimSpace(v), "members") {
			return false
		}
	}
	return true
}

func (s *Service) listGroups(r *http.Request, t Token) (int, any, error) {
	q := r.URL.Query()
	start, count, err := window(q)
	if err != nil {
		return 0, nil, err
	}
	f, err := parseFilter(q.Get("filter"), "displayName", "externalId", "id")
	if err != nil {
		return 0, nil, err
	}
	var ds []groupDoc
	var total int64
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		gs, n, err := s.groups(ctx, tx, t.OrgID, f, count, start-1)
		total = n
		for _, g := range gs {
			var ms []ref
			if err == nil && whole(q) {
				ms, err = s.members(ctx, tx, g) // a query for each group of the page
			}
			ds = append(ds, s.groupDoc(g, ms))
		}
		return err
	})
	return 200, list(total, start, ds), err
}

// team does something with the group of a request in a transaction.
func (s *Service) team(r *http.Request, t Token, f func(context.Context, *db.Tx, group, []ref) (group, error)) (code int, doc any, err error) {
	var g group
	var ms []ref
	err = s.DB.Do(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		if g, err = s.group(ctx, tx, t.OrgID, core.ID(r.PathValue("id"))); err != nil {
			return err
		}
		if ms, err = s.members(ctx, tx, g); err != nil {
			return err
		}
		if g, err = f(ctx, tx, g, ms); err != nil {
			return err
		}
		ms, err = s.members(ctx, tx, g)
		return err
	})
	return 200, s.groupDoc(g, ms), err
}

func (s *Service) getGroup(r *http.Request, t Token) (code int, doc any, err error) {
	var g group
	var ms []ref
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		if g, err = s.group(ctx, tx, t.OrgID, core.ID(r.PathValue("id"))); err == nil && whole(r.URL.Query()) {
			ms, err = s.members(ctx, tx, g)
		}
		return err
	})
	return 200, s.groupDoc(g, ms), err
}

func (s *Service) postGroup(r *http.Request, t Token) (code int, doc any, err error) {
	var d groupDoc
	if err := decode(r, groupSchema, &d, func() []string { return d.Schemas }); err != nil {
		return 0, nil, err
	}
	var g group
	var ms []ref
	err = s.DB.Do(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		if g, err = s.addGroup(ctx, tx, t, d); err == nil {
			ms, err = s.members(ctx, tx, g)
		}
		return err
	})
	return 201, s.groupDoc(g, ms), err
}

func (s *Service) putGroup(r *http.Request, t Token) (int, any, error) {
	var d groupDoc
	if err := decode(r, groupSchema, &d, func() []string { return d.Schemas }); err != nil {
		return 0, nil, err
	}
	return s.team(r, t, func(ctx context.Context, tx *db.Tx, g group, _ []ref) (group, error) {
		want := map[core.ID]bool{}
		for _, m := range d.Members {
			want[m.Value] = true
		}
		return s.changeGroup(ctx, tx, g, d, want)
	})
}

func (s *Service) patchGroup(r *http.Request, t Token) (int, any, error) {
	var c patch
	if err := decode(r, patchSchema, &c, func() []string { return c.Schemas }); err != nil {
		return 0, nil, err
	}
	if err := c.check(); err != nil {
		return 0, nil, err
	}
	return s.team(r, t, func(ctx context.Context, tx *db.Tx, g group, ms []ref) (group, error) {
		d, want := s.groupDoc(g, nil), map[core.ID]bool{}
		for _, m := range ms {
			want[m.Value] = true
		}
		for _, o := range c.Ops {
			if err := d.apply(o, want); err != nil {
				return g, err
			}
		}
		return s.changeGroup(ctx, tx, g, d, want)
	})
}

func (s *Service) deleteGroup(r *http.Request, t Token) (code int, doc any, err error) {
	err = s.DB.Do(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		g, err := s.group(ctx, tx, t.OrgID, core.ID(r.PathValue("id")))
		if err != nil {
			return err
		}
		return s.Accounts.DropTeam(ctx, tx, g.Team)
	})
	s.Accounts.ForgetTokens()
	return 204, nil, err
}
