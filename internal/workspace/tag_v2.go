package workspace

import (
	"context"
	"net/http"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

func (s *Service) tagRoutes(rt *web.Router) {
	rt.V2("GET /api/v2/workspaces/{workspace}/relationships/tags", 200, byID(s.v2WorkspaceTags))
	rt.V2("POST /api/v2/workspaces/{workspace}/relationships/tags", 204, byID(s.v2AddTags))
	rt.V2("DELETE /api/v2/workspaces/{workspace}/relationships/tags", 204, byID(s.v2RemoveTags))
	rt.V2("GET /api/v2/workspaces/{workspace}/tag-bindings", 200, byID(s.v2Bindings(false)))
	rt.V2("GET /api/v2/workspaces/{workspace}/effective-tag-bindings", 200, byID(s.v2Bindings(true)))
	rt.V2("PATCH /api/v2/workspaces/{workspace}/tag-bindings", 200, byID(s.v2Bind))
	rt.V2("GET /api/v2/organizations/{org}/tags", 200, s.v2OrgTags)
	rt.V2("DELETE /api/v2/organizations/{org}/tags", 204, s.v2DeleteTags)
	rt.V2("POST /api/v2/tags/{tag}/relationships/workspaces", 204, s.v2TagWorkspaces)
	rt.V2("GET /api/v2/organizations/{org}/reserved-tag-keys", 200, s.v2Reserved)
	rt.V2("POST /api/v2/organizations/{org}/reserved-tag-keys", 201, s.v2Reserve)
	rt.V2("PATCH /api/v2/reserved-tag-keys/{key}", 200, s.v2UpdateReserved)
	rt.V2("DELETE /api/v2/reserved-tag-keys/{key}", 204, func(r *http.Request) (*jsonapi.Doc, error) {
		return nil, s.Unreserve(r.Context(), core.ID(r.PathValue("key")))
	})
}

func tagResource(t Tag) jsonapi.Resource {
	return jsonapi.Resource{ID: string(t.ID), Type: "tags",
		Attributes:    map[string]any{"name": t.Name, "instance-count": t.Instances, "created-at": t.CreatedAt},
		Relationships: map[string]jsonapi.Rel{"organization": jsonapi.To("organizations", t.OrgName)}}
}

// bindingResource is a binding as it is in effect on owner: an inherited one
// says where it comes from.
func bindingResource(typ string, b Binding, owner core.ID) jsonapi.Resource {
	r := jsonapi.Resource{ID: string(b.ID), Type: typ, Attributes: map[string]string{"key": b.Key, "value": b.Value}}
	if owner != "" && b.Owner != owner {
		r.Links = map[string]any{"inherited-from": "/api/v2/projects/" + string(b.Owner)}
	}
	return r
}

func bindingsDoc(bs []Binding, owner core.ID, effective bool) *jsonapi.Doc {
	typ := "tag-bindings"
	if effective {
		typ = "effective-tag-bindings"
	}
	return jsonapi.List(bs, func(b Binding) jsonapi.Resource { return bindingResource(typ, b, owner) })
}

// relatedTags makes the effective bindings of workspaces, in one query.
func (s *Service) relatedTags(ctx context.Context, vs []View) (out []Related, err error) {
	var projects []core.ID
	for _, v := range vs {
		projects = append(projects, v.ProjectID)
	}
	var of map[core.ID][]Binding
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		of, err = bindingsOf(ctx, tx, projects)
		return err
	})
	for _, v := range vs {
		for _, b := range inherit(v.Tags, of[v.ProjectID]) {
			r := bindingResource("effective-tag-bindings", b, v.ID)
			if b.Owner != v.ID {
				// The same binding of a project is another on each workspace.
				r.ID += "-" + string(v.ID)
			}
			out = append(out, Related{v.ID, "effective-tag-bindings", true, r})
		}
	}
	return out, err
}

func (s *Service) v2WorkspaceTags(r *http.Request, id core.ID) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	ts, total, err := s.TagsOf(r.Context(), id, p)
	return jsonapi.Paged(r, ts, p, int(total), tagResource), err
}

// tagsIn reads a list of tags from a request.
func tagsIn(r *http.Request) ([]tagInput, error) {
	var in struct {
		Data []tagInput `json:"data"`
	}
	err := jsonapi.DecodePlain(r.Body, &in)
	return in.Data, err
}

func namedTags(r *http.Request) ([]Tag, error) {
	in, err := tagsIn(r)
	out := make([]Tag, len(in))
	for i, t := range in {
		if out[i] = (Tag{ID: t.ID, Name: t.binding().Key}); t.ID == "" && out[i].Name == "" {
			return nil, core.Errorf(core.Invalid, "a tag needs a name or an id").InField("name")
		}
	}
	return out, err
}

