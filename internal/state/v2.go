package state

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/tfdata"
	"interlock/internal/web"
	"interlock/internal/workspace"
)

// Routes mounts the APIs and the pages.
func (s *Service) Routes(rt *web.Router) {
	rt.V2Raw("POST /api/v2/workspaces/{workspace}/state-versions", s.v2Create)
	rt.V2("GET /api/v2/workspaces/{workspace}/current-state-version", 200, s.v2Current)
	rt.V2("GET /api/v2/workspaces/{workspace}/current-state-version-outputs", 200, s.v2CurrentOutputs)
	rt.V2("GET /api/v2/state-versions", 200, s.v2List)
	rt.V2("GET /api/v2/state-versions/{state}", 200, s.v2Get)
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

// readState reads a raw state from a request body.
func readState(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > MaxSize {
		return nil, core.Errorf(core.TooLarge, "the state is larger than %d bytes", MaxSize)
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxSize))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, core.Wrap(err, core.TooLarge, "the state is larger than "+strconv.Itoa(MaxSize)+" bytes")
		}
		return nil, core.Wrap(err, core.Malformed, "the upload broke off; it can be repeated")
	}
	return raw, nil
}

type attributes struct {
	CreatedAt          time.Time       `json:"created-at"`
	Size               int64           `json:"size"`
	Serial             int64           `json:"serial"`
	Lineage            string          `json:"lineage"`
	MD5                string          `json:"md5"`
	Status             string          `json:"status"`
	StateVersion       int             `json:"state-version"`
	TerraformVersion   string          `json:"terraform-version"`
	ResourcesProcessed bool            `json:"resources-processed"`
	Intermediate       bool            `json:"intermediate"`
	DownloadURL        *string         `json:"hosted-state-download-url"`
	JSONDownloadURL    *string         `json:"hosted-json-state-download-url"`
	UploadURL          *string         `json:"hosted-state-upload-url"`
	JSONUploadURL      *string         `json:"hosted-json-state-upload-url"`
	VCSCommitSHA       *string         `json:"vcs-commit-sha"`
	VCSCommitURL       *string         `json:"vcs-commit-url"`
	Permissions        map[string]bool `json:"permissions"`
}

func (s *Service) resource(v Version) jsonapi.Resource {
	a := attributes{CreatedAt: v.CreatedAt, Size: v.Size, Serial: v.Serial, Lineage: v.Lineage, MD5: v.MD5, Status: v.Status, StateVersion: 4,
		TerraformVersion: v.EngineVersion, ResourcesProcessed: v.Status == Finalized, Permissions: map[string]bool{"can-restore-backing-data": false}}
	if v.Status == Pending {
		up, jup := s.url("PUT", "upload/states", "state", v.ID), s.url("PUT", "upload/json-states", "json-state", v.ID)
		a.UploadURL, a.JSONUploadURL = &up, &jup
	} else if v.Object != "" {
		down := s.DownloadURL(v)
		a.DownloadURL = &down
	}
	if v.JSONObject != "" {
		down := s.url("GET", "download/json-states", "json-state", v.ID)
		a.JSONDownloadURL = &down
	}
	return jsonapi.Resource{ID: string(v.ID), Type: "state-versions", Attributes: a,
		Relationships: map[string]jsonapi.Rel{
			"workspace": jsonapi.To("workspaces", v.WorkspaceID), "run": jsonapi.To("runs", v.RunID), "created-by": jsonapi.To("users", v.CreatedBy),
			"outputs": {Links: map[string]any{"related": "/api/v2/state-versions/" + string(v.ID) + "/outputs"}},
		},
		Links: map[string]any{"self": "/api/v2/state-versions/" + string(v.ID)}}
}

func (s *Service) url(method, path, object string, id core.ID) string {
	return s.Signer.Base + "/" + path + "/" + string(id) + "/" + s.Signer.Path(method, object+"/"+string(id), 15*time.Minute)
}

type createInput struct {
	Serial      *int64  `json:"serial"`
	MD5         string  `json:"md5"`
	Lineage     string  `json:"lineage"`
	Force       bool    `json:"force"`
	State       *string `json:"state"`
	JSONState   *string `json:"json-state"`
	JSONOutputs *string `json:"json-state-outputs"`
}

