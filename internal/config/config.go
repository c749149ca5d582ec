// Package config keeps configuration versions: archives of Terraform code,
// each uploaded once and never changed after.
package config

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/blob"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/fault"
	"interlock/internal/jsonapi"
	"interlock/internal/secret"
	"interlock/internal/tarball"
	"interlock/internal/variable"
	"interlock/internal/web"
	"interlock/internal/workspace"
)

// The statuses of a configuration version.
const (
	Pending     = "pending"
	Uploaded    = "uploaded"
	Errored     = "errored"
	Archived    = "archived"
	SoftDeleted = "backing_data_soft_deleted"
	Deleted     = "backing_data_permanently_deleted"
)

// A Version is one configuration.
type Version struct {
	ID            core.ID
	WorkspaceID   core.ID
	Number        int64 // counts up per workspace from 1
	Status        string
	Source        string
	AutoQueueRuns bool
	Speculative   bool // its runs are plan-only
	Provisional   bool // becomes current when it is applied
	Error         string
	ErrorMessage  string
	Metadata      map[string]any
	Object        string // in the blob store, when uploaded
	Size          int64
	Digest        string // SHA-256 of the archive, hex
	CreatedBy     core.ID
	CreatedAt     time.Time
	UploadedAt    *time.Time
	// When it reached the other statuses, last.
	ErroredAt, ArchivedAt, SoftDeletedAt, RestoredAt, DeletedAt *time.Time

	Ingress *Ingress // where it came from; nil for an upload

	progressHash string
}

// Service is what the APIs, the pages and the packages above call.
type Service struct {
	DB         *db.DB
	Blobs      *blob.Store
	Box        *secret.Box
	Signer     *web.Signer
	Workspaces *workspace.Service
	Variables  *variable.Service

	// Uploaded hear of a complete upload inside the transaction that makes it
	// visible; that is where a run is queued.
	Uploaded []func(context.Context, *db.Tx, Version) error
	// Done is called after that transaction.
	Done func(workspace core.ID)

	uploads sync.Map // progress hash -> *progress, of uploads on this node
}

type progress struct{ total, done atomic.Int64 }

// archiveLimits bounds an archive: 100 MB as it comes, 1 GB unpacked.
func archiveLimits() tarball.Limits { return tarball.Limits{Compressed: 100 << 20, Expanded: 1 << 30} }

// uploadTTL is how long an upload URL lives.
const uploadTTL = time.Hour

// New is what a caller says about a configuration version.
type New struct {
	Source                                  string
	AutoQueueRuns, Speculative, Provisional bool
	Metadata                                map[string]any
	Ingress                                 *Ingress
}

// Create makes a configuration version that waits for its upload.
func (s *Service) Create(ctx context.Context, ws core.ID, n New) (v Version, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := workspace.Get(ctx, tx, ws, core.QueuePlan)
		if err != nil {
			return err
		}
		v, _, err = s.createIn(ctx, tx, w, n)
		return err
	})
	return v, err
}

// createIn makes the version and the secret by which v1 clients ask how its
// upload goes.
func (s *Service) createIn(ctx context.Context, tx *db.Tx, w workspace.Workspace, n New) (Version, string, error) {
	number, err := workspace.NextConfig(ctx, tx, w.ID)
	if err != nil {
		return Version{}, "", err
	}
	token := uuid()
	v := Version{ID: core.NewID("cv"), WorkspaceID: w.ID, Number: number, Status: Pending, Source: n.Source, AutoQueueRuns: n.AutoQueueRuns,
		Speculative: n.Speculative, Provisional: n.Provisional, Metadata: n.Metadata, Ingress: n.Ingress, CreatedBy: authz.Subject(ctx).User(), CreatedAt: tx.Now(),
		progressHash: s.Box.HashToken(token)}
	if err := insert(ctx, tx, v); err != nil {
		return v, "", err
	}
	if err := v.note(ctx, tx, "create"); err != nil {
		return v, "", err
	}
	if w.ConfigID == "" && !v.Speculative && !v.Provisional {
		// The first one is the workspace's before its bytes are there; later ones
		// take its place when they are whole.
		err = workspace.SetConfig(ctx, tx, w.ID, v.ID)
	}
	return v, token, err
}

