package account

import (
	"context"

	"interlock/internal/db"
	"interlock/internal/secret"
)

// eraRow is the setting that tells a restored installation from the one that
// its backup was made of.
const eraRow = "era"

// Restored ends what a backup must not carry over: sessions, and with a new era
// every capability that was signed before.
func Restored(ctx context.Context, tx *db.Tx) error {
	if _, err := tx.Exec(ctx, `DELETE FROM session`); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `INSERT INTO setting (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, eraRow, secret.NewToken(24))
	return err
}

// Era goes into what is signed; it is empty until the first restore.
func (s *Service) Era(ctx context.Context) (era string, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		rows, err := db.All(ctx, tx, scanString, `SELECT value FROM setting WHERE name = $1`, eraRow)
		if len(rows) > 0 {
			era = rows[0]
		}
		return err
	})
	return era, err
}
