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

// A Provider is a plugin that an organization publishes, or an entry of its
// catalogue for a public one.
type Provider struct {
	ID        core.ID
	OrgID     core.ID
	OrgName   string
	Registry  string
	Namespace string // the organization's name, unless it is a public provider
	Name      string
	CreatedAt time.Time
	UpdatedAt time.Time
	Versions  []ProviderVersion // the highest first
}

// A ProviderVersion is one release of a provider. It is offered once the sums
// of its binaries have come with a signature that a key of the organization
// made, and does not change after.
type ProviderVersion struct {
	ID         core.ID
	ProviderID core.ID
	Version    string
	KeyID      string // of the key that is to have signed the sums
	Protocols  []string
	Sums       bool // uploaded
	Signature  bool // uploaded
	Verified   bool
	CreatedAt  time.Time
	UpdatedAt  time.Time
	Platforms  []Platform
}

// A Platform is the binary of a provider version for one operating system and
// processor.
type Platform struct {
	ID        core.ID
	VersionID core.ID
	OS        string
	Arch      string
	Filename  string
	Shasum    string
	Object    string
	Size      int64
	Offered   bool // the binary is here, and verified sums list it
}

// A ProviderAddress names a provider within an organization.
type ProviderAddress struct{ Registry, Namespace, Name string }

const (
	providerColumns = `p.id, p.org_id, o.name, p.registry, CASE WHEN p.registry = 'private' THEN o.name ELSE p.namespace END, p.name, p.created_at, p.updated_at`
	providerFrom    = ` FROM registry_provider p JOIN organization o ON o.id = p.org_id`

	providerVersionColumns = `v.id, v.provider_id, v.version, v.key_id, v.protocols, v.sums <> '', v.signature <> '', v.verified, v.created_at, v.updated_at`
	platformColumns        = `f.id, f.version_id, f.os, f.arch, f.filename, f.shasum, f.object, f.size, f.offered`
)

func scanProvider(r db.Row) (p Provider, err error) {
	return p, r.Scan(&p.ID, &p.OrgID, &p.OrgName, &p.Registry, &p.Namespace, &p.Name, &p.CreatedAt, &p.UpdatedAt)
}

func scanProviderVersion(r db.Row) (v ProviderVersion, err error) {
	var protocols string
	err = r.Scan(&v.ID, &v.ProviderID, &v.Version, &v.KeyID, &protocols, &v.Sums, &v.Signature, &v.Verified, &v.CreatedAt, &v.UpdatedAt)
	v.Protocols = []string{}
	if protocols != "" {
		v.Protocols = strings.Split(protocols, ",")
	}
	return v, err
}

func scanPlatform(r db.Row) (f Platform, err error) {
	return f, r.Scan(&f.ID, &f.VersionID, &f.OS, &f.Arch, &f.Filename, &f.Shasum, &f.Object, &f.Size, &f.Offered)
}

func argsOf(ids []core.ID) []any {
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	return args
}

// fillProviders loads the versions of providers in one query.
func fillProviders(ctx context.Context, tx *db.Tx, ps []Provider) error {
	if len(ps) == 0 {
		return nil
	}
	at, ids := map[core.ID]*Provider{}, []core.ID{}
	for i := range ps {
		at[ps[i].ID] = &ps[i]
		ids = append(ids, ps[i].ID)
	}
	vs, err := db.All(ctx, tx, scanProviderVersion, `SELECT `+providerVersionColumns+` FROM registry_provider_version v WHERE v.provider_id IN (`+db.In(1, len(ids))+`)`, argsOf(ids)...)
	if err != nil {
		return err
	}
	slices.SortFunc(vs, func(a, b ProviderVersion) int { return newer(a.Version, b.Version) })
	for _, v := range vs {
		p := at[v.ProviderID]
		p.Versions = append(p.Versions, v)
	}
	return nil
}

