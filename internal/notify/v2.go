package notify

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

// Routes mounts the API and the pages.
func (s *Service) Routes(rt *web.Router) {
	s.pages(rt)
	s.personal(rt)
	for _, about := range []string{"workspaces", "projects", "teams"} {
		rt.V2("GET /api/v2/"+about+"/{subject}/notification-configurations", 200, s.v2List(about))
		rt.V2("POST /api/v2/"+about+"/{subject}/notification-configurations", 201, s.v2Create(about))
	}
	rt.V2("GET /api/v2/notification-configurations/{notification}", 200, s.v2Get)
	rt.V2("PATCH /api/v2/notification-configurations/{notification}", 200, s.v2Update)
	rt.V2("DELETE /api/v2/notification-configurations/{notification}", 204, s.v2Delete)
	rt.V2("POST /api/v2/notification-configurations/{notification}/actions/verify", 200, s.v2Verify)
	rt.V2("POST /api/v2/notification-configurations/{notification}/actions/enable", 200, s.v2Enable)
}

type attributes struct {
	Name        string     `json:"name"`
	Destination string     `json:"destination-type"`
	Enabled     bool       `json:"enabled"`
	URL         *string    `json:"url"`
	Token       *string    `json:"token"` // never shown
	Triggers    []string   `json:"triggers"`
	Emails      []string   `json:"email-addresses"`
	Responses   []response `json:"delivery-responses"`
	CreatedAt   time.Time  `json:"created-at"`
	UpdatedAt   time.Time  `json:"updated-at"`
}

// response is one delivery, with code and success as text.
type response struct {
	URL        string              `json:"url"`
	Body       string              `json:"body"`
	Code       string              `json:"code"`
	Headers    map[string][]string `json:"headers"`
	SentAt     *time.Time          `json:"sent-at"`
	Successful string              `json:"successful"`
}

// shown is how many deliveries a document tells of, newest first.
const shown = 10

// deliveries loads the last deliveries of notifications, in one query.
func deliveries(ctx context.Context, tx *db.Tx, ns []Notification) (map[core.ID][]response, error) {
	out := map[core.ID][]response{}
	if len(ns) == 0 {
		return out, nil
	}
	args := make([]any, len(ns))
	for i, n := range ns {
		args[i] = n.ID
	}
	ds, err := db.All(ctx, tx, scanDelivery, `SELECT `+deliveryColumns+` FROM delivery WHERE notification_id IN (`+db.In(1, len(args))+`) AND attempts > 0 ORDER BY created_at DESC`, args...)
	for _, d := range ds {
		if len(out[d.NotificationID]) == shown {
			continue
		}
		r := response{URL: d.URL, Body: d.Answer, SentAt: d.SentAt, Successful: strconv.FormatBool(d.Status == sent), Headers: map[string][]string{}}
		if d.Code > 0 {
			r.Code = strconv.FormatInt(d.Code, 10)
		}
		_ = json.Unmarshal([]byte(d.Headers), &r.Headers)
		out[d.NotificationID] = append(out[d.NotificationID], r)
	}
	return out, err
}

func resource(n Notification, rs []response) jsonapi.Resource {
	a := attributes{Name: n.Name, Destination: n.Destination, Enabled: n.Enabled, Triggers: n.Triggers, Emails: n.Emails, Responses: rs, CreatedAt: n.CreatedAt, UpdatedAt: n.UpdatedAt}
	if n.URL != "" {
		a.URL = &n.URL
	}
	for _, l := range []*[]string{&a.Triggers, &a.Emails} {
		if *l == nil {
			*l = []string{}
		}
	}
	if a.Responses == nil {
		a.Responses = []response{}
	}
	about := jsonapi.To("workspaces", n.WorkspaceID)
	if n.ProjectID != "" {
		about = jsonapi.To("projects", n.ProjectID)
	} else if n.TeamID != "" {
		about = jsonapi.To("teams", n.TeamID)
	}
	users := make([]jsonapi.Ref, len(n.Users))
	for i, u := range n.Users {
		users[i] = jsonapi.Ref{ID: string(u), Type: "users"}
	}
	return jsonapi.Resource{ID: string(n.ID), Type: "notification-configurations", Attributes: a,
		Relationships: map[string]jsonapi.Rel{"subscribable": about, "users": {Data: users}},
		Links:         map[string]any{"self": "/api/v2/notification-configurations/" + string(n.ID)}}
}

// one shows a notification with its last deliveries.
func (s *Service) one(r *http.Request, n Notification) (*jsonapi.Doc, error) {
	var rs map[core.ID][]response
	err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		rs, err = deliveries(ctx, tx, []Notification{n})
		return err
	})
	if err != nil {
		return nil, err
	}
	return jsonapi.One(resource(n, rs[n.ID])), nil
}

