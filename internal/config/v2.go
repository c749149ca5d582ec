package config

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

// Routes mounts the APIs.
func (s *Service) Routes(rt *web.Router) {
	rt.V2("POST /api/v2/workspaces/{workspace}/configuration-versions", 201, s.v2Create)
	rt.V2("GET /api/v2/workspaces/{workspace}/configuration-versions", 200, s.v2List)
	rt.V2("GET /api/v2/configuration-versions/{config}", 200, s.v2Get)
	rt.V2("GET /api/v2/configuration-versions/{config}/ingress-attributes", 200, s.v2Ingress)
	rt.V2Raw("GET /api/v2/configuration-versions/{config}/download", s.v2Download)
	rt.V2Raw("POST /api/v2/configuration-versions/{config}/actions/archive", s.v2Act(s.ArchiveVersion, http.StatusAccepted))
	rt.V2Raw("POST /api/v2/configuration-versions/{config}/actions/soft_delete_backing_data", s.v2Act(s.SoftDelete, http.StatusOK))
	rt.V2Raw("POST /api/v2/configuration-versions/{config}/actions/restore_backing_data", s.v2Act(s.Restore, http.StatusOK))
	rt.V2Raw("POST /api/v2/configuration-versions/{config}/actions/permanently_delete_backing_data", s.v2Act(s.DeleteForGood, http.StatusOK))
	rt.Raw("PUT /upload/configurations/{config}/{capability}", s.upload)
	rt.Raw("POST /upload/configurations/{config}/{capability}", s.upload)
	s.v1Routes(rt)
}

type attributes struct {
	AutoQueueRuns    bool                 `json:"auto-queue-runs"`
	Error            *string              `json:"error"`
	ErrorMessage     *string              `json:"error-message"`
	Source           string               `json:"source"`
	Speculative      bool                 `json:"speculative"`
	Provisional      bool                 `json:"provisional"`
	Status           string               `json:"status"`
	StatusTimestamps map[string]time.Time `json:"status-timestamps"`
	UploadURL        *string              `json:"upload-url"`
	ChangedFiles     []string             `json:"changed-files"`
	Number           int64                `json:"version-number"`
}

// Resource is the document of a configuration version without its upload
// address, for those that include it.
func (s *Service) Resource(v Version) jsonapi.Resource { return s.resource(v, "") }

func (s *Service) resource(v Version, upload string) jsonapi.Resource {
	a := attributes{AutoQueueRuns: v.AutoQueueRuns, Source: v.Source, Speculative: v.Speculative, Provisional: v.Provisional, Status: v.Status,
		StatusTimestamps: map[string]time.Time{}, ChangedFiles: v.Ingress.changed(), Number: v.Number}
	if v.Error != "" {
		a.Error, a.ErrorMessage = &v.Error, &v.ErrorMessage
	}
	for name, at := range map[string]*time.Time{
		"queued-at": &v.CreatedAt, "uploaded-at": v.UploadedAt, "finished-at": v.UploadedAt, "errored-at": v.ErroredAt, "archived-at": v.ArchivedAt,
		"soft-delete-backing-data-at": v.SoftDeletedAt, "restore-backing-data-at": v.RestoredAt, "permanently-delete-backing-data-at": v.DeletedAt,
	} {
		if at != nil {
			a.StatusTimestamps[name] = *at
		}
	}
	if upload != "" && v.Status == Pending {
		a.UploadURL = &upload
	}
	self := "/api/v2/configuration-versions/" + string(v.ID)
	links := map[string]any{"self": self}
	if v.Status == Uploaded {
		links["download"] = self + "/download"
	}
	return jsonapi.Resource{ID: string(v.ID), Type: "configuration-versions", Attributes: a, Links: links,
		Relationships: map[string]jsonapi.Rel{"ingress-attributes": ingressRel(v)}}
}

func (s *Service) v2Create(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		AutoQueueRuns jsonapi.Opt[bool] `json:"auto-queue-runs"`
		Speculative   bool              `json:"speculative"`
		Provisional   bool              `json:"provisional"`
	}
	// Old clients send no body at all.
	if r.ContentLength != 0 {
		if _, err := jsonapi.Decode(r.Body, "configuration-versions", &in); err != nil {
			return nil, err
		}
	}
	n := New{Source: "tfe-api", AutoQueueRuns: !in.AutoQueueRuns.Set || in.AutoQueueRuns.Value, Speculative: in.Speculative, Provisional: in.Provisional}
	v, err := s.Create(r.Context(), core.ID(r.PathValue("workspace")), n)
	if err != nil {
		return nil, err
	}
	return jsonapi.One(s.resource(v, s.UploadURL(r.Context(), v))), nil
}

