package registry

import (
	"net/http"
	"time"

	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

func (s *Service) providerRoutes(rt *web.Router) {
	const all = "/api/v2/organizations/{org}/registry-providers"
	const one = all + "/{registry}/{namespace}/{name}"
	const version = one + "/versions/{version}"
	rt.V2("GET "+all, 200, s.v2Providers)
	rt.V2("POST "+all, 201, s.v2CreateProvider)
	rt.V2("GET "+one, 200, s.v2Provider)
	rt.V2("PATCH "+one, 200, s.v2UpdateProvider)
	rt.V2("DELETE "+one, 204, s.v2DeleteProvider)
	rt.V2("GET /api/v2/registry-providers/{provider}", 200, s.v2ProviderByID)
	rt.V2("GET /api/v2/registry-providers/{provider}/tag-bindings", 200, s.v2ProviderTags)
	rt.V2("GET "+one+"/versions", 200, s.v2ProviderVersions)
	rt.V2("POST "+one+"/versions", 201, s.v2CreateProviderVersion)
	rt.V2("GET "+version, 200, s.v2ProviderVersion)
	rt.V2("DELETE "+version, 204, s.v2DeleteProviderVersion)
	rt.V2("GET "+version+"/platforms", 200, s.v2Platforms)
	rt.V2("POST "+version+"/platforms", 201, s.v2CreatePlatform)
	rt.V2("GET "+version+"/platforms/{os}/{arch}", 200, s.v2Platform)
	rt.V2("DELETE "+version+"/platforms/{os}/{arch}", 204, s.v2DeletePlatform)
	s.assetRoutes(rt)
}

func providerOf(r *http.Request) ProviderAddress {
	return ProviderAddress{r.PathValue("registry"), r.PathValue("namespace"), r.PathValue("name")}
}

type providerAttributes struct {
	Name         string          `json:"name"`
	Namespace    string          `json:"namespace"`
	RegistryName string          `json:"registry-name"`
	CreatedAt    time.Time       `json:"created-at"`
	UpdatedAt    time.Time       `json:"updated-at"`
	Permissions  map[string]bool `json:"permissions"`
}

func providerResource(p Provider, have core.Right) jsonapi.Resource {
	refs := []jsonapi.Ref{}
	for _, v := range p.Versions {
		refs = append(refs, jsonapi.Ref{ID: string(v.ID), Type: "registry-provider-versions"})
	}
	self := path("/api/v2/organizations", p.OrgName, "registry-providers", p.Registry, p.Namespace, p.Name)
	return jsonapi.Resource{ID: string(p.ID), Type: "registry-providers",
		Attributes: providerAttributes{p.Name, p.Namespace, p.Registry, p.CreatedAt, p.UpdatedAt, map[string]bool{"can-delete": have.Has(core.ManageProviders), "can-upload-asset": have.Has(core.ManageProviders)}},
		Relationships: map[string]jsonapi.Rel{"organization": jsonapi.To("organizations", p.OrgName),
			"registry-provider-versions": {Data: refs, Links: map[string]any{"related": self + "/versions"}}},
		Links: map[string]any{"self": self}}
}

type providerVersionAttributes struct {
	Version            string          `json:"version"`
	KeyID              string          `json:"key-id"`
	Protocols          []string        `json:"protocols"`
	ShasumsUploaded    bool            `json:"shasums-uploaded"`
	ShasumsSigUploaded bool            `json:"shasums-sig-uploaded"`
	CreatedAt          time.Time       `json:"created-at"`
	UpdatedAt          time.Time       `json:"updated-at"`
	Permissions        map[string]bool `json:"permissions"`
}

// providerVersionResource shows a version; who publishes gets the addresses
// that take its files until they have been verified.
func (s *Service) providerVersionResource(v ProviderVersion, have core.Right) jsonapi.Resource {
	may := have.Has(core.ManageProviders)
	refs := []jsonapi.Ref{}
	for _, f := range v.Platforms {
		refs = append(refs, jsonapi.Ref{ID: string(f.ID), Type: "registry-provider-platforms"})
	}
	links := map[string]any{}
	for file, there := range map[string]bool{"shasums": v.Sums, "shasums-sig": v.Signature} {
		if there {
			links[file+"-download"] = s.fileURL("GET", file, v)
		}
		if may && !v.Verified {
			links[file+"-upload"] = s.fileURL("PUT", file, v)
		}
	}
	return jsonapi.Resource{ID: string(v.ID), Type: "registry-provider-versions",
		Attributes: providerVersionAttributes{v.Version, v.KeyID, v.Protocols, v.Sums, v.Signature, v.CreatedAt, v.UpdatedAt, map[string]bool{"can-delete": may, "can-upload-asset": may && !v.Verified}},
		Relationships: map[string]jsonapi.Rel{"registry-provider": jsonapi.To("registry-providers", v.ProviderID),
			"platforms": {Data: refs}},
		Links: links}
}

type platformAttributes struct {
	OS       string `json:"os"`
	Arch     string `json:"arch"`
	Filename string `json:"filename"`
	Shasum   string `json:"shasum"`
	Uploaded bool   `json:"provider-binary-uploaded"`

	Permissions map[string]bool `json:"permissions"`
}

func (s *Service) platformResource(f Platform, have core.Right) jsonapi.Resource {
	may := have.Has(core.ManageProviders)
	links := map[string]any{}
	if f.Object != "" {
		links["provider-binary-download"] = s.binaryURL("GET", f)
	} else if may {
		links["provider-binary-upload"] = s.binaryURL("PUT", f)
	}
	return jsonapi.Resource{ID: string(f.ID), Type: "registry-provider-platforms",
		Attributes:    platformAttributes{f.OS, f.Arch, f.Filename, f.Shasum, f.Object != "", map[string]bool{"can-delete": may, "can-upload-asset": may && f.Object == ""}},
		Relationships: map[string]jsonapi.Rel{"registry-provider-version": jsonapi.To("registry-provider-versions", f.VersionID)}, Links: links}
}

// providerDoc adds the versions of the providers if they are asked for.
func (s *Service) providerDoc(r *http.Request, doc *jsonapi.Doc, have core.Right, ps ...Provider) (*jsonapi.Doc, error) {
	inc, err := jsonapi.Includes(r, "registry-provider-versions")
	if err != nil || !inc["registry-provider-versions"] {
		return doc, err
	}
	for _, p := range ps {
		for _, v := range p.Versions {
			one := s.providerVersionResource(v, have)
			delete(one.Relationships, "platforms") // not loaded here
			doc.Included = append(doc.Included, one)
		}
	}
	return doc, nil
}

func (s *Service) v2Providers(r *http.Request) (*jsonapi.Doc, error) {
	pg, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	ps, have, total, err := s.Providers(r.Context(), r.PathValue("org"), filterOf(r), pg)
	if err != nil {
		return nil, err
	}
	return s.providerDoc(r, paged(r, ps, pg, total, func(p Provider) jsonapi.Resource { return providerResource(p, have) }), have, ps...)
}

func (s *Service) v2CreateProvider(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		Name         string `json:"name"`
		Namespace    string `json:"namespace"`
		RegistryName string `json:"registry-name"`
	}
	if _, err := jsonapi.Decode(r.Body, "registry-providers", &in); err != nil {
		return nil, err
	}
	p, have, err := s.CreateProvider(r.Context(), r.PathValue("org"), ProviderAddress{in.RegistryName, in.Namespace, in.Name})
	if err != nil {
		return nil, err
	}
	return jsonapi.One(providerResource(p, have)), nil
}

