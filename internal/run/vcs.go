package run

import (
	"context"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/workspace"
)

// TriggerVCS is the trigger reason of runs that version control queued.
const TriggerVCS = "vcs"

// fromVCS reports whether version control queued the run, for which nobody of
// ours stands: what the workspace says of auto-apply holds for it.
func (r Run) fromVCS() bool { return r.TriggerReason == TriggerVCS && r.CreatedBy == "" }

// Supersede cancels a plan-only run that nobody needs any more: why says in a
// sentence what came instead. A run that is over stays as it is.
func (s *Service) Supersede(ctx context.Context, id core.ID, why string) error {
	var r Run
	done := false
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if r, err = load(ctx, tx, id); err != nil {
			return err
		}
		if err := workspace.Hold(ctx, tx, r.WorkspaceID); err != nil {
			return err
		}
		if r, err = loadForChange(ctx, tx, id); err != nil {
			return err
		}
		done, err = s.supersede(ctx, tx, &r, "version control", why)
		return err
	})
	if core.KindOf(err) == core.NotFound {
		return nil
	}
	if err == nil && done {
		s.published(r)
	}
	return err
}

// supersede is Supersede in a transaction that holds the workspace; it reports
// whether there was anything to cancel.
func (s *Service) supersede(ctx context.Context, tx *db.Tx, r *Run, by, why string) (bool, error) {
	if !r.PlanOnly || r.Ended() || r.CancelAskedAt != nil || !r.Status.Can(core.Cancel) {
		return false, nil
	}
	now := tx.Now()
	if err := tx.Write(ctx, `UPDATE run SET cancel_asked_at = $2 WHERE id = $1`, r.ID, now); err != nil {
		return false, err
	}
	r.CancelAskedAt = &now
	ctx = platform(ctx)
	if r.Status.AtWork() {
		return true, addEvent(ctx, tx, Event{RunID: r.ID, Event: "cancel_asked", From: r.Status, To: r.Status, ActorName: by, Reason: why})
	}
	return true, s.advance(ctx, tx, r, core.Cancel, cause{"superseded", why})
}
