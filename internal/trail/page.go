// Package trail is the page of an organization's audit trail: who did what to
// which of its things, found by person, thing, action and time. What it shows,
// and to whom, is for package audit to say; looking at it is no entry of it.
package trail

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"interlock/internal/account"
	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

// perPage is the number of entries on a page.
const perPage = 50

// Service is the pages; it keeps nothing of its own.
type Service struct {
	DB *db.DB
}

// Routes mounts the pages.
func (s *Service) Routes(rt *web.Router) {
	rt.Page("GET /app/organizations/{org}/audit", s.pageTrail)
	rt.Stream("GET /app/organizations/{org}/audit/csv", s.pageCSV)
}

// A view is the page with what was asked and found.
type view struct {
	account.Org
	Can    core.Right
	Head   audit.Head
	Public string // the key that signs
	Query  url.Values
	Form   ui.Form
	Rows   []row
	Found  audit.Found
}

// A row is an entry and what it is about.
type row struct {
	audit.Event
	On thing
}

// fields are those that narrow the list, as the address names them.
var fields = []string{"who", "type", "resource", "action", "from", "until"}

// narrows reports whether anything is asked for.
func (v view) narrows() bool {
	for _, f := range fields {
		if v.Query.Get(f) != "" {
			return true
		}
	}
	return false
}

func (v view) path() string { return ui.OrgPath(v.Name, "audit") }

// with is the address of the list narrowed by one more field.
func (v view) with(field, value string) string {
	q := url.Values{field: {value}}
	for _, f := range fields {
		if x := v.Query.Get(f); x != "" && f != field {
			q.Set(f, x)
		}
	}
	return v.path() + "?" + q.Encode()
}

// older is the address of what comes after this page.
func (v view) older() string { return v.with("before", placeText(*v.Found.More)) }

// newest is the address of the first page, and csv that of the file.
func (v view) newest() string { return v.below("") }
func (v view) csv() string    { return v.below("/csv") }

func (v view) below(part string) string {
	q := url.Values{}
	for _, f := range fields {
		if x := v.Query.Get(f); x != "" {
			q.Set(f, x)
		}
	}
	if len(q) == 0 {
		return v.path() + part
	}
	return v.path() + part + "?" + q.Encode()
}

const placeForm = "2006-01-02T15:04:05.000000Z"

func placeText(p audit.Place) string { return p.At.UTC().Format(placeForm) + "," + string(p.ID) }

// asked reads the question of a request.
func asked(q url.Values) (f audit.Filter, before *audit.Place, err error) {
	for _, name := range append([]string{"before"}, fields...) {
		if v := q.Get(name); len(v) > 300 || !utf8.ValidString(v) || strings.ContainsRune(v, 0) {
			return f, nil, core.Errorf(core.Invalid, "is no text that could be found").InField(name)
		}
	}
	word := func(name string) string { return strings.TrimSpace(q.Get(name)) }
	f = audit.Filter{Who: word("who"), Type: word("type"), Resource: core.ID(word("resource")), Action: word("action")}
	day := func(name string) (t time.Time, err error) {
		if word(name) == "" {
			return t, nil
		}
		if t, err = time.Parse(time.DateOnly, word(name)); err != nil || t.Year() < 1970 || t.Year() > 9000 {
			return t, core.Errorf(core.Invalid, "must be a day such as 2026-01-31").InField(name)
		}
		return t, nil
	}
	if f.From, err = day("from"); err != nil {
		return f, nil, err
	}
	if f.Until, err = day("until"); err != nil {
		return f, nil, err
	}
	if !f.Until.IsZero() {
		f.Until = f.Until.AddDate(0, 0, 1) // that day too
	}
	if !f.From.IsZero() && !f.Until.IsZero() && !f.From.Before(f.Until) {
		return f, nil, core.Errorf(core.Invalid, "must not be before the first day").InField("until")
	}
	if v := q.Get("before"); v != "" {
		at, id, _ := strings.Cut(v, ",")
		t, err := time.Parse(placeForm, at)
		if err != nil || id == "" || t.Year() < 1970 || t.Year() > 9000 {
			return f, nil, core.Errorf(core.Invalid, "is no place in the trail").InField("before")
		}
		before = &audit.Place{At: t, ID: core.ID(id)}
	}
	return f, before, nil
}

// in finds the organization of a request, if the reader may see its trail.
func (v *view) in(ctx context.Context, tx *db.Tx, r *http.Request) (err error) {
	if v.Org, err = account.FindOrg(ctx, tx, r.PathValue("org")); err != nil {
		return err
	}
	if v.Head, v.Public, err = audit.Chain(ctx, tx, v.ID); err != nil {
		return err
	}
	v.Can, err = authz.OrgRights(ctx, tx, v.ID)
	return err
}

// pageTrail costs two queries for the rights and the chain, one or two for the
// entries (see audit.Search), and one for what they are about.
func (s *Service) pageTrail(r *http.Request) (web.Answer, error) {
	q := r.URL.Query()
	v := view{Query: q, Form: ui.Form{Values: q}}
	code := http.StatusOK
	err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		if err := v.in(ctx, tx, r); err != nil {
			return err
		}
		f, before, err := asked(q)
		if err != nil {
			v.Form, code = ui.Refused(q, err), http.StatusUnprocessableEntity
			return nil
		}
		if v.Found, err = audit.Search(ctx, tx, v.ID, f, before, perPage); err != nil {
			return err
		}
		things, err := lookUp(ctx, tx, v.ID, v.Can, v.Found.Events)
		for _, e := range v.Found.Events {
			v.Rows = append(v.Rows, row{e, things.about(v.Name, e)})
		}
		return err
	})
	return web.Answer{Page: trailPage(v), Status: code}, err
}