// v2Create takes a state inline, or announces one whose bytes are uploaded
// next.
func (s *Service) v2Create(w http.ResponseWriter, r *http.Request) error {
	// Inline, the state stands in the document as base64.
	r.Body = http.MaxBytesReader(w, r.Body, MaxSize*4/3+1<<20)
	var in createInput
	if _, err := jsonapi.Decode(r.Body, "state-versions", &in); err != nil {
		return err
	}
	switch {
	case in.Serial == nil:
		return core.Errorf(core.Invalid, "can't be blank").InField("serial")
	case in.MD5 == "":
		return core.Errorf(core.Invalid, "can't be blank").InField("md5")
	case len(in.MD5) != 32 || strings.Trim(strings.ToLower(in.MD5), "0123456789abcdef") != "":
		return core.Errorf(core.Invalid, "must be an MD5 sum in hexadecimal").InField("md5")
	}
	in.MD5 = strings.ToLower(in.MD5)
	find := func(ctx context.Context, tx *db.Tx) (workspace.Workspace, error) {
		return workspace.Get(ctx, tx, core.ID(r.PathValue("workspace")), 0)
	}
	var v Version
	var err error
	if in.State != nil {
		raw, derr := base64.StdEncoding.DecodeString(*in.State)
		if derr != nil {
			return core.Wrap(derr, core.Invalid, "is not base64").InField("state")
		}
		v, _, err = s.Write(r.Context(), find, raw, true, in.Force, in.matches)
	} else {
		v, err = s.announce(r.Context(), find, in)
	}
	if err != nil {
		return err
	}
	web.WriteV2(w, r, http.StatusCreated, jsonapi.One(s.resource(v)))
	return nil
}

// matches checks that the bytes are those that were announced.
func (in createInput) matches(st Staged) error {
	switch {
	case st.MD5 != in.MD5:
		return core.Errorf(core.Invalid, "the MD5 sum of the state is %s, not %s", st.MD5, in.MD5).InField("md5")
	case st.Serial != *in.Serial:
		return core.Errorf(core.Invalid, "the serial in the state is %d, not %d", st.Serial, *in.Serial).InField("serial")
	case in.Lineage != "" && st.Lineage != in.Lineage:
		return core.Errorf(core.Invalid, "the lineage in the state is %q", st.Lineage).InField("lineage")
	}
	return nil
}

// announce makes a pending version after the checks that the upload will meet
// again.
func (s *Service) announce(ctx context.Context, find func(context.Context, *db.Tx) (workspace.Workspace, error), in createInput) (v Version, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := find(ctx, tx)
		if err != nil {
			return err
		}
		if err := workspace.Hold(ctx, tx, w.ID); err != nil {
			return err
		}
		if w, err = workspace.Load(ctx, tx, w.ID); err != nil {
			return err
		}
		if err := mayWrite(ctx, tx, w, true); err != nil {
			return err
		}
		cur, err := current(ctx, tx, w)
		if err != nil {
			return err
		}
		same, err := fits(cur, *in.Serial, in.Lineage, in.MD5)
		if err != nil && !in.Force {
			return err
		}
		if same {
			v = *cur
			return nil
		}
		// A pending version that never got its bytes gives way to the next one.
		if _, err := tx.Exec(ctx, `UPDATE state_version SET status = 'discarded' WHERE workspace_id = $1 AND status = 'pending'`, w.ID); err != nil {
			return err
		}
		sub := authz.Subject(ctx)
		v = version(w.ID, Staged{Serial: *in.Serial, Lineage: in.Lineage, MD5: in.MD5}, "", sub.User(), Pending)
		if in.Force {
			v.Size = -1 // remembered until the upload: force lifts the checks there too
		}
		v, err = insert(ctx, tx, v)
		return err
	})
	return v, err
}

// upload takes the bytes of an announced version, once.
func (s *Service) upload(w http.ResponseWriter, r *http.Request) {
	id := core.ID(r.PathValue("state"))
	err := s.Signer.Check("PUT", "state/"+string(id), r.PathValue("capability"))
	if err == nil {
		err = s.finalize(w, r, id)
	}
	web.Answer2017(w, r, err)
}

