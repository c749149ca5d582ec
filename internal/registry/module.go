package registry

import (
	"context"
	"slices"
	"strings"
	"time"

	"interlock/internal/account"
	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

// A Module is a Terraform module that an organization publishes, or an entry
// of its catalogue for a public one.
type Module struct {
	ID        core.ID
	OrgID     core.ID
	OrgName   string
	Registry  string
	Namespace string // the organization's name, unless it is a public module
	Name      string
	Provider  string
	CreatedAt time.Time
	UpdatedAt time.Time
	Versions  []ModuleVersion // the highest first, without what is said of an archive
}

// The statuses of a module version. The archive of one that has failed can be
// uploaded anew.
const (
	VersionPending = "pending"
	VersionFailed  = "reg_ingress_failed"
	VersionOK      = "ok"
)

// A ModuleVersion is one release of a module. It never changes once its
// archive has been handed out.
type ModuleVersion struct {
	ID        core.ID
	ModuleID  core.ID
	Version   string
	Status    string
	Error     string
	CommitSHA string
	Object    string
	Size      int64
	Used      bool
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Status is the module's own: complete as soon as something can be installed.
func (m Module) Status() string {
	if m.Registry == Public || slices.ContainsFunc(m.Versions, func(v ModuleVersion) bool { return v.Status == VersionOK }) {
		return "setup_complete"
	}
	return "pending"
}

// An Address names a module within an organization. The namespace of a private
// one is the organization's name.
type Address struct{ Registry, Namespace, Name, Provider string }

const (
	moduleColumns = `m.id, m.org_id, o.name, m.registry, CASE WHEN m.registry = 'private' THEN o.name ELSE m.namespace END, m.name, m.provider, m.created_at, m.updated_at`
	moduleFrom    = ` FROM registry_module m JOIN organization o ON o.id = m.org_id`

	versionColumns = `v.id, v.module_id, v.version, v.status, v.error, v.commit_sha, v.object, v.size, v.used, v.created_at, v.updated_at`
)

func scanModule(r db.Row) (m Module, err error) {
	return m, r.Scan(&m.ID, &m.OrgID, &m.OrgName, &m.Registry, &m.Namespace, &m.Name, &m.Provider, &m.CreatedAt, &m.UpdatedAt)
}

func scanVersion(r db.Row) (v ModuleVersion, err error) {
	return v, r.Scan(&v.ID, &v.ModuleID, &v.Version, &v.Status, &v.Error, &v.CommitSHA, &v.Object, &v.Size, &v.Used, &v.CreatedAt, &v.UpdatedAt)
}

// fillModules loads the versions of modules in one query.
func fillModules(ctx context.Context, tx *db.Tx, ms []Module) error {
	if len(ms) == 0 {
		return nil
	}
	at, args := map[core.ID]*Module{}, []any{}
	for i := range ms {
		at[ms[i].ID] = &ms[i]
		args = append(args, ms[i].ID)
	}
	vs, err := db.All(ctx, tx, scanVersion, `SELECT `+versionColumns+` FROM registry_module_version v WHERE v.module_id IN (`+db.In(1, len(args))+`)`, args...)
	if err != nil {
		return err
	}
	slices.SortFunc(vs, func(a, b ModuleVersion) int { return newer(a.Version, b.Version) })
	for _, v := range vs {
		m := at[v.ModuleID]
		m.Versions = append(m.Versions, v)
	}
	return nil
}

// loadModule finds a module of organization o with its versions.
func loadModule(ctx context.Context, tx *db.Tx, o account.Org, a Address) (Module, error) {
	namespace := fold(a.Namespace)
	switch {
	case a.Registry == Private && namespace == fold(o.Name):
		namespace = ""
	case a.Registry != Public:
		return Module{}, authz.ErrHidden()
	}
	ms, err := db.All(ctx, tx, scanModule, `SELECT `+moduleColumns+moduleFrom+`
		WHERE m.org_id = $1 AND m.name_key = $2 AND m.provider = $3 AND m.registry = $4 AND m.namespace_key = $5`,
		o.ID, fold(a.Name), a.Provider, a.Registry, namespace)
	if err == nil && len(ms) == 0 {
		err = authz.ErrHidden()
	}
	if err != nil {
		return Module{}, err
	}
	return ms[0], fillModules(ctx, tx, ms)
}

// Module returns a module that the subject of ctx may see, and what it may do
// on its organization.
func (s *Service) Module(ctx context.Context, orgName string, a Address) (m Module, have core.Right, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, h, err := org(ctx, tx, orgName, 0)
		if err != nil {
			return err
		}
		have = h
		m, err = loadModule(ctx, tx, o, a)
		return err
	})
	return m, have, err
}

