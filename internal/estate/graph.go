package estate

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/web"
)

// Bounds of the graph: how many links are read, and how many workspaces a
// picture can show that somebody can still read.
const (
	maxLinks = 2000
	maxDrawn = 150
)

// A link leads from a workspace to one that builds on it.
type link struct {
	From, To string
	Share    bool // the state of From is read by To; else runs of From queue runs of To
}

// A mapOf is how the workspaces of an organization hang together.
type mapOf struct {
	place
	Links  []link
	Wide   []string // workspaces that share their state with their project or with all
	Around string   // only what is near this one
	More   bool     // there are more links than were read
	Draw   drawing
}

// words tells a link.
func (l link) words() string {
	if l.Share {
		return "shares its state with"
	}
	return "queues runs of"
}

// links reads which workspaces that the reader sees lead to which, in three
// queries that go through the organization's workspaces by index.
func (s *Service) links(ctx context.Context, org core.ID, m *mapOf) error {
	return s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		visible, arg := authz.VisibleWorkspaces(authz.Subject(ctx), 2)
		seen := `(SELECT w.id FROM workspace w WHERE w.org_id = $1 AND ` + visible + `)`
		// The ids are hidden in expressions, so that the links are not looked for
		// between each two workspaces that the reader sees.
		scan := func(r db.Row) (l link, err error) { return l, r.Scan(&l.From, &l.To) }
		triggers, err := db.All(ctx, tx, scan, `SELECT a.name, b.name FROM run_trigger t JOIN workspace a ON a.id = t.source_id JOIN workspace b ON b.id = t.workspace_id
			WHERE a.org_id = $1 AND a.id || '' IN `+seen+` AND b.id || '' IN `+seen+` ORDER BY a.name_key, b.name_key LIMIT $3`, org, arg, maxLinks+1)
		if err != nil {
			return err
		}
		shares, err := db.All(ctx, tx, scan, `SELECT a.name, b.name FROM remote_state_consumer c JOIN workspace a ON a.id = c.workspace_id JOIN workspace b ON b.id = c.consumer_id
			WHERE a.org_id = $1 AND a.share_all = false AND a.share_project = false AND a.id || '' IN `+seen+` AND b.id || '' IN `+seen+` ORDER BY a.name_key, b.name_key LIMIT $3`, org, arg, maxLinks+1)
		if err != nil {
			return err
		}
		for i := range shares {
			shares[i].Share = true
		}
		m.More = len(triggers) > maxLinks || len(shares) > maxLinks
		m.Links = append(triggers, shares...)
		m.Wide, err = db.All(ctx, tx, func(r db.Row) (n string, err error) { return n, r.Scan(&n) },
			`SELECT w.name FROM workspace w WHERE w.org_id = $1 AND (w.share_all OR w.share_project) AND `+visible+` ORDER BY w.name_key LIMIT $3`, org, arg, maxDrawn)
		return err
	})
}

// near keeps the links between what is at most two links away from a workspace.
func near(ls []link, name string) (out []link) {
	in := map[string]bool{name: true}
	for range 2 {
		next := map[string]bool{}
		for _, l := range ls {
			if in[l.From] || in[l.To] {
				next[l.From], next[l.To] = true, true
			}
		}
		for n := range next {
			in[n] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(ls), func(l link) bool { return !in[l.From] || !in[l.To] })
}

func (s *Service) pageMap(r *http.Request) (web.Answer, error) {
	p, err := s.in(r)
	if err != nil {
		return web.Answer{}, err
	}
	m := mapOf{place: p, Around: strings.TrimSpace(r.URL.Query().Get("workspace"))}
	if err := s.links(r.Context(), p.ID, &m); err != nil {
		return web.Answer{}, err
	}
	if m.Around != "" {
		at := slices.IndexFunc(m.Links, func(l link) bool { return strings.EqualFold(l.From, m.Around) || strings.EqualFold(l.To, m.Around) })
		if at >= 0 && strings.EqualFold(m.Links[at].From, m.Around) {
			m.Around = m.Links[at].From
		} else if at >= 0 {
			m.Around = m.Links[at].To
		}
		m.Links = near(m.Links, m.Around)
	}
	m.Draw = draw(m.Links)
	return web.Show(mapPage(m))
}
