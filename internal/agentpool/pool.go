// Package agentpool keeps pools of agents: which workspaces each serves, and
// the tokens by which agents join, and the agents that did.
package agentpool

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"interlock/internal/account"
	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

// A Pool serves the workspaces of its organization, or some of them.
type Pool struct {
	ID        core.ID
	OrgID     core.ID
	OrgName   string
	Name      string
	OrgScoped bool // serves every workspace that is not excluded
	CreatedAt time.Time
	Scope     map[string][]core.ID // by relationship: the ids of workspaces or projects
	Agents    int                  // heard of lately
	Users     []core.ID            // workspaces that have chosen the pool
}

// The relationships that narrow a pool.
const (
	allowedWorkspaces  = "allowed-workspaces"
	allowedProjects    = "allowed-projects"
	excludedWorkspaces = "excluded-workspaces"
)

var scopes = []string{allowedWorkspaces, allowedProjects, excludedWorkspaces}

// Service is what the API calls.
type Service struct {
	DB       *db.DB
	Accounts *account.Service
}

const (
	columns = `a.id, a.org_id, o.name, a.name, a.org_scoped, a.created_at`
	from    = ` FROM agent_pool a JOIN organization o ON o.id = a.org_id`
)

func scan(r db.Row) (p Pool, err error) {
	p.Scope = map[string][]core.ID{}
	return p, r.Scan(&p.ID, &p.OrgID, &p.OrgName, &p.Name, &p.OrgScoped, &p.CreatedAt)
}

func (p *Pool) validate() error {
	switch {
	case strings.TrimSpace(p.Name) == "":
		return core.Errorf(core.Invalid, "Name can't be blank").InField("name")
	case len(p.Name) > 255 || strings.ContainsFunc(p.Name, func(r rune) bool { return r < ' ' }):
		return core.Errorf(core.Invalid, "Name may have at most 255 characters of one line").InField("name")
	}
	return nil
}

type scopeRow struct {
	pool   core.ID
	kind   string
	target core.ID
}

// fill loads whom each pool serves, in two queries. What no longer exists is
// left out.
func fill(ctx context.Context, tx *db.Tx, ps []Pool) error {
	if len(ps) == 0 {
		return nil
	}
	at, args := map[core.ID]*Pool{}, []any{}
	for i := range ps {
		at[ps[i].ID] = &ps[i]
		args = append(args, ps[i].ID)
	}
	in := db.In(1, len(ps))
	rows, err := db.All(ctx, tx, func(r db.Row) (x scopeRow, err error) { return x, r.Scan(&x.pool, &x.kind, &x.target) }, `
		SELECT s.pool_id, s.kind, s.target_id FROM agent_pool_scope s WHERE s.pool_id IN (`+in+`)
			AND (EXISTS (SELECT 1 FROM workspace w WHERE w.id = s.target_id) OR EXISTS (SELECT 1 FROM project p WHERE p.id = s.target_id))
		ORDER BY s.target_id`, args...)
	for _, x := range rows {
		at[x.pool].Scope[x.kind] = append(at[x.pool].Scope[x.kind], x.target)
	}
	if err != nil {
		return err
	}
	users, err := db.All(ctx, tx, func(r db.Row) (x scopeRow, err error) { return x, r.Scan(&x.pool, &x.target) },
		`SELECT agent_pool_id, id FROM workspace WHERE agent_pool_id IN (`+in+`) ORDER BY id`, args...)
	for _, x := range users {
		at[x.pool].Users = append(at[x.pool].Users, x.target)
	}
	if err != nil {
		return err
	}
	alive, err := db.All(ctx, tx, db.ID, `SELECT pool_id FROM agent WHERE pool_id IN (`+in+`) AND left_at IS NULL AND last_ping_at > $`+strconv.Itoa(len(ps)+1), append(args, tx.Now().Add(-silentAfter))...)
	for _, id := range alive {
		at[id].Agents++
	}
	return err
}

// maySee fails unless the subject of ctx manages agent pools or sets up
// workspaces, which choose one.
func maySee(ctx context.Context, tx *db.Tx, org core.ID) error {
	have, err := authz.OrgRights(ctx, tx, org)
	if err != nil || have.Has(core.ManageAgentPools) {
		return err
	}
	ok, err := authz.AdminSomewhere(ctx, tx, org)
	if err == nil && !ok {
		return authz.ErrHidden()
	}
	return err
}

