package agentpool

import (
	"context"
	"net/http"
	"strings"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

// An Agent is a program on another machine that runs phases of its pool.
type Agent struct {
	ID       core.ID
	PoolID   core.ID
	Name     string
	Address  string // IP address that it was last registered from
	Version  string
	Since    time.Time
	LastPing time.Time
	LeftAt   *time.Time // ended on purpose
	Busy     bool       // a phase is claimed by it

	silent bool
}

// How exact the last ping of an agent is, after what silence nobody knows what
// became of it, and how long agents that are gone are shown.
const (
	pingEvery   = 5 * time.Second
	silentAfter = 45 * time.Second
	forgetAfter = 2 * time.Hour
)

// Status is idle, busy, exited, unknown for one that is silent, or errored for
// one that went silent while it had a phase.
func (a Agent) Status() string {
	switch {
	case a.LeftAt != nil:
		return "exited"
	case a.silent && a.Busy:
		return "errored"
	case a.silent:
		return "unknown"
	case a.Busy:
		return "busy"
	}
	return "idle"
}

const agentColumns = `g.id, g.pool_id, g.name, g.address, g.version, g.created_at, g.last_ping_at, g.left_at,
	EXISTS (SELECT 1 FROM phase p WHERE p.node = g.id AND p.status = 'running')`

func scanAgent(now time.Time) func(db.Row) (Agent, error) {
	return func(r db.Row) (a Agent, err error) {
		err = r.Scan(&a.ID, &a.PoolID, &a.Name, &a.Address, &a.Version, &a.Since, &a.LastPing, &a.LeftAt, &a.Busy)
		a.silent = now.Sub(a.LastPing) > silentAfter
		return a, err
	}
}

// errToken answers an agent whose token opens no pool.
func errToken() error {
	return core.Errorf(core.Unknown, "this token is not, or no longer, the token of an agent pool; or the agent has not registered with it; start the agent again with a token from the pool's page")
}

// Of a token with the hash $1 at the time $2.
const (
	poolOfToken = `FROM api_token t JOIN agent_pool p ON p.id = t.owner_id JOIN organization o ON o.id = p.org_id`
	tokenOpens  = `t.hash = $1 AND t.kind = 'agent' AND o.disabled = false AND (t.expires_at IS NULL OR t.expires_at > $2)`
)

// poolOf returns the pool that a token is for.
func (s *Service) poolOf(ctx context.Context, tx *db.Tx, token string) (core.ID, error) {
	if token == "" {
		return "", errToken()
	}
	pool, err := db.One(ctx, tx, db.ID, `SELECT p.id `+poolOfToken+` WHERE `+tokenOpens, s.Accounts.Box.HashToken(token), tx.Now())
	if core.KindOf(err) == core.NotFound {
		err = errToken()
	}
	return pool, err
}

// Join registers an agent of the token's pool. One that was here before keeps
// its id, and so what it had claimed.
func (s *Service) Join(ctx context.Context, token string, known core.ID, name, address, version string) (agent, pool core.ID, err error) {
	if name = strings.TrimSpace(name); name == "" || len(name) > 255 || len(version) > 100 || strings.ContainsFunc(name+version, func(r rune) bool { return r < ' ' }) {
		return "", "", core.Errorf(core.Invalid, "the name of an agent has 1 to 255 characters of one line")
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if pool, err = s.poolOf(ctx, tx, token); err != nil {
			return err
		}
		if err := s.Accounts.UsedAgentToken(ctx, tx, token); err != nil {
			return err
		}
		n, err := tx.Exec(ctx, `UPDATE agent SET name = $3, address = $4, version = $5, last_ping_at = $6, left_at = NULL WHERE id = $1 AND pool_id = $2`, known, pool, name, address, version, tx.Now())
		if agent = known; err != nil || n > 0 {
			return err
		}
		agent = core.NewID("agent")
		_, err = tx.Exec(ctx, `INSERT INTO agent (id, pool_id, name, address, version, created_at, last_ping_at) VALUES ($1, $2, $3, $4, $5, $6, $6)`, agent, pool, name, address, version, tx.Now())
		return err
	})
	return agent, pool, err
}

// keptFor is how long an agent that is gone may come back as itself.
const keptFor = 24 * time.Hour

