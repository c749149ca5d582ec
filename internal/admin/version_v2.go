package admin

import (
	"net/http"
	"time"

	"interlock/internal/core"
	"interlock/internal/jsonapi"
)

type versionAttributes struct {
	Version    string    `json:"version"`
	URL        string    `json:"url"`
	SHA        string    `json:"sha"`
	Deprecated bool      `json:"deprecated"`
	Reason     *string   `json:"deprecated-reason,omitempty"`
	Official   bool      `json:"official"`
	Enabled    bool      `json:"enabled"`
	Beta       bool      `json:"beta"`
	Usage      int64     `json:"usage"`
	CreatedAt  time.Time `json:"created-at"`
	Archs      []Arch    `json:"archs"`
}

// versionResource shows a version. The vendor's releases have no sums here:
// they are checked against the vendor's signed list.
func versionResource(v Version) jsonapi.Resource {
	a := versionAttributes{Version: v.Version, Deprecated: v.Deprecated, Official: v.Official, Enabled: v.Enabled, Beta: v.Beta, Usage: v.Usage, CreatedAt: v.CreatedAt, Archs: v.Archs}
	if len(v.Archs) == 0 {
		a.Archs = []Arch{}
		if v.Official {
			for _, arch := range []string{"amd64", "arm64"} {
				a.Archs = append(a.Archs, Arch{URL: "https://releases.hashicorp.com/terraform/" + v.Version + "/terraform_" + v.Version + "_linux_" + arch + ".zip", OS: "linux", Arch: arch})
			}
			a.URL = a.Archs[0].URL
		}
	} else {
		on := v.on("amd64")
		a.URL, a.SHA = on.URL, on.SHA
	}
	if v.Deprecated {
		a.Reason = &v.Reason
	}
	return jsonapi.Resource{ID: string(v.ID), Type: "terraform-versions", Attributes: a, Links: map[string]any{"self": "/api/v2/admin/terraform-versions/" + string(v.ID)}}
}

type versionInput struct {
	Version    jsonapi.Opt[string] `json:"version"`
	URL        jsonapi.Opt[string] `json:"url"`
	SHA        jsonapi.Opt[string] `json:"sha"`
	Deprecated jsonapi.Opt[bool]   `json:"deprecated"`
	Reason     jsonapi.Opt[string] `json:"deprecated-reason"`
	Official   jsonapi.Opt[bool]   `json:"official"`
	Enabled    jsonapi.Opt[bool]   `json:"enabled"`
	Beta       jsonapi.Opt[bool]   `json:"beta"`
	Archs      jsonapi.Opt[[]Arch] `json:"archs"`
}

func (in *versionInput) apply(v *Version) {
	given(in.Version, &v.Version)
	given(in.Deprecated, &v.Deprecated)
	in.Reason.Apply(&v.Reason)
	given(in.Official, &v.Official)
	given(in.Enabled, &v.Enabled)
	given(in.Beta, &v.Beta)
	switch on := v.on("amd64"); {
	case in.Archs.Set && len(in.Archs.Value) > 0:
		v.Archs = in.Archs.Value
	case in.URL.Set || in.SHA.Set:
		given(in.URL, &on.URL)
		given(in.SHA, &on.SHA)
		v.set(on.URL, on.SHA)
	}
}

func (s *Service) versions(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	var f VersionFilter
	if f.Exact, err = query(r, "filter[version]"); err != nil {
		return nil, err
	}
	if f.Part, err = query(r, "search[version]"); err != nil {
		return nil, err
	}
	vs, total, err := s.Versions(r.Context(), f, p)
	if err != nil {
		return nil, err
	}
	return jsonapi.Paged(r, vs, p, int(total), versionResource), nil
}

func (s *Service) version(r *http.Request) (*jsonapi.Doc, error) {
	v, err := s.Version(r.Context(), core.ID(r.PathValue("version")))
	return jsonapi.One(versionResource(v)), err
}

func (s *Service) createVersion(r *http.Request) (*jsonapi.Doc, error) {
	var in versionInput
	if _, err := jsonapi.Decode(r.Body, "terraform-versions", &in); err != nil {
		return nil, err
	}
	v := Version{Enabled: true}
	in.apply(&v)
	v, err := s.AddVersion(r.Context(), v)
	return jsonapi.One(versionResource(v)), err
}

func (s *Service) updateVersion(r *http.Request) (*jsonapi.Doc, error) {
	var in versionInput
	if _, err := jsonapi.Decode(r.Body, "terraform-versions", &in); err != nil {
		return nil, err
	}
	v, err := s.UpdateVersion(r.Context(), core.ID(r.PathValue("version")), in.apply)
	return jsonapi.One(versionResource(v)), err
}

func (s *Service) deleteVersion(r *http.Request) (*jsonapi.Doc, error) {
	return nil, s.DeleteVersion(r.Context(), core.ID(r.PathValue("version")))
}
