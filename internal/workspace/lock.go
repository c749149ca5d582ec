package workspace

import (
	"context"
	"strings"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
)

// maxReason bounds the reason of a lock, in bytes.
const maxReason = 1024

// Acquire takes the workspace for holder inside tx, and fails with Conflict if
// anyone holds it.
func Acquire(ctx context.Context, tx *db.Tx, id core.ID, l Lock) error {
	n, err := tx.Exec(ctx, `
		UPDATE workspace SET lock_kind = $2, lock_id = $3, lock_name = $4, lock_reason = $5, locked_at = $6
		WHERE id = $1 AND lock_kind = ''`, id, l.Kind, l.ID, l.Name, l.Reason, tx.Now())
	if err == nil && n == 0 {
		return core.Errorf(core.Conflict, "workspace already locked")
	}
	return err
}

// Release gives the workspace back if l holds it; a lock of somebody else stays.
func Release(ctx context.Context, tx *db.Tx, id core.ID, kind string, holder core.ID) error {
	return tx.Write(ctx, `
		UPDATE workspace SET lock_kind = '', lock_id = '', lock_name = '', lock_reason = '', locked_at = NULL
		WHERE id = $1 AND lock_kind = $2 AND lock_id = $3`, id, kind, holder)
}

// LockWorkspace takes the workspace for the subject of ctx and fails with
// Conflict if it is held, by a run or by anyone: terraform tells its user so.
func (s *Service) LockWorkspace(ctx context.Context, id core.ID, reason string) (v View, err error) {
	reason = strings.ToValidUTF8(reason, "\uFFFD")
	if len(reason) > maxReason {
		return v, core.Errorf(core.Invalid, "is longer than %d bytes", maxReason).InField("reason")
	}
	return s.relock(ctx, id, core.LockWorkspace, func(ctx context.Context, tx *db.Tx, w Workspace) error {
		if w.Lock.Held() {
			return core.Errorf(core.Conflict, "workspace already locked: it is locked by %s", w.Lock)
		}
		sub := authz.Subject(ctx)
		if err := Acquire(ctx, tx, id, Lock{Kind: string(sub.Kind), ID: sub.ID, Name: sub.Name, Reason: reason}); err != nil {
			return err
		}
		return w.note(ctx, tx, "lock")
	})
}

// UnlockWorkspace gives back a lock that the subject of ctx holds.
func (s *Service) UnlockWorkspace(ctx context.Context, id core.ID) (View, error) {
	return s.relock(ctx, id, core.LockWorkspace, func(ctx context.Context, tx *db.Tx, w Workspace) error {
		sub := authz.Subject(ctx)
		switch {
		case !w.Lock.Held():
			return core.Errorf(core.Conflict, "workspace already unlocked")
		case w.Lock.Kind != string(sub.Kind) || w.Lock.ID != sub.ID:
			return core.Errorf(core.Conflict, "workspace is locked by %s", w.Lock)
		}
		if err := s.open(ctx, tx, w); err != nil {
			return err
		}
		return w.note(ctx, tx, "unlock")
	})
}

// ForceUnlock gives back anybody's lock, except that of a run whose engine may
// still be at work: that one is force-canceled instead. What the holder has begun
// and not ended is given up.
func (s *Service) ForceUnlock(ctx context.Context, id core.ID) (View, error) {
	return s.relock(ctx, id, core.ForceUnlock, func(ctx context.Context, tx *db.Tx, w Workspace) error {
		if !w.Lock.Held() {
			return core.Errorf(core.Conflict, "workspace already unlocked")
		}
		if w.Lock.Kind == "run" {
			return core.Errorf(core.Conflict, "workspace is locked by %s; discard or cancel that run instead", w.Lock)
		}
		for _, f := range s.ForcedOpen {
			if err := f(ctx, tx, id); err != nil {
				return err
			}
		}
		if err := Release(ctx, tx, id, w.Lock.Kind, w.Lock.ID); err != nil {
			return err
		}
		return w.note(ctx, tx, "force_unlock")
	})
}

func (s *Service) open(ctx context.Context, tx *db.Tx, w Workspace) error {
	for _, f := range s.UnlockCheck {
		if err := f(ctx, tx, w.ID); err != nil {
			return err
		}
	}
	return Release(ctx, tx, w.ID, w.Lock.Kind, w.Lock.ID)
}

func (s *Service) relock(ctx context.Context, id core.ID, want core.Right, f func(context.Context, *db.Tx, Workspace) error) (v View, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := Get(ctx, tx, id, want); err != nil {
			return err
		}
		// Who holds it counts now, not when it was looked at before.
		if err := Hold(ctx, tx, id); err != nil {
			return err
		}
		w, err := Load(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := f(ctx, tx, w); err != nil {
			return err
		}
		if w, err = Load(ctx, tx, id); err != nil {
			return err
		}
		v, err = viewOf(ctx, tx, w)
		return err
	})
	if err == nil {
		s.changed(id)
	}
	return v, err
}
