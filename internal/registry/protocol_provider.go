package registry

import (
	"context"
	"net/http"
	"slices"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/web"
)

// offered loads a private provider with what of it can be installed: verified
// versions, and of those the platforms that their sums list.
func offered(ctx context.Context, tx *db.Tx, r *http.Request) (Provider, error) {
	o, err := namespace(ctx, tx, r, account.ProvidersShared)
	if err != nil {
		return Provider{}, err
	}
	p, err := loadProvider(ctx, tx, o, ProviderAddress{Private, o.Name, r.PathValue("name")})
	if err != nil {
		return p, err
	}
	p.Versions = slices.DeleteFunc(p.Versions, func(v ProviderVersion) bool { return !v.Verified })
	if err := fillPlatforms(ctx, tx, p.Versions); err != nil {
		return p, err
	}
	for i := range p.Versions {
		p.Versions[i].Platforms = slices.DeleteFunc(p.Versions[i].Platforms, func(f Platform) bool { return !f.Offered })
	}
	p.Versions = slices.DeleteFunc(p.Versions, func(v ProviderVersion) bool { return len(v.Platforms) == 0 })
	return p, nil
}

func (s *Service) providerVersions(w http.ResponseWriter, r *http.Request) error {
	var p Provider
	err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		p, err = offered(ctx, tx, r)
		return err
	})
	if err != nil {
		return err
	}
	type platform struct {
		OS   string `json:"os"`
		Arch string `json:"arch"`
	}
	type version struct {
		Version   string     `json:"version"`
		Protocols []string   `json:"protocols"`
		Platforms []platform `json:"platforms"`
	}
	vs := []version{}
	for _, v := range p.Versions {
		out := version{v.Version, v.Protocols, nil}
		for _, f := range v.Platforms {
			out.Platforms = append(out.Platforms, platform{f.OS, f.Arch})
		}
		vs = append(vs, out)
	}
	web.WriteJSON(w, r, map[string]any{"id": path(p.Namespace, p.Name), "versions": vs, "warnings": nil})
	return nil
}

// fetchProvider tells where a platform's archive is and all that a client needs
// to check it. The addresses need no token.
func (s *Service) fetchProvider(w http.ResponseWriter, r *http.Request) error {
	var (
		v ProviderVersion
		f Platform
		k Key
	)
	err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		p, err := offered(ctx, tx, r)
		if err != nil {
			return err
		}
		if v, err = p.version(r.PathValue("version")); err != nil {
			return err
		}
		if f, err = v.platform(r.PathValue("os"), r.PathValue("arch")); err != nil {
			return err
		}
		k, err = signer(ctx, tx, p.OrgID, v.KeyID)
		return err
	})
	if core.KindOf(err) == core.NotFound {
		err = authz.ErrHidden()
	}
	if err != nil {
		return err
	}
	web.WriteJSON(w, r, map[string]any{
		"protocols": v.Protocols, "os": f.OS, "arch": f.Arch, "filename": f.Filename, "shasum": f.Shasum,
		"download_url": s.binaryURL("GET", f), "shasums_url": s.fileURL("GET", "shasums", v), "shasums_signature_url": s.fileURL("GET", "shasums-sig", v),
		"signing_keys": map[string]any{"gpg_public_keys": []any{map[string]any{
			"key_id": k.KeyID, "ascii_armor": k.Armor, "trust_signature": "", "source": "", "source_url": nil}}},
	})
	return nil
}
