package registry

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/tarball"
	"interlock/internal/web"
)

// moduleLimits bounds an archive of a module: code, not data.
func moduleLimits() tarball.Limits {
	return tarball.Limits{Compressed: 64 << 20, Expanded: 256 << 20, Entries: 20_000}
}

// uploadURL is the address that takes the archive of a version.
func (s *Service) uploadURL(v ModuleVersion) string {
	return s.Signer.Base + "/upload/object/modules/" + string(v.ID) + "/" + s.Signer.Path("PUT", "module-version/"+string(v.ID), uploadTTL)
}

// upload takes an archive from whoever holds the address.
func (s *Service) uploadModule(w http.ResponseWriter, r *http.Request) {
	id := core.ID(r.PathValue("version"))
	err := s.Signer.Check("PUT", "module-version/"+string(id), r.PathValue("capability"))
	if err == nil {
		err = s.receiveModule(w, r, id)
	}
	web.Answer2017(w, r, err)
}

func (s *Service) loadVersion(ctx context.Context, id core.ID) (v ModuleVersion, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		v, err = db.One(ctx, tx, scanVersion, `SELECT `+versionColumns+` FROM registry_module_version v WHERE v.id = $1`, id)
		return err
	})
	return v, err
}

func errUsed() error {
	return core.Errorf(core.Conflict, "this version has been installed already and stays as it is; publish another")
}

// receiveModule stores the archive, looks at it, and then lets the version be
// found. Bytes that are not a sound archive mark it failed.
func (s *Service) receiveModule(w http.ResponseWriter, r *http.Request, id core.ID) error {
	ctx := r.Context()
	v, err := s.loadVersion(ctx, id)
	if err != nil {
		return err
	}
	if v.Used {
		return errUsed()
	}
	limits := moduleLimits()
	object, info, err := s.store(w, r, "modules", id, limits.Compressed)
	if err != nil {
		if core.KindOf(err) == core.Invalid {
			return s.refuse(ctx, id, err)
		}
		return err
	}
	about, err := s.examine(ctx, object, limits)
	if err != nil {
		s.drop(ctx, object)
		if k := core.KindOf(err); k == core.Invalid || k == core.TooLarge {
			return s.refuse(ctx, id, core.Wrap(err, core.Invalid, core.Message(err)))
		}
		return err
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE registry_module_version SET status = $2, error = '', object = $3, size = $4, details = $5, updated_at = $6
			WHERE id = $1 AND object = $7 AND used = false`, id, VersionOK, object, info.Size, about, tx.Now(), v.Object)
		if err != nil {
			return err
		}
		if n == 0 {
			return errUsed()
		}
		if _, err = tx.Exec(ctx, `UPDATE registry_module SET updated_at = $2 WHERE id = $1`, v.ModuleID, tx.Now()); err != nil {
			return err
		}
		org, err := db.One(ctx, tx, db.ID, `SELECT org_id FROM registry_module WHERE id = $1`, v.ModuleID)
		if err != nil {
			return err
		}
		for _, f := range s.Published {
			if err := f(ctx, tx, v.ModuleID, v.Version); err != nil {
				return err
			}
		}
		return audit.Add(ctx, tx, org, "registry_module_version", id, "upload", map[string]any{"version": v.Version, "sha256": info.SHA256})
	})
	s.settled(ctx, err, object, v.Object)
	if err == nil {
		for _, f := range s.Wake {
			if werr := f(context.WithoutCancel(ctx)); werr != nil {
				slog.WarnContext(ctx, "after a module was published", "module", v.ModuleID, "err", werr)
			}
		}
	}
	return err
}

// refuse marks a version that has no archive failed for the fault of one that
// came, and returns the fault.
func (s *Service) refuse(ctx context.Context, id core.ID, bad error) error {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE registry_module_version SET status = $2, error = $3, updated_at = $4 WHERE id = $1 AND object = ''`, id, VersionFailed, core.Message(bad), tx.Now())
		if err != nil || n == 0 {
			return err
		}
		org, err := db.One(ctx, tx, db.ID, `SELECT m.org_id FROM registry_module m JOIN registry_module_version v ON v.module_id = m.id WHERE v.id = $1`, id)
		if err != nil {
			return err
		}
		return audit.Add(ctx, tx, org, "registry_module_version", id, "refuse_upload", nil)
	})
	if err != nil {
		return err
	}
	return bad
}

// examine unpacks a stored archive under the rules for archives from anyone
// and returns what the module says of itself, as JSON.
func (s *Service) examine(ctx context.Context, object string, limits tarball.Limits) (string, error) {
	s.looking.Lock()
	defer s.looking.Unlock()
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(s.Dir, "module-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	body, err := s.Blobs.Get(ctx, object)
	if err != nil {
		return "", err
	}
	defer body.Close()
	if _, err := tarball.Unpack(ctx, body, dir, limits); err != nil {
		return "", err
	}
	b, err := json.Marshal(inspect(dir))
	return string(b), err
}

// download hands an archive to whoever holds the address.
func (s *Service) downloadModule(w http.ResponseWriter, r *http.Request) {
	id := core.ID(r.PathValue("version"))
	err := s.Signer.Check("GET", "module-version/"+string(id), r.PathValue("capability"))
	if err == nil {
		var v ModuleVersion
		if v, err = s.loadVersion(r.Context(), id); err == nil && v.Status != VersionOK {
			err = authz.ErrHidden()
		}
		if err == nil {
			err = s.send(w, r, v.Object, "application/gzip", v.Size)
		}
	}
	if err != nil {
		web.Answer2017(w, r, err)
	}
}

// send answers with an object, or fails before it has begun to.
func (s *Service) send(w http.ResponseWriter, r *http.Request, object, contentType string, size int64) error {
	body, err := s.Blobs.Get(r.Context(), object)
	if err != nil {
		return err
	}
	defer body.Close()
	fileHeader(w, contentType, size)
	if _, err := io.Copy(w, body); err != nil && r.Context().Err() == nil {
		panic(http.ErrAbortHandler) // half an archive must not look whole
	}
	return nil
}