func load(ctx context.Context, tx *db.Tx, id core.ID, manage bool) (Pool, error) {
	p, err := db.One(ctx, tx, scan, `SELECT `+columns+from+` WHERE a.id = $1`, id)
	if err != nil {
		return Pool{}, err
	}
	if manage {
		err = authz.Org(ctx, tx, p.OrgID, core.ManageAgentPools)
	} else {
		err = maySee(ctx, tx, p.OrgID)
	}
	if err != nil {
		return Pool{}, err
	}
	ps := []Pool{p}
	err = fill(ctx, tx, ps)
	return ps[0], err
}

// Get returns a pool to those who manage or choose pools.
func (s *Service) Get(ctx context.Context, id core.ID) (p Pool, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, err = load(ctx, tx, id, false)
		return err
	})
	return p, err
}

// Filter narrows a list of pools. A name of a workspace or a project leaves
// those that serve it.
type Filter struct {
	Part      string
	Workspace string
	Project   string
	Sort      string
}

var orders = map[string]string{"": "a.name_key", "name": "a.name_key", "-name": "a.name_key DESC",
	"created-at": "a.created_at, a.id", "-created-at": "a.created_at DESC, a.id DESC"}

// List returns a page of the pools of an organization.
func (s *Service) List(ctx context.Context, org string, f Filter, p jsonapi.Page) (ps []Pool, total int64, err error) {
	order, ok := orders[f.Sort]
	if !ok {
		return nil, 0, core.Errorf(core.Malformed, "cannot sort by %q", f.Sort)
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := account.FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		if err := maySee(ctx, tx, o.ID); err != nil {
			return err
		}
		where := ` WHERE a.org_id = $1 AND a.name_key LIKE $2 ESCAPE '\'
			AND ($3 = '' OR EXISTS (SELECT 1 FROM workspace w WHERE w.org_id = a.org_id AND w.name_key = $3 AND ` + serves + `))
			AND ($4 = '' OR a.org_scoped OR EXISTS (SELECT 1 FROM agent_pool_scope s JOIN project p ON p.id = s.target_id
				WHERE s.pool_id = a.id AND s.kind = 'allowed-projects' AND p.name_key = $4))`
		like := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.ToLower(f.Part))
		args := []any{o.ID, "%" + like + "%", strings.ToLower(f.Workspace), strings.ToLower(f.Project)}
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*)`+from+where, args...); err != nil {
			return err
		}
		if ps, err = db.All(ctx, tx, scan, `SELECT `+columns+from+where+` ORDER BY `+order+` LIMIT $5 OFFSET $6`, append(args, p.Size, p.Offset())...); err != nil {
			return err
		}
		return fill(ctx, tx, ps)
	})
	return ps, total, err
}

// serves is a condition that pool a takes runs of workspace w.
const serves = `(a.org_scoped OR EXISTS (SELECT 1 FROM agent_pool_scope s WHERE s.pool_id = a.id
		AND (s.kind = 'allowed-workspaces' AND s.target_id = w.id OR s.kind = 'allowed-projects' AND s.target_id = w.project_id)))
	AND NOT EXISTS (SELECT 1 FROM agent_pool_scope s WHERE s.pool_id = a.id AND s.kind = 'excluded-workspaces' AND s.target_id = w.id)`

// Usable fails unless a pool may be chosen by a workspace, or as the default
// of a project, of this organization. A workspace that is just being made has
// no id yet.
func Usable(ctx context.Context, tx *db.Tx, org, project, workspace, pool core.ID) error {
	n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM agent_pool a WHERE a.id = $1 AND a.org_id = $2
		AND (a.org_scoped OR EXISTS (SELECT 1 FROM agent_pool_scope s WHERE s.pool_id = a.id
			AND (s.kind = 'allowed-workspaces' AND s.target_id = $3 OR s.kind = 'allowed-projects' AND s.target_id = $4)))
		AND NOT EXISTS (SELECT 1 FROM agent_pool_scope s WHERE s.pool_id = a.id AND s.kind = 'excluded-workspaces' AND s.target_id = $3)`,
		pool, org, workspace, project)
	if err == nil && n == 0 {
		return core.Errorf(core.Invalid, "the agent pool does not exist or does not serve this workspace").InField("agent-pool-id")
	}
	return err
}

