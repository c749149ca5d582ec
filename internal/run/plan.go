package run

import (
	"context"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/tfdata"
)

// WithPlan returns a run and its plan without asking who wants them.
func WithPlan(ctx context.Context, tx *db.Tx, id core.ID) (r Run, plan Phase, err error) {
	if r, err = load(ctx, tx, id); err != nil {
		return r, plan, err
	}
	ps, err := phasesOf(ctx, tx, []Run{r})
	for _, p := range ps[r.ID] {
		if p.Kind == PlanPhase {
			plan = p
		}
	}
	return r, plan, err
}

// Summary is a plan boiled down, without what is sensitive, for whoever tells
// of it elsewhere; it asks for no right.
func (s *Service) Summary(ctx context.Context, plan core.ID) (*tfdata.Summary, error) {
	_, b, err := s.RedactedPlan(ctx, plan)
	if err != nil {
		return nil, err
	}
	sum, err := tfdata.Summarize(b)
	return &sum, err
}
