package state

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/tfdata"
	"interlock/internal/web"
)

// Routes mounts the APIs and the pages.
func (s *Service) Routes(rt *web.Router) {
	rt.V2Raw("POST /api/v2/workspaces/{workspace}/state-versions", s.v2Create)
	rt.V2Raw("PATCH /api/v2/workspaces/{workspace}/state-versions", s.v2Rollback)
	rt.V2Raw("GET /api/v2/workspaces/{workspace}/current-state-version", s.v2Current)
	rt.V2("GET /api/v2/workspaces/{workspace}/resources", 200, s.v2Resources)
	rt.V2("GET /api/v2/workspaces/{workspace}/current-state-version-outputs", 200, s.v2CurrentOutputs)
	rt.V2("GET /api/v2/state-versions", 200, s.v2List)
	rt.V2Raw("GET /api/v2/state-versions/{state}", s.v2Get)
	rt.V2Raw("POST /api/v2/state-versions/{state}/actions/soft_delete_backing_data", s.v2Act(s.SoftDelete))
	rt.V2Raw("POST /api/v2/state-versions/{state}/actions/restore_backing_data", s.v2Act(s.Restore))
	rt.V2Raw("POST /api/v2/state-versions/{state}/actions/permanently_delete_backing_data", s.v2Act(s.DeleteForGood))
	rt.V2Raw("GET /api/v2/state-versions/{state}/download", s.v2Download)
	rt.V2("GET /api/v2/state-versions/{state}/outputs", 200, s.v2Outputs)
	rt.V2("GET /api/v2/state-version-outputs/{output}", 200, s.v2Output)
	rt.Raw("PUT /upload/states/{state}/{capability}", s.upload)
	rt.Raw("PUT /upload/json-states/{state}/{capability}", s.uploadJSON)
	rt.Raw("GET /download/states/{state}/{capability}", s.download)
	rt.Raw("GET /download/json-states/{state}/{capability}", s.downloadJSON)
	s.v1Routes(rt)
	s.pages(rt)
}

type attributes struct {
	CreatedAt          time.Time                 `json:"created-at"`
	Size               int64                     `json:"size"`
	Serial             int64                     `json:"serial"`
	Lineage            string                    `json:"lineage"`
	MD5                string                    `json:"md5"`
	Status             string                    `json:"status"`
	StateVersion       int                       `json:"state-version"`
	TerraformVersion   string                    `json:"terraform-version"`
	ResourcesProcessed bool                      `json:"resources-processed"`
	Modules            map[string]map[string]int `json:"modules"`
	Providers          map[string]map[string]int `json:"providers"`
	Resources          []ResourceCount           `json:"resources"`
	BillableRUM        *int64                    `json:"billable-rum-count"`
	Intermediate       bool                      `json:"intermediate"`
	DownloadURL        *string                   `json:"hosted-state-download-url"`
	JSONDownloadURL    *string                   `json:"hosted-json-state-download-url"`
	UploadURL          *string                   `json:"hosted-state-upload-url"`
	JSONUploadURL      *string                   `json:"hosted-json-state-upload-url"`
	VCSCommitSHA       *string                   `json:"vcs-commit-sha"`
	VCSCommitURL       *string                   `json:"vcs-commit-url"`
	Permissions        map[string]bool           `json:"permissions"`
}

// statusOf is the status as the API names it: bytes that are gone outshine that
// they were whole once.
func statusOf(v Version) string {
	switch v.Backing {
	case "soft_deleted":
		return "backing_data_soft_deleted"
	case "deleted":
		return "backing_data_permanently_deleted"
	}
	return v.Status
}

