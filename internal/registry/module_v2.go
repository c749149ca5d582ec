package registry

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

func (s *Service) moduleRoutes(rt *web.Router) {
	const in = "/api/v2/organizations/{org}/registry-modules"
	rt.V2("GET "+in, 200, s.v2Modules)
	rt.V2("POST "+in, 201, s.v2CreateModule)
	rt.V2("GET "+in+"/validation", 200, s.v2Validation)
	rt.V2("GET "+in+"/{registry}/{namespace}/{name}/{provider}", 200, s.v2Module)
	rt.V2("PATCH "+in+"/{registry}/{namespace}/{name}/{provider}", 200, s.v2UpdateModule)
	rt.V2("GET "+in+"/{registry}/{namespace}/{name}/{provider}/version", 200, s.v2Version)
	rt.V2("POST "+in+"/{registry}/{namespace}/{name}/{provider}/versions", 201, s.v2CreateVersion)
	rt.V2("DELETE "+in+"/{registry}/{namespace}/{name}", 204, s.v2DeleteModules)
	rt.V2("DELETE "+in+"/{registry}/{namespace}/{name}/{provider}", 204, s.v2DeleteModules)
	rt.V2("DELETE "+in+"/{registry}/{namespace}/{name}/{provider}/{version}", 204, s.v2DeleteVersion)
	rt.V2("GET /api/v2/registry-modules/{module}", 200, s.v2ModuleByID)
	rt.V2("GET /api/v2/registry-modules/{module}/tag-bindings", 200, s.v2ModuleTags)
	// The forms that older clients use. ORG/NAME/PROVIDER/versions creates a
	// version and actions/delete/ORG/NAME[/PROVIDER[/VERSION]] deletes.
	rt.V2Raw("POST /api/v2/registry-modules/{org}/{name}/{rest...}", s.v2Older)
	rt.Raw("PUT /upload/object/modules/{version}/{capability}", s.uploadModule)
	rt.Raw("GET /download/modules/{version}/{capability}/{file}", s.downloadModule)
}

type moduleAttributes struct {
	Name                string          `json:"name"`
	Namespace           string          `json:"namespace"`
	Provider            string          `json:"provider"`
	RegistryName        string          `json:"registry-name"`
	Status              string          `json:"status"`
	PublishingMechanism string          `json:"publishing-mechanism"`
	NoCode              bool            `json:"no-code"`
	VersionStatuses     []versionStatus `json:"version-statuses"`
	VCSRepo             any             `json:"vcs-repo,omitempty"`
	Permissions         map[string]bool `json:"permissions"`
	CreatedAt           time.Time       `json:"created-at"`
	UpdatedAt           time.Time       `json:"updated-at"`
}

type versionStatus struct {
	Version string `json:"version"`
	Status  string `json:"status"`
	Error   string `json:"error,omitempty"`
}

func moduleResource(m Module, have core.Right) jsonapi.Resource {
	may := have.Has(core.ManageModules)
	a := moduleAttributes{Name: m.Name, Namespace: m.Namespace, Provider: m.Provider, RegistryName: m.Registry, Status: m.Status(), PublishingMechanism: "non_vcs",
		VersionStatuses: []versionStatus{}, Permissions: map[string]bool{"can-delete": may, "can-resync": may, "can-retry": may}, CreatedAt: m.CreatedAt, UpdatedAt: m.UpdatedAt}
	for _, v := range m.Versions {
		a.VersionStatuses = append(a.VersionStatuses, versionStatus{v.Version, v.Status, v.Error})
	}
	return jsonapi.Resource{ID: string(m.ID), Type: "registry-modules", Attributes: a,
		Relationships: map[string]jsonapi.Rel{"organization": jsonapi.To("organizations", m.OrgName)},
		Links:         map[string]any{"self": path("/api/v2/organizations", m.OrgName, "registry-modules", m.Registry, m.Namespace, m.Name, m.Provider)}}
}

