package state

import (
	"context"
	"net/http"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/workspace"
)

// notAllowed refuses a step in the life of a version's bytes, in the words that
// clients look for.
func notAllowed(why string, args ...any) error {
	return core.Errorf(core.Conflict, "transition not allowed: "+why, args...)
}

// SoftDelete hides the bytes of a version that is not the current one; they
// can be restored. The row stays: history has no holes.
func (s *Service) SoftDelete(ctx context.Context, id core.ID) error {
	return s.move(ctx, id, "soft_delete", func(ctx context.Context, tx *db.Tx, w workspace.Workspace, v Version) (bool, error) {
		switch {
		case v.Status != Finalized || v.Backing != "":
			return false, notAllowed("backing data of a state version that is %s cannot be deleted", statusOf(v))
		case w.StateID == v.ID:
			return false, notAllowed("backing data of the current state version cannot be deleted")
		}
		_, err := tx.Exec(ctx, `UPDATE state_version SET backing = 'soft_deleted' WHERE id = $1`, id)
		return false, err
	})
}

// Restore takes a soft delete back.
func (s *Service) Restore(ctx context.Context, id core.ID) error {
	return s.move(ctx, id, "restore", func(ctx context.Context, tx *db.Tx, _ workspace.Workspace, v Version) (bool, error) {
		if v.Backing != "soft_deleted" {
			return false, notAllowed("backing data of a state version that is %s cannot be restored", statusOf(v))
		}
		_, err := tx.Exec(ctx, `UPDATE state_version SET backing = '' WHERE id = $1`, id)
		return false, err
	})
}

// DeleteForGood removes the bytes that a soft delete has hidden.
func (s *Service) DeleteForGood(ctx context.Context, id core.ID) error {
	return s.move(ctx, id, "destroy_data", func(ctx context.Context, tx *db.Tx, _ workspace.Workspace, v Version) (bool, error) {
		if v.Backing != "soft_deleted" {
			return false, notAllowed("backing data can be deleted permanently only after it was soft-deleted; the state version is %s", statusOf(v))
		}
		_, err := tx.Exec(ctx, `UPDATE state_version SET backing = 'deleted', object = '', json_object = '', summary = '' WHERE id = $1`, id)
		return true, err
	})
}

// move changes what becomes of a version's bytes, alone with its workspace, and
// removes them where f says so, once the row no longer names them.
func (s *Service) move(ctx context.Context, id core.ID, action string, f func(context.Context, *db.Tx, workspace.Workspace, Version) (bool, error)) error {
	var v Version
	gone := false
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if v, err = Load(ctx, tx, id); err != nil {
			return err
		}
		if err := authz.Workspace(ctx, tx, v.WorkspaceID, core.ReadState|core.DeleteState); err != nil {
			return err
		}
		if err := workspace.Hold(ctx, tx, v.WorkspaceID); err != nil {
			return err
		}
		w, err := workspace.Load(ctx, tx, v.WorkspaceID)
		if err != nil {
			return err
		}
		if v, err = Load(ctx, tx, id); err != nil {
			return err
		}
		if gone, err = f(ctx, tx, w, v); err != nil {
			return err
		}
		return v.note(ctx, tx, action)
	})
	if err != nil || !gone {
		return err
	}
	for _, object := range []string{v.Object, v.JSONObject} {
		if object != "" {
			_ = s.Blobs.Delete(context.WithoutCancel(ctx), object) // nothing names it any more; what stays is rubbish
		}
	}
	return nil
}

func (s *Service) v2Act(f func(context.Context, core.ID) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := f(r.Context(), core.ID(r.PathValue("state"))); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
}
