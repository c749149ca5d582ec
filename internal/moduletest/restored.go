package moduletest

import (
	"context"

	"interlock/internal/db"
)

// Restored ends the tests that had not ended when a backup was made.
func Restored(ctx context.Context, tx *db.Tx) error {
	_, err := tx.Exec(ctx, `UPDATE module_test SET status = 'errored', outcome = 'error', reason = $2, ended_at = $1, epoch = epoch + 1000000
		WHERE status IN ('queued', 'running')`, tx.Now(), "The installation was restored from a backup. What the tests had made may still exist.")
	return err
}
