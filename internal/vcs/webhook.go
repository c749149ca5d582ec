package vcs

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/vcs/forge"
	"interlock/internal/web"
)

// maxDelivery bounds the body of a webhook.
const maxDelivery = 25 << 20

// webhook takes a delivery of a forge. Unknown addresses and forged deliveries
// get the same answer. What it says is not believed: it has us look.
func (s *Service) webhook(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxDelivery))
	if err != nil {
		refuse(w, r, http.StatusRequestEntityTooLarge, "the delivery is larger than 25 MB")
		return
	}
	var repo Repository
	var o opened
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		if repo, err = db.One(ctx, tx, scanRepo, `SELECT `+repoColumns+` FROM vcs_repository r WHERE r.hook_path = $1`, r.PathValue("hook")); err != nil {
			return err
		}
		o, err = s.open(ctx, tx, repo.TokenID)
		return err
	})
	var n forge.Notice
	switch {
	case err == nil && o.forge == nil:
		err = forge.ErrForged()
	case err == nil:
		key, kerr := s.Box.Open(hookPlace(repo.ID), repo.hook)
		if err = kerr; err == nil {
			n, err = o.forge.Verify(r.Header, body, string(key))
		}
	}
	switch core.KindOf(err) {
	case core.NotFound:
		refuse(w, r, http.StatusNotFound, "not found")
		return
	case core.Malformed:
		refuse(w, r, http.StatusBadRequest, core.Message(err))
		return
	}
	if err == nil {
		var fresh bool
		if fresh, err = s.delivered(r.Context(), repo, n); core.KindOf(err) == core.Malformed {
			refuse(w, r, http.StatusBadRequest, core.Message(err))
			return
		}
		if err == nil {
			code := http.StatusAccepted
			if !fresh {
				code = http.StatusOK // known already: nothing more comes of it
			}
			web.WriteJSONStatus(w, r, code, map[string]bool{"accepted": fresh})
			return
		}
	}
	slog.WarnContext(r.Context(), "take a webhook", "repository", repo.ID, "err", err)
	refuse(w, r, http.StatusServiceUnavailable, "try again later")
}

func refuse(w http.ResponseWriter, r *http.Request, code int, why string) {
	web.WriteJSONStatus(w, r, code, map[string]any{"errors": []map[string]string{{"status": strconv.Itoa(code), "title": why}}})
}

// delivered notes a delivery and has done what it points at. It reports false
// if it was here before.
func (s *Service) delivered(ctx context.Context, r Repository, n forge.Notice) (fresh bool, err error) {
	if n.Delivery == "" || len(n.Delivery) > 200 || strings.ContainsRune(n.Delivery, 0) {
		return false, core.Errorf(core.Malformed, "the delivery has no id of at most 200 bytes")
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		k, err := tx.Exec(ctx, `INSERT INTO vcs_delivery (repository_id, delivery, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, r.ID, "hook:"+n.Delivery, tx.Now())
		if fresh = k == 1; err != nil || !fresh {
			return err
		}
		switch n.Kind {
		case forge.Pushed, forge.Pulled:
			_, err = tx.Exec(ctx, `UPDATE vcs_repository SET next_at = $2 WHERE id = $1`, r.ID, tx.Now())
			return err
		case forge.Commented:
			return s.commented(ctx, tx, r, n.Pull, n.Comment)
		}
		return nil
	})
	return fresh, err
}

// commented has a comment looked at. It acts once, however often we hear of it.
func (s *Service) commented(ctx context.Context, tx *db.Tx, r Repository, number int64, id string) error {
	k, err := tx.Exec(ctx, `INSERT INTO vcs_delivery (repository_id, delivery, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, r.ID, "comment:"+id, tx.Now())
	if err != nil || k == 0 {
		return err
	}
	return insertEvent(ctx, tx, event{RepositoryID: r.ID, Kind: kindApply, Ref: id, Pull: number})
}
