package run

import (
	"context"

	"interlock/internal/core"
	"interlock/internal/db"
)

// fenced is added to the epoch of every phase after a restore. Workers that
// went on after the backup was made have claimed phases since, each of which
// raised an epoch by one: none of them gets this far.
const fenced = 1_000_000

const whyRestored = "The installation was restored from a backup that was made before this run had ended. Nothing was started again."

const whyRestoredApplying = whyRestored + " Its apply was at work then: compare the state with what is really there before the next run."

// Restored ends every run that a restored backup holds unfinished, with the
// reason `restored`, and puts all workers of before out of reach. It lets no
// other run begin. The caller alone has the database.
func (s *Service) Restored(ctx context.Context) (ended int, err error) {
	s.restoring = true
	defer func() { s.restoring = false }()
	for {
		n := 0
		err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			// Those in line first: a workspace is given back when nobody waits for it.
			rs, err := db.All(ctx, tx, scan, `SELECT `+columns+` FROM run r WHERE r.ended_at IS NULL
				ORDER BY CASE WHEN r.status = 'pending' THEN 0 ELSE 1 END, r.created_at DESC, r.id LIMIT 100`)
			for i := range rs {
				if err != nil {
					return err
				}
				why := whyRestored
				if rs[i].Status == core.Applying {
					why = whyRestoredApplying
				}
				err = s.advance(platform(ctx), tx, &rs[i], core.Fail, cause{"restored", why})
			}
			n = len(rs)
			return err
		})
		if err != nil {
			return ended, err
		}
		if ended += n; n == 0 {
			break
		}
	}
	return ended, s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		return tx.Write(ctx, `UPDATE phase SET epoch = epoch + $1`, fenced)
	})
}
