package run

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/secret"
	"interlock/internal/variable"
	"interlock/internal/workspace"
)

// A Gate knows what stands between a run and its next step besides its place
// in line and a confirmation. What stands there may go away by itself.
type Gate struct {
	// Look says what is in the way of each of rs now: of the plan of those that
	// are pending, of the apply of the others. It must be one cheap read where
	// there is no rule.
	Look func(ctx context.Context, tx *db.Tx, rs []Run) (map[core.ID][]Obstacle, error)
	// Take takes the code that the subject of ctx gives with the creation of a
	// run or with its confirmation; an empty one where they give none. hand
	// says that the engine of the phase gets it.
	Take func(ctx context.Context, tx *db.Tx, r Run, kind PhaseKind, code string) (hand bool, err error)
	// Passed hears that r goes on although something that was waived is there.
	Passed func(ctx context.Context, tx *db.Tx, r Run, waived []Obstacle) error
}

// An Obstacle is one thing that is in the way of a run.
type Obstacle struct {
	Reason string     // for machines
	Text   string     // a sentence for people
	Who    string     // can move it
	Until  *time.Time // when it goes away by itself
	Code   bool       // it goes away with a code that is given with the decision
	Waived bool       // it is there and counts for nothing at the moment
}

// CodeVariable is where the engine of a phase finds the code that was given for
// it, as in 2017.
const CodeVariable = "ATLAS_MFA_CODE"

// The longest code that is taken, in bytes.
const maxCode = 64

func codePlace(phase core.ID) string { return "phase/code/" + string(phase) }

// look asks the gates about rs, of which only those matter that wait.
func (s *Service) look(ctx context.Context, tx *db.Tx, rs []Run) (map[core.ID][]Obstacle, error) {
	var waiting []Run
	for _, r := range rs {
		if r.Status == core.Pending || r.Status == core.Planned || r.Status == core.PlannedAndSaved {
			waiting = append(waiting, r)
		}
	}
	if len(waiting) == 0 || len(s.Gates) == 0 {
		return nil, nil
	}
	out := map[core.ID][]Obstacle{}
	for _, g := range s.Gates {
		found, err := g.Look(ctx, tx, waiting)
		if err != nil {
			return nil, err
		}
		for id, os := range found {
			out[id] = append(out[id], os...)
		}
	}
	return out, nil
}

// free reports whether nothing is in the way of r, not even what a code would
// move. A run that is held is marked, so that it goes on by itself later; one
// that is free has no mark any more.
func (s *Service) free(ctx context.Context, tx *db.Tx, r *Run) (yes bool, waived []Obstacle, err error) {
	found, err := s.look(ctx, tx, []Run{*r})
	if err != nil {
		return false, nil, err
	}
	yes = true
	for _, o := range found[r.ID] {
		if o.Waived {
			waived = append(waived, o)
		} else {
			yes = false
		}
	}
	return yes, waived, s.hold(ctx, tx, r, !yes)
}

func (s *Service) hold(ctx context.Context, tx *db.Tx, r *Run, held bool) error {
	if (r.HeldAt != nil) == held {
		return nil
	}
	r.HeldAt = nil
	if held {
		now := tx.Now()
		r.HeldAt = &now
	}
	return tx.Write(ctx, `UPDATE run SET held_at = $2 WHERE id = $1`, r.ID, r.HeldAt)
}

// passed tells the gates that r goes on in spite of what is waived.
func (s *Service) passed(ctx context.Context, tx *db.Tx, r Run, waived []Obstacle) error {
	if len(waived) == 0 {
		return nil
	}
	for _, g := range s.Gates {
		if err := g.Passed(ctx, tx, r, waived); err != nil {
			return err
		}
	}
	return nil
}

// takeCode lets the gates look at the code of a decision and keeps it, sealed,
// for the engine of the phase if one of them says so.
func (s *Service) takeCode(ctx context.Context, tx *db.Tx, r Run, kind PhaseKind, code secret.Text) error {
	text := strings.TrimSpace(code.Reveal())
	if len(text) > maxCode {
		return core.Errorf(core.Invalid, "is too long for a code").InField("code")
	}
	for _, g := range s.Gates {
		hand, err := g.Take(ctx, tx, r, kind, text)
		if err != nil {
			return err
		}
		if !hand {
			continue
		}
		id, err := db.One(ctx, tx, db.ID, `SELECT id FROM phase WHERE run_id = $1 AND kind = $2`, r.ID, kind)
		if err != nil {
			return err
		}
		if err := tx.Write(ctx, `UPDATE phase SET code = $2 WHERE id = $1`, id, s.Box.Seal(codePlace(id), []byte(text))); err != nil {
			return err
		}
	}
	return nil
}