type versionAttributes struct {
	Source    string    `json:"source"`
	Status    string    `json:"status"`
	Error     *string   `json:"error"`
	Version   string    `json:"version"`
	CommitSHA *string   `json:"commit-sha"`
	CreatedAt time.Time `json:"created-at"`
	UpdatedAt time.Time `json:"updated-at"`
}

// versionResource shows a version, with the address that takes its archive for
// those who publish.
func (s *Service) versionResource(v ModuleVersion, have core.Right) jsonapi.Resource {
	r := jsonapi.Resource{ID: string(v.ID), Type: "registry-module-versions",
		Attributes:    versionAttributes{"tfe-api", v.Status, optional(v.Error), v.Version, optional(v.CommitSHA), v.CreatedAt, v.UpdatedAt},
		Relationships: map[string]jsonapi.Rel{"registry-module": jsonapi.To("registry-modules", v.ModuleID)}, Links: map[string]any{}}
	if have.Has(core.ManageModules) && v.Object == "" {
		r.Links["upload"] = s.uploadURL(v)
	}
	return r
}

func addressOf(r *http.Request) Address {
	return Address{r.PathValue("registry"), r.PathValue("namespace"), r.PathValue("name"), r.PathValue("provider")}
}

// paged is jsonapi.Paged; an empty list of the registry has no pages.
func paged[T any](r *http.Request, items []T, p jsonapi.Page, total int64, f func(T) jsonapi.Resource) *jsonapi.Doc {
	d := jsonapi.Paged(r, items, p, int(total), f)
	if total == 0 {
		d.Meta["pagination"].(map[string]any)["total-pages"] = 0
	}
	return d
}

func filterOf(r *http.Request) Filter {
	q := r.URL.Query()
	return Filter{Part: q.Get("q"), Provider: q.Get("filter[provider]"), Registry: q.Get("filter[registry_name]"), Org: q.Get("filter[organization_name]")}
}

func (s *Service) v2Modules(r *http.Request) (*jsonapi.Doc, error) {
	if _, err := jsonapi.Includes(r, "no-code-modules"); err != nil {
		return nil, err
	}
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	ms, have, total, err := s.Modules(r.Context(), r.PathValue("org"), filterOf(r), p)
	if err != nil {
		return nil, err
	}
	return paged(r, ms, p, total, func(m Module) jsonapi.Resource { return moduleResource(m, have) }), nil
}

func (s *Service) v2CreateModule(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		Name         string              `json:"name"`
		Provider     string              `json:"provider"`
		Namespace    string              `json:"namespace"`
		RegistryName jsonapi.Opt[string] `json:"registry-name"`
	}
	if _, err := jsonapi.Decode(r.Body, "registry-modules", &in); err != nil {
		return nil, err
	}
	if !in.RegistryName.Set || in.RegistryName.Null {
		in.RegistryName.Value = Private
	}
	m, have, err := s.CreateModule(r.Context(), r.PathValue("org"), Address{in.RegistryName.Value, in.Namespace, in.Name, in.Provider})
	if err != nil {
		return nil, err
	}
	return jsonapi.One(moduleResource(m, have)), nil
}

func (s *Service) v2Module(r *http.Request) (*jsonapi.Doc, error) {
	m, have, err := s.Module(r.Context(), r.PathValue("org"), addressOf(r))
	if err != nil {
		return nil, err
	}
	return jsonapi.One(moduleResource(m, have)), nil
}

func (s *Service) v2ModuleByID(r *http.Request) (*jsonapi.Doc, error) {
	m, have, err := s.ModuleByID(r.Context(), core.ID(r.PathValue("module")))
	if err != nil {
		return nil, err
	}
	return jsonapi.One(moduleResource(m, have)), nil
}

// v2UpdateModule changes the tags of a module; what else the API knows belongs
// to modules of a VCS repository.
func (s *Service) v2UpdateModule(r *http.Request) (*jsonapi.Doc, error) {
	rels, err := jsonapi.Decode(r.Body, "registry-modules", &struct{}{})
	if err != nil {
		return nil, err
	}
	tags, set, err := tagsOf(rels)
	if err != nil {
		return nil, err
	}
	m, have, err := s.TagModule(r.Context(), r.PathValue("org"), addressOf(r), tags, set)
	if err != nil {
		return nil, err
	}
	return jsonapi.One(moduleResource(m, have)), nil
}

