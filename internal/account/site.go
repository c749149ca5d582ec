package account

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
)

// Site is what site administrators choose for the whole installation.
type Site struct {
	LimitOrgCreation bool `json:"limit_org_creation"` // only they make organizations
	RateLimited      bool `json:"rate_limited"`
	RateLimit        int  `json:"rate_limit"` // requests a second of one caller
	LimitOrgs        bool `json:"limit_orgs"`
	MaxOrgs          int  `json:"max_orgs"` // that one user owns
	LimitWorkspaces  bool `json:"limit_workspaces"`
	MaxWorkspaces    int  `json:"max_workspaces"`    // of an organization without a limit of its own
	PlanLimit        int  `json:"plan_limit"`        // seconds
	ApplyLimit       int  `json:"apply_limit"`       // seconds
	FactorForTokens  bool `json:"factor_for_tokens"` // where a second factor is demanded, tokens of users without one are refused too
	ShareState       bool `json:"share_state"`       // new workspaces let the runs of their organization read their state
}

func defaultSite() Site {
	return Site{RateLimit: 30, MaxOrgs: 5, MaxWorkspaces: 100, PlanLimit: 2 * 60 * 60, ApplyLimit: 24 * 60 * 60}
}

// Customization is what pages of the installation say in its operators' words.
// It is shown as plain text.
type Customization struct {
	SupportEmail string `json:"support_email"`
	LoginHelp    string `json:"login_help"`
	Footer       string `json:"footer"`
	Error        string `json:"error"`
	NewUser      string `json:"new_user"`
}

const (
	siteRow          = "site-general"
	customizationRow = "site-customization"
	smtpRow          = "site-smtp"
)

func loadSetting(ctx context.Context, tx *db.Tx, name string, v any) error {
	rows, err := db.All(ctx, tx, scanString, `SELECT value FROM setting WHERE name = $1`, name)
	if err != nil || len(rows) == 0 {
		return err
	}
	return json.Unmarshal([]byte(rows[0]), v)
}

