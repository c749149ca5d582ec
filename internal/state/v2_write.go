package state

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/tfdata"
	"interlock/internal/web"
	"interlock/internal/workspace"
)

// readState reads a raw state from a request body.
func readState(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > MaxSize {
		return nil, core.Errorf(core.TooLarge, "the state is larger than %d bytes", MaxSize)
	}
	return io.ReadAll(body(w, r))
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
	find := func(ctx context.Context, tx *db.Tx) (workspace.Workspace, error) {
		return workspace.Get(ctx, tx, core.ID(r.PathValue("workspace")), 0)
	}
	// Inline, the state stands in the document as base64.
	r.Body = http.MaxBytesReader(w, r.Body, MaxSize*4/3+1<<20)
	doc, in, err := s.receive(r, find)
	if err == nil {
		_, err = jsonapi.Decode(doc, "state-versions", &in.createInput)
	}
	if err == nil {
		err = s.create(r.Context(), find, in)
	}
	if err = in.refuse(r.Context(), s, err); err != nil {
		return err
	}
	snapshots(w)
	web.WriteV2(w, r, http.StatusCreated, jsonapi.One(s.resource(r.Context(), in.version)))
	return nil
}

// inline is a document whose states were stored while it arrived.
type inline struct {
	createInput
	state, json *part
	staged      Staged // of state
	object      string // of json
	version     Version
	kept        bool // the staged state has found its end
}

// receive reads a document without the states in it. It stores them only for
// those who may write.
func (s *Service) receive(r *http.Request, find func(context.Context, *db.Tx) (workspace.Workspace, error)) (doc io.Reader, in *inline, err error) {
	ctx := r.Context()
	in = &inline{}
	allowed := func() error {
		return s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
			w, err := find(ctx, tx)
			if err == nil {
				err = mayWrite(ctx, tx, w, true)
			}
			return err
		})
	}
	large := func(path []string) bool {
		return len(path) == 3 && path[0] == "data" && path[1] == "attributes" && (path[2] == "state" || path[2] == "json-state")
	}
	skim := tfdata.NewSkim("the request body", large, func(path []string) (io.WriteCloser, error) {
		at, store := &in.state, func(r io.Reader) (err error) {
			if err := allowed(); err != nil {
				return err
			}
			in.staged, err = s.stageFrom(ctx, r)
			return err
		}
		if path[2] == "json-state" {
			at, store = &in.json, func(r io.Reader) (err error) {
				if err := allowed(); err != nil {
					return err
				}
				in.object, err = s.putJSON(ctx, r)
				return err
			}
		}
		if *at != nil {
			return nil, core.Errorf(core.Malformed, "the request body has %s twice", path[2])
		}
		*at = newPart(path[2], store)
		return *at, nil
	})
	n, err := io.Copy(skim, r.Body)
	for _, p := range []*part{in.state, in.json} {
		if p != nil {
			p.give(io.ErrUnexpectedEOF) // nothing, where it was whole
		}
	}
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, in, core.Wrap(err, core.TooLarge, "the request body is too large")
		}
		if core.KindOf(err) == core.Internal {
			return nil, in, core.Wrap(err, core.Malformed, "the request body ended early")
		}
		if core.KindOf(err) == core.Invalid {
			return nil, in, core.Wrap(err, core.Malformed, "the request body is not valid JSON")
		}
		return nil, in, err
	}
	kept, err := skim.Kept()
	if err != nil && n > 0 {
		return nil, in, core.Wrap(err, core.Malformed, "the request body is not valid JSON")
	}
	return bytes.NewReader(kept), in, nil
}

// refuse drops what was stored and came to nothing.
func (in *inline) refuse(ctx context.Context, s *Service, err error) error {
	for object, is := range map[string]bool{in.staged.Object: !in.kept, in.object: true} {
		if is && object != "" {
			err = errors.Join(err, s.Drop(ctx, Staged{Object: object}))
		}
	}
	return err
}