func (s *Service) v2AddTags(r *http.Request, id core.ID) (*jsonapi.Doc, error) {
	tags, err := namedTags(r)
	if err != nil {
		return nil, err
	}
	return nil, s.AddTags(r.Context(), id, tags)
}

func (s *Service) v2RemoveTags(r *http.Request, id core.ID) (*jsonapi.Doc, error) {
	tags, err := namedTags(r)
	if err != nil {
		return nil, err
	}
	return nil, s.RemoveTags(r.Context(), id, tags)
}

func (s *Service) v2Bindings(effective bool) handler {
	return func(r *http.Request, id core.ID) (*jsonapi.Doc, error) {
		bs, err := s.Bindings(r.Context(), id, effective)
		return bindingsDoc(bs, id, effective), err
	}
}

// keyed reads a list of keys and values.
func keyed(r *http.Request) ([]Binding, error) {
	in, err := tagsIn(r)
	out := make([]Binding, len(in))
	for i, t := range in {
		out[i] = t.binding()
	}
	return out, err
}

func (s *Service) v2Bind(r *http.Request, id core.ID) (*jsonapi.Doc, error) {
	list, err := keyed(r)
	if err != nil {
		return nil, err
	}
	bs, err := s.Bind(r.Context(), id, list)
	return bindingsDoc(bs, id, false), err
}

func (s *Service) v2OrgTags(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	ts, total, err := s.Tags(r.Context(), r.PathValue("org"), q.Get("q"), core.ID(q.Get("filter[exclude][taggable][id]")), p)
	return jsonapi.Paged(r, ts, p, int(total), tagResource), err
}

// idsIn reads a list of resources from a request.
func idsIn(r *http.Request) ([]core.ID, error) {
	var in struct {
		Data []struct {
			ID core.ID `json:"id"`
		} `json:"data"`
	}
	err := jsonapi.DecodePlain(r.Body, &in)
	ids := make([]core.ID, len(in.Data))
	for i, d := range in.Data {
		ids[i] = d.ID
	}
	return ids, err
}

func (s *Service) v2DeleteTags(r *http.Request) (*jsonapi.Doc, error) {
	ids, err := idsIn(r)
	if err != nil {
		return nil, err
	}
	return nil, s.DeleteTags(r.Context(), r.PathValue("org"), ids)
}

func (s *Service) v2TagWorkspaces(r *http.Request) (*jsonapi.Doc, error) {
	ids, err := idsIn(r)
	if err != nil {
		return nil, err
	}
	return nil, s.TagWorkspaces(r.Context(), core.ID(r.PathValue("tag")), ids)
}

func reservedResource(k ReservedKey) jsonapi.Resource {
	return jsonapi.Resource{ID: string(k.ID), Type: "reserved-tag-keys", Attributes: struct {
		Key              string    `json:"key"`
		DisableOverrides bool      `json:"disable-overrides"`
		CreatedAt        time.Time `json:"created-at"`
		UpdatedAt        time.Time `json:"updated-at"`
		Created          time.Time `json:"created_at"` // as one client spells it
		Updated          time.Time `json:"updated_at"`
	}{k.Key, k.DisableOverrides, k.CreatedAt, k.UpdatedAt, k.CreatedAt, k.UpdatedAt}}
}

type reservedInput struct {
	Key              jsonapi.Opt[string] `json:"key"`
	DisableOverrides jsonapi.Opt[bool]   `json:"disable-overrides"`
}

func (in *reservedInput) apply(k *ReservedKey) {
	in.Key.Apply(&k.Key)
	in.DisableOverrides.Apply(&k.DisableOverrides)
}

func (s *Service) v2Reserved(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	ks, total, err := s.ReservedKeys(r.Context(), r.PathValue("org"), p)
	return jsonapi.Paged(r, ks, p, int(total), reservedResource), err
}

func (s *Service) v2Reserve(r *http.Request) (*jsonapi.Doc, error) {
	var in reservedInput
	if _, err := jsonapi.Decode(r.Body, "reserved-tag-keys", &in); err != nil {
		return nil, err
	}
	var k ReservedKey
	in.apply(&k)
	k, err := s.Reserve(r.Context(), r.PathValue("org"), k)
	return jsonapi.One(reservedResource(k)), err
}

func (s *Service) v2UpdateReserved(r *http.Request) (*jsonapi.Doc, error) {
	var in reservedInput
	if _, err := jsonapi.Decode(r.Body, "reserved-tag-keys", &in); err != nil {
		return nil, err
	}
	k, err := s.UpdateReserved(r.Context(), core.ID(r.PathValue("key")), in.apply)
	return jsonapi.One(reservedResource(k)), err
}