func (s *Service) v2ModuleTags(r *http.Request) (*jsonapi.Doc, error) {
	m, _, err := s.ModuleByID(r.Context(), core.ID(r.PathValue("module")))
	if err != nil {
		return nil, err
	}
	return s.tagDoc(r, m.ID)
}

func (s *Service) v2Version(r *http.Request) (*jsonapi.Doc, error) {
	v, have, err := s.Version(r.Context(), r.PathValue("org"), addressOf(r), r.URL.Query().Get("module_version"))
	if err != nil {
		return nil, err
	}
	return jsonapi.One(s.versionResource(v, have)), nil
}

func (s *Service) v2CreateVersion(r *http.Request) (*jsonapi.Doc, error) {
	return s.createVersion(r, r.PathValue("org"), addressOf(r))
}

func (s *Service) createVersion(r *http.Request, org string, a Address) (*jsonapi.Doc, error) {
	var in struct {
		Version   string `json:"version"`
		CommitSHA string `json:"commit-sha"`
	}
	if _, err := jsonapi.Decode(r.Body, "registry-module-versions", &in); err != nil {
		return nil, err
	}
	v, err := s.CreateVersion(r.Context(), org, a, in.Version, in.CommitSHA)
	if err != nil {
		return nil, err
	}
	return jsonapi.One(s.versionResource(v, core.ManageModules)), nil
}

func (s *Service) v2DeleteModules(r *http.Request) (*jsonapi.Doc, error) {
	a := addressOf(r)
	if a.Registry != Private && a.Registry != Public {
		return nil, authz.ErrHidden()
	}
	return nil, s.DeleteModules(r.Context(), r.PathValue("org"), a)
}

func (s *Service) v2DeleteVersion(r *http.Request) (*jsonapi.Doc, error) {
	return nil, s.DeleteVersion(r.Context(), r.PathValue("org"), addressOf(r), r.PathValue("version"))
}

func (s *Service) v2Older(w http.ResponseWriter, r *http.Request) error {
	rest := strings.Split(r.PathValue("rest"), "/")
	if org := r.PathValue("org"); org != "actions" || r.PathValue("name") != "delete" {
		if len(rest) != 2 || rest[1] != "versions" {
			return authz.ErrHidden()
		}
		doc, err := s.createVersion(r, org, Address{Registry: Private, Name: r.PathValue("name"), Provider: rest[0]})
		if err == nil {
			web.WriteV2(w, r, http.StatusCreated, doc)
		}
		return err
	}
	var err error
	switch ctx := r.Context(); len(rest) {
	case 2:
		err = s.DeleteModules(ctx, rest[0], Address{Name: rest[1]})
	case 3:
		err = s.DeleteModules(ctx, rest[0], Address{Name: rest[1], Provider: rest[2]})
	case 4:
		err = s.DeleteVersion(ctx, rest[0], Address{Registry: Private, Name: rest[1], Provider: rest[2]}, rest[3])
	default:
		err = authz.ErrHidden()
	}
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// v2Validation tells whether a name is free.
func (s *Service) v2Validation(r *http.Request) (*jsonapi.Doc, error) {
	name, provider := r.URL.Query().Get("name"), r.URL.Query().Get("provider")
	for param, v := range map[string]string{"name": name, "provider": provider} {
		if v == "" {
			return nil, core.Errorf(core.Malformed, "the parameter %s is missing", param)
		}
	}
	free, err := s.Free(r.Context(), r.PathValue("org"), name, provider)
	if err != nil {
		return nil, err
	}
	return jsonapi.One(jsonapi.Resource{ID: path(r.PathValue("org"), name, provider), Type: "registry-module-address-validations",
		Attributes: map[string]any{"module-name": name, "provider-name": provider, "valid": free}}), nil
}

func fileHeader(w http.ResponseWriter, contentType string, size int64) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
}
