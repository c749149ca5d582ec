package vcs

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/outbound"
)

// An orgEvent is an event with where it happened, for the log of an
// organization.
type orgEvent struct {
	event
	Identifier string
	TokenID    core.ID
	ClientID   core.ID
	Runs       int64
}

func (e orgEvent) level() string {
	if e.Status == "failed" || e.Status == "pending" && e.Note != "" {
		return "error"
	}
	return "info"
}

func (e orgEvent) message() string {
	m := e.Identifier + ": " + logEntry{event: e.event}.words() + "."
	if e.Note != "" {
		m += " " + e.Note
	}
	switch {
	case e.Runs == 1:
		m += " One run was queued."
	case e.Runs > 1:
		m += " Runs were queued in several workspaces."
	}
	return m
}

// eventFilter narrows a list of events.
type eventFilter struct {
	From, To *time.Time
	Clients  []string
	Levels   []string
}

// Events returns the events of an organization, newest first.
func (s *Service) Events(ctx context.Context, org string, f eventFilter, p jsonapi.Page) (es []orgEvent, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := s.org(ctx, tx, org)
		if err != nil {
			return err
		}
		args := []any{o.ID}
		cond := ` FROM vcs_event e JOIN vcs_repository r ON r.id = e.repository_id JOIN oauth_token t ON t.id = r.token_id WHERE r.org_id = $1`
		add := func(sql string, v ...any) {
			cond += ` AND ` + strings.Replace(sql, "?", db.In(len(args)+1, len(v)), 1)
			args = append(args, v...)
		}
		if f.From != nil {
			add(`e.created_at >= ?`, f.From.UTC())
		}
		if f.To != nil {
			add(`e.created_at <= ?`, f.To.UTC())
		}
		if len(f.Clients) > 0 {
			vs := make([]any, len(f.Clients))
			for i, c := range f.Clients {
				vs[i] = c
			}
			add(`t.client_id IN (?)`, vs...)
		}
		const bad = `(e.status = 'failed' OR e.status = 'pending' AND e.note <> '')`
		if info, fault := slices.Contains(f.Levels, "info"), slices.Contains(f.Levels, "error"); info != fault {
			cond += map[bool]string{true: ` AND NOT ` + bad, false: ` AND ` + bad}[info]
		}
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*)`+cond, args...); err != nil {
			return err
		}
		n := len(args)
		es, err = db.All(ctx, tx, func(r db.Row) (x orgEvent, err error) {
			e := &x.event
			return x, r.Scan(&e.ID, &e.RepositoryID, &e.Kind, &e.Ref, &e.Before, &e.SHA, &e.Pull, &e.WorkspaceID, &e.Sender, &e.Title, &e.Status, &e.Attempts, &e.Note, &e.CreatedAt, &e.EndedAt,
				&x.Identifier, &x.TokenID, &x.ClientID, &x.Runs)
		}, `SELECT `+eventColumns+`, r.identifier, r.token_id, t.client_id, (SELECT count(*) FROM vcs_outcome x WHERE x.event_id = e.id AND x.run_id <> '')`+cond+
			` ORDER BY e.created_at DESC, e.id DESC LIMIT `+db.In(n+1, 1)+` OFFSET `+db.In(n+2, 1), append(args, p.Size, p.Offset())...)
		return err
	})
	return es, total, err
}

func eventResource(e orgEvent) jsonapi.Resource {
	var todo *string
	if e.level() == "error" {
		t := "Look at the page of the connection, which says what it can reach."
		todo = &t
	}
	return jsonapi.Resource{ID: string(e.ID), Type: "vcs-events", Attributes: map[string]any{"created-at": e.CreatedAt, "level": e.level(), "message": e.message(), "suggested-action": todo},
		Relationships: map[string]jsonapi.Rel{"oauth-client": jsonapi.To("oauth-clients", e.ClientID), "oauth-token": jsonapi.To("oauth-tokens", e.TokenID)}}
}

func (s *Service) v2Events(r *http.Request) (*jsonapi.Doc, error) {
	if _, err := jsonapi.Includes(r, "oauth_client", "oauth_token"); err != nil {
		return nil, err
	}
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	var f eventFilter
	for name, at := range map[string]**time.Time{"filter[from]": &f.From, "filter[to]": &f.To} {
		if v := q.Get(name); v != "" {
			t, err := time.Parse(time.RFC3339, v)
			if err != nil {
				return nil, core.Errorf(core.Malformed, "%s must be a time such as 2026-01-31T18:00:00Z", name)
			}
			*at = &t
		}
	}
	list := func(name string) (out []string) {
		for v := range strings.SplitSeq(q.Get(name), ",") {
			if v = strings.TrimSpace(v); v != "" && len(out) < 100 {
				out = append(out, v)
			}
		}
		return out
	}
	f.Clients, f.Levels = list("filter[oauth_client_external_ids]"), list("filter[levels]")
	es, total, err := s.Events(r.Context(), r.PathValue("org"), f, p)
	return jsonapi.Paged(r, es, p, int(total), eventResource), err
}

// v2Repos lists what the token of a connection sees of its forge.
func (s *Service) v2Repos(r *http.Request) (*jsonapi.Doc, error) {
	id := core.ID(r.PathValue("token"))
	var o opened
	err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		if _, _, err := s.token(ctx, tx, id); err != nil {
			return err
		}
		var err error
		o, err = s.open(ctx, tx, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	if o.forge == nil {
		return nil, core.Errorf(core.Invalid, "a connection of kind %s cannot list repositories", label(o.Provider))
	}
	rs, err := o.forge.Repositories(r.Context())
	if err != nil {
		return nil, core.Wrap(err, core.Invalid, "the forge cannot be asked: "+core.Message(outbound.Reason(err)))
	}
	d := &jsonapi.Doc{Data: []jsonapi.Resource{}, Meta: map[string]any{"next-page": nil}}
	docs := []jsonapi.Resource{}
	for _, x := range rs {
		docs = append(docs, jsonapi.Resource{ID: x.Identifier, Type: "authorized-repos", Attributes: map[string]any{"name": x.Identifier, "display-identifier": x.Identifier},
			Relationships: map[string]jsonapi.Rel{"oauth-token": jsonapi.To("oauth-tokens", id)}})
	}
	d.Data = docs
	return d, nil
}
