package config

import (
	"context"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/workspace"
)

// notAllowed refuses a step in the life of a configuration's bytes, in the
// words that clients look for.
func notAllowed(why string, args ...any) error {
	return core.Errorf(core.Conflict, "transition not allowed: "+why, args...)
}

// ArchiveVersion drops the bytes of an uploaded version that is nobody's
// current one and that no unfinished run uses. The version itself stays.
func (s *Service) ArchiveVersion(ctx context.Context, id core.ID) error {
	return s.move(ctx, id, "archive", core.ApplyRuns, func(ctx context.Context, tx *db.Tx, v Version) (string, error) {
		if v.Status == Archived {
			return "", nil // asked twice, done once
		}
		if v.Status != Uploaded {
			return "", notAllowed("configuration could not be archived because it is %s", v.Status)
		}
		if err := idle(ctx, tx, v, "archived"); err != nil {
			return "", err
		}
		_, err := tx.Exec(ctx, `UPDATE config_version SET status = 'archived', object = '', archived_at = $2 WHERE id = $1`, id, tx.Now())
		return v.Object, err
	})
}

// SoftDelete hides the bytes of a version; they can be restored.
func (s *Service) SoftDelete(ctx context.Context, id core.ID) error {
	return s.move(ctx, id, "soft_delete", core.DeleteState, func(ctx context.Context, tx *db.Tx, v Version) (string, error) {
		if v.Status != Uploaded {
			return "", notAllowed("backing data of a configuration version that is %s cannot be deleted", v.Status)
		}
		if err := idle(ctx, tx, v, "deleted"); err != nil {
			return "", err
		}
		_, err := tx.Exec(ctx, `UPDATE config_version SET status = 'backing_data_soft_deleted', soft_deleted_at = $2 WHERE id = $1`, id, tx.Now())
		return "", err
	})
}

// Restore takes a soft delete back.
func (s *Service) Restore(ctx context.Context, id core.ID) error {
	return s.move(ctx, id, "restore", core.DeleteState, func(ctx context.Context, tx *db.Tx, v Version) (string, error) {
		if v.Status != SoftDeleted {
			return "", notAllowed("backing data of a configuration version that is %s cannot be restored", v.Status)
		}
		_, err := tx.Exec(ctx, `UPDATE config_version SET status = 'uploaded', restored_at = $2 WHERE id = $1`, id, tx.Now())
		return "", err
	})
}

// DeleteForGood removes the bytes that a soft delete has hidden.
func (s *Service) DeleteForGood(ctx context.Context, id core.ID) error {
	return s.move(ctx, id, "destroy_data", core.DeleteState, func(ctx context.Context, tx *db.Tx, v Version) (string, error) {
		if v.Status != SoftDeleted {
			return "", notAllowed("backing data can be deleted permanently only after it was soft-deleted; the configuration version is %s", v.Status)
		}
		_, err := tx.Exec(ctx, `UPDATE config_version SET status = 'backing_data_permanently_deleted', object = '', deleted_at = $2 WHERE id = $1`, id, tx.Now())
		return v.Object, err
	})
}

// move changes what becomes of a version's bytes, alone with its workspace. An
// object that f returns is removed once the row no longer names it.
func (s *Service) move(ctx context.Context, id core.ID, action string, want core.Right, f func(context.Context, *db.Tx, Version) (string, error)) error {
	object := ""
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		v, err := Load(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := authz.Workspace(ctx, tx, v.WorkspaceID, core.ReadRuns|want); err != nil {
			return err
		}
		if err := workspace.Hold(ctx, tx, v.WorkspaceID); err != nil {
			return err
		}
		if v, err = LoadForUse(ctx, tx, id); err != nil {
			return err
		}
		if object, err = f(ctx, tx, v); err != nil {
			return err
		}
		return v.note(ctx, tx, action)
	})
	if err == nil && object != "" {
		_ = s.Blobs.Delete(context.WithoutCancel(ctx), object) // nothing names it any more; what stays is rubbish
	}
	return err
}

// idle refuses while a workspace or an unfinished run needs v.
func idle(ctx context.Context, tx *db.Tx, v Version, word string) error {
	current, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM workspace WHERE id = $1 AND config_id = $2`, v.WorkspaceID, v.ID)
	if err != nil {
		return err
	}
	if current > 0 {
		return notAllowed("configuration could not be %s because it is current", word)
	}
	busy, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM run WHERE config_id = $1 AND ended_at IS NULL`, v.ID)
	if err == nil && busy > 0 {
		return notAllowed("configuration could not be %s because a run that uses it has not ended", word)
	}
	return err
}
