package state

import (
	"context"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/tfdata"
	"interlock/internal/workspace"
)

// NextSerial is the serial of what may follow v, whose bytes are raw: what was
// declared may be lower than what is inside.
func NextSerial(v Version, raw []byte) (int64, error) {
	t, err := tfdata.ParseState(raw)
	return max(v.Serial, t.Serial) + 1, err
}

// Follow makes raw the current state of ws in the place of version base, if
// that is current still; of is the version whose content raw is, or empty. The
// subject of ctx needs the right to write it and holds the lock, or may take it
// and nobody holds it: the transaction that looks is the one that stores, so
// the lock would be taken and given back in the same moment. also belongs to
// that transaction. Conflict says that the state has moved or is locked.
func (s *Service) Follow(ctx context.Context, ws, base core.ID, raw []byte, of core.ID, also func(context.Context, *db.Tx, workspace.Workspace, Version) error) (v Version, err error) {
	st, err := s.Stage(ctx, raw)
	if err != nil {
		return v, err
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := workspace.Hold(ctx, tx, ws); err != nil {
			return err
		}
		w, err := workspace.Get(ctx, tx, ws, 0)
		if err != nil {
			return err
		}
		if err := MayFollow(ctx, tx, w, base); err != nil {
			return err
		}
		if v, _, err = commit(ctx, tx, w, st, "", authz.Subject(ctx).User(), of, false); err != nil {
			return err
		}
		return also(ctx, tx, w, v)
	})
	if err != nil {
		return v, s.refused(ctx, st, err)
	}
	s.Saved(ws)
	return v, nil
}

// MayFollow refuses what Follow would refuse now.
func MayFollow(ctx context.Context, tx *db.Tx, w workspace.Workspace, base core.ID) error {
	if err := mayWrite(ctx, tx, w, false); err != nil {
		return err
	}
	if !w.Lock.Held() {
		if err := authz.Workspace(ctx, tx, w.ID, core.LockWorkspace); err != nil {
			return err
		}
	}
	if w.StateID != base {
		return core.Errorf(core.Conflict, "the state has moved since; look at what it is now")
	}
	return nil
}