// Create adds a pool to an organization.
func (s *Service) Create(ctx context.Context, org string, p Pool) (Pool, error) {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := account.FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		if err := authz.Org(ctx, tx, o.ID, core.ManageAgentPools); err != nil {
			return err
		}
		if err := p.validate(); err != nil {
			return err
		}
		p.ID, p.OrgID, p.OrgName, p.CreatedAt = core.NewID("apool"), o.ID, o.Name, tx.Now()
		_, err = tx.Exec(ctx, `INSERT INTO agent_pool (id, org_id, name, name_key, org_scoped, created_at) VALUES ($1, $2, $3, $4, $5, $6)`,
			p.ID, p.OrgID, p.Name, strings.ToLower(p.Name), p.OrgScoped, p.CreatedAt)
		if err != nil {
			return taken(err)
		}
		if err := p.saveScope(ctx, tx); err != nil {
			return err
		}
		return p.note(ctx, tx, "create")
	})
	return p, err
}

func (p Pool) note(ctx context.Context, tx *db.Tx, action string) error {
	return audit.Add(ctx, tx, p.OrgID, "agent_pool", p.ID, action, map[string]any{"name": p.Name})
}

func taken(err error) error {
	if core.KindOf(err) == core.Conflict {
		return core.Errorf(core.Invalid, "Name has already been taken").InField("name")
	}
	return err
}

// maxScope bounds how many workspaces or projects narrow a pool.
const maxScope = 1000

// saveScope replaces whom the pool serves.
func (p *Pool) saveScope(ctx context.Context, tx *db.Tx) error {
	if _, err := tx.Exec(ctx, `DELETE FROM agent_pool_scope WHERE pool_id = $1`, p.ID); err != nil {
		return err
	}
	for _, kind := range scopes {
		ids := slices.Compact(slices.Sorted(slices.Values(p.Scope[kind])))
		if len(ids) == 0 {
			continue
		}
		if len(ids) > maxScope {
			return core.Errorf(core.Invalid, "at most %d can be named", maxScope).InField(kind)
		}
		table := "workspace"
		if kind == allowedProjects {
			table = "project"
		}
		args := []any{p.ID, kind, p.OrgID}
		for _, id := range ids {
			args = append(args, id)
		}
		n, err := tx.Exec(ctx, `INSERT INTO agent_pool_scope (pool_id, kind, target_id)
			SELECT $1, $2, x.id FROM `+table+` x WHERE x.org_id = $3 AND x.id IN (`+db.In(4, len(ids))+`)`, args...)
		if err != nil {
			return err
		}
		if n != int64(len(ids)) {
			return core.Errorf(core.Invalid, "names a %s that does not exist in this organization", table).InField(kind)
		}
		p.Scope[kind] = ids
	}
	return nil
}

// Update changes a pool.
func (s *Service) Update(ctx context.Context, id core.ID, change func(*Pool) error) (p Pool, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if p, err = load(ctx, tx, id, true); err != nil {
			return err
		}
		if err := change(&p); err != nil {
			return err
		}
		if err := p.validate(); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE agent_pool SET name = $2, name_key = $3, org_scoped = $4 WHERE id = $1`, id, p.Name, strings.ToLower(p.Name), p.OrgScoped); err != nil {
			return taken(err)
		}
		if err := p.saveScope(ctx, tx); err != nil {
			return err
		}
		return p.note(ctx, tx, "update")
	})
	return p, err
}

// Delete removes a pool that nobody has chosen, with its tokens.
func (s *Service) Delete(ctx context.Context, id core.ID) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, err := load(ctx, tx, id, true)
		if err != nil {
			return err
		}
		n, err := db.One(ctx, tx, db.Int, `SELECT (SELECT count(*) FROM organization WHERE id = $1 AND default_pool_id = $2)
			+ (SELECT count(*) FROM project WHERE org_id = $1 AND agent_pool_id = $2)`, p.OrgID, id)
		if err != nil {
			return err
		}
		if n > 0 || len(p.Users) > 0 {
			return core.Errorf(core.Invalid, "the agent pool is in use")
		}
		if err := account.DropAgentTokens(ctx, tx, id); err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, `DELETE FROM agent_pool WHERE id = $1`, id); err != nil {
			return err
		}
		return p.note(ctx, tx, "destroy")
	})
}

// AddToken makes a token by which agents join a pool.
func (s *Service) AddToken(ctx context.Context, pool core.ID, description string) (t account.Token, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := load(ctx, tx, pool, true); err != nil {
			return err
		}
		t, err = s.Accounts.AddAgentToken(ctx, tx, pool, description)
		return err
	})
	return t, err
}

// Tokens lists the tokens of a pool.
func (s *Service) Tokens(ctx context.Context, pool core.ID, p jsonapi.Page) (ts []account.Token, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := load(ctx, tx, pool, true); err != nil {
			return err
		}
		ts, total, err = account.AgentTokens(ctx, tx, pool, p)
		return err
	})
	return ts, total, err
}