func (s *Service) v2Provider(r *http.Request) (*jsonapi.Doc, error) {
	p, have, err := s.Provider(r.Context(), r.PathValue("org"), providerOf(r))
	if err != nil {
		return nil, err
	}
	return s.providerDoc(r, jsonapi.One(providerResource(p, have)), have, p)
}

func (s *Service) v2ProviderByID(r *http.Request) (*jsonapi.Doc, error) {
	p, have, err := s.ProviderByID(r.Context(), core.ID(r.PathValue("provider")))
	if err != nil {
		return nil, err
	}
	return s.providerDoc(r, jsonapi.One(providerResource(p, have)), have, p)
}

func (s *Service) v2UpdateProvider(r *http.Request) (*jsonapi.Doc, error) {
	rels, err := jsonapi.Decode(r.Body, "registry-providers", &struct{}{})
	if err != nil {
		return nil, err
	}
	tags, set, err := tagsOf(rels)
	if err != nil {
		return nil, err
	}
	p, have, err := s.TagProvider(r.Context(), r.PathValue("org"), providerOf(r), tags, set)
	if err != nil {
		return nil, err
	}
	return jsonapi.One(providerResource(p, have)), nil
}

func (s *Service) v2ProviderTags(r *http.Request) (*jsonapi.Doc, error) {
	p, _, err := s.ProviderByID(r.Context(), core.ID(r.PathValue("provider")))
	if err != nil {
		return nil, err
	}
	return s.tagDoc(r, p.ID)
}

