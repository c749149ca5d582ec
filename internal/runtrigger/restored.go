package runtrigger

import (
	"context"

	"interlock/internal/db"
)

// Restored forgets the runs that were to be queued when a backup was made:
// whether they were is not known.
func Restored(ctx context.Context, tx *db.Tx) error {
	_, err := tx.Exec(ctx, `DELETE FROM run_trigger_due`)
	return err
}