func (s *Service) resource(ctx context.Context, v Version) jsonapi.Resource {
	a := attributes{CreatedAt: v.CreatedAt, Size: max(v.Size, 0), Serial: v.Serial, Lineage: v.Lineage, MD5: v.MD5, Status: statusOf(v), StateVersion: 4,
		TerraformVersion: v.EngineVersion, Permissions: map[string]bool{"can-restore-backing-data": v.Backing == "soft_deleted"}}
	if v.ingress != "" {
		var from struct {
			SHA string `json:"commit_sha"`
			URL string `json:"commit_url"`
		}
		if json.Unmarshal([]byte(v.ingress), &from) == nil && from.SHA != "" {
			if a.VCSCommitSHA = &from.SHA; from.URL != "" {
				a.VCSCommitURL = &from.URL
			}
		}
	}
	outputs := []jsonapi.Ref{}
	if sum, ok := s.summary(ctx, v); ok {
		a.ResourcesProcessed, a.BillableRUM, a.StateVersion = true, &sum.Billable, sum.Format
		a.Modules, a.Providers, a.Resources = sum.byModule(), sum.byProvider(), sum.Resources
		for _, name := range sum.Outputs {
			outputs = append(outputs, jsonapi.Ref{ID: outputID(v, name), Type: "state-version-outputs"})
		}
	}
	if a.Resources == nil {
		a.Resources = []ResourceCount{}
	}
	if v.Status == Pending {
		up, jup := s.url(ctx, "PUT", "upload/states", "state", v.ID), s.url(ctx, "PUT", "upload/json-states", "json-state", v.ID)
		a.UploadURL, a.JSONUploadURL = &up, &jup
	} else if v.Object != "" && v.Backing == "" {
		down := s.DownloadURL(ctx, v)
		a.DownloadURL = &down
	}
	if v.JSONObject != "" && v.Backing == "" {
		down := s.url(ctx, "GET", "download/json-states", "json-state", v.ID)
		a.JSONDownloadURL = &down
	}
	by := v.CreatedBy
	if !by.Is("user") {
		by = ""
	}
	self := "/api/v2/state-versions/" + string(v.ID)
	return jsonapi.Resource{ID: string(v.ID), Type: "state-versions", Attributes: a,
		Relationships: map[string]jsonapi.Rel{
			"workspace": jsonapi.To("workspaces", v.WorkspaceID), "run": jsonapi.To("runs", v.RunID), "created-by": jsonapi.To("users", by),
			"rollback-state-version": jsonapi.To("state-versions", v.RollbackOf),
			"outputs":                {Data: outputs, Links: map[string]any{"related": self + "/outputs"}},
		},
		Links: map[string]any{"self": self}}
}

// summary returns what a version holds. It is stored with it; of versions older
// than that it is made from the bytes.
func (s *Service) summary(ctx context.Context, v Version) (sum Summary, ok bool) {
	if v.Status != Finalized {
		return sum, false
	}
	if v.summary != "" {
		return sum, json.Unmarshal([]byte(v.summary), &sum) == nil
	}
	raw, err := s.Raw(ctx, v)
	if err != nil {
		return sum, false
	}
	t, err := tfdata.ParseState(raw)
	return summarize(t), err == nil
}

// snapshots tells a CLI that applies by itself how many seconds to wait between
// the states that it stores on the way; without it, it stores only the last.
func snapshots(w http.ResponseWriter) { w.Header().Set("X-Terraform-Snapshot-Interval", "20") }

func (s *Service) url(ctx context.Context, method, path, object string, id core.ID) string {
	return s.Signer.Base + "/" + path + "/" + string(id) + "/" + s.Signer.PathFor(ctx, method, object+"/"+string(id), 15*time.Minute)
}

// opened is the version that an address of a form of it leads to, and ctx for
// the one whom the address was made for, if that one still may do want.
func (s *Service) opened(r *http.Request, method, object string, want core.Right) (ctx context.Context, v Version, err error) {
	id, capability := core.ID(r.PathValue("state")), r.PathValue("capability")
	if err := s.Signer.Check(method, object+"/"+string(id), capability); err != nil {
		return nil, v, err
	}
	ctx = web.Asked(r.Context(), capability)
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if v, err = Load(ctx, tx, id); err != nil {
			return err
		}
		return authz.Still(ctx, tx, v.WorkspaceID, want)
	})
	return ctx, v, err
}