// note adds what was done to the version to its organization's trail. Who holds
// an upload URL brings the bytes: that row names nobody.
func (v Version) note(ctx context.Context, tx *db.Tx, action string) error {
	w, err := workspace.Load(ctx, tx, v.WorkspaceID)
	if err != nil {
		return err
	}
	return audit.Add(ctx, tx, w.OrgID, "configuration_version", v.ID, action, map[string]any{"workspace": v.WorkspaceID, "source": v.Source})
}

// CreateFrom makes a configuration version of a repository's content, for the
// packages above, which have decided that there is to be one; Store brings it.
func (s *Service) CreateFrom(ctx context.Context, ws core.ID, n New) (v Version, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := workspace.Load(ctx, tx, ws)
		if err != nil {
			return err
		}
		v, _, err = s.createIn(ctx, tx, w, n)
		return err
	})
	return v, err
}

// Store takes the archive of a version that CreateFrom made. What is not a
// sound archive marks the version errored.
func (s *Service) Store(ctx context.Context, id core.ID, archive io.Reader) error {
	return s.receive(ctx, id, archive, -1)
}

// UploadURL is the address that takes the archive; whoever holds it may upload
// within the hour, and again for as long as nothing has used the upload and the
// subject of ctx may queue plans.
func (s *Service) UploadURL(ctx context.Context, v Version) string {
	return s.Signer.Base + "/upload/configurations/" + string(v.ID) + "/" + s.Signer.PathFor(ctx, "PUT", "configuration/"+string(v.ID), uploadTTL)
}

// receive takes the archive of version id from body. What is not a sound
// archive marks the version errored; a body that breaks off leaves it as it was.
func (s *Service) receive(ctx context.Context, id core.ID, body io.Reader, length int64) error {
	var v Version
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		v, err = Load(ctx, tx, id)
		return err
	})
	if err != nil {
		return err
	}
	if v.Status != Pending && v.Status != Uploaded {
		return core.Errorf(core.Conflict, "this configuration version is %s already; create another", v.Status)
	}
	limits := archiveLimits()
	p := &progress{}
	p.total.Store(max(length, 0))
	s.uploads.Store(v.progressHash, p)
	defer s.uploads.Delete(v.progressHash)

	// One pass: the archive is checked while it is stored, under a name of its
	// own so that two uploads at once cannot mix.
	object := "configurations/" + string(id) + "." + secret.NewToken(8)
	pr, pw := io.Pipe()
	checked := make(chan error, 1)
	go func() {
		_, err := tarball.Check(ctx, pr, limits)
		pr.CloseWithError(errSeen{err})
		checked <- err
	}()
	src := &counter{r: body, p: p, limit: limits.Compressed}
	info, putErr := s.Blobs.Put(ctx, object, io.TeeReader(src, pipeTee{pw}))
	if src.err != nil {
		pw.CloseWithError(src.err)
	} else {
		pw.Close()
	}
	bad := <-checked
	switch {
	case src.err != nil && core.KindOf(src.err) != core.TooLarge:
		return core.Wrap(src.err, core.Malformed, "the upload broke off; it can be repeated")
	case core.KindOf(src.err) == core.TooLarge:
		bad = src.err
	case putErr != nil && bad == nil:
		return putErr
	}
	fault.Point("stored", id)
	before := v.Object
	if bad != nil {
		err = s.refuse(ctx, id, bad)
	} else {
		err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return s.accept(ctx, tx, &v, object, info) })
	}
	switch core.KindOf(err) {
	case core.Internal, core.Unavailable, core.NoSpace:
		// A commit whose answer was lost may have happened: then a row names the
		// object. One too many is rubbish, one too few is a loss.
		if err != nil {
			return err
		}
	default:
		if derr := s.Blobs.Delete(context.WithoutCancel(ctx), object); derr != nil {
			return errors.Join(derr, err)
		}
		return err
	}
	if before != "" {
		_ = s.Blobs.Delete(context.WithoutCancel(ctx), before) // rubbish at worst
	}
	s.Done(v.WorkspaceID)
	return nil
}

