package run

import (
	"context"
	"strings"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/fault"
	"interlock/internal/secret"
	"interlock/internal/workspace"
)

// act runs f on a run that the subject of ctx has the right to change, alone
// with its workspace.
func (s *Service) act(ctx context.Context, id core.ID, want core.Right, comment string, f func(context.Context, *db.Tx, *View) error) error {
	comment = strings.TrimSpace(comment)
	if err := validComment(comment); err != nil {
		return err
	}
	var v View
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		r, err := load(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := authz.Workspace(ctx, tx, r.WorkspaceID, core.ReadRuns|want); err != nil {
			return err
		}
		if err := workspace.Hold(ctx, tx, r.WorkspaceID); err != nil {
			return err
		}
		workspace.Ahead(tx, r.WorkspaceID)
		tx.Ahead(phasesSQL(phaseColumns, 1), id)
		if r, err = loadForChange(ctx, tx, id); err != nil {
			return err
		}
		if v, err = s.viewOf(ctx, tx, r, core.ReadRuns); err != nil {
			return err
		}
		if err := f(ctx, tx, &v); err != nil {
			return err
		}
		if comment != "" {
			_, err = addComment(ctx, tx, id, comment)
		}
		return err
	})
	if err == nil {
		fault.Point("acted", id)
		s.published(v.Run)
	}
	return err
}

// Confirm says yes to a plan: exactly that plan is applied.
func (s *Service) Confirm(ctx context.Context, id core.ID, comment string) error {
	return s.ConfirmWith(ctx, id, comment, "")
}

// ConfirmWith is Confirm with a code, where a gate asks for one: it is handed
// to the engine that applies, and to nobody else.
func (s *Service) ConfirmWith(ctx context.Context, id core.ID, comment string, code secret.Text) error {
	return s.act(ctx, id, core.ApplyRuns, comment, func(ctx context.Context, tx *db.Tx, v *View) error {
		if err := confirmable(*v); err != nil {
			return err
		}
		if err := s.takeCode(ctx, tx, v.Run, ApplyPhase, code); err != nil {
			return err
		}
		var waived []Obstacle
		for _, o := range v.Obstacles {
			if o.Waived {
				waived = append(waived, o)
			}
		}
		if err := s.passed(ctx, tx, v.Run, waived); err != nil {
			return err
		}
		if err := s.hold(ctx, tx, &v.Run, false); err != nil {
			return err
		}
		if v.SavePlan {
			if err := s.becomeCurrent(ctx, tx, v.Run); err != nil {
				return err
			}
		}
		sub := authz.Subject(ctx)
		return s.confirmed(ctx, tx, &v.Run, sub.ID, sub.Name, comment)
	})
}

// becomeCurrent puts a saved plan at the head of its workspace's queue.
func (s *Service) becomeCurrent(ctx context.Context, tx *db.Tx, r Run) error {
	if err := workspace.Acquire(ctx, tx, r.WorkspaceID, workspace.Lock{Kind: "run", ID: r.ID, Name: string(r.ID)}); err != nil {
		return err
	}
	return workspace.SetCurrentRun(ctx, tx, r.WorkspaceID, r.ID)
}

// Discard says no to a plan, or takes a run out of the queue.
func (s *Service) Discard(ctx context.Context, id core.ID, comment string) error {
	return s.act(ctx, id, core.ApplyRuns, comment, func(ctx context.Context, tx *db.Tx, v *View) error {
		if v.CancelAskedAt != nil {
			return core.Errorf(core.Conflict, "the run is being canceled already")
		}
		return s.advance(ctx, tx, &v.Run, core.Discard, cause{"discarded", discardText(ctx, comment)})
	})
}

func discardText(ctx context.Context, comment string) string {
	t := "Discarded by " + authz.Subject(ctx).Name + "."
	if comment != "" {
		t = "Discarded by " + authz.Subject(ctx).Name + ": " + comment
	}
	return t
}

