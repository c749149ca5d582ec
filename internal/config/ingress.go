package config

import (
	"context"
	"encoding/json"
	"net/http"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/workspace"
)

// Ingress says where a configuration from version control came from. All of it
// is text of other people.
type Ingress struct {
	ID            core.ID  `json:"id"`
	Branch        string   `json:"branch"`
	CloneURL      string   `json:"clone_url"`
	CommitMessage string   `json:"commit_message"`
	CommitSHA     string   `json:"commit_sha"`
	CommitURL     string   `json:"commit_url"`
	CompareURL    string   `json:"compare_url"`
	Identifier    string   `json:"identifier"`
	Provider      string   `json:"provider"`
	OnDefault     bool     `json:"on_default"`
	Pull          int64    `json:"pull"` // number of the pull request, 0 for none
	PullURL       string   `json:"pull_url"`
	PullTitle     string   `json:"pull_title"`
	Tag           string   `json:"tag"`
	Author        string   `json:"author"`  // of the commit
	Sender        string   `json:"sender"`  // who pushed or opened, as the forge names them
	Changed       []string `json:"changed"` // files, at most maxChanged
}

// maxChanged is how many changed files are kept of a configuration.
const maxChanged = 300

func (i *Ingress) json() string {
	if i == nil {
		return ""
	}
	if len(i.Changed) > maxChanged {
		i.Changed = i.Changed[:maxChanged]
	}
	b, _ := json.Marshal(i)
	return string(b)
}

func (i *Ingress) changed() []string {
	if i == nil || i.Changed == nil {
		return []string{}
	}
	return i.Changed
}

func ingressRel(v Version) jsonapi.Rel {
	if v.Ingress == nil {
		return jsonapi.To("ingress-attributes", core.ID(""))
	}
	r := jsonapi.To("ingress-attributes", v.Ingress.ID)
	r.Links = map[string]any{"related": "/api/v2/configuration-versions/" + string(v.ID) + "/ingress-attributes"}
	return r
}

// CurrentVersions makes the documents of the current configurations of
// workspaces, for lists that include them, in one query for all.
func (s *Service) CurrentVersions(ctx context.Context, vs []workspace.View) ([]workspace.Related, error) {
	return s.current(ctx, vs, func(v Version) []jsonapi.Resource { return []jsonapi.Resource{s.Resource(v)} })
}

// CurrentIngress is CurrentVersions for where they came from.
func (s *Service) CurrentIngress(ctx context.Context, vs []workspace.View) ([]workspace.Related, error) {
	return s.current(ctx, vs, func(v Version) []jsonapi.Resource {
		return append([]jsonapi.Resource{s.Resource(v)}, IngressDocs(v)...)
	})
}

func (s *Service) current(ctx context.Context, vs []workspace.View, docs func(Version) []jsonapi.Resource) (out []workspace.Related, err error) {
	var ids []core.ID
	for _, v := range vs {
		if v.ConfigID != "" && v.Can.Has(core.ReadRuns) {
			ids = append(ids, v.ConfigID)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		cs, err := LoadMany(ctx, tx, ids)
		for _, c := range cs {
			for _, d := range docs(c) {
				out = append(out, workspace.Related{Resource: d})
			}
		}
		return err
	})
	return out, err
}

// IngressDocs are the documents of where configurations came from, of those
// that came from version control.
func IngressDocs(vs ...Version) (out []jsonapi.Resource) {
	for _, v := range vs {
		if v.Ingress != nil {
			out = append(out, ingressResource(v))
		}
	}
	return out
}

func ingressResource(v Version) jsonapi.Resource {
	i := v.Ingress
	a := map[string]any{
		"branch": i.Branch, "clone-url": i.CloneURL, "commit-message": i.CommitMessage, "commit-sha": i.CommitSHA, "commit-url": i.CommitURL,
		"compare-url": i.CompareURL, "identifier": i.Identifier, "is-pull-request": i.Pull > 0, "on-default-branch": i.OnDefault,
		"pull-request-number": nil, "pull-request-url": nil, "pull-request-title": nil, "pull-request-body": nil, "tag": nil,
		"sender-username": i.Sender, "sender-avatar-url": nil, "sender-html-url": nil, "author": i.Author,
	}
	if i.Pull > 0 {
		a["pull-request-number"], a["pull-request-url"], a["pull-request-title"] = i.Pull, i.PullURL, i.PullTitle
	}
	if i.Tag != "" {
		a["tag"] = i.Tag
	}
	return jsonapi.Resource{ID: string(i.ID), Type: "ingress-attributes", Attributes: a, Relationships: map[string]jsonapi.Rel{},
		Links: map[string]any{"created-by": "/api/v2/configuration-versions/" + string(v.ID)}}
}

func (s *Service) v2Ingress(r *http.Request) (*jsonapi.Doc, error) {
	v, err := s.Get(r.Context(), core.ID(r.PathValue("config")), core.ReadRuns)
	if err == nil && v.Ingress == nil {
		err = core.Errorf(core.NotFound, "not found")
	}
	if err != nil {
		return nil, err
	}
	return jsonapi.One(ingressResource(v)), nil
}
