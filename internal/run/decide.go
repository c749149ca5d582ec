package run

import (
	"context"
	"fmt"
	"strings"

	"interlock/internal/authz"
	"interlock/internal/config"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/state"
	"interlock/internal/workspace"
)

// stateMoved says in a sentence why the state is no longer the one that r was
// planned from, or nothing if it still is.
func stateMoved(ctx context.Context, tx *db.Tx, r Run, w workspace.Workspace) (string, error) {
	if r.PlanDigest == "" || r.PlanStateID == w.StateID {
		return "", nil
	}
	was := "there was none"
	if r.PlanSerial >= 0 {
		was = fmt.Sprintf("it had serial %d", r.PlanSerial)
	}
	cur, err := state.Current(ctx, tx, w)
	if err != nil {
		return "", err
	}
	if cur == nil {
		return fmt.Sprintf("The state moved since this plan was made: %s, now it is gone.", was), nil
	}
	if cur.Lineage != r.PlanLineage && r.PlanLineage != "" {
		return fmt.Sprintf("The state moved since this plan was made: it had lineage %s, now it has lineage %s.", r.PlanLineage, cur.Lineage), nil
	}
	return fmt.Sprintf("The state moved since this plan was made: %s, now it has serial %d (%s, written at %s).", was, cur.Serial, cur.ID, cur.CreatedAt.UTC().Format("2006-01-02 15:04:05 UTC")), nil
}

// Flags are what can be done with a run now, by someone with the right to. The
// API's actions, the page's buttons and the action endpoints share them.
type Flags struct {
	Cancelable, Confirmable, Discardable, ForceCancelable, ForceExecutable bool
}

// Flags computes what can be done with the run.
func (s *Service) Flags(ctx context.Context, v View) Flags {
	r := v.Run
	force := r.CancelAskedAt != nil && r.Status.Can(core.ForceCancel) && !s.DB.Now().Before(r.CancelAskedAt.Add(s.coolOff()))
	return Flags{
		Cancelable:      r.Status.Can(core.Cancel) && r.CancelAskedAt == nil,
		Confirmable:     confirmable(v) == nil,
		Discardable:     discardable(r),
		ForceCancelable: force,
		ForceExecutable: r.Status == core.Pending && r.queued() && v.Workspace.Lock.Kind == "run" && v.Workspace.Lock.ID != r.ID,
	}
}

func discardable(r Run) bool { return r.Status.Can(core.Discard) && r.CancelAskedAt == nil }

// confirmable says why a run cannot be confirmed now, or nothing if it can.
func confirmable(v View) error {
	r, w := v.Run, v.Workspace
	switch {
	case !r.Status.Can(core.Confirm):
		_, err := r.Status.Next(core.Confirm)
		return err
	case r.PlanOnly:
		return core.Errorf(core.Conflict, "the run is plan-only: it has nothing to apply")
	case !r.HasChanges && !r.AllowEmptyApply:
		return core.Errorf(core.Conflict, "the plan has no changes to apply")
	case v.Plan.Generated:
		return core.Errorf(core.Conflict, "%s", strings.TrimSuffix(generatedText, "."))
	case v.stateMoved != "":
		return core.Errorf(core.Conflict, "%s Discard this run and queue a new one", v.stateMoved)
	case blocked(v.Obstacles, false) != nil:
		return core.Errorf(core.Conflict, "%s", strings.TrimSuffix(gateWait(v).Text, "."))
	case r.SavePlan && w.Lock.Held():
		return core.Errorf(core.Conflict, "workspace is locked by %s; the saved plan can be applied once it is open", w.Lock)
	}
	return nil
}

// afterPlan decides what becomes of a run whose plan has just ended well. It
// runs in the transaction that stores the plan.
func (s *Service) afterPlan(ctx context.Context, tx *db.Tx, r *Run) error {
	if r.Assessment() {
		return s.advance(ctx, tx, r, core.AssessDone, cause{})
	}
	if r.PlanOnly || !r.HasChanges && !r.AllowEmptyApply {
		return s.advance(ctx, tx, r, core.PlanEmpty, cause{})
	}
	if err := s.advance(ctx, tx, r, core.PlanDone, cause{}); err != nil {
		return err
	}
	for _, st := range s.Stages {
		if waits, err := st.Begin(ctx, tx, *r); err != nil || waits {
			return err
		}
	}
	if r.SavePlan {
		return s.advance(ctx, tx, r, core.Save, cause{})
	}
	if done, err := s.autoApply(ctx, tx, r); err != nil || done {
		return err
	}
	return s.tell(ctx, tx, *r, FactNeedsAttention)
}

// autoApplies is the auto-apply rule: the run asks for it, and whoever created
// it may (still) apply runs. An empty apply that was asked for needs nobody to
// confirm it. What was imported by generated configuration would be in the
// state and not in the configuration, and the next run would destroy it.
func (s *Service) autoApplies(ctx context.Context, tx *db.Tx, r Run) (bool, error) {
	if !r.AutoApply && (r.HasChanges || !r.AllowEmptyApply) {
		return false, nil
	}
	if r.AllowConfigGen {
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM phase WHERE run_id = $1 AND kind = 'plan' AND generated = true`, r.ID)
		if err != nil || n > 0 {
			return false, err
		}
	}
	if r.fromVCS() {
		return true, nil
	}
	creator := r.Creator()
	if !creator.Known() {
		return false, nil
	}
	have, _, err := authz.WorkspaceRights(authz.With(ctx, creator), tx, r.WorkspaceID)
	return have.Has(core.ApplyRuns), err
}

// confirmed records who said yes and hands the apply to the workers.
func (s *Service) confirmed(ctx context.Context, tx *db.Tx, r *Run, by core.ID, name, why string) error {
	if err := s.advance(ctx, tx, r, core.Confirm, cause{text: why}); err != nil {
		return err
	}
	if err := tx.Write(ctx, `UPDATE run SET confirmed_by = $2, confirmed_name = $3 WHERE id = $1`, r.ID, by, name); err != nil {
		return err
	}
	r.ConfirmedBy, r.ConfirmedName = by, name
	return s.enqueue(platform(ctx), tx, r, ApplyPhase)
}

// applied does what a successful apply changes besides the run: the
// configuration that was applied is the workspace's from now on.
func (s *Service) applied(ctx context.Context, tx *db.Tx, r Run) error {
	c, err := config.Load(ctx, tx, r.ConfigID)
	if err != nil || !c.Provisional || c.WorkspaceID != r.WorkspaceID {
		return err
	}
	return config.MakeCurrent(ctx, tx, c)
}
