package run

import (
	"context"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/workspace"
)

// cause says why a run moves: for its history, and if it ends, for its reader.
type cause struct {
	code string // for machines, empty where the status says it all
	text string // for people
}

// advance moves r along the table of package core. It is the only place that
// sets a status. In the same transaction it writes the history, and at the end
// of a run it closes the phases, drops the run's token, gives the workspace
// back and lets the next run begin.
func (s *Service) advance(ctx context.Context, tx *db.Tx, r *Run, e core.Event, why cause) error {
	to, err := r.Status.Next(e)
	if err != nil {
		return err
	}
	from := r.Status
	if err := tx.Must(ctx, core.Errorf(core.Conflict, "the run has just changed; look again"), `UPDATE run SET status = $3 WHERE id = $1 AND status = $2`, r.ID, from, to); err != nil {
		return err
	}
	r.Status = to
	sub := authz.Subject(ctx)
	if err := addEvent(ctx, tx, Event{RunID: r.ID, orgID: r.OrgID, Event: string(e), From: from, To: to, Actor: sub.ID, ActorName: sub.Name, Reason: why.text}); err != nil {
		return err
	}
	if err := s.tell(ctx, tx, *r, factOf(to)); err != nil {
		return err
	}
	if to.Final() {
		return s.end(ctx, tx, r, why)
	}
	return nil
}

// end does what the end of a run requires.
func (s *Service) end(ctx context.Context, tx *db.Tx, r *Run, why cause) error {
	at := tx.Now()
	r.EndedAt, r.Reason, r.ReasonText = &at, why.code, why.text
	if err := tx.Write(ctx, `UPDATE run SET ended_at = $2, reason = $3, reason_text = $4 WHERE id = $1`, r.ID, at, why.code, why.text); err != nil {
		return err
	}
	// A phase that was at work ends like the run; one that never began is out
	// of reach, unless the run was canceled or failed while it stood in line.
	word := map[core.Status]string{core.Errored: PhaseErrored, core.Canceled: PhaseCanceled}[r.Status]
	if word == "" {
		word = PhaseUnreachable
	}
	if err := tx.Write(ctx, `UPDATE phase SET status = $2, ended_at = $3, epoch = epoch + 1, lease_until = NULL, code = NULL
		WHERE run_id = $1 AND status IN ('queued', 'running')`, r.ID, word, at); err != nil {
		return err
	}
	pending := PhaseUnreachable
	if r.Status == core.Canceled {
		pending = PhaseCanceled
	}
	if err := tx.Write(ctx, `UPDATE phase SET status = $2, ended_at = $3, code = NULL WHERE run_id = $1 AND status = 'pending'`, r.ID, pending, at); err != nil {
		return err
	}
	if err := s.Accounts.DropRunToken(ctx, tx, r.ID); err != nil {
		return err
	}
	if err := s.count(ctx, tx, *r); err != nil {
		return err
	}
	if r.PlanOnly {
		return nil
	}
	if err := workspace.Release(ctx, tx, r.WorkspaceID, "run", r.ID); err != nil {
		return err
	}
	return s.startNext(ctx, tx, r.WorkspaceID)
}

// count adds a run that has just ended to the figures of its workspace.
func (s *Service) count(ctx context.Context, tx *db.Tx, r Run) error {
	if r.Assessment() {
		return nil
	}
	phases, err := phasesOf(ctx, tx, []Run{r})
	if err != nil {
		return err
	}
	took := map[PhaseKind]time.Duration{}
	for _, p := range phases[r.ID] {
		if p.StartedAt != nil && p.EndedAt != nil {
			took[p.Kind] = max(p.EndedAt.Sub(*p.StartedAt), time.Millisecond)
		}
	}
	return workspace.CountRun(ctx, tx, r.WorkspaceID, r.Status == core.Errored, took[PlanPhase], took[ApplyPhase])
}

// startNext lets the first run of a workspace's queue begin if nothing is in
// its way. It may be called at any time: it looks at what is, not at what
// happened.
func (s *Service) startNext(ctx context.Context, tx *db.Tx, ws core.ID) error {
	head, err := db.All(ctx, tx, scan, `SELECT `+columns+` FROM run r
		WHERE r.workspace_id = $1 AND r.ended_at IS NULL AND r.plan_only = false
		  AND (r.save_plan = false OR r.status IN ('confirmed', 'apply_queued', 'applying'))
		ORDER BY CASE WHEN r.status = 'pending' THEN 1 ELSE 0 END, r.number LIMIT 1`, ws)
	if err != nil || len(head) == 0 {
		return err
	}
	r := head[0]
	if err := workspace.SetCurrentRun(ctx, tx, ws, r.ID); err != nil {
		return err
	}
	if r.Status != core.Pending || s.restoring {
		return nil
	}
	yes, waived, err := s.free(ctx, tx, &r)
	if err != nil || !yes {
		return err // a gate holds it; what lets it through calls again
	}
	err = workspace.Acquire(ctx, tx, ws, workspace.Lock{Kind: "run", ID: r.ID, Name: string(r.ID)})
	if core.KindOf(err) == core.Conflict {
		return nil // locked by a person; an unlock calls again
	}
	if err != nil {
		return err
	}
	if err := s.passed(ctx, tx, r, waived); err != nil {
		return err
	}
	// The run moves because its turn has come, not because of who is speaking.
	return s.enqueue(platform(ctx), tx, &r, PlanPhase)
}