func aboutOf(r *http.Request, about string) Notification {
	id := core.ID(r.PathValue("subject"))
	switch about {
	case "projects":
		return Notification{ProjectID: id}
	case "teams":
		return Notification{TeamID: id}
	}
	return Notification{WorkspaceID: id}
}

func (s *Service) v2List(about string) func(*http.Request) (*jsonapi.Doc, error) {
	return func(r *http.Request) (*jsonapi.Doc, error) {
		p, err := jsonapi.PageOf(r)
		if err != nil {
			return nil, err
		}
		// A client that asks for no page gets all, and no count.
		q := r.URL.Query()
		paged := q.Has("page[size]") || q.Has("page[number]")
		if !paged {
			p = jsonapi.Page{Number: 1, Size: 1000}
		}
		n := aboutOf(r, about)
		var ns []Notification
		var rs map[core.ID][]response
		var total int64
		err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
			if err := subject(ctx, tx, &n); err != nil {
				return err
			}
			if err := may(ctx, tx, n); err != nil {
				return err
			}
			column := map[string]string{"workspaces": "workspace_id", "projects": "project_id", "teams": "team_id"}[about]
			id := r.PathValue("subject")
			if total, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM notification n WHERE n.`+column+` = $1`, id); err != nil {
				return err
			}
			if ns, err = db.All(ctx, tx, scan, `SELECT `+columns+` FROM notification n WHERE n.`+column+` = $1 ORDER BY n.created_at, n.id LIMIT $2 OFFSET $3`, id, p.Size, p.Offset()); err != nil {
				return err
			}
			rs, err = deliveries(ctx, tx, ns)
			return err
		})
		if err != nil {
			return nil, err
		}
		show := func(n Notification) jsonapi.Resource { return resource(n, rs[n.ID]) }
		if !paged {
			return jsonapi.List(ns, show), nil
		}
		return jsonapi.Paged(r, ns, p, int(total), show), nil
	}
}

func read(r *http.Request) (in Input, err error) {
	var a struct {
		Name        jsonapi.Opt[string]   `json:"name"`
		Destination jsonapi.Opt[string]   `json:"destination-type"`
		Enabled     jsonapi.Opt[bool]     `json:"enabled"`
		URL         jsonapi.Opt[string]   `json:"url"`
		Token       jsonapi.Opt[string]   `json:"token"`
		Triggers    jsonapi.Opt[[]string] `json:"triggers"`
		Emails      jsonapi.Opt[[]string] `json:"email-addresses"`
	}
	rels, err := jsonapi.Decode(r.Body, "notification-configurations", &a)
	if err != nil {
		return in, err
	}
	in = Input{Name: given(a.Name), Destination: given(a.Destination), Enabled: given(a.Enabled), URL: given(a.URL), Token: given(a.Token), Triggers: given(a.Triggers), Emails: given(a.Emails)}
	if _, ok := rels["users"]; ok {
		ids := rels.IDs("users")
		in.Users = &ids
	}
	return in, nil
}

// given is the value of an input that was in the document.
func given[T any](o jsonapi.Opt[T]) *T {
	if !o.Set {
		return nil
	}
	return &o.Value
}

func (s *Service) v2Create(about string) func(*http.Request) (*jsonapi.Doc, error) {
	return func(r *http.Request) (*jsonapi.Doc, error) {
		in, err := read(r)
		if err != nil {
			return nil, err
		}
		n, err := s.Create(r.Context(), aboutOf(r, about), in)
		if err != nil {
			return nil, err
		}
		return s.one(r, n)
	}
}

func (s *Service) v2Get(r *http.Request) (*jsonapi.Doc, error) {
	n, err := s.Get(r.Context(), core.ID(r.PathValue("notification")))
	if err != nil {
		return nil, err
	}
	return s.one(r, n)
}

func (s *Service) v2Update(r *http.Request) (*jsonapi.Doc, error) {
	in, err := read(r)
	if err != nil {
		return nil, err
	}
	n, err := s.Update(r.Context(), core.ID(r.PathValue("notification")), in)
	if err != nil {
		return nil, err
	}
	return s.one(r, n)
}

func (s *Service) v2Delete(r *http.Request) (*jsonapi.Doc, error) {
	return nil, s.Delete(r.Context(), core.ID(r.PathValue("notification")))
}

func (s *Service) v2Verify(r *http.Request) (*jsonapi.Doc, error) {
	n, err := s.Verify(r.Context(), core.ID(r.PathValue("notification")))
	if err != nil {
		return nil, err
	}
	return s.one(r, n)
}

// v2Enable switches a notification on if its address takes a test message.
func (s *Service) v2Enable(r *http.Request) (*jsonapi.Doc, error) {
	n, err := s.Verify(r.Context(), core.ID(r.PathValue("notification")))
	if err != nil {
		return nil, err
	}
	on := true
	if n, err = s.Update(r.Context(), n.ID, Input{Enabled: &on}); err != nil {
		return nil, err
	}
	return s.one(r, n)
}
