package account

import (
	"context"
	"net/mail"
	"strings"
	"time"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

// An Org owns workspaces, teams and projects.
type Org struct {
	ID        core.ID
	Name      string
	Email     string
	Personal  bool // the namespace of a user
	CreatedAt time.Time
	UpdatedAt time.Time

	OrgSettings
	Retention      Retention
	DefaultProject core.ID
}

// OrgSettings is what owners choose for their organization.
type OrgSettings struct {
	ForceDelete           bool  // administrators of a workspace may delete it with its resources
	SessionTimeout        int64 // minutes without a request that end a member's session; 0 for the installation's limit
	SessionRemember       int64 // minutes that end it in any case; 0 likewise
	CostEstimation        bool
	AssessmentsEnforced   bool
	SendPassing           bool // also report on speculative plans that did not run
	AggregatedStatus      bool
	SpeculativeManagement bool // a newer commit cancels the speculative plans of older ones
	OwnersSAMLRole        string
	DefaultMode           string // remote, local or agent
	DefaultPool           core.ID
	UserTokens            bool // tokens of users are taken here
	TwoFactor             bool // pages are for those who sign in with a second factor
}

func defaultSettings() OrgSettings {
	return OrgSettings{AggregatedStatus: true, SpeculativeManagement: true, DefaultMode: "remote", UserTokens: true}
}

const orgColumns = `o.id, o.name, o.email, o.personal, o.created_at, o.updated_at,
	o.force_delete, o.session_timeout, o.session_remember, o.cost_estimation, o.assessments_enforced, o.send_passing, o.aggregated_status,
	o.speculative_management, o.owners_saml_role, o.default_mode, o.default_pool_id, o.user_tokens, o.two_factor, o.retention_id, o.retention_days,
	COALESCE((SELECT min(p.id) FROM project p WHERE p.org_id = o.id AND p.is_default), '')`

func scanOrg(r db.Row) (o Org, err error) {
	return o, r.Scan(&o.ID, &o.Name, &o.Email, &o.Personal, &o.CreatedAt, &o.UpdatedAt,
		&o.ForceDelete, &o.SessionTimeout, &o.SessionRemember, &o.CostEstimation, &o.AssessmentsEnforced, &o.SendPassing, &o.AggregatedStatus,
		&o.SpeculativeManagement, &o.OwnersSAMLRole, &o.DefaultMode, &o.DefaultPool, &o.UserTokens, &o.TwoFactor, &o.Retention.ID, &o.Retention.Days, &o.DefaultProject)
}

// maxText bounds single-line texts that have no tighter rule, in bytes.
const maxText = 255

func validEmail(email string) error {
	if a, err := mail.ParseAddress(email); err != nil || a.Address != email || len(email) > maxText {
		return core.Errorf(core.Invalid, "Email is not a valid address").InField("email")
	}
	return nil
}

func (o *Org) validate() error {
	if err := ValidName(o.Name); err != nil {
		return err
	}
	if o.Email != "" {
		if err := validEmail(o.Email); err != nil {
			return err
		}
	}
	const maxMinutes = 366 * 24 * 60
	switch {
	case o.SessionTimeout < 0 || o.SessionTimeout > maxMinutes:
		return core.Errorf(core.Invalid, "must be a number of minutes, at most a year's").InField("session-timeout")
	case o.SessionRemember < 0 || o.SessionRemember > maxMinutes:
		return core.Errorf(core.Invalid, "must be a number of minutes, at most a year's").InField("session-remember")
	case len(o.OwnersSAMLRole) > maxText:
		return core.Errorf(core.Invalid, "is too long").InField("owners-team-saml-role-id")
	case o.DefaultMode != "remote" && o.DefaultMode != "local" && o.DefaultMode != "agent":
		return core.Errorf(core.Invalid, "must be remote, local or agent").InField("default-execution-mode")
	case o.AggregatedStatus && o.SendPassing:
		return core.Errorf(core.Invalid, "cannot be enabled together with aggregated-commit-status-enabled").InField("send-passing-statuses-for-untriggered-speculative-plans")
	}
	return nil
}

// addOrg inserts an organization with its team of owners, of whom owner is the
// first.
func (s *Service) addOrg(ctx context.Context, tx *db.Tx, o Org, owner core.ID) (Org, error) {
	o.ID, o.CreatedAt, o.UpdatedAt = core.NewID("org"), tx.Now(), tx.Now()
	_, err := tx.Exec(ctx, `
		INSERT INTO organization (id, name, name_key, email, personal, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $6) `, o.ID, o.Name, key(o.Name), o.Email, o.Personal, tx.Now())
	if err != nil {
		return o, taken(err)
	}
	if err := saveOrg(ctx, tx, o); err != nil {
		return o, err
	}
	team := core.NewID("team")
	if _, err := tx.Exec(ctx, `INSERT INTO team (id, org_id, name, name_key, owners, created_at) VALUES ($1, $2, 'owners', 'owners', true, $3)`,
		team, o.ID, tx.Now()); err != nil {
		return o, err
	}
	if _, err := tx.Exec(ctx, `INSERT INTO org_member (org_id, user_id, id, created_at) VALUES ($1, $2, $3, $4)`,
		o.ID, owner, core.NewID("ou"), tx.Now()); err != nil {
		return o, err
	}
	if _, err := tx.Exec(ctx, `INSERT INTO team_member (team_id, user_id) VALUES ($1, $2)`, team, owner); err != nil {
		return o, err
	}
	for _, f := range s.OrgCreated {
		if err := f(ctx, tx, o.ID); err != nil {
			return o, err
		}
	}
	if err := audit.Add(ctx, tx, o.ID, "organization", o.ID, "create", map[string]any{"name": o.Name}); err != nil {
		return o, err
	}
	return db.One(ctx, tx, scanOrg, `SELECT `+orgColumns+` FROM organization o WHERE o.id = $1`, o.ID)
}

func saveOrg(ctx context.Context, tx *db.Tx, o Org) error {
	_, err := tx.Exec(ctx, `UPDATE organization SET name = $2, name_key = $3, email = $4, updated_at = $5,
			force_delete = $6, session_timeout = $7, session_remember = $8, cost_estimation = $9, assessments_enforced = $10, send_passing = $11,
			aggregated_status = $12, speculative_management = $13, owners_saml_role = $14, default_mode = $15, default_pool_id = $16, user_tokens = $17, two_factor = $18
		WHERE id = $1`,
		o.ID, o.Name, key(o.Name), o.Email, tx.Now(),
		o.ForceDelete, o.SessionTimeout, o.SessionRemember, o.CostEstimation, o.AssessmentsEnforced, o.SendPassing,
		o.AggregatedStatus, o.SpeculativeManagement, o.OwnersSAMLRole, o.DefaultMode, o.DefaultPool, o.UserTokens, o.TwoFactor)
	return taken(err)
}

// NewOrg is an organization with the settings that a new one has.
func NewOrg(name, email string) Org {
	return Org{Name: name, Email: email, OrgSettings: defaultSettings()}
}

// CreateOrg makes an organization that the speaking user owns.
func (s *Service) CreateOrg(ctx context.Context, o Org) (out Org, err error) {
	user, err := requireUser(ctx)
	if err != nil {
		return out, err
	}
	if err := o.validate(); err != nil {
		return out, err
	}
	if strings.Contains(o.Name, ".") {
		return out, core.Errorf(core.Invalid, "must not hold a dot").InField("name")
	}
	if o.DefaultMode == "agent" {
		return out, core.Errorf(core.Invalid, "a new organization has no agent pool yet").InField("default-execution-mode")
	}
	o.Personal = false
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := mayCreateOrg(ctx, tx, user); err != nil {
			return err
		}
		out, err = s.addOrg(ctx, tx, o, user)
		return err
	})
	return out, err
}