// codeOf is the variable by which the engine of a phase gets its code.
func (s *Service) codeOf(p Phase) ([]variable.Frozen, error) {
	if len(p.code) == 0 {
		return nil, nil
	}
	b, err := s.Box.Open(codePlace(p.ID), p.code)
	if err != nil {
		return nil, err
	}
	return []variable.Frozen{{Key: CodeVariable, Value: string(b), Category: variable.Env, Sensitive: true}}, nil
}

// EnterCode gives the code for the plan of a run that waits for it.
func (s *Service) EnterCode(ctx context.Context, id core.ID, comment string, code secret.Text) error {
	return s.act(ctx, id, core.QueuePlan, comment, func(ctx context.Context, tx *db.Tx, v *View) error {
		asked := false
		for _, o := range v.Obstacles {
			asked = asked || o.Code
		}
		if v.Status != core.Pending || !asked {
			return core.Errorf(core.Conflict, "the plan of this run does not wait for a code; the one of its apply goes with the confirmation")
		}
		if err := s.takeCode(ctx, tx, v.Run, PlanPhase, code); err != nil {
			return err
		}
		if err := Note(ctx, tx, v.Run, "code_entered", ""); err != nil {
			return err
		}
		return s.goOn(platform(ctx), tx, &v.Run)
	})
}

// askedBeforePlan says why a run that is queued in w now needs a code, or
// nothing where it needs none.
func (s *Service) askedBeforePlan(ctx context.Context, tx *db.Tx, w workspace.Workspace) (string, error) {
	next := Run{WorkspaceID: w.ID, OrgID: w.OrgID, Status: core.Pending}
	found, err := s.look(ctx, tx, []Run{next})
	for _, o := range found[next.ID] {
		if o.Code && !o.Waived {
			return o.Text, err
		}
	}
	return "", err
}

// begin hands the plan of a run outside of the queue to the workers, unless
// something is in its way.
func (s *Service) begin(ctx context.Context, tx *db.Tx, r *Run) error {
	yes, waived, err := s.free(ctx, tx, r)
	if err != nil || !yes {
		return err
	}
	if err := s.passed(ctx, tx, *r, waived); err != nil {
		return err
	}
	return s.enqueue(platform(ctx), tx, r, PlanPhase)
}

// autoApply applies a run that is set to it as soon as nothing is in its way,
// and reports whether it does.
func (s *Service) autoApply(ctx context.Context, tx *db.Tx, r *Run) (bool, error) {
	yes, err := s.autoApplies(ctx, tx, *r)
	if err != nil || !yes {
		return false, err
	}
	yes, waived, err := s.free(ctx, tx, r)
	if err != nil || !yes {
		return false, err
	}
	if err := s.passed(ctx, tx, *r, waived); err != nil {
		return false, err
	}
	return true, s.confirmed(ctx, tx, r, "", "auto-apply", "Applied without asking: the run is set to auto-apply.")
}

// goOn looks again at a run that was held, while its workspace is. It looks at
// what is, not at what happened.
func (s *Service) goOn(ctx context.Context, tx *db.Tx, r *Run) error {
	switch {
	case r.Ended() || s.restoring || r.CancelAskedAt != nil:
		return nil
	case r.Status == core.Pending && r.queued():
		if err := s.startNext(ctx, tx, r.WorkspaceID); err != nil {
			return err
		}
		now, err := load(ctx, tx, r.ID)
		*r = now
		return err
	case r.Status == core.Pending:
		return s.begin(ctx, tx, r)
	case r.Status == core.Planned && r.HeldAt != nil:
		w, err := workspace.Load(ctx, tx, r.WorkspaceID)
		if err != nil {
			return err
		}
		if moved, err := stateMoved(ctx, tx, *r, w); err != nil || moved != "" {
			return err
		}
		_, err = s.autoApply(ctx, tx, r)
		return err
	}
	return nil
}