func saveSetting(ctx context.Context, tx *db.Tx, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `INSERT INTO setting (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, string(b)); err != nil {
		return err
	}
	// What concerns no organization is in the trail of none.
	return audit.Add(ctx, tx, "", "setting", core.ID(name), "update", nil)
}

// SiteOf returns the settings of the installation.
func SiteOf(ctx context.Context, tx *db.Tx) (Site, error) {
	v := defaultSite()
	err := loadSetting(ctx, tx, siteRow, &v)
	return v, err
}

// Site returns the settings of the installation, to a site administrator.
func (s *Service) Site(ctx context.Context) (v Site, err error) {
	if err := authz.SiteAdmin(ctx); err != nil {
		return v, err
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		v, err = SiteOf(ctx, tx)
		return err
	})
	return v, err
}

// UpdateSite changes the settings of the installation. Other nodes follow
// within siteTTL.
func (s *Service) UpdateSite(ctx context.Context, change func(*Site) error) (v Site, err error) {
	if err := authz.SiteAdmin(ctx); err != nil {
		return v, err
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if v, err = SiteOf(ctx, tx); err != nil {
			return err
		}
		if err := change(&v); err != nil {
			return err
		}
		if err := v.validate(); err != nil {
			return err
		}
		return saveSetting(ctx, tx, siteRow, v)
	})
	s.site.clear()
	return v, err
}

func (v Site) validate() error {
	in := func(n, low, high int, field string) error {
		if n < low || n > high {
			return core.Errorf(core.Invalid, "must be from %d to %d", low, high).InField(field)
		}
		return nil
	}
	for _, err := range []error{
		in(v.RateLimit, 1, 100_000, "api-rate-limit"),
		in(v.MaxOrgs, 1, 1_000_000, "default-organizations-per-user-ceiling"),
		in(v.MaxWorkspaces, 1, maxWorkspaceLimit, "default-workspaces-per-organization-ceiling"),
	} {
		if err != nil {
			return err
		}
	}
	for field, n := range map[string]int{"plan-timeout": v.PlanLimit, "apply-timeout": v.ApplyLimit} {
		if n < 1 || time.Duration(n)*time.Second > maxTimeLimit {
			return core.Errorf(core.Invalid, "must be a duration of at most 720h").InField(field)
		}
	}
	return nil
}

// siteTTL is how long a node may go on with settings that have changed.
const siteTTL = 2 * time.Second

// siteCache holds what every request needs of the settings.
type siteCache struct {
	mu    sync.Mutex
	rate  int
	texts Customization
	until time.Time
}

func (c *siteCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = time.Time{}
}

// looked returns the cached settings, loaded anew when they are old. If they
// cannot be loaded, the old ones go on.
func (s *Service) looked(ctx context.Context) (rate int, texts Customization) {
	c := &s.site
	c.mu.Lock()
	defer c.mu.Unlock()
	now := s.DB.Now()
	if now.Before(c.until) {
		return c.rate, c.texts
	}
	v, t := Site{}, Customization{}
	err := s.DB.View(context.WithoutCancel(ctx), func(ctx context.Context, tx *db.Tx) (err error) {
		if v, err = SiteOf(ctx, tx); err == nil {
			err = loadSetting(ctx, tx, customizationRow, &t)
		}
		return err
	})
	c.until = now.Add(siteTTL)
	if err == nil {
		c.rate, c.texts = 0, t
		if v.RateLimited {
			c.rate = v.RateLimit
		}
	}
	return c.rate, c.texts
}

// RateLimit is how many requests a second one caller may make; 0 is any
// number.
func (s *Service) RateLimit(ctx context.Context) int {
	n, _ := s.looked(ctx)
	return n
}

// Texts is what the pages say in the operators' words.
func (s *Service) Texts(ctx context.Context) Customization {
	_, t := s.looked(ctx)
	return t
}

// Customization returns the operators' words, to a site administrator.
func (s *Service) Customization(ctx context.Context) (v Customization, err error) {
	if err := authz.SiteAdmin(ctx); err != nil {
		return v, err
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error { return loadSetting(ctx, tx, customizationRow, &v) })
	return v, err
}

// maxWords bounds one text of a Customization, in bytes.
const maxWords = 8 << 10

// UpdateCustomization changes the operators' words.
func (s *Service) UpdateCustomization(ctx context.Context, change func(*Customization)) (v Customization, err error) {
	if err := authz.SiteAdmin(ctx); err != nil {
		return v, err
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := loadSetting(ctx, tx, customizationRow, &v); err != nil {
			return err
		}
		change(&v)
		if v.SupportEmail != "" && validEmail(v.SupportEmail) != nil {
			return core.Errorf(core.Invalid, "is not a valid address").InField("support-email-address")
		}
		for field, text := range map[string]string{"login-help": v.LoginHelp, "footer": v.Footer, "error": v.Error, "new-user": v.NewUser} {
			if len(text) > maxWords || !storable(text) {
				return core.Errorf(core.Invalid, "must be text of at most %d bytes", maxWords).InField(field)
			}
		}
		return saveSetting(ctx, tx, customizationRow, v)
	})
	s.site.clear()
	return v, err
}

// siteValue is the settings as a column of a query, for siteFrom.
const siteValue = `COALESCE((SELECT x.value FROM setting x WHERE x.name = '` + siteRow + `'), '')`

func siteFrom(value string) (v Site, err error) {
	v = defaultSite()
	if value != "" {
		err = json.Unmarshal([]byte(value), &v)
	}
	return v, err
}

// TimeLimits says how long a plan and an apply of an organization may take.
func TimeLimits(ctx context.Context, tx *db.Tx, org core.ID) (plan, apply time.Duration, err error) {
	var value string
	var p, a int64
	_, err = db.One(ctx, tx, func(r db.Row) (int, error) { return 0, r.Scan(&p, &a, &value) },
		`SELECT o.plan_limit, o.apply_limit, `+siteValue+` FROM organization o WHERE o.id = $1`, org)
	if err != nil {
		return 0, 0, err
	}
	v, err := siteFrom(value)
	if p == 0 {
		p = int64(v.PlanLimit)
	}
	if a == 0 {
		a = int64(v.ApplyLimit)
	}
	return time.Duration(p) * time.Second, time.Duration(a) * time.Second, err
}

// WorkspaceLimit says how many workspaces an organization may have; 0 is any
// number.
func WorkspaceLimit(ctx context.Context, tx *db.Tx, org core.ID) (int64, error) {
	var value string
	n, err := db.One(ctx, tx, func(r db.Row) (n int64, err error) { return n, r.Scan(&n, &value) },
		`SELECT o.workspace_limit, `+siteValue+` FROM organization o WHERE o.id = $1`, org)
	if err != nil || n >= 0 {
		return n, err
	}
	v, err := siteFrom(value)
	if !v.LimitWorkspaces {
		return 0, err
	}
	return int64(v.MaxWorkspaces), err
}

// mayCreateOrg checks the installation's rules for a user who wants one more
// organization. They do not bind site administrators.
func mayCreateOrg(ctx context.Context, tx *db.Tx, user core.ID) error {
	v, err := SiteOf(ctx, tx)
	if err != nil || authz.Subject(ctx).SiteAdmin {
		return err
	}
	if v.LimitOrgCreation {
		return core.Errorf(core.Forbidden, "only site administrators create organizations on this installation")
	}
	if !v.LimitOrgs {
		return nil
	}
	n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM team t JOIN team_member m ON m.team_id = t.id JOIN organization o ON o.id = t.org_id
		WHERE m.user_id = $1 AND t.owners AND o.personal = false`, user)
	if err == nil && n >= int64(v.MaxOrgs) {
		return core.Errorf(core.Forbidden, "you own %d organizations already, as many as this installation allows", n)
	}
	return err
}