func (s *Service) finalize(w http.ResponseWriter, r *http.Request, id core.ID) error {
	raw, err := readState(w, r)
	if err != nil {
		return err
	}
	st, err := parse(raw)
	if err != nil {
		return err
	}
	if st, err = s.store(r.Context(), st, raw); err != nil {
		return err
	}
	var ws core.ID
	err = s.DB.Do(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		v, err := Load(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := workspace.Hold(ctx, tx, v.WorkspaceID); err != nil {
			return err
		}
		if v, err = Load(ctx, tx, id); err != nil {
			return err
		}
		if v.Status != Pending {
			return core.Errorf(core.Conflict, "this state version is %s already", v.Status)
		}
		in := createInput{Serial: &v.Serial, MD5: v.MD5, Lineage: v.Lineage, Force: v.Size < 0}
		if err := in.matches(st); err != nil {
			return err
		}
		wk, err := workspace.Load(ctx, tx, v.WorkspaceID)
		if err != nil {
			return err
		}
		cur, err := current(ctx, tx, wk)
		if err != nil {
			return err
		}
		if _, err := fits(cur, st.Serial, st.Lineage, st.MD5); err != nil && !in.Force {
			return err
		}
		ws = wk.ID
		if _, err := tx.Exec(ctx, `UPDATE state_version SET status = 'finalized', object = $2, size = $3, engine_version = $4, resources = $5, lineage = $6 WHERE id = $1`,
			v.ID, st.Object, st.Size, st.EngineVersion, st.Resources, st.Lineage); err != nil {
			return err
		}
		return workspace.SetState(ctx, tx, wk.ID, v.ID)
	})
	if err != nil {
		return s.refused(r.Context(), st, err)
	}
	s.Saved(ws)
	return nil
}

// uploadJSON takes the engine's own JSON form of a state, which is kept beside
// it.
func (s *Service) uploadJSON(w http.ResponseWriter, r *http.Request) {
	id := core.ID(r.PathValue("state"))
	err := s.Signer.Check("PUT", "json-state/"+string(id), r.PathValue("capability"))
	if err == nil {
		err = s.storeJSON(w, r, id)
	}
	web.Answer2017(w, r, err)
}

