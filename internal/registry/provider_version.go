package registry

import (
	"context"
	"slices"
	"strings"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

// CreateProviderVersion adds a version that waits for its sums, signature and
// platforms. Its key may come later.
func (s *Service) CreateProviderVersion(ctx context.Context, orgName string, a ProviderAddress, v ProviderVersion) (ProviderVersion, core.Right, error) {
	var have core.Right
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, h, err := manageProvider(ctx, tx, orgName, a)
		if err != nil {
			return err
		}
		have = h
		if p.Registry == Public {
			return authz.ErrHidden()
		}
		if err := v.validate(); err != nil {
			return err
		}
		v.ID, v.ProviderID, v.CreatedAt, v.UpdatedAt = core.NewID("provver"), p.ID, tx.Now(), tx.Now()
		_, err = tx.Exec(ctx, `INSERT INTO registry_provider_version (id, provider_id, version, key_id, protocols, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $6)`,
			v.ID, v.ProviderID, v.Version, v.KeyID, strings.Join(v.Protocols, ","), tx.Now())
		if err != nil {
			return taken(err, "version")
		}
		return audit.Add(ctx, tx, p.OrgID, "registry_provider_version", v.ID, "create", map[string]any{"name": p.Name, "version": v.Version, "key": v.KeyID})
	})
	return v, have, err
}

// ProviderVersion returns a version with its platforms.
func (s *Service) ProviderVersion(ctx context.Context, orgName string, a ProviderAddress, version string) (v ProviderVersion, have core.Right, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, h, err := org(ctx, tx, orgName, 0)
		if err != nil {
			return err
		}
		have = h
		p, err := loadProvider(ctx, tx, o, a)
		if err != nil {
			return err
		}
		v, err = loadProviderVersion(ctx, tx, p, version)
		return err
	})
	return v, have, err
}

func loadProviderVersion(ctx context.Context, tx *db.Tx, p Provider, version string) (ProviderVersion, error) {
	v, err := p.version(version)
	if err != nil {
		return v, err
	}
	vs := []ProviderVersion{v}
	err = fillPlatforms(ctx, tx, vs)
	return vs[0], err
}

// ProviderVersions lists the versions of a provider, the highest first.
func (s *Service) ProviderVersions(ctx context.Context, orgName string, a ProviderAddress, pg jsonapi.Page) (vs []ProviderVersion, have core.Right, total int, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, h, err := org(ctx, tx, orgName, 0)
		if err != nil {
			return err
		}
		have = h
		p, err := loadProvider(ctx, tx, o, a)
		if err != nil {
			return err
		}
		total = len(p.Versions)
		vs = p.Versions[min(pg.Offset(), total):min(pg.Offset()+pg.Size, total)]
		return fillPlatforms(ctx, tx, vs)
	})
	return vs, have, total, err
}

// DeleteProviderVersion removes a version with its platforms.
func (s *Service) DeleteProviderVersion(ctx context.Context, orgName string, a ProviderAddress, version string) error {
	var v ProviderVersion
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, _, err := manageProvider(ctx, tx, orgName, a)
		if err != nil {
			return err
		}
		if v, err = loadProviderVersion(ctx, tx, p, version); err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, `DELETE FROM registry_provider_version WHERE id = $1`, v.ID); err != nil {
			return err
		}
		return audit.Add(ctx, tx, p.OrgID, "registry_provider_version", v.ID, "destroy", map[string]any{"name": p.Name, "version": v.Version})
	})
	if err == nil {
		for _, f := range v.Platforms {
			s.drop(ctx, f.Object)
		}
	}
	return err
}

const maxPlatforms = 100

var (
	systemName  = core.NewPattern(`^[0-9a-z]{1,32}$`)
	fileName    = core.NewPattern(`^[0-9A-Za-z][0-9A-Za-z._+-]{0,254}$`)
	shasumWords = core.NewPattern(`^[0-9A-Za-z-]{1,128}$`)
)

func (f Platform) validate() error {
	for _, x := range []struct {
		field, value, why string
		ok                *core.Pattern
	}{
		{"os", f.OS, "may hold only lower-case letters and digits", systemName},
		{"arch", f.Arch, "may hold only lower-case letters and digits", systemName},
		{"filename", f.Filename, "is not the name of a file", fileName},
		{"shasum", f.Shasum, "is not a SHA-256 sum", shasumWords},
	} {
		switch {
		case x.value == "":
			return core.Errorf(core.Invalid, "can't be blank").InField(x.field)
		case !x.ok.MatchString(x.value):
			return core.Errorf(core.Invalid, "%s", x.why).InField(x.field)
		}
	}
	return nil
}

// CreatePlatform adds a platform that waits for its binary.
func (s *Service) CreatePlatform(ctx context.Context, orgName string, a ProviderAddress, version string, f Platform) (Platform, core.Right, error) {
	var have core.Right
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, h, err := manageProvider(ctx, tx, orgName, a)
		if err != nil {
			return err
		}
		have = h
		v, err := loadProviderVersion(ctx, tx, p, version)
		if err != nil {
			return err
		}
		if err := f.validate(); err != nil {
			return err
		}
		if len(v.Platforms) >= maxPlatforms {
			return core.Errorf(core.Invalid, "a version has at most %d platforms", maxPlatforms)
		}
		f.ID, f.VersionID = core.NewID("provpltfrm"), v.ID
		_, err = tx.Exec(ctx, `INSERT INTO registry_provider_platform (id, version_id, os, arch, filename, shasum) VALUES ($1, $2, $3, $4, $5, $6)`,
			f.ID, f.VersionID, f.OS, f.Arch, f.Filename, f.Shasum)
		if err != nil {
			return taken(err, "os")
		}
		return audit.Add(ctx, tx, p.OrgID, "registry_provider_platform", f.ID, "create", map[string]any{"name": p.Name, "version": v.Version, "os": f.OS, "arch": f.Arch, "shasum": f.Shasum})
	})
	return f, have, err
}

// Platform returns one platform of a version.
func (s *Service) Platform(ctx context.Context, orgName string, a ProviderAddress, version, os, arch string) (Platform, core.Right, error) {
	v, have, err := s.ProviderVersion(ctx, orgName, a, version)
	if err != nil {
		return Platform{}, 0, err
	}
	f, err := v.platform(os, arch)
	return f, have, err
}

func (v ProviderVersion) platform(os, arch string) (Platform, error) {
	i := slices.IndexFunc(v.Platforms, func(f Platform) bool { return f.OS == os && f.Arch == arch })
	if i < 0 {
		return Platform{}, authz.ErrHidden()
	}
	return v.Platforms[i], nil
}

// DeletePlatform removes one platform of a version.
func (s *Service) DeletePlatform(ctx context.Context, orgName string, a ProviderAddress, version, os, arch string) error {
	var f Platform
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, _, err := manageProvider(ctx, tx, orgName, a)
		if err != nil {
			return err
		}
		v, err := loadProviderVersion(ctx, tx, p, version)
		if err != nil {
			return err
		}
		if f, err = v.platform(os, arch); err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, `DELETE FROM registry_provider_platform WHERE id = $1`, f.ID); err != nil {
			return err
		}
		return audit.Add(ctx, tx, p.OrgID, "registry_provider_platform", f.ID, "destroy", map[string]any{"name": p.Name, "version": v.Version, "os": f.OS, "arch": f.Arch})
	})
	if err == nil {
		s.drop(ctx, f.Object)
	}
	return err
}
