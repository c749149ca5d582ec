package state

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/workspace"
)

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
	case *in.Serial < 0:
		return core.Errorf(core.Invalid, "must not be negative").InField("serial")
	case in.MD5 == "":
		return core.Errorf(core.Invalid, "can't be blank").InField("md5")
	case len(in.MD5) != 32 || strings.Trim(strings.ToLower(in.MD5), "0123456789abcdef") != "":
		return core.Errorf(core.Invalid, "must be an MD5 sum in hexadecimal").InField("md5")
	}
	in.MD5 = strings.ToLower(in.MD5)
	find := func(ctx context.Context, tx *db.Tx) (workspace.Workspace, error) {
		return workspace.Get(ctx, tx, core.ID(r.PathValue("workspace")), 0)
	}
	if err := jsonBase64(in.JSONState, "json-state"); err != nil {
		return err
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
	if err == nil && in.State != nil && in.JSONState != nil && v.JSONObject == "" {
		b, _ := base64.StdEncoding.DecodeString(*in.JSONState)
		v.JSONObject, err = s.storeJSON(r.Context(), v.ID, bytes.NewReader(b))
		if core.KindOf(err) == core.Conflict {
			err = nil // a replay: it is there
		}
	}
	if err != nil {
		return err
	}
	snapshots(w)
	web.WriteV2(w, r, http.StatusCreated, jsonapi.One(s.resource(r.Context(), v)))
	return nil
}

func jsonBase64(in *string, field string) error {
	if in == nil {
		return nil
	}
	if _, err := base64.StdEncoding.DecodeString(*in); err != nil {
		return core.Wrap(err, core.Invalid, "is not base64").InField(field)
	}
	return nil
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
	id := core.ID(r.PathValue("state"))
	err := s.Signer.Check("PUT", "json-state/"+string(id), r.PathValue("capability"))
	if err == nil {
		_, err = s.storeJSON(r.Context(), id, http.MaxBytesReader(w, r.Body, MaxSize))
	}
	web.Answer2017(w, r, err)
}

func (s *Service) storeJSON(ctx context.Context, id core.ID, body io.Reader) (string, error) {
	object := "json-states/" + string(core.NewID("sv"))
	if _, err := s.Blobs.Put(ctx, object, body); err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return "", core.Wrap(err, core.TooLarge, "the state is too large")
		}
		return "", err
	}
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
