package registry

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"interlock/internal/account"
	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/web"
)

// ModulesPath and ProvidersPath are where discovery sends a CLI.
const (
	ModulesPath   = "/api/registry/v1/modules/"
	ProvidersPath = "/api/registry/v1/providers/"
)

func (s *Service) protocolRoutes(rt *web.Router) {
	const module, provider = "GET " + ModulesPath + "{namespace}/{name}/{provider}", "GET " + ProvidersPath + "{namespace}/{name}"
	rt.V2Raw(module, s.latest(s.showModule))
	rt.V2Raw(module+"/versions", s.moduleVersions)
	rt.V2Raw(module+"/download", s.latest(s.fetchModule))
	rt.V2Raw(module+"/{version}", s.exact(s.showModule))
	rt.V2Raw(module+"/{version}/download", s.exact(s.fetchModule))
	rt.V2Raw(provider+"/versions", s.providerVersions)
	rt.V2Raw(provider+"/{version}/download/{os}/{arch}", s.fetchProvider)
}

// namespace finds the organization that a namespace of the protocol stands
// for. Members, the organization's own tokens and its runs install from it, and
// so do those of organizations with which it shares.
func namespace(ctx context.Context, tx *db.Tx, r *http.Request, shared func(consumers string) string) (account.Org, error) {
	name := r.PathValue("namespace")
	o, err := account.FindOrg(ctx, tx, name)
	if core.KindOf(err) != core.NotFound {
		return o, err
	}
	mine, arg := authz.VisibleOrgs(authz.Subject(ctx), 1)
	ids, err := db.All(ctx, tx, db.ID, `SELECT o.id FROM organization o WHERE `+mine, arg)
	if err != nil {
		return o, err
	}
	if len(ids) == 0 {
		return o, authz.ErrHidden()
	}
	return db.One(ctx, tx, func(r db.Row) (o account.Org, err error) { return o, r.Scan(&o.ID, &o.Name) },
		`SELECT o.id, o.name FROM organization o WHERE o.name_key = $1 AND o.id NOT IN (`+db.In(2, len(ids))+`) AND `+shared(db.In(2, len(ids))), append([]any{fold(name)}, argsOf(ids)...)...)
}

// installable loads a private module and those of its versions that can be
// installed, the highest first.
func (s *Service) installable(r *http.Request) (m Module, err error) {
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		o, err := namespace(ctx, tx, r, account.ModulesShared)
		if err != nil {
			return err
		}
		m, err = loadModule(ctx, tx, o, Address{Private, o.Name, r.PathValue("name"), r.PathValue("provider")})
		return err
	})
	var ok []ModuleVersion
	for _, v := range m.Versions {
		if v.Status == VersionOK {
			ok = append(ok, v)
		}
	}
	m.Versions = ok
	return m, err
}

func (s *Service) moduleVersions(w http.ResponseWriter, r *http.Request) error {
	m, err := s.installable(r)
	if err != nil {
		return err
	}
	type version struct {
		Version string `json:"version"`
	}
	vs := []version{}
	for _, v := range m.Versions {
		vs = append(vs, version{v.Version})
	}
	web.WriteJSON(w, r, map[string]any{"modules": []any{map[string]any{"source": path(m.Namespace, m.Name, m.Provider), "versions": vs}}})
	return nil
}

type moduleAnswer func(http.ResponseWriter, *http.Request, Module, ModuleVersion) error

func (s *Service) exact(f moduleAnswer) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		m, err := s.installable(r)
		if err != nil {
			return err
		}
		v, ok := m.version(r.PathValue("version"))
		if !ok {
			return authz.ErrHidden()
		}
		return f(w, r, m, v)
	}
}

// latest is exact for the highest version that is no pre-release, or the
// highest of all if there are only those.
func (s *Service) latest(f moduleAnswer) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		m, err := s.installable(r)
		if err != nil {
			return err
		}
		if len(m.Versions) == 0 {
			return authz.ErrHidden()
		}
		for _, v := range m.Versions {
			if release, _, _ := strings.Cut(v.Version, "+"); !strings.Contains(release, "-") {
				return f(w, r, m, v)
			}
		}
		return f(w, r, m, m.Versions[0])
	}
}

// fetchModule tells where the archive is. The address needs no token, for the
// client sends none when it fetches.
func (s *Service) fetchModule(w http.ResponseWriter, r *http.Request, m Module, v ModuleVersion) error {
	if !v.Used {
		err := s.DB.Do(r.Context(), func(ctx context.Context, tx *db.Tx) error {
			n, err := tx.Exec(ctx, `UPDATE registry_module_version SET used = true WHERE id = $1 AND status = $2`, v.ID, VersionOK)
			if err == nil && n == 0 {
				err = authz.ErrHidden()
			}
			if err != nil {
				return err
			}
			return audit.Add(ctx, tx, m.OrgID, "registry_module_version", v.ID, "first_use", map[string]any{"name": m.Name, "version": v.Version})
		})
		if err != nil {
			return err
		}
	}
	// The client unpacks by the name's ending, or as the query says.
	w.Header().Set("X-Terraform-Get", s.Signer.Base+"/download/modules/"+string(v.ID)+"/"+s.Signer.Path("GET", "module-version/"+string(v.ID), downloadTTL)+
		"/"+m.Name+".tar.gz?archive=tar.gz")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// showModule tells what a version of a module takes and gives.
func (s *Service) showModule(w http.ResponseWriter, r *http.Request, m Module, v ModuleVersion) error {
	var about string
	err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		about, err = db.One(ctx, tx, scanText, `SELECT details FROM registry_module_version WHERE id = $1`, v.ID)
		return err
	})
	if err != nil {
		return err
	}
	d := details{Empty: true, Inputs: []input{}, Outputs: []output{}, Providers: []dependency{}, Resources: []resource{}, Modules: []call{}}
	if about != "" {
		if err := json.Unmarshal([]byte(about), &d); err != nil {
			return err
		}
	}
	d.Name = m.Name
	versions := []string{}
	for _, x := range m.Versions {
		versions = append(versions, x.Version)
	}
	address := path(m.Namespace, m.Name, m.Provider)
	web.WriteJSON(w, r, map[string]any{
		"id": path(address, v.Version), "owner": "", "namespace": m.Namespace, "name": m.Name, "version": v.Version, "provider": m.Provider,
		"provider_logo_url": "", "description": "", "source": "", "tag": "", "published_at": v.CreatedAt.UTC().Format(time.RFC3339), "verified": false,
		"root": d, "submodules": []any{}, "examples": []any{}, "providers": []string{m.Provider}, "versions": versions,
	})
	return nil
}
