package config

import (
	"context"
	"errors"
	"io"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/tarball"
)

// Extend makes a configuration version that is version id of the same workspace
// and one file more, content as name in directory dir. It says of itself where
// id came from. It never becomes the workspace's current one, and what is queued
// of it is a plan unless the caller asks for more. Like CreateFrom it is for the
// packages above, which have decided that there is to be one.
func (s *Service) Extend(ctx context.Context, id core.ID, source, dir, name string, content []byte) (v Version, err error) {
	var of Version
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		of, err = Load(ctx, tx, id)
		return err
	})
	if err != nil {
		return v, err
	}
	if of.Status != Uploaded {
		return v, core.Errorf(core.Conflict, "the workspace has no uploaded configuration version; upload one first")
	}
	n := New{Source: source, Speculative: true, Metadata: of.Metadata}
	if of.Ingress != nil {
		copied := *of.Ingress
		copied.ID = core.NewID("ia")
		n.Ingress = &copied
	}
	archive, err := s.Archive(ctx, id)
	if err != nil {
		return v, err
	}
	defer archive.Close()
	if v, err = s.CreateFrom(ctx, of.WorkspaceID, n); err != nil {
		return v, err
	}
	unread := errors.New("no longer read")
	pr, pw := io.Pipe()
	added := make(chan error, 1)
	go func() {
		err := tarball.Add(ctx, pw, archive, dir, name, content)
		pw.CloseWithError(err)
		added <- err
	}()
	err = s.Store(ctx, v.ID, pr)
	pr.CloseWithError(unread)
	if bad := <-added; bad != nil && !errors.Is(bad, unread) {
		if core.KindOf(bad) == core.Invalid {
			return v, s.refuse(ctx, v.ID, bad)
		}
		return v, bad
	}
	return v, err
}
