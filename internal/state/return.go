package state

import (
	"context"
	"net/http"
	"strconv"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/workspace"
)

// Return makes an earlier version itself the current state again, with the
// serial that it has, as going back did in 2017: whoever holds a later one is
// told of a conflict when they write. The versions after it stay in the
// history. The caller must hold the lock.
func (s *Service) Return(ctx context.Context, ws, to core.ID) (v Version, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := workspace.Hold(ctx, tx, ws); err != nil {
			return err
		}
		w, err := workspace.Get(ctx, tx, ws, 0)
		if err != nil {
			return err
		}
		if err := mayWrite(ctx, tx, w, true); err != nil {
			return err
		}
		v, err = s.goBack(ctx, tx, w, to)
		return err
	})
	if err == nil {
		s.Saved(ws)
	}
	return v, err
}

// goBack is Return where the right and the lock were looked at.
func (s *Service) goBack(ctx context.Context, tx *db.Tx, w workspace.Workspace, to core.ID) (Version, error) {
	v, err := Load(ctx, tx, to)
	if core.KindOf(err) == core.NotFound || err == nil && (v.WorkspaceID != w.ID || v.Status != Finalized || v.Backing != "" || v.Object == "") {
		return v, core.Errorf(core.Invalid, "is not a state version of this workspace that could be brought back").InField("rollback-state-version")
	}
	if err != nil {
		return v, err
	}
	if v.ID == w.StateID {
		return v, core.Errorf(core.Conflict, "that is the current state already")
	}
	if err := setCurrent(ctx, tx, w.OrgID, v); err != nil {
		return v, err
	}
	return v, v.note(ctx, tx, "return")
}

// v1Rollback goes back to the newest version with a serial. As every write of
// the 2017 API it takes no lock; one of somebody else is in its way.
func (s *Service) v1Rollback(r *http.Request) (any, error) {
	serial, err := strconv.ParseInt(r.URL.Query().Get("version"), 10, 64)
	bad := err != nil || serial < 0
	var id core.ID
	err = s.DB.Do(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		w, err := workspace.Find(ctx, tx, r.PathValue("username"), r.PathValue("name"))
		if err != nil {
			return err
		}
		if err := authz.Workspace(ctx, tx, w.ID, core.WriteState|core.LockWorkspace); err != nil {
			return err
		}
		if bad {
			return core.Errorf(core.Invalid, "must be the serial of a version").InField("version")
		}
		if err := workspace.Hold(ctx, tx, w.ID); err != nil {
			return err
		}
		if w, err = workspace.Load(ctx, tx, w.ID); err != nil {
			return err
		}
		if w.Lock.Held() && w.Lock.ID != authz.Subject(ctx).ID {
			return core.Errorf(core.Conflict, "workspace is locked by %s", w.Lock)
		}
		found, err := db.All(ctx, tx, db.ID, `SELECT id FROM state_version WHERE workspace_id = $1 AND serial = $2 AND status = 'finalized' AND backing = '' ORDER BY seq DESC LIMIT 1`, w.ID, serial)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return core.Errorf(core.Invalid, "there is no version with serial %d", serial).InField("version")
		}
		id = w.ID
		if found[0] == w.StateID {
			return nil // it is current already
		}
		_, err = s.goBack(ctx, tx, w, found[0])
		return err
	})
	if err == nil {
		s.Saved(id)
	}
	return nil, err
}