// FindOrg returns the organization of that name if the subject of ctx may see
// it, inside a transaction of the caller's.
func FindOrg(ctx context.Context, tx *db.Tx, name string) (Org, error) {
	o, err := db.One(ctx, tx, scanOrg, `SELECT `+orgColumns+` FROM organization o WHERE o.name_key = $1`, key(name))
	if err != nil {
		return Org{}, err
	}
	if err := authz.Org(ctx, tx, o.ID, core.ReadOrg); err != nil {
		return Org{}, err
	}
	return o, nil
}

// OrgByName returns an organization that the subject of ctx may see, and what
// it may do there.
func (s *Service) OrgByName(ctx context.Context, name string) (o Org, rights core.Right, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if o, err = FindOrg(ctx, tx, name); err != nil {
			return err
		}
		rights, err = authz.OrgRights(ctx, tx, o.ID)
		return err
	})
	return o, rights, err
}

// OrgFilter narrows a list of organizations; each is a part of the name or
// the e-mail address.
type OrgFilter struct{ Any, Name, Email string }

// Orgs lists the organizations that the subject of ctx may see, by name.
func (s *Service) Orgs(ctx context.Context, f OrgFilter, p jsonapi.Page) (os []Org, total int64, err error) {
	cond, arg := authz.VisibleOrgs(authz.Subject(ctx), 1)
	like := func(v string) string { return "%" + likeEscape(key(v)) + "%" }
	from := ` FROM organization o WHERE ` + cond + ` AND (o.name_key LIKE $2 ESCAPE '\' OR lower(o.email) LIKE $2 ESCAPE '\')
		AND o.name_key LIKE $3 ESCAPE '\' AND lower(o.email) LIKE $4 ESCAPE '\'`
	args := []any{arg, like(f.Any), like(f.Name), like(f.Email)}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*)`+from, args...); err != nil {
			return err
		}
		os, err = db.All(ctx, tx, scanOrg, `SELECT `+orgColumns+from+` ORDER BY o.name_key LIMIT $5 OFFSET $6`, append(args, p.Size, p.Offset())...)
		return err
	})
	return os, total, err
}

func likeEscape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s)
}

// UpdateOrg changes the settings of an organization.
func (s *Service) UpdateOrg(ctx context.Context, name string, change func(*Org) error) (o Org, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if o, err = FindOrg(ctx, tx, name); err != nil {
			return err
		}
		denied := authz.Org(ctx, tx, o.ID, core.UpdateOrg)
		if denied != nil && (authz.Subject(ctx).Kind != core.TeamKind || authz.Org(ctx, tx, o.ID, core.ManageOwners) != nil) {
			return denied
		}
		before := o
		if err := change(&o); err != nil {
			return err
		}
		// Settings are for people. Whether their tokens are taken is for the
		// owners' team token too: where they are not, it is the API's way back.
		if same := o; denied != nil {
			if same.UserTokens = before.UserTokens; same != before || o == before {
				return denied
			}
		}
		if o.Personal && o.Name != before.Name {
			return core.Errorf(core.Invalid, "is a user's own namespace and keeps its name").InField("name")
		}
		if err := o.validate(); err != nil {
			return err
		}
		if err := o.settlePool(ctx, tx, before.DefaultPool); err != nil {
			return err
		}
		o.UpdatedAt = tx.Now()
		if err := saveOrg(ctx, tx, o); err != nil {
			return err
		}
		return audit.Add(ctx, tx, o.ID, "organization", o.ID, "update", map[string]any{"name": o.Name})
	})
	s.cache.clear()
	return o, err
}

// settlePool makes the default pool fit the default execution mode.
func (o *Org) settlePool(ctx context.Context, tx *db.Tx, before core.ID) error {
	if o.DefaultMode != "agent" {
		if o.DefaultPool != "" && o.DefaultPool != before {
			return core.Errorf(core.Invalid, "must not be specified unless using 'agent' execution mode").InField("default-agent-pool")
		}
		o.DefaultPool = ""
		return nil
	}
	if o.DefaultPool == "" {
		return core.Errorf(core.Invalid, "must be specified when using 'agent' execution mode").InField("default-agent-pool")
	}
	n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM agent_pool WHERE id = $1 AND org_id = $2`, o.DefaultPool, o.ID)
	if err == nil && n == 0 {
		return core.Errorf(core.Invalid, "does not exist in this organization").InField("default-agent-pool")
	}
	return err
}

// DeleteOrg removes an organization with all it owns. It is refused while a
// run of it is in flight.
func (s *Service) DeleteOrg(ctx context.Context, name string) error {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := FindOrg(ctx, tx, name)
		if err != nil {
			return err
		}
		if err := authz.Org(ctx, tx, o.ID, core.DeleteOrg); err != nil {
			return err
		}
		if o.Personal {
			return core.Errorf(core.Conflict, "a user's own namespace goes when the user goes")
		}
		return s.removeOrg(ctx, tx, o)
	})
	s.cache.clear()
	return err
}

// removeOrg removes an organization whose deletion is decided.
func (s *Service) removeOrg(ctx context.Context, tx *db.Tx, o Org) error {
	for _, f := range s.OrgDeleting {
		if err := f(ctx, tx, o.ID); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, `DELETE FROM api_token WHERE owner_id = $1 OR owner_id IN (SELECT id FROM team WHERE org_id = $1)
		OR owner_id IN (SELECT id FROM agent_pool WHERE org_id = $1)`, o.ID); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM organization WHERE id = $1`, o.ID); err != nil {
		return err
	}
	return audit.Add(ctx, tx, o.ID, "organization", o.ID, "destroy", map[string]any{"name": o.Name})
}