// fillPlatforms loads the platforms of versions in one query.
func fillPlatforms(ctx context.Context, tx *db.Tx, vs []ProviderVersion) error {
	if len(vs) == 0 {
		return nil
	}
	at, ids := map[core.ID]*ProviderVersion{}, []core.ID{}
	for i := range vs {
		at[vs[i].ID] = &vs[i]
		ids = append(ids, vs[i].ID)
	}
	fs, err := db.All(ctx, tx, scanPlatform, `SELECT `+platformColumns+` FROM registry_provider_platform f WHERE f.version_id IN (`+db.In(1, len(ids))+`) ORDER BY f.os, f.arch`, argsOf(ids)...)
	for _, f := range fs {
		v := at[f.VersionID]
		v.Platforms = append(v.Platforms, f)
	}
	return err
}

// loadProvider finds a provider of organization o with its versions.
func loadProvider(ctx context.Context, tx *db.Tx, o account.Org, a ProviderAddress) (Provider, error) {
	namespace := fold(a.Namespace)
	switch {
	case a.Registry == Private && namespace == fold(o.Name):
		namespace = ""
	case a.Registry != Public:
		return Provider{}, authz.ErrHidden()
	}
	ps, err := db.All(ctx, tx, scanProvider, `SELECT `+providerColumns+providerFrom+` WHERE p.org_id = $1 AND p.name_key = $2 AND p.registry = $3 AND p.namespace_key = $4`,
		o.ID, fold(a.Name), a.Registry, namespace)
	if err == nil && len(ps) == 0 {
		err = authz.ErrHidden()
	}
	if err != nil {
		return Provider{}, err
	}
	return ps[0], fillProviders(ctx, tx, ps)
}

// Provider returns a provider that the subject of ctx may see, and what it may
// do on its organization.
func (s *Service) Provider(ctx context.Context, orgName string, a ProviderAddress) (p Provider, have core.Right, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, h, err := org(ctx, tx, orgName, 0)
		if err != nil {
			return err
		}
		have = h
		p, err = loadProvider(ctx, tx, o, a)
		return err
	})
	return p, have, err
}

// ProviderByID is Provider for one whose id is known.
func (s *Service) ProviderByID(ctx context.Context, id core.ID) (p Provider, have core.Right, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if p, err = db.One(ctx, tx, scanProvider, `SELECT `+providerColumns+providerFrom+` WHERE p.id = $1`, id); err != nil {
			return err
		}
		if have, err = rights(ctx, tx, p.OrgID, 0); err != nil {
			return err
		}
		ps := []Provider{p}
		err = fillProviders(ctx, tx, ps)
		p = ps[0]
		return err
	})
	return p, have, err
}