// Cancel ends a run that waits at once, and asks the engine of one at work to
// stop: it ends when the process does.
func (s *Service) Cancel(ctx context.Context, id core.ID, comment string) error {
	return s.act(ctx, id, core.ApplyRuns, comment, func(ctx context.Context, tx *db.Tx, v *View) error {
		sub := authz.Subject(ctx)
		switch {
		case !v.Status.Can(core.Cancel):
			_, err := v.Status.Next(core.Cancel)
			return err
		case v.CancelAskedAt != nil:
			return core.Errorf(core.Conflict, "the run is being canceled already")
		}
		now := tx.Now()
		if err := tx.Write(ctx, `UPDATE run SET cancel_asked_at = $2, canceled_by = $3 WHERE id = $1`, v.ID, now, sub.User()); err != nil {
			return err
		}
		v.CancelAskedAt = &now
		if v.Status.AtWork() {
			return addEvent(ctx, tx, Event{RunID: v.ID, Event: "cancel_asked", From: v.Status, To: v.Status, Actor: sub.ID, ActorName: sub.Name, Reason: comment})
		}
		return s.advance(ctx, tx, &v.Run, core.Cancel, cause{"canceled", "Canceled by " + sub.Name + "."})
	})
}

// ForceCancel ends a run whose engine did not heed a cancel. The worker kills
// what is left of it; state in flight may be lost.
func (s *Service) ForceCancel(ctx context.Context, id core.ID, comment string) error {
	return s.act(ctx, id, core.ForceCancelRuns, comment, func(ctx context.Context, tx *db.Tx, v *View) error {
		switch {
		case !v.Status.Can(core.ForceCancel):
			_, err := v.Status.Next(core.ForceCancel)
			return err
		case v.CancelAskedAt == nil:
			return core.Errorf(core.Conflict, "cancel the run first; it can be force-canceled %s later", s.coolOff())
		case tx.Now().Before(v.CancelAskedAt.Add(s.coolOff())):
			return core.Errorf(core.Conflict, "the run was asked to stop a moment ago; it can be force-canceled from %s", v.CancelAskedAt.Add(s.coolOff()).UTC().Format(time.RFC3339))
		case v.ForceAskedAt != nil:
			return nil
		}
		sub := authz.Subject(ctx)
		now := tx.Now()
		if err := tx.Write(ctx, `UPDATE run SET force_asked_at = $2 WHERE id = $1`, v.ID, now); err != nil {
			return err
		}
		return addEvent(ctx, tx, Event{RunID: v.ID, Event: "force_cancel_asked", From: v.Status, To: v.Status, Actor: sub.ID, ActorName: sub.Name, Reason: comment})
	})
}

// ForceExecute moves a waiting run to the head of the queue: every earlier
// unfinished run is discarded or canceled. It takes the lock from another run,
// so it needs the right to lock too.
func (s *Service) ForceExecute(ctx context.Context, id core.ID) error {
	var gone []Run
	err := s.act(ctx, id, core.ApplyRuns|core.LockWorkspace, "", func(ctx context.Context, tx *db.Tx, v *View) error {
		if v.Status != core.Pending || !v.queued() || v.Workspace.Lock.Kind != "run" {
			return core.Errorf(core.Forbidden, "only a pending run whose workspace is locked by another run can be force-executed")
		}
		holder, err := load(ctx, tx, v.Workspace.Lock.ID)
		if err != nil {
			return err
		}
		if !discardable(holder) {
			return core.Errorf(core.Conflict, "%s is %s and cannot be discarded", holder.ID, holder.Status.Words())
		}
		gone, err = db.All(ctx, tx, scan, `SELECT `+columns+` FROM run r
			WHERE r.workspace_id = $1 AND r.ended_at IS NULL AND r.plan_only = false AND r.number < $2
			  AND (r.save_plan = false OR r.id = $3)
			ORDER BY r.number DESC`, v.WorkspaceID, v.Number, holder.ID)
		if err != nil {
			return err
		}
		why := cause{"force-execute", "Discarded because " + authz.Subject(ctx).Name + " let a later run go first."}
		// The later ones go first, so that none of them starts in between.
		for i := range gone {
			if err := s.advance(ctx, tx, &gone[i], core.Discard, why); err != nil {
				return err
			}
		}
		v.Run, err = load(ctx, tx, id)
		return err
	})
	if err == nil {
		for _, r := range gone {
			s.published(r)
		}
	}
	return err
}
