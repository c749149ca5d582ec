package run

import (
	"context"

	"interlock/internal/core"
	"interlock/internal/db"
)

// Fact is something about a run that features above want to know, told inside
// the transaction in which it comes about.
type Fact string

// The facts.
const (
	FactCreated        Fact = "created"
	FactPlanning       Fact = "planning"
	FactNeedsAttention Fact = "needs_attention" // it waits for a person
	FactApplying       Fact = "applying"
	FactCompleted      Fact = "completed"
	FactConfirmed      Fact = "confirmed"
	FactDiscarded      Fact = "discarded"
	FactErrored        Fact = "errored" // or canceled: it ended before it was through
)

// factOf says which fact reaching a status is; most are none.
func factOf(st core.Status) Fact {
	switch st {
	case core.Planning:
		return FactPlanning
	case core.Applying:
		return FactApplying
	case core.Confirmed:
		return FactConfirmed
	case core.Discarded:
		return FactDiscarded
	case core.Applied, core.PlannedAndFinished:
		return FactCompleted
	case core.PlannedAndSaved:
		return FactNeedsAttention
	case core.Errored, core.Canceled:
		return FactErrored
	}
	return ""
}

func (s *Service) tell(ctx context.Context, tx *db.Tx, r Run, what Fact) error {
	if what == "" || r.Assessment() {
		return nil // what an assessment found is told by who asked for it
	}
	for _, f := range s.Told {
		if err := f(ctx, tx, r, what); err != nil {
			return err
		}
	}
	return nil
}