func (s *Service) v2DeleteProvider(r *http.Request) (*jsonapi.Doc, error) {
	return nil, s.DeleteProvider(r.Context(), r.PathValue("org"), providerOf(r))
}

func (s *Service) v2ProviderVersions(r *http.Request) (*jsonapi.Doc, error) {
	pg, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	vs, have, total, err := s.ProviderVersions(r.Context(), r.PathValue("org"), providerOf(r), pg)
	if err != nil {
		return nil, err
	}
	return paged(r, vs, pg, int64(total), func(v ProviderVersion) jsonapi.Resource { return s.providerVersionResource(v, have) }), nil
}

func (s *Service) v2CreateProviderVersion(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		Version   string   `json:"version"`
		KeyID     string   `json:"key-id"`
		Protocols []string `json:"protocols"`
	}
	if _, err := jsonapi.Decode(r.Body, "registry-provider-versions", &in); err != nil {
		return nil, err
	}
	v, have, err := s.CreateProviderVersion(r.Context(), r.PathValue("org"), providerOf(r), ProviderVersion{Version: in.Version, KeyID: in.KeyID, Protocols: append([]string{}, in.Protocols...)})
	if err != nil {
		return nil, err
	}
	return jsonapi.One(s.providerVersionResource(v, have)), nil
}

func (s *Service) v2ProviderVersion(r *http.Request) (*jsonapi.Doc, error) {
	v, have, err := s.ProviderVersion(r.Context(), r.PathValue("org"), providerOf(r), r.PathValue("version"))
	if err != nil {
		return nil, err
	}
	return jsonapi.One(s.providerVersionResource(v, have)), nil
}

func (s *Service) v2DeleteProviderVersion(r *http.Request) (*jsonapi.Doc, error) {
	return nil, s.DeleteProviderVersion(r.Context(), r.PathValue("org"), providerOf(r), r.PathValue("version"))
}

func (s *Service) v2Platforms(r *http.Request) (*jsonapi.Doc, error) {
	pg, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	v, have, err := s.ProviderVersion(r.Context(), r.PathValue("org"), providerOf(r), r.PathValue("version"))
	if err != nil {
		return nil, err
	}
	total := len(v.Platforms)
	fs := v.Platforms[min(pg.Offset(), total):min(pg.Offset()+pg.Size, total)]
	return paged(r, fs, pg, int64(total), func(f Platform) jsonapi.Resource { return s.platformResource(f, have) }), nil
}

func (s *Service) v2CreatePlatform(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		OS       string `json:"os"`
		Arch     string `json:"arch"`
		Shasum   string `json:"shasum"`
		Filename string `json:"filename"`
	}
	if _, err := jsonapi.Decode(r.Body, "registry-provider-platforms", &in); err != nil {
		return nil, err
	}
	f, have, err := s.CreatePlatform(r.Context(), r.PathValue("org"), providerOf(r), r.PathValue("version"), Platform{OS: in.OS, Arch: in.Arch, Shasum: in.Shasum, Filename: in.Filename})
	if err != nil {
		return nil, err
	}
	return jsonapi.One(s.platformResource(f, have)), nil
}

func (s *Service) v2Platform(r *http.Request) (*jsonapi.Doc, error) {
	f, have, err := s.Platform(r.Context(), r.PathValue("org"), providerOf(r), r.PathValue("version"), r.PathValue("os"), r.PathValue("arch"))
	if err != nil {
		return nil, err
	}
	return jsonapi.One(s.platformResource(f, have)), nil
}

func (s *Service) v2DeletePlatform(r *http.Request) (*jsonapi.Doc, error) {
	return nil, s.DeletePlatform(r.Context(), r.PathValue("org"), providerOf(r), r.PathValue("version"), r.PathValue("os"), r.PathValue("arch"))
}