// refuse marks version id errored for the fault of its archive, unless another
// upload was quicker, and returns bad.
func (s *Service) refuse(ctx context.Context, id core.ID, bad error) error {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE config_version SET status = 'errored', error = 'archive', error_message = $2, errored_at = $3 WHERE id = $1 AND status = 'pending'`, id, core.Message(bad), tx.Now())
		if err != nil || n == 0 {
			return err
		}
		v, err := Load(ctx, tx, id)
		if err != nil {
			return err
		}
		return v.note(ctx, tx, "refuse_upload")
	})
	if err != nil {
		return err
	}
	return bad
}

// accept makes an upload visible. A later upload takes the place of one that
// no run has used; what a run has seen never changes.
func (s *Service) accept(ctx context.Context, tx *db.Tx, v *Version, object string, info blob.Info) error {
	if _, err := LoadForUse(ctx, tx, v.ID); err != nil {
		return err
	}
	n, err := tx.Exec(ctx, `UPDATE config_version SET status = 'uploaded', object = $2, size = $3, digest = $4, uploaded_at = $5
		WHERE id = $1 AND object = $6 AND (status = 'pending' OR status = 'uploaded' AND NOT EXISTS (SELECT 1 FROM run r WHERE r.config_id = config_version.id))`,
		v.ID, object, info.Size, info.SHA256, tx.Now(), v.Object)
	if err != nil {
		return err
	}
	if n == 0 {
		return core.Errorf(core.Conflict, "this configuration version has been uploaded already")
	}
	at := tx.Now()
	if err := v.note(ctx, tx, "upload"); err != nil {
		return err
	}
	again := v.Status == Uploaded
	v.Status, v.Object, v.Size, v.Digest, v.UploadedAt = Uploaded, object, info.Size, info.SHA256, &at
	if again {
		return nil
	}
	if !v.Speculative && !v.Provisional {
		if err := workspace.SetConfig(ctx, tx, v.WorkspaceID, v.ID); err != nil {
			return err
		}
	}
	for _, f := range s.Uploaded {
		if err := f(ctx, tx, *v); err != nil {
			return err
		}
	}
	return nil
}

// errSeen marks the end of the checker; the tee stops feeding it.
type errSeen struct{ err error }

func (errSeen) Error() string { return "archive checked" }

// pipeTee feeds the checker until it has seen enough, and the store always.
type pipeTee struct{ w *io.PipeWriter }

func (t pipeTee) Write(p []byte) (int, error) {
	if _, err := t.w.Write(p); err != nil {
		if _, ok := errors.AsType[errSeen](err); !ok {
			return 0, err
		}
	}
	return len(p), nil
}

// counter counts what was read, keeps the reader's own error apart and stops
// at the limit.
type counter struct {
	r     io.Reader
	p     *progress
	limit int64
	err   error
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	if done := c.p.done.Add(int64(n)); done > c.limit {
		err = core.Errorf(core.TooLarge, "the archive is larger than %d bytes", c.limit)
	}
	if err != nil && err != io.EOF {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			err = core.Errorf(core.TooLarge, "the archive is larger than %d bytes", c.limit)
		}
		c.err = err
	}
	return n, err
}

// Get returns a configuration version that the subject of ctx may see.
func (s *Service) Get(ctx context.Context, id core.ID, want core.Right) (v Version, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if v, err = Load(ctx, tx, id); err != nil {
			return err
		}
		_, err = workspace.Get(ctx, tx, v.WorkspaceID, want)
		return err
	})
	return v, err
}

// List returns a page of the configuration versions of a workspace, newest first.
func (s *Service) List(ctx context.Context, ws core.ID, p jsonapi.Page) (vs []Version, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := workspace.Get(ctx, tx, ws, core.ReadRuns); err != nil {
			return err
		}
		// Numbers have no gaps, so the last one is the count.
		if total, err = db.One(ctx, tx, db.Int, `SELECT next_config - 1 FROM workspace WHERE id = $1`, ws); err != nil {
			return err
		}
		vs, err = db.All(ctx, tx, scan, `SELECT `+columns+` FROM config_version WHERE workspace_id = $1 ORDER BY number DESC LIMIT $2 OFFSET $3`, ws, p.Size, p.Offset())
		return err
	})
	return vs, total, err
}

// MakeCurrent names an applied provisional version the latest one, unless a
// newer one exists.
func MakeCurrent(ctx context.Context, tx *db.Tx, v Version) error {
	newer, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM config_version c JOIN workspace w ON w.config_id = c.id
		WHERE w.id = $1 AND c.number > $2`, v.WorkspaceID, v.Number)
	if err != nil || newer > 0 {
		return err
	}
	return workspace.SetConfig(ctx, tx, v.WorkspaceID, v.ID)
}