// ModuleByID is Module for one whose id is known.
func (s *Service) ModuleByID(ctx context.Context, id core.ID) (m Module, have core.Right, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if m, err = db.One(ctx, tx, scanModule, `SELECT `+moduleColumns+moduleFrom+` WHERE m.id = $1`, id); err != nil {
			return err
		}
		if have, err = rights(ctx, tx, m.OrgID, 0); err != nil {
			return err
		}
		ms := []Module{m}
		err = fillModules(ctx, tx, ms)
		m = ms[0]
		return err
	})
	return m, have, err
}

// A Filter narrows a list of modules or providers.
type Filter struct {
	Part                    string // of a name, namespace or provider
	Provider, Registry, Org string // exactly; empty for any
}

// Modules lists an organization's modules by name.
func (s *Service) Modules(ctx context.Context, orgName string, f Filter, p jsonapi.Page) (ms []Module, have core.Right, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, h, err := org(ctx, tx, orgName, 0)
		if err != nil {
			return err
		}
		have = h
		if f.Org != "" && fold(f.Org) != fold(o.Name) {
			return nil
		}
		const where = ` WHERE m.org_id = $1 AND ($2 = '' OR m.provider = $2) AND ($3 = '' OR m.registry = $3)
			AND ($4 = '%%' OR m.name_key LIKE $4 ESCAPE '\' OR m.provider LIKE $4 ESCAPE '\' OR m.namespace_key LIKE $4 ESCAPE '\'
				OR (m.registry = 'private' AND o.name_key LIKE $4 ESCAPE '\'))`
		args := []any{o.ID, f.Provider, f.Registry, "%" + likeSpecial.Replace(fold(f.Part)) + "%"}
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*)`+moduleFrom+where, args...); err != nil {
			return err
		}
		ms, err = db.All(ctx, tx, scanModule, `SELECT `+moduleColumns+moduleFrom+where+`
			ORDER BY m.name_key, m.provider, m.registry, m.namespace_key LIMIT $5 OFFSET $6`, append(args, p.Size, p.Offset())...)
		if err != nil {
			return err
		}
		return fillModules(ctx, tx, ms)
	})
	return ms, have, total, err
}

// CreateModule adds a module without versions, or an entry for a public one.
func (s *Service) CreateModule(ctx context.Context, orgName string, a Address) (m Module, have core.Right, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, h, err := org(ctx, tx, orgName, core.ManageModules)
		if err != nil {
			return err
		}
		have = h
		if err := checkName("name", a.Name, namePattern); err != nil {
			return err
		}
		if err := checkName("provider", a.Provider, systemPattern); err != nil {
			return err
		}
		if err := checkRegistry(a.Registry); err != nil {
			return err
		}
		stored := ""
		if a.Registry == Public {
			stored = a.Namespace
			if err := checkName("namespace", stored, namePattern); err != nil {
				return err
			}
		} else if a.Namespace != "" && fold(a.Namespace) != fold(o.Name) {
			return core.Errorf(core.Invalid, "must be the organization's name for a private module").InField("namespace")
		}
		m = Module{ID: core.NewID("mod"), OrgID: o.ID, OrgName: o.Name, Registry: a.Registry, Namespace: o.Name, Name: a.Name, Provider: a.Provider, CreatedAt: tx.Now(), UpdatedAt: tx.Now()}
		if stored != "" {
			m.Namespace = stored
		}
		_, err = tx.Exec(ctx, `INSERT INTO registry_module (id, org_id, registry, namespace, namespace_key, name, name_key, provider, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)`, m.ID, m.OrgID, m.Registry, stored, fold(stored), m.Name, fold(m.Name), m.Provider, tx.Now())
		if err != nil {
			return taken(err, "name")
		}
		return audit.Add(ctx, tx, o.ID, "registry_module", m.ID, "create", map[string]any{"name": m.Name, "provider": m.Provider, "namespace": m.Namespace})
	})
	return m, have, err
}

// manage finds a private module that the subject of ctx may publish.
func manage(ctx context.Context, tx *db.Tx, orgName string, a Address) (Module, error) {
	o, _, err := org(ctx, tx, orgName, core.ManageModules)
	if err != nil {
		return Module{}, err
	}
	if a.Namespace == "" {
		a.Namespace = o.Name
	}
	return loadModule(ctx, tx, o, a)
}

var commitSHA = core.NewPattern(`^[0-9A-Za-z]{1,64}$`)

// CreateVersion adds a version that waits for its archive.
func (s *Service) CreateVersion(ctx context.Context, orgName string, a Address, version, commit string) (v ModuleVersion, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		m, err := manage(ctx, tx, orgName, a)
		if err != nil {
			return err
		}
		if m.Registry == Public {
			return authz.ErrHidden()
		}
		if err := checkVersion(version); err != nil {
			return err
		}
		if commit != "" && !commitSHA.MatchString(commit) {
			return core.Errorf(core.Invalid, "is not the id of a commit").InField("commit-sha")
		}
		v = ModuleVersion{ID: core.NewID("modver"), ModuleID: m.ID, Version: version, Status: VersionPending, CommitSHA: commit, CreatedAt: tx.Now(), UpdatedAt: tx.Now()}
		_, err = tx.Exec(ctx, `INSERT INTO registry_module_version (id, module_id, version, status, commit_sha, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $6)`,
			v.ID, v.ModuleID, v.Version, v.Status, v.CommitSHA, tx.Now())
		if err != nil {
			return taken(err, "version")
		}
		if _, err = tx.Exec(ctx, `UPDATE registry_module SET updated_at = $2 WHERE id = $1`, m.ID, tx.Now()); err != nil {
			return err
		}
		return audit.Add(ctx, tx, m.OrgID, "registry_module_version", v.ID, "create", map[string]any{"name": m.Name, "provider": m.Provider, "version": v.Version})
	})
	return v, err
}

// Version returns one version of a module.
func (s *Service) Version(ctx context.Context, orgName string, a Address, version string) (v ModuleVersion, have core.Right, err error) {
	m, have, err := s.Module(ctx, orgName, a)
	if err != nil {
		return v, 0, err
	}
	v, ok := m.version(version)
	if !ok {
		return v, 0, authz.ErrHidden()
	}
	return v, have, nil
}

func (m Module) version(version string) (ModuleVersion, bool) {
	i := slices.IndexFunc(m.Versions, func(v ModuleVersion) bool { return v.Version == version })
	if i < 0 {
		return ModuleVersion{}, false
	}
	return m.Versions[i], true
}

// DeleteModules removes the modules that have all that a names: those of one
// name, or the one of a provider. An empty registry takes both.
func (s *Service) DeleteModules(ctx context.Context, orgName string, a Address) error {
	var objects []string
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, _, err := org(ctx, tx, orgName, core.ManageModules)
		if err != nil {
			return err
		}
		namespace := fold(a.Namespace)
		if a.Registry == Private {
			if namespace != fold(o.Name) {
				return authz.ErrHidden()
			}
			namespace = ""
		}
		ids, err := db.All(ctx, tx, db.ID, `SELECT m.id FROM registry_module m WHERE m.org_id = $1 AND m.name_key = $2 AND ($3 = '' OR m.provider = $3)
			AND ($4 = '' OR (m.registry = $4 AND m.namespace_key = $5))`, o.ID, fold(a.Name), a.Provider, a.Registry, namespace)
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			return authz.ErrHidden()
		}
		args := make([]any, len(ids))
		for i, id := range ids {
			args[i] = id
		}
		in := ` IN (` + db.In(1, len(ids)) + `)`
		if objects, err = db.All(ctx, tx, scanText, `SELECT object FROM registry_module_version WHERE module_id`+in, args...); err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, `DELETE FROM registry_tag WHERE owner_id`+in, args...); err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, `DELETE FROM registry_module WHERE id`+in, args...); err != nil {
			return err
		}
		for _, id := range ids { // one for each provider of the name
			if err := audit.Add(ctx, tx, o.ID, "registry_module", id, "destroy", map[string]any{"name": a.Name}); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		s.drop(ctx, objects...)
	}
	return err
}

// DeleteVersion removes one version of a module.
func (s *Service) DeleteVersion(ctx context.Context, orgName string, a Address, version string) error {
	var v ModuleVersion
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		m, err := manage(ctx, tx, orgName, a)
		if err != nil {
			return err
		}
		ok := false
		if v, ok = m.version(version); !ok {
			return authz.ErrHidden()
		}
		if _, err = tx.Exec(ctx, `DELETE FROM registry_module_version WHERE id = $1`, v.ID); err != nil {
			return err
		}
		return audit.Add(ctx, tx, m.OrgID, "registry_module_version", v.ID, "destroy", map[string]any{"name": m.Name, "provider": m.Provider, "version": v.Version})
	})
	if err == nil {
		s.drop(ctx, v.Object)
	}
	return err
}

// Free reports whether a private module may still get a name.
func (s *Service) Free(ctx context.Context, orgName, name, provider string) (free bool, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, _, err := org(ctx, tx, orgName, 0)
		if err != nil {
			return err
		}
		_, err = loadModule(ctx, tx, o, Address{Private, o.Name, name, provider})
		free = core.KindOf(err) == core.NotFound && namePattern.MatchString(name) && systemPattern.MatchString(provider)
		if core.KindOf(err) == core.NotFound {
			return nil
		}
		return err
	})
	return free, err
}

func path(parts ...string) string { return strings.Join(parts, "/") }