func (s *Service) storeJSON(w http.ResponseWriter, r *http.Request, id core.ID) error {
	object := "json-states/" + string(core.NewID("sv"))
	if _, err := s.Blobs.Put(r.Context(), object, http.MaxBytesReader(w, r.Body, MaxSize)); err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return core.Wrap(err, core.TooLarge, "the state is too large")
		}
		return err
	}
	err := s.DB.Do(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE state_version SET json_object = $2 WHERE id = $1 AND json_object = ''`, id, object)
		if err == nil && n == 0 {
			return core.Errorf(core.Conflict, "this state version has its JSON form already")
		}
		return err
	})
	if err != nil {
		return s.refused(r.Context(), Staged{Object: object}, err)
	}
	return nil
}

func (s *Service) download(w http.ResponseWriter, r *http.Request) {
	s.serve(w, r, "state/", func(v Version) string { return v.Object })
}

func (s *Service) downloadJSON(w http.ResponseWriter, r *http.Request) {
	s.serve(w, r, "json-state/", func(v Version) string { return v.JSONObject })
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request, object string, pick func(Version) string) {
	id := core.ID(r.PathValue("state"))
	raw, err := func() ([]byte, error) {
		if err := s.Signer.Check("GET", object+string(id), r.PathValue("capability")); err != nil {
			return nil, err
		}
		var v Version
		err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
			v, err = Load(ctx, tx, id)
			return err
		})
		if err != nil {
			return nil, err
		}
		if pick(v) == "" {
			return nil, authz.ErrHidden()
		}
		return s.Blobs.Bytes(r.Context(), pick(v), MaxSize)
	}()
	if err != nil {
		web.Answer2017(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	_, _ = w.Write(raw)
}

func (s *Service) v2Current(r *http.Request) (*jsonapi.Doc, error) {
	v, err := s.CurrentOf(r.Context(), core.ID(r.PathValue("workspace")), core.ReadState)
	if err != nil {
		return nil, err
	}
	return jsonapi.One(s.resource(v)), nil
}

func (s *Service) v2Get(r *http.Request) (*jsonapi.Doc, error) {
	v, err := s.Get(r.Context(), core.ID(r.PathValue("state")), core.ReadState)
	if err != nil {
		return nil, err
	}
	return jsonapi.One(s.resource(v)), nil
}

func (s *Service) v2Download(w http.ResponseWriter, r *http.Request) error {
	v, err := s.Get(r.Context(), core.ID(r.PathValue("state")), core.ReadState)
	if err != nil {
		return err
	}
	if v.Object == "" {
		return authz.ErrHidden()
	}
	http.Redirect(w, r, s.DownloadURL(v), http.StatusFound)
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
	return jsonapi.Paged(r, vs, p, int(total), s.resource), nil
}

type outputAttributes struct {
	Name         string `json:"name"`
	Sensitive    bool   `json:"sensitive"`
	Type         string `json:"type"`
	Value        any    `json:"value"`
	DetailedType any    `json:"detailed-type"`
}

// outputID is made of the version and the name: an output has no life of its own.
func outputID(v Version, name string) string {
	return "wsout-" + strings.TrimPrefix(string(v.ID), "sv-") + hex.EncodeToString([]byte(name))
}

func outputResource(v Version, o tfdata.Output, reveal bool) jsonapi.Resource {
	a := outputAttributes{Name: o.Name, Sensitive: o.Sensitive, Type: typeWord(o.Type), DetailedType: o.Type}
	if !o.Sensitive || reveal {
		a.Value = o.Value
	}
	return jsonapi.Resource{ID: outputID(v, o.Name), Type: "state-version-outputs", Attributes: a,
		Links: map[string]any{"self": "/api/v2/state-version-outputs/" + outputID(v, o.Name)}}
}

// typeWord says a cty type in one word.
func typeWord(t []byte) string {
	var flat bytes.Buffer
	if json.Compact(&flat, t) != nil {
		return ""
	}
	s := flat.String()
	switch {
	case strings.HasPrefix(s, `["object"`), strings.HasPrefix(s, `["map"`):
		return "object"
	case strings.HasPrefix(s, `["`):
		return "array"
	}
	if w := strings.Trim(s, `"`); w == "bool" {
		return "boolean"
	} else {
		return w
	}
}

func (s *Service) outputs(ctx context.Context, v Version) ([]tfdata.Output, error) {
	raw, err := s.Raw(ctx, v)
	if err != nil {
		return nil, err
	}
	t, err := tfdata.ParseState(raw)
	return t.Outputs, err
}

func (s *Service) outputsDoc(ctx context.Context, v Version) (*jsonapi.Doc, error) {
	if v.Status == Pending {
		return nil, core.Errorf(core.Unavailable, "service unavailable: the state's upload is awaited")
	}
	os, err := s.outputs(ctx, v)
	return jsonapi.List(os, func(o tfdata.Output) jsonapi.Resource { return outputResource(v, o, false) }), err
}

func (s *Service) v2CurrentOutputs(r *http.Request) (*jsonapi.Doc, error) {
	v, err := s.CurrentOf(r.Context(), core.ID(r.PathValue("workspace")), core.ReadOutputs)
	if err != nil {
		return nil, err
	}
	return s.outputsDoc(r.Context(), v)
}

func (s *Service) v2Outputs(r *http.Request) (*jsonapi.Doc, error) {
	v, err := s.Get(r.Context(), core.ID(r.PathValue("state")), core.ReadOutputs)
	if err != nil {
		return nil, err
	}
	return s.outputsDoc(r.Context(), v)
}

// v2Output shows one output with its value, also a sensitive one: who asks for
// it by id wants the value, and may read outputs.
func (s *Service) v2Output(r *http.Request) (*jsonapi.Doc, error) {
	rest, ok := strings.CutPrefix(r.PathValue("output"), "wsout-")
	if !ok || len(rest) < 16 {
		return nil, authz.ErrHidden()
	}
	name, err := hex.DecodeString(rest[16:])
	if err != nil {
		return nil, authz.ErrHidden()
	}
	v, err := s.Get(r.Context(), core.ID("sv-"+rest[:16]), core.ReadOutputs)
	if err != nil {
		return nil, err
	}
	os, err := s.outputs(r.Context(), v)
	if err != nil {
		return nil, err
	}
	for _, o := range os {
		if o.Name == string(name) {
			return jsonapi.One(outputResource(v, o, true)), nil
		}
	}
	return nil, authz.ErrHidden()
}