func (s *Service) v2List(r *http.Request) (*jsonapi.Doc, error) {
	want, err := jsonapi.Includes(r, "ingress_attributes")
	if err != nil {
		return nil, err
	}
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	vs, total, err := s.List(r.Context(), core.ID(r.PathValue("workspace")), p)
	if err != nil {
		return nil, err
	}
	d := jsonapi.Paged(r, vs, p, int(total), func(v Version) jsonapi.Resource { return s.resource(v, "") })
	if want["ingress_attributes"] {
		d.Included = append(d.Included, IngressDocs(vs...)...)
	}
	return d, nil
}

func (s *Service) v2Get(r *http.Request) (*jsonapi.Doc, error) {
	want, err := jsonapi.Includes(r, "ingress_attributes")
	if err != nil {
		return nil, err
	}
	v, err := s.Get(r.Context(), core.ID(r.PathValue("config")), core.ReadRuns)
	if err != nil {
		return nil, err
	}
	d := jsonapi.One(s.resource(v, ""))
	if want["ingress_attributes"] {
		d.Included = append(d.Included, IngressDocs(v)...)
	}
	return d, nil
}

func (s *Service) v2Download(w http.ResponseWriter, r *http.Request) error {
	v, err := s.Get(r.Context(), core.ID(r.PathValue("config")), core.ReadConfig)
	if err != nil {
		return err
	}
	if v.Status != Uploaded {
		return core.Errorf(core.NotFound, "not found")
	}
	return s.Serve(w, r, v)
}

// v2Act adapts an action on a configuration version.
func (s *Service) v2Act(f func(context.Context, core.ID) error, code int) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := f(r.Context(), core.ID(r.PathValue("config"))); err != nil {
			return err
		}
		if code == http.StatusAccepted {
			web.Accepted(w, r)
		} else {
			w.WriteHeader(code)
		}
		return nil
	}
}

// upload takes an archive from whoever holds the address.
func (s *Service) upload(w http.ResponseWriter, r *http.Request) {
	id := core.ID(r.PathValue("config"))
	err := s.Signer.Check("PUT", "configuration/"+string(id), r.PathValue("capability"))
	if err == nil {
		err = s.stillMay(web.Asked(r.Context(), r.PathValue("capability")), id)
	}
	limit := archiveLimits().Compressed
	if err == nil && r.ContentLength > limit {
		// Not read at all, so that a client that asks first can save the trip.
		err = s.refuse(r.Context(), id, core.Errorf(core.TooLarge, "the archive is larger than %d bytes", limit))
	}
	if err == nil {
		body := http.MaxBytesReader(w, r.Body, limit)
		err = s.receive(r.Context(), id, body, r.ContentLength)
	}
	if core.KindOf(err) == core.TooLarge {
		err = core.Wrap(err, core.Invalid, core.Message(err))
	}
	web.Answer2017(w, r, err)
}

// stillMay refuses an upload whose address was made for somebody who may queue
// plans no more: it may queue one. A disabled organization is shut to everybody
// and takes nothing from this one: the run waits.
func (s *Service) stillMay(ctx context.Context, id core.ID) error {
	return s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		v, err := Load(ctx, tx, id)
		if err != nil {
			return err
		}
		shut, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM workspace w JOIN organization o ON o.id = w.org_id WHERE w.id = $1 AND o.disabled`, v.WorkspaceID)
		if err != nil || shut > 0 {
			return err
		}
		return authz.Still(ctx, tx, v.WorkspaceID, core.QueuePlan)
	})
}

// Serve sends the archive of an uploaded version that the caller may read; an
// error says that nothing was sent yet.
func (s *Service) Serve(w http.ResponseWriter, r *http.Request, v Version) error {
	body, err := s.Blobs.Get(r.Context(), v.Object)
	if err != nil {
		return err
	}
	defer body.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename="`+string(v.ID)+`.tar.gz"`)
	w.Header().Set("Content-Length", strconv.FormatInt(v.Size, 10))
	if _, err := io.Copy(w, body); err != nil && !strings.Contains(err.Error(), "broken pipe") {
		panic(http.ErrAbortHandler) // half an archive must not look whole
	}
	return nil
}