// Reconsider lets a run go on by itself if what was in its way is gone: for
// whoever has just taken it away. The sweep finds what nobody told of.
func (s *Service) Reconsider(ctx context.Context, id core.ID) error {
	ctx = byItself(ctx)
	var r Run
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
		return s.goOn(ctx, tx, &r)
	})
	if core.KindOf(err) == core.NotFound {
		return nil // deleted meanwhile
	}
	if err == nil {
		s.published(r)
	}
	return err
}

// heldAtOnce is how many held runs are looked at in one read.
const heldAtOnce = 500

// ReconsiderHeld lets those held runs go on that are free. It costs one read by
// a partial index where none is held; of, if not empty, is the only
// workspace or organization that is looked at.
func (s *Service) ReconsiderHeld(ctx context.Context, of core.ID) (err error) {
	for after := core.ID(""); ; {
		var free []core.ID
		n := 0
		verr := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
			rs, err := db.All(ctx, tx, scan, `SELECT `+columns+` FROM run r WHERE r.held_at IS NOT NULL AND r.ended_at IS NULL AND r.id > $1
				AND ($2 = '' OR r.workspace_id = $2 OR r.org_id = $2) ORDER BY r.id LIMIT $3`, after, of, heldAtOnce)
			if n = len(rs); err != nil || n == 0 {
				return err
			}
			after = rs[n-1].ID
			found, err := s.look(ctx, tx, rs)
			for _, r := range rs {
				if blocked(found[r.ID], true) == nil {
					free = append(free, r.ID)
				}
			}
			return err
		})
		if verr != nil {
			return errors.Join(err, verr)
		}
		for _, id := range free {
			if rerr := s.Reconsider(ctx, id); rerr != nil {
				slog.WarnContext(ctx, "look again at a held run", "run", id, "err", rerr)
				err = errors.Join(err, rerr)
			}
		}
		if n < heldAtOnce {
			return err
		}
	}
}

// byItself is ctx for what the platform does once a request has made it
// possible, and not as a part of the request.
func byItself(ctx context.Context) context.Context {
	return audit.WithRequest(platform(ctx), "")
}

// Note appends to the history of r what has happened to it without moving it:
// for gates, which know why.
func Note(ctx context.Context, tx *db.Tx, r Run, event, text string) error {
	sub := authz.Subject(ctx)
	return addEvent(ctx, tx, Event{RunID: r.ID, Event: event, From: r.Status, To: r.Status, Actor: sub.ID, ActorName: sub.Name, Reason: text})
}

// blocked is the first obstacle that counts; codes says that those count which
// a code would move.
func blocked(os []Obstacle, codes bool) *Obstacle {
	for i, o := range os {
		if !o.Waived && (codes || !o.Code) {
			return &os[i]
		}
	}
	return nil
}

// gateWait explains that a run is held, or is nil.
func gateWait(v View) *Wait {
	first := blocked(v.Obstacles, false)
	if first == nil {
		first = blocked(v.Obstacles, true)
	}
	if first == nil {
		return nil
	}
	w := &Wait{Reason: first.Reason, Text: first.Text, Who: first.Who, Until: first.Until}
	for _, o := range v.Obstacles {
		if !o.Waived && o.Text != first.Text {
			w.Text += " " + o.Text
			if o.Until != nil && w.Until != nil && o.Until.After(*w.Until) {
				w.Until = o.Until
			}
		}
	}
	return w
}

// AsksCode reports whether the next step of the run takes a code.
func (v View) AsksCode() bool {
	for _, o := range v.Obstacles {
		if o.Code && !o.Waived {
			return true
		}
	}
	return false
}

// LoadHeld loads a run and holds its workspace, for a change that a gate makes
// about it. It asks for no right.
func LoadHeld(ctx context.Context, tx *db.Tx, id core.ID) (r Run, err error) {
	if r, err = load(ctx, tx, id); err != nil {
		return r, err
	}
	if err := workspace.Hold(ctx, tx, r.WorkspaceID); err != nil {
		return r, err
	}
	return loadForChange(ctx, tx, id)
}