// Sweep forgets agents that have been gone for a day and have left no phase.
func (s *Service) Sweep(ctx context.Context) error {
	old := func(tx *db.Tx) (string, []any) {
		return `FROM agent WHERE last_ping_at < $1 AND NOT EXISTS (SELECT 1 FROM phase p WHERE p.node = agent.id AND p.status = 'running')`, []any{tx.Now().Add(-keptFor)}
	}
	n := int64(0)
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		cond, args := old(tx)
		n, err = db.One(ctx, tx, db.Int, `SELECT count(*) `+cond, args...)
		return err
	})
	if err != nil || n == 0 {
		return err
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		cond, args := old(tx)
		_, err := tx.Exec(ctx, `DELETE `+cond, args...)
		return err
	})
}

// Seen checks that an agent is of the token's pool and notes that it is alive.
// The token is looked up each time: a revocation takes effect at once.
func (s *Service) Seen(ctx context.Context, token string, agent core.ID) (pool core.ID, err error) {
	if token == "" {
		return "", errToken()
	}
	now := s.DB.Now().UTC().Truncate(time.Microsecond)
	type place struct {
		pool core.ID
		last time.Time
	}
	at, err := db.Ask(ctx, s.DB, func(r db.Row) (p place, err error) { return p, r.Scan(&p.pool, &p.last) }, `
		SELECT p.id, g.last_ping_at `+poolOfToken+` JOIN agent g ON g.pool_id = p.id WHERE `+tokenOpens+` AND g.id = $3`, s.Accounts.Box.HashToken(token), now, agent)
	if err != nil {
		return "", err
	}
	if len(at) == 0 {
		return "", errToken()
	}
	pool = at[0].pool
	if now.Sub(at[0].last) > pingEvery {
		err = s.DB.DoSoon(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE agent SET last_ping_at = $2 WHERE id = $1`, agent, tx.Now())
			return err
		})
	}
	return pool, err
}

// Leave notes that an agent has ended on purpose.
func (s *Service) Leave(ctx context.Context, agent core.ID) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE agent SET left_at = $2, last_ping_at = $2 WHERE id = $1`, agent, tx.Now())
		return err
	})
}

// Agents lists the agents of a pool, those heard of last first. Those that are
// gone for two hours are left out.
func (s *Service) Agents(ctx context.Context, pool core.ID, since *time.Time, p jsonapi.Page) (as []Agent, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := load(ctx, tx, pool, false); err != nil {
			return err
		}
		from := tx.Now().Add(-forgetAfter)
		if since != nil {
			from = *since
		}
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM agent WHERE pool_id = $1 AND last_ping_at >= $2`, pool, from); err != nil {
			return err
		}
		as, err = db.All(ctx, tx, scanAgent(tx.Now()), `SELECT `+agentColumns+` FROM agent g WHERE g.pool_id = $1 AND g.last_ping_at >= $2 ORDER BY g.last_ping_at DESC, g.id LIMIT $3 OFFSET $4`,
			pool, from, p.Size, p.Offset())
		return err
	})
	return as, total, err
}

// Agent returns one agent to those who see its pool.
func (s *Service) Agent(ctx context.Context, id core.ID) (a Agent, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if a, err = db.One(ctx, tx, scanAgent(tx.Now()), `SELECT `+agentColumns+` FROM agent g WHERE g.id = $1`, id); err != nil {
			return err
		}
		_, err = load(ctx, tx, a.PoolID, false)
		return err
	})
	return a, err
}

type agentAttributes struct {
	Name     string    `json:"name"`
	Status   string    `json:"status"`
	Address  string    `json:"ip-address"`
	LastPing time.Time `json:"last-ping-at"`
}

func agentResource(a Agent) jsonapi.Resource {
	return jsonapi.Resource{ID: string(a.ID), Type: "agents", Attributes: agentAttributes{a.Name, a.Status(), a.Address, a.LastPing},
		Links: map[string]any{"self": "/api/v2/agents/" + string(a.ID)}}
}

func (s *Service) v2Agent(r *http.Request) (*jsonapi.Doc, error) {
	a, err := s.Agent(r.Context(), core.ID(r.PathValue("agent")))
	if err != nil {
		return nil, err
	}
	return jsonapi.One(agentResource(a)), nil
}

// v2Agents lists the agents of a pool.
func (s *Service) v2Agents(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	var since *time.Time
	if v := r.URL.Query().Get("filter[last-ping-since]"); v != "" {
		t, err := time.Parse(time.RFC3339, v)
		if err != nil {
			return nil, core.Errorf(core.Malformed, "filter[last-ping-since] is a time such as 2026-01-02T15:04:05Z")
		}
		t = t.UTC()
		since = &t
	}
	as, total, err := s.Agents(r.Context(), core.ID(r.PathValue("pool")), since, p)
	return jsonapi.Paged(r, as, p, int(total), agentResource), err
}
