package vcs

import (
	"context"

	"interlock/internal/db"
)

// Restored forgets what was to be done when a backup was made: whether it was
// is not known. What is in a repository by now is not news.
func Restored(ctx context.Context, tx *db.Tx) error {
	for _, q := range []string{
		`UPDATE vcs_event SET status = 'failed', note = 'not done before this installation was restored' WHERE status = 'pending'`,
		`UPDATE vcs_outcome SET settled = true`,
		`UPDATE vcs_pull SET due = false`,
		`UPDATE vcs_repository SET refs = ''`,
	} {
		if _, err := tx.Exec(ctx, q); err != nil {
			return err
		}
	}
	return nil
}