// platform is ctx speaking for the platform itself.
func platform(ctx context.Context) context.Context {
	return authz.With(ctx, core.Subject{})
}

// enqueue hands the run's next phase to the workers.
func (s *Service) enqueue(ctx context.Context, tx *db.Tx, r *Run, kind PhaseKind) error {
	if err := s.advance(ctx, tx, r, core.Enqueue, cause{}); err != nil {
		return err
	}
	return queuePhase(ctx, tx, r.ID, kind)
}

// published tells everyone who watches that r has moved. Workers look only where
// a phase may have been queued: every one of them asks the database.
func (s *Service) published(r Run) {
	topics := []string{Topic(r.ID), MovedTopic, cancelTopic(r.ID), orgTopic(r.OrgID), wsRunsTopic(r.WorkspaceID), workspace.Topic(r.WorkspaceID)}
	if !r.Status.AtWork() && r.Status != core.Planned && r.Status != core.PlannedAndSaved {
		topics = append(topics, DispatchTopic)
	}
	s.Bus.Publish(topics...)
}

// WorkspaceChanged looks again at what the runs of a workspace wait for: a lock
// was opened, a state was saved.
func (s *Service) WorkspaceChanged(ctx context.Context, ws core.ID) error {
	var dropped []Run
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		err := workspace.Hold(ctx, tx, ws)
		if err != nil {
			return err
		}
		if dropped, err = s.dropStale(platform(ctx), tx, ws); err != nil {
			return err
		}
		return s.startNext(ctx, tx, ws)
	})
	if core.KindOf(err) == core.NotFound {
		return nil // deleted meanwhile
	}
	for _, r := range dropped {
		s.published(r)
	}
	s.Bus.Publish(DispatchTopic, MovedTopic, wsRunsTopic(ws))
	return err
}

// dropStale discards saved plans that were made from a state which is no
// longer the current one: they can never be applied.
func (s *Service) dropStale(ctx context.Context, tx *db.Tx, ws core.ID) ([]Run, error) {
	rs, err := db.All(ctx, tx, scan, `SELECT `+columns+` FROM run r JOIN workspace w ON w.id = r.workspace_id
		WHERE r.workspace_id = $1 AND r.ended_at IS NULL AND r.status = 'planned_and_saved' AND r.plan_state_id <> w.state_id`, ws)
	for i := range rs {
		if err == nil {
			err = s.advance(ctx, tx, &rs[i], core.Discard, cause{"state-moved", "The state of the workspace changed after this plan was saved."})
		}
	}
	return rs, err
}

// savedFor is how long a saved plan can be applied.
const savedFor = 30 * 24 * time.Hour

// ExpireSaved discards saved plans that nobody applied for too long.
func (s *Service) ExpireSaved(ctx context.Context) error {
	var rs []Run
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		rs, err = db.All(ctx, tx, scan, `SELECT `+columns+` FROM run r WHERE r.ended_at IS NULL AND r.status = 'planned_and_saved' AND r.created_at < $1`, tx.Now().Add(-savedFor))
		for i := range rs {
			if err == nil {
				err = s.advance(platform(ctx), tx, &rs[i], core.Discard, cause{"expired", "Discarded: the saved plan was not applied within 30 days."})
			}
		}
		return err
	})
	if err == nil {
		for _, r := range rs {
			s.published(r)
		}
	}
	return err
}

// Deleting refuses to delete a workspace while an apply is at work: what it
// builds would be forgotten. Runs in any other status go with the workspace.
func (s *Service) Deleting(ctx context.Context, tx *db.Tx, ws core.ID, _ bool) error {
	n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM run WHERE workspace_id = $1 AND status = 'applying'`, ws)
	if err == nil && n > 0 {
		return core.Errorf(core.Conflict, "a run of this workspace is being processed (applying); wait for it or cancel it first")
	}
	return err
}

// OrgDeleting is Deleting for all workspaces of an organization.
func (s *Service) OrgDeleting(ctx context.Context, tx *db.Tx, org core.ID) error {
	n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM run WHERE org_id = $1 AND status = 'applying'`, org)
	if err == nil && n > 0 {
		return core.Errorf(core.Conflict, "a run of this organization is being processed (applying); wait for it or cancel it first")
	}
	return err
}
