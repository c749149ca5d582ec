package notify

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

// subscriptions is the page of a person's own letters.
const subscriptions = "/app/account/subscriptions"

type subAttributes struct {
	Org       string    `json:"organization"`
	Workspace *string   `json:"workspace"`
	Triggers  []string  `json:"triggers"`
	Cadence   string    `json:"cadence"`
	CreatedAt time.Time `json:"created-at"`
	UpdatedAt time.Time `json:"updated-at"`
}

func subResource(v Subscription) jsonapi.Resource {
	a := subAttributes{Org: v.Org, Triggers: v.Triggers, Cadence: v.Cadence, CreatedAt: v.CreatedAt, UpdatedAt: v.UpdatedAt}
	if v.WorkspaceID != "" {
		a.Workspace = &v.Workspace
	}
	return jsonapi.Resource{ID: string(v.ID), Type: "subscriptions", Attributes: a, Links: map[string]any{"self": "/api/v2/subscriptions/" + string(v.ID)}}
}

type letterAttributes struct {
	Cadence   string     `json:"cadence"`
	Status    string     `json:"status"`
	Subject   string     `json:"subject"`
	Events    int64      `json:"events"`
	Attempts  int64      `json:"attempts"`
	Answer    string     `json:"answer"`
	CreatedAt time.Time  `json:"created-at"`
	SentAt    *time.Time `json:"sent-at"`
}

func letterResource(l Letter) jsonapi.Resource {
	return jsonapi.Resource{ID: string(l.ID), Type: "letters", Attributes: letterAttributes{l.Cadence, l.Status, l.Subject, l.Events, l.Attempts, l.Answer, l.CreatedAt, l.SentAt}}
}

type subInput struct {
	Org       jsonapi.Opt[string]   `json:"organization"`
	Workspace jsonapi.Opt[string]   `json:"workspace"`
	Triggers  jsonapi.Opt[[]string] `json:"triggers"`
	Cadence   jsonapi.Opt[string]   `json:"cadence"`
}

// personal mounts what a person asks for themselves.
func (s *Service) personal(rt *web.Router) {
	rt.V2("GET /api/v2/account/subscriptions", 200, func(r *http.Request) (*jsonapi.Doc, error) {
		vs, err := s.Subscriptions(r.Context())
		if err != nil {
			return nil, err
		}
		return jsonapi.Paged(r, vs, jsonapi.Page{Number: 1, Size: maxSubscriptions}, len(vs), subResource), nil
	})
	rt.V2("POST /api/v2/account/subscriptions", 201, func(r *http.Request) (*jsonapi.Doc, error) {
		if _, err := person(r.Context()); err != nil {
			return nil, err
		}
		var in subInput
		if _, err := jsonapi.Decode(r.Body, "subscriptions", &in); err != nil {
			return nil, err
		}
		cadence := in.Cadence.Value
		if cadence == "" {
			cadence = Immediate
		}
		v, err := s.Subscribe(r.Context(), in.Org.Value, in.Workspace.Value, in.Triggers.Value, cadence, true)
		return jsonapi.One(subResource(v)), err
	})
	rt.V2("GET /api/v2/account/letters", 200, func(r *http.Request) (*jsonapi.Doc, error) {
		ls, err := s.Letters(r.Context())
		if err != nil {
			return nil, err
		}
		return jsonapi.Paged(r, ls, jsonapi.Page{Number: 1, Size: kept}, len(ls), letterResource), nil
	})
	rt.V2("GET /api/v2/subscriptions/{subscription}", 200, func(r *http.Request) (*jsonapi.Doc, error) {
		v, err := s.Subscription(r.Context(), core.ID(r.PathValue("subscription")))
		return jsonapi.One(subResource(v)), err
	})
	rt.V2("PATCH /api/v2/subscriptions/{subscription}", 200, func(r *http.Request) (*jsonapi.Doc, error) {
		id := core.ID(r.PathValue("subscription"))
		if _, err := s.Subscription(r.Context(), id); err != nil {
			return nil, err
		}
		var in subInput
		if _, err := jsonapi.Decode(r.Body, "subscriptions", &in); err != nil {
			return nil, err
		}
		v, err := s.Resubscribe(r.Context(), id, func(v *Subscription) {
			in.Triggers.Apply(&v.Triggers)
			in.Cadence.Apply(&v.Cadence)
		})
		return jsonapi.One(subResource(v)), err
	})
	rt.V2("DELETE /api/v2/subscriptions/{subscription}", 204, func(r *http.Request) (*jsonapi.Doc, error) {
		return nil, s.Unsubscribe(r.Context(), core.ID(r.PathValue("subscription")))
	})
	rt.Page("GET "+subscriptions, func(r *http.Request) (web.Answer, error) {
		f := ui.Fill("organization", r.URL.Query().Get("organization"), "workspace", r.URL.Query().Get("workspace"), "cadence", Immediate)
		f.Values["triggers"] = []string{RunNeedsAttention, RunErrored, "assessment:drifted"}
		return s.lettersPage(r, f, 0)
	})
	rt.Page("POST "+subscriptions, s.pageSubscribe)
	rt.Page("POST "+subscriptions+"/end", func(r *http.Request) (web.Answer, error) {
		return web.Answer{Goto: subscriptions}, s.Unsubscribe(r.Context(), core.ID(r.PostFormValue("subscription")))
	})
}

func (s *Service) lettersPage(r *http.Request, f ui.Form, code int) (web.Answer, error) {
	vs, err := s.Subscriptions(r.Context())
	if err != nil {
		return web.Answer{}, err
	}
	ls, err := s.Letters(r.Context())
	return web.Answer{Page: lettersPage(vs, ls, f, r.URL.Query().Has("saved")), Status: code}, err
}

func (s *Service) pageSubscribe(r *http.Request) (web.Answer, error) {
	_ = r.ParseForm() // what cannot be read is missing
	org, ws := strings.TrimSpace(r.PostFormValue("organization")), strings.TrimSpace(r.PostFormValue("workspace"))
	_, err := s.Subscribe(r.Context(), org, ws, slices.Clone(r.PostForm["triggers"]), r.PostFormValue("cadence"), false)
	if k := core.KindOf(err); k == core.NotFound || k == core.Denied {
		field := "workspace"
		if ws == "" {
			field = "organization"
		}
		err = core.Errorf(core.Invalid, "is not there, or you may not read it").InField(field)
	}
	if ui.Typo(err) {
		return s.lettersPage(r, ui.Refused(r.PostForm, err), http.StatusUnprocessableEntity)
	}
	return web.Answer{Goto: subscriptions + "?saved"}, err
}

// named says triggers as the form does.
func named(ts []string) string {
	var out []string
	for _, o := range offered {
		if slices.Contains(ts, o.Value) {
			out = append(out, o.Label)
		}
	}
	return strings.Join(out, ", ")
}

var cadences = []ui.Option{{Value: Immediate, Label: "At once"}, {Value: Hourly, Label: "Hourly digest"}, {Value: Daily, Label: "Daily digest"}}

func cadenceName(c string) string {
	for _, o := range cadences {
		if o.Value == c {
			return o.Label
		}
	}
	return c
}