// Providers lists an organization's providers by name.
func (s *Service) Providers(ctx context.Context, orgName string, f Filter, pg jsonapi.Page) (ps []Provider, have core.Right, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, h, err := org(ctx, tx, orgName, 0)
		if err != nil {
			return err
		}
		have = h
		if f.Org != "" && fold(f.Org) != fold(o.Name) {
			return nil
		}
		const where = ` WHERE p.org_id = $1 AND ($2 = '' OR p.registry = $2)
			AND ($3 = '%%' OR p.name_key LIKE $3 ESCAPE '\' OR p.namespace_key LIKE $3 ESCAPE '\' OR (p.registry = 'private' AND o.name_key LIKE $3 ESCAPE '\'))`
		args := []any{o.ID, f.Registry, "%" + likeSpecial.Replace(fold(f.Part)) + "%"}
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*)`+providerFrom+where, args...); err != nil {
			return err
		}
		ps, err = db.All(ctx, tx, scanProvider, `SELECT `+providerColumns+providerFrom+where+` ORDER BY p.name_key, p.registry, p.namespace_key LIMIT $4 OFFSET $5`,
			append(args, pg.Size, pg.Offset())...)
		if err != nil {
			return err
		}
		return fillProviders(ctx, tx, ps)
	})
	return ps, have, total, err
}

// CreateProvider adds a provider without versions, or an entry for a public one.
func (s *Service) CreateProvider(ctx context.Context, orgName string, a ProviderAddress) (p Provider, have core.Right, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, h, err := org(ctx, tx, orgName, core.ManageProviders)
		if err != nil {
			return err
		}
		have = h
		if err := checkName("name", a.Name, namePattern); err != nil {
			return err
		}
		if err := checkRegistry(a.Registry); err != nil {
			return err
		}
		stored := ""
		switch {
		case a.Registry == Public:
			stored = a.Namespace
			if err := checkName("namespace", stored, namePattern); err != nil {
				return err
			}
		case fold(a.Namespace) != fold(o.Name):
			return core.Errorf(core.Invalid, "must be the organization's name for a private provider").InField("namespace")
		}
		p = Provider{ID: core.NewID("prov"), OrgID: o.ID, OrgName: o.Name, Registry: a.Registry, Namespace: o.Name, Name: a.Name, CreatedAt: tx.Now(), UpdatedAt: tx.Now()}
		if stored != "" {
			p.Namespace = stored
		}
		_, err = tx.Exec(ctx, `INSERT INTO registry_provider (id, org_id, registry, namespace, namespace_key, name, name_key, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)`, p.ID, p.OrgID, p.Registry, stored, fold(stored), p.Name, fold(p.Name), tx.Now())
		if err != nil {
			return taken(err, "name")
		}
		return audit.Add(ctx, tx, o.ID, "registry_provider", p.ID, "create", map[string]any{"name": p.Name, "namespace": p.Namespace})
	})
	return p, have, err
}

// manageProvider finds a provider that the subject of ctx may publish.
func manageProvider(ctx context.Context, tx *db.Tx, orgName string, a ProviderAddress) (Provider, core.Right, error) {
	o, have, err := org(ctx, tx, orgName, core.ManageProviders)
	if err != nil {
		return Provider{}, 0, err
	}
	p, err := loadProvider(ctx, tx, o, a)
	return p, have, err
}

// TagProvider replaces the tags of a provider, if set.
func (s *Service) TagProvider(ctx context.Context, orgName string, a ProviderAddress, tags []Tag, set bool) (p Provider, have core.Right, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if p, have, err = manageProvider(ctx, tx, orgName, a); err != nil || !set {
			return err
		}
		p.UpdatedAt = tx.Now()
		if _, err := tx.Exec(ctx, `UPDATE registry_provider SET updated_at = $2 WHERE id = $1`, p.ID, tx.Now()); err != nil {
			return err
		}
		if err := setTags(ctx, tx, p.ID, tags); err != nil {
			return err
		}
		return audit.Add(ctx, tx, p.OrgID, "registry_provider", p.ID, "update", map[string]any{"name": p.Name, "tags": len(tags)})
	})
	return p, have, err
}

// DeleteProvider removes a provider with its versions.
func (s *Service) DeleteProvider(ctx context.Context, orgName string, a ProviderAddress) error {
	var objects []string
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, _, err := manageProvider(ctx, tx, orgName, a)
		if err != nil {
			return err
		}
		objects, err = db.All(ctx, tx, scanText, `SELECT f.object FROM registry_provider_platform f JOIN registry_provider_version v ON v.id = f.version_id WHERE v.provider_id = $1`, p.ID)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM registry_tag WHERE owner_id = $1`, p.ID); err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, `DELETE FROM registry_provider WHERE id = $1`, p.ID); err != nil {
			return err
		}
		return audit.Add(ctx, tx, p.OrgID, "registry_provider", p.ID, "destroy", map[string]any{"name": p.Name, "namespace": p.Namespace})
	})
	if err == nil {
		s.drop(ctx, objects...)
	}
	return err
}

var protocolPattern = core.NewPattern(`^[0-9]{1,3}(\.[0-9]{1,3})?$`)

func (v ProviderVersion) validate() error {
	if err := checkVersion(v.Version); err != nil {
		return err
	}
	switch {
	case v.KeyID == "":
		return core.Errorf(core.Invalid, "can't be blank").InField("key-id")
	case len(v.KeyID) > 64 || !namePattern.MatchString(v.KeyID):
		return core.Errorf(core.Invalid, "is not the id of a key").InField("key-id")
	case len(v.Protocols) > 20:
		return core.Errorf(core.Invalid, "names more than 20 versions").InField("protocols")
	}
	for _, p := range v.Protocols {
		if !protocolPattern.MatchString(p) {
			return core.Errorf(core.Invalid, "may hold only versions such as 5.0").InField("protocols")
		}
	}
	return nil
}

func (p Provider) version(version string) (ProviderVersion, error) {
	i := slices.IndexFunc(p.Versions, func(v ProviderVersion) bool { return v.Version == version })
	if i < 0 {
		return ProviderVersion{}, authz.ErrHidden()
	}
	return p.Versions[i], nil
}