func (s *Service) download(w http.ResponseWriter, r *http.Request) {
	s.serve(w, r, "state", func(v Version) string { return v.Object })
}

func (s *Service) downloadJSON(w http.ResponseWriter, r *http.Request) {
	s.serve(w, r, "json-state", func(v Version) string { return v.JSONObject })
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request, object string, pick func(Version) string) {
	err := func() error {
		asked, v, err := s.opened(r, "GET", object, core.ReadState)
		if err != nil {
			return err
		}
		if pick(v) == "" || v.Backing != "" {
			return authz.ErrHidden()
		}
		if err := s.reading(asked, v, stateRead, ""); err != nil {
			return err
		}
		return s.send(r.Context(), w, pick(v))
	}()
	if err != nil {
		web.Answer2017(w, r, err)
	}
}

func (s *Service) v2Current(w http.ResponseWriter, r *http.Request) error {
	snapshots(w)
	v, err := s.CurrentOf(r.Context(), core.ID(r.PathValue("workspace")), core.ReadState)
	if err != nil {
		return err
	}
	return s.show(w, r, v)
}

func (s *Service) v2Get(w http.ResponseWriter, r *http.Request) error {
	snapshots(w)
	v, err := s.Get(r.Context(), core.ID(r.PathValue("state")), core.ReadState)
	if err != nil {
		return err
	}
	return s.show(w, r, v)
}

// show writes a version with what the request asks to include.
func (s *Service) show(w http.ResponseWriter, r *http.Request, v Version) error {
	want, err := jsonapi.Includes(r, "outputs", "run", "run.created_by", "run.configuration_version", "created_by")
	if err != nil {
		return err
	}
	d := jsonapi.One(s.resource(r.Context(), v))
	if want["outputs"] && v.Status == Finalized {
		os, err := s.outputs(r.Context(), v)
		if err != nil && core.KindOf(err) != core.NotFound {
			return err
		}
		if len(os) > 0 {
			if err := s.reading(r.Context(), v, outputsRead, ""); err != nil {
				return err
			}
		}
		for _, o := range os {
			d.Included = append(d.Included, outputResource(v, o, false))
		}
	}
	if want["created_by"] {
		err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
			us, err := account.UserDocs(ctx, tx, v.CreatedBy)
			d.Included = append(d.Included, us...)
			return err
		})
		if err != nil {
			return err
		}
	}
	if v.RunID != "" && (want["run"] || want["run.created_by"] || want["run.configuration_version"]) {
		docs, err := s.RunDocs(r.Context(), v.RunID, map[string]bool{"created_by": want["run.created_by"], "configuration_version": want["run.configuration_version"]})
		if err != nil {
			return err
		}
		d.Included = append(d.Included, docs...)
	}
	web.WriteV2(w, r, http.StatusOK, d)
	return nil
}

func (s *Service) v2Download(w http.ResponseWriter, r *http.Request) error {
	v, err := s.Get(r.Context(), core.ID(r.PathValue("state")), core.ReadState)
	if err != nil {
		return err
	}
	if v.Object == "" || v.Backing != "" {
		return authz.ErrHidden()
	}
	http.Redirect(w, r, s.DownloadURL(r.Context(), v), http.StatusFound)
	return nil
}

func (s *Service) v2List(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	org, ws := q.Get("filter[organization][name]"), q.Get("filter[workspace][name]")
	if org == "" || ws == "" {
		return nil, core.Errorf(core.Invalid, "filter[organization][name] and filter[workspace][name] are required")
	}
	vs, total, err := s.List(r.Context(), org, ws, q.Get("filter[status]"), p)
	if err != nil {
		return nil, err
	}
	return jsonapi.Paged(r, vs, p, int(total), func(v Version) jsonapi.Resource { return s.resource(r.Context(), v) }), nil
}
