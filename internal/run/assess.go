package run

import (
	"context"

	"interlock/internal/db"
)

// TriggerAssessment is the trigger reason of assessments.
const TriggerAssessment = "assessment"

// Assessment reports whether the run only looks for drift and at check blocks:
// a plan outside of the queue that never touches a lock, tells nobody by itself
// and is no part of its workspace's figures.
func (r Run) Assessment() bool { return r.PlanOnly && r.TriggerReason == TriggerAssessment }

// stopAssessing lets r go first: the assessments of its workspace that have not
// ended are canceled. It costs a read by key where there are none.
func (s *Service) stopAssessing(ctx context.Context, tx *db.Tx, r Run) error {
	rs, err := db.All(ctx, tx, scan, `SELECT `+columns+` FROM run r WHERE r.workspace_id = $1 AND r.ended_at IS NULL AND r.plan_only = true AND r.trigger_reason = $2`, r.WorkspaceID, TriggerAssessment)
	for i := range rs {
		if err == nil {
			_, err = s.supersede(ctx, tx, &rs[i], "a newer run", "Canceled because "+string(r.ID)+" was queued: a run goes before an assessment.")
		}
	}
	return err
}
