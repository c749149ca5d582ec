package state

import (
	"context"
	"net/http"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/tfdata"
	"interlock/internal/web"
	"interlock/internal/workspace"
)

// Rollback makes the content of an earlier version of a workspace its current
// state again: a new version, with the serial after the current one's, so that
// everybody who holds the state in between sees that it moved. The subject of
// ctx must hold the lock.
func (s *Service) Rollback(ctx context.Context, ws, to core.ID) (v Version, err error) {
	var old Version
	var cur *Version
	var org core.ID
	look := func(ctx context.Context, tx *db.Tx) error {
		w, err := workspace.Get(ctx, tx, ws, 0)
		if err != nil {
			return err
		}
		org = w.OrgID
		if err := mayWrite(ctx, tx, w, true); err != nil {
			return err
		}
		if old, err = Load(ctx, tx, to); core.KindOf(err) == core.NotFound || err == nil && (old.WorkspaceID != ws || old.Status != Finalized || old.Backing != "") {
			return core.Errorf(core.Invalid, "is not a state version of this workspace that could be brought back").InField("rollback-state-version")
		}
		if err != nil {
			return err
		}
		cur, err = current(ctx, tx, w)
		return err
	}
	if err := s.DB.View(ctx, look); err != nil {
		return v, err
	}
	raw, err := s.Raw(ctx, old)
	if err != nil {
		return v, err
	}
	serial := old.Serial
	if cur != nil {
		b, err := s.Raw(ctx, *cur)
		if err != nil {
			return v, err
		}
		t, err := tfdata.ParseState(b)
		if err != nil {
			return v, err
		}
		serial = max(cur.Serial, t.Serial) // what was declared may be lower than what is inside
	}
	if raw, err = tfdata.WithSerial(raw, serial+1); err != nil {
		return v, err
	}
	st, err := s.Stage(ctx, raw)
	if err != nil {
		return v, err
	}
	was := cur
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := workspace.Hold(ctx, tx, ws); err != nil {
			return err
		}
		if err := look(ctx, tx); err != nil {
			return err
		}
		if (was == nil) != (cur == nil) || was != nil && was.ID != cur.ID {
			return core.Errorf(core.Conflict, "the state has just changed; look again")
		}
		v = version(ws, st, "", authz.Subject(ctx).User(), Finalized)
		v.RollbackOf = old.ID
		if v, err = insert(ctx, tx, v); err != nil {
			return err
		}
		return setCurrent(ctx, tx, org, v)
	})
	if err != nil {
		return v, s.refused(ctx, st, err)
	}
	s.Saved(ws)
	return v, nil
}

func (s *Service) v2Rollback(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Keep bool `json:"keep-serial"` // ours: the version itself, as in 2017
	}
	rels, err := jsonapi.Decode(http.MaxBytesReader(w, r.Body, 1<<20), "state-versions", &in)
	if err != nil {
		return err
	}
	to := rels.ID("rollback-state-version")
	if to == "" {
		return core.Errorf(core.Invalid, "can't be blank").InField("rollback-state-version")
	}
	back := s.Rollback
	if in.Keep {
		back = s.Return
	}
	v, err := back(r.Context(), core.ID(r.PathValue("workspace")), to)
	if err != nil {
		return err
	}
	web.WriteV2(w, r, http.StatusCreated, jsonapi.One(s.resource(r.Context(), v)))
	return nil
}