func (s *Service) create(ctx context.Context, find func(context.Context, *db.Tx) (workspace.Workspace, error), in *inline) (err error) {
	switch {
	case in.Serial == nil:
		return core.Errorf(core.Invalid, "can't be blank").InField("serial")
	case *in.Serial < 0:
		return core.Errorf(core.Invalid, "must not be negative").InField("serial")
	case in.MD5 == "":
		return core.Errorf(core.Invalid, "can't be blank").InField("md5")
	case len(in.MD5) != 32 || strings.Trim(strings.ToLower(in.MD5), "0123456789abcdef") != "":
		return core.Errorf(core.Invalid, "must be an MD5 sum in hexadecimal").InField("md5")
	}
	in.MD5 = strings.ToLower(in.MD5)
	if in.json != nil {
		if err := in.json.result(); err != nil {
			return err
		}
	}
	if in.state == nil {
		in.version, err = s.announce(ctx, find, in.createInput)
		return err
	}
	if err := in.state.result(); err != nil {
		return err
	}
	if err := in.matches(&in.staged); err != nil {
		return err
	}
	in.kept = true
	in.version, _, err = s.commitStaged(ctx, find, in.staged, true, in.Force)
	if err != nil || in.object == "" || in.version.JSONObject != "" {
		return err
	}
	object := in.object
	in.object = ""
	in.version.JSONObject, err = s.commitJSON(ctx, in.version.ID, object)
	if core.KindOf(err) == core.Conflict {
		err = nil // a replay: it is there
	}
	return err
}

// matches checks that the bytes are those that were announced. The serial that
// was announced stands: it may be lower than the one inside, as of clients that
// number versions themselves, but not higher, or what an engine makes of the
// state could not follow it.
func (in createInput) matches(st *Staged) error {
	switch {
	case st.MD5 != in.MD5:
		return core.Errorf(core.Invalid, "the MD5 sum of the state is %s, not %s", st.MD5, in.MD5).InField("md5")
	case st.Serial < *in.Serial:
		return core.Errorf(core.Invalid, "the serial in the state is %d, not %d", st.Serial, *in.Serial).InField("serial")
	}
	st.Serial = *in.Serial
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
		lineage := in.Lineage
		if lineage == "" && cur != nil {
			lineage = cur.Lineage // not said; the bytes will tell
		}
		same, err := fits(cur, *in.Serial, lineage, in.MD5)
		if err != nil && !in.Force {
			return err
		}
		if same && replayed(w, *cur) {
			v = *cur
			return nil
		}
		// A pending version that never got its bytes gives way to the next one.
		if err := DiscardPending(ctx, tx, w.ID); err != nil {
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
	_, v, err := s.opened(r, "PUT", "state", core.WriteState)
	if err == nil {
		err = s.finalize(w, r, v.ID)
	}
	web.Answer2017(w, r, err)
}

func (s *Service) finalize(w http.ResponseWriter, r *http.Request, id core.ID) error {
	if r.ContentLength > MaxSize {
		return core.Errorf(core.TooLarge, "the state is larger than %d bytes", MaxSize)
	}
	st, err := s.stageFrom(r.Context(), body(w, r))
	if err != nil {
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
		if err := in.matches(&st); err != nil {
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
		if _, err := tx.Exec(ctx, `UPDATE state_version SET status = 'finalized', object = $2, size = $3, engine_version = $4, resources = $5, lineage = $6, summary = $7 WHERE id = $1`,
			v.ID, st.Object, st.Size, st.EngineVersion, st.Resources, st.Lineage, st.summary); err != nil {
			return err
		}
		if err := v.note(ctx, tx, "upload"); err != nil {
			return err
		}
		v.summary = st.summary
		return setCurrent(ctx, tx, wk.OrgID, v)
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
	_, v, err := s.opened(r, "PUT", "json-state", core.WriteState)
	if err == nil {
		_, err = s.storeJSON(r.Context(), v.ID, http.MaxBytesReader(w, r.Body, MaxSize))
	}
	web.Answer2017(w, r, err)
}

func (s *Service) storeJSON(ctx context.Context, id core.ID, body io.Reader) (string, error) {
	object, err := s.putJSON(ctx, body)
	if err != nil {
		return "", err
	}
	return s.commitJSON(ctx, id, object)
}

func (s *Service) putJSON(ctx context.Context, body io.Reader) (string, error) {
	object := "json-states/" + string(core.NewID("sv"))
	if _, err := s.Blobs.Put(ctx, object, body); err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return "", core.Wrap(err, core.TooLarge, "the state is too large")
		}
		return "", err
	}
	return object, nil
}

// commitJSON names an object the JSON form of a version, or drops it.
func (s *Service) commitJSON(ctx context.Context, id core.ID, object string) (string, error) {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE state_version SET json_object = $2 WHERE id = $1 AND json_object = '' AND backing = ''`, id, object)
		if err == nil && n == 0 {
			return core.Errorf(core.Conflict, "this state version has its JSON form already")
		}
		if err != nil {
			return err
		}
		v, err := Load(ctx, tx, id)
		if err != nil {
			return err
		}
		return v.note(ctx, tx, "upload_json")
	})
	if err != nil {
		return "", s.refused(ctx, Staged{Object: object}, err)
	}
	return object, nil
}