const columns = `id, workspace_id, number, status, source, auto_queue_runs, speculative, provisional, error, error_message, metadata,
	object, size, digest, created_by, created_at, uploaded_at, errored_at, archived_at, soft_deleted_at, restored_at, deleted_at, progress_hash, ingress`

func scan(r db.Row) (v Version, err error) {
	var meta, ingress string
	if err := r.Scan(&v.ID, &v.WorkspaceID, &v.Number, &v.Status, &v.Source, &v.AutoQueueRuns, &v.Speculative, &v.Provisional, &v.Error, &v.ErrorMessage, &meta,
		&v.Object, &v.Size, &v.Digest, &v.CreatedBy, &v.CreatedAt, &v.UploadedAt, &v.ErroredAt, &v.ArchivedAt, &v.SoftDeletedAt, &v.RestoredAt, &v.DeletedAt, &v.progressHash, &ingress); err != nil {
		return v, err
	}
	if ingress != "" {
		if err := json.Unmarshal([]byte(ingress), &v.Ingress); err != nil {
			return v, err
		}
	}
	return v, json.Unmarshal([]byte(meta), &v.Metadata)
}

func insert(ctx context.Context, tx *db.Tx, v Version) error {
	if v.Metadata == nil {
		v.Metadata = map[string]any{}
	}
	meta, err := json.Marshal(v.Metadata)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO config_version (id, workspace_id, number, status, source, auto_queue_runs, speculative, provisional, metadata, created_by, created_at, progress_hash, ingress)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		v.ID, v.WorkspaceID, v.Number, v.Status, v.Source, v.AutoQueueRuns, v.Speculative, v.Provisional, string(meta), v.CreatedBy, v.CreatedAt, v.progressHash, v.Ingress.json())
	return err
}

// Load returns a configuration version without asking who wants it.
func Load(ctx context.Context, tx *db.Tx, id core.ID) (Version, error) {
	return db.One(ctx, tx, scan, oneSQL, id)
}

const oneSQL = `SELECT ` + columns + ` FROM config_version WHERE id = $1`

// Ahead announces a Load, see db.Tx.
func Ahead(tx *db.Tx, id core.ID) { tx.Ahead(oneSQL, id) }

// LoadMany returns configuration versions without asking who wants them, in
// one query. At least one id is needed.
func LoadMany(ctx context.Context, tx *db.Tx, ids []core.ID) ([]Version, error) {
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	return db.All(ctx, tx, scan, `SELECT `+columns+` FROM config_version WHERE id IN (`+db.In(1, len(ids))+`)`, args...)
}

// LoadForUse is Load for a run that is going to be made of it: until the
// transaction ends its bytes cannot be taken away.
func LoadForUse(ctx context.Context, tx *db.Tx, id core.ID) (Version, error) {
	return db.One(ctx, tx, scan, `SELECT `+columns+` FROM config_version WHERE id = $1`+tx.ForUpdate(), id)
}

// Whole reports whether the bytes of a version have come. The empty id has none.
func Whole(ctx context.Context, tx *db.Tx, id core.ID) (bool, error) {
	n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM config_version WHERE id = $1 AND uploaded_at IS NOT NULL`, id)
	return n > 0, err
}

func (s *Service) loadUploaded(ctx context.Context, id core.ID) (v Version, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if v, err = Load(ctx, tx, id); err == nil && v.Status != Uploaded {
			err = authz.ErrHidden()
		}
		return err
	})
	return v, err
}

// Archive opens the archive of an uploaded version for the one who runs it.
func (s *Service) Archive(ctx context.Context, id core.ID) (io.ReadCloser, error) {
	v, err := s.loadUploaded(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.Blobs.Get(ctx, v.Object)
}
