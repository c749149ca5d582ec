package app

import (
	"context"
	"fmt"

	"interlock/internal/db"
	"interlock/internal/drift"
)

// assessed tells of an assessment whoever wants to hear of it: of what is new
// since the one before, so that what is known is not told each day.
func (s *Server) assessed(ctx context.Context, tx *db.Tx, a drift.Assessment, before *drift.Assessment) error {
	was := drift.Assessment{}
	if before != nil {
		was = *before
	}
	if a.Error != "" {
		if was.Error != "" {
			return nil
		}
		return s.notify.TellOf(ctx, tx, a.Workspace, "assessment:failed", "Health Assessment Failed", "/drift")
	}
	if a.External > was.External {
		if err := s.notify.TellOf(ctx, tx, a.Workspace, "assessment:drifted", fmt.Sprintf("Drift Detected: %d changed outside", a.External), "/drift"); err != nil {
			return err
		}
	}
	if bad := a.Checks.Failed + a.Checks.Errored; bad > was.Checks.Failed+was.Checks.Errored {
		return s.notify.TellOf(ctx, tx, a.Workspace, "assessment:check_failure", fmt.Sprintf("Check Failed: %d do not hold", bad), "/drift")
	}
	return nil
}
