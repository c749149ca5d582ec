// Package state keeps state versions: every state that a workspace ever had,
// none of them ever changed. What was acknowledged is durable, and nothing
// overwrites silently: serials grow, the lineage stays, the writer holds the
// lock, all checked in the transaction that stores the row.
package state

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/blob"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/secret"
	"interlock/internal/tfdata"
	"interlock/internal/web"
	"interlock/internal/workspace"
)

// The statuses of a state version.
const (
	Pending     = "pending"     // its upload has not come yet
	Finalized   = "finalized"   // whole; the newest one is the current state
	Quarantined = "quarantined" // arrived too late or did not fit; kept for recovery
	Discarded   = "discarded"   // its upload never came
)

// MaxSize bounds a state in bytes.
const MaxSize = 256 << 20

// A Version is one state of a workspace.
type Version struct {
	ID            core.ID
	WorkspaceID   core.ID
	Seq           int64 // order of arrival in the workspace, from 1
	Serial        int64
	Lineage       string
	MD5           string // hex, of the raw bytes
	Status        string
	Object        string
	JSONObject    string
	Size          int64
	EngineVersion string
	Resources     int64
	RunID         core.ID
	CreatedBy     core.ID
	RollbackOf    core.ID // the version whose content this one brought back
	CreatedAt     time.Time
	Backing       string // "", or what became of the bytes: soft_deleted, deleted

	org     core.ID // of its workspace, where that is at hand
	summary string
	ingress string // JSON of where its run's configuration came from
}

// Service is what the APIs, the pages and package run call.
type Service struct {
	DB         *db.DB
	Blobs      *blob.Store
	Box        *secret.Box
	Signer     *web.Signer
	Workspaces *workspace.Service

	reads audit.Reads
	// Saved is called after a transaction that moved a workspace's state.
	Saved func(workspace core.ID)
	// RunDocs returns the documents of a run that the subject of ctx may see,
	// for versions that include it; of what is in want, under a run.
	RunDocs func(ctx context.Context, run core.ID, want map[string]bool) ([]jsonapi.Resource, error)
}

// Staged is a state whose bytes are durable but which no row names yet.
type Staged struct {
	Object        string
	Serial        int64
	Lineage       string
	MD5           string
	Size          int64
	EngineVersion string
	Resources     int64

	summary string
}

// Stage parses raw and stores it. Who does not commit it must Drop it; a crash
// between leaves an object that nothing names, to be swept.
func (s *Service) Stage(ctx context.Context, raw []byte) (Staged, error) {
	st, err := parse(raw)
	if err != nil {
		return st, err
	}
	return s.store(ctx, st, raw)
}

// StageIfNew is Stage for bytes that may be those of state version before,
// unchanged; then there is nothing to commit and it returns nil.
func (s *Service) StageIfNew(ctx context.Context, raw []byte, before core.ID) (*Staged, error) {
	st, err := parse(raw)
	if err != nil {
		return nil, err
	}
	if before != "" {
		same := false
		err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
			v, err := Load(ctx, tx, before)
			same = v.MD5 == st.MD5
			return err
		})
		if err != nil && core.KindOf(err) != core.NotFound || same {
			return nil, err
		}
	}
	st, err = s.store(ctx, st, raw)
	return &st, err
}

// StageBroken stores bytes that are no readable state, for recovery by hand.
func (s *Service) StageBroken(ctx context.Context, raw []byte) (Staged, error) {
	sum := md5.Sum(raw)
	return s.store(ctx, Staged{MD5: hex.EncodeToString(sum[:]), Size: int64(len(raw)), Serial: -1}, raw)
}

func parse(raw []byte) (Staged, error) {
	if len(raw) > MaxSize {
		return Staged{}, core.Errorf(core.TooLarge, "the state is larger than %d bytes", MaxSize)
	}
	t, err := tfdata.ParseState(raw)
	if err != nil {
		return Staged{}, err
	}
	sum := md5.Sum(raw)
	return Staged{Serial: t.Serial, Lineage: t.Lineage, MD5: hex.EncodeToString(sum[:]), Size: int64(len(raw)),
		EngineVersion: t.EngineVersion, Resources: int64(t.Resources), summary: summarize(t).text()}, nil
}

func (s *Service) store(ctx context.Context, st Staged, raw []byte) (Staged, error) {
	st.Object = "states/" + string(core.NewID("sv"))
	_, err := s.Blobs.Put(ctx, st.Object, bytes.NewReader(raw))
	return st, err
}

// Drop removes what was staged and not committed.
func (s *Service) Drop(ctx context.Context, st Staged) error {
	if st.Object == "" {
		return nil
	}
	return s.Blobs.Delete(context.WithoutCancel(ctx), st.Object)
}

// fits says whether next may follow the current state. same means that the
// very same bytes are current already.
func fits(cur *Version, serial int64, lineage, md5 string) (same bool, err error) {
	switch {
	case cur == nil:
		return false, nil
	case cur.Lineage != "" && cur.Lineage != lineage:
		return false, core.Errorf(core.Conflict, "the state has lineage %q and cannot be replaced by one of lineage %q: it belongs to another configuration", cur.Lineage, lineage)
	case serial < cur.Serial:
		return false, core.Errorf(core.Conflict, "the state has serial %d and cannot be replaced by serial %d: somebody else has written it since", cur.Serial, serial)
	case serial == cur.Serial && md5 != cur.MD5:
		return false, core.Errorf(core.Conflict, "the state has serial %d already, with other content", cur.Serial)
	}
	return serial == cur.Serial, nil
}

// Commit names staged bytes the current state of w inside tx, whose caller
// holds the workspace and has checked who may write. same reports that they
// were current already; then the staged object is to be dropped.
func Commit(ctx context.Context, tx *db.Tx, w workspace.Workspace, st Staged, run, by core.ID, force bool) (v Version, same bool, err error) {
	return commit(ctx, tx, w, st, run, by, "", force)
}

// commit is Commit of what may bring back the content of version of.
func commit(ctx context.Context, tx *db.Tx, w workspace.Workspace, st Staged, run, by, of core.ID, force bool) (v Version, same bool, err error) {
	cur, err := current(ctx, tx, w)
	if err != nil {
		return v, false, err
	}
	if same, err = fits(cur, st.Serial, st.Lineage, st.MD5); err != nil && !force {
		return v, false, err
	}
	if same && replayed(w, *cur) {
		return *cur, true, nil
	}
	v = version(w.ID, st, run, by, Finalized)
	v.RollbackOf, v.org = of, w.OrgID
	if v, err = insert(ctx, tx, v); err != nil {
		return v, false, err
	}
	return v, false, setCurrent(ctx, tx, w.OrgID, v)
}

// Quarantine keeps staged bytes that may not become the current state.
func Quarantine(ctx context.Context, tx *db.Tx, ws core.ID, st Staged, run core.ID) (Version, error) {
	return insert(ctx, tx, version(ws, st, run, "", Quarantined))
}

// replayed says that bytes which are current already came again, as a client
// sends them whose answer was lost. Under a lock that was taken since, they are
// a new version of their own: somebody wrote them on purpose.
func replayed(w workspace.Workspace, cur Version) bool {
	return w.Lock.Kind == "run" || w.Lock.At == nil || !w.Lock.At.After(cur.CreatedAt)
}

func version(ws core.ID, st Staged, run, by core.ID, status string) Version {
	return Version{WorkspaceID: ws, Serial: st.Serial, Lineage: st.Lineage, MD5: st.MD5, Status: status, Object: st.Object, Size: st.Size,
		EngineVersion: st.EngineVersion, Resources: st.Resources, RunID: run, CreatedBy: by, summary: st.summary}
}

// current returns the head of w's history, or nil.
func current(ctx context.Context, tx *db.Tx, w workspace.Workspace) (*Version, error) {
	if w.StateID == "" {
		return nil, nil
	}
	v, err := Load(ctx, tx, w.StateID)
	return &v, err
}

// Current returns the current state of a workspace without asking who wants
// it; nil if there is none.
func Current(ctx context.Context, tx *db.Tx, w workspace.Workspace) (*Version, error) {
	return current(ctx, tx, w)
}

// mayWrite checks that the subject of ctx may write the state of w now. The
// holder of the lock may; where anyone else holds it, nobody. needLock also
// refuses an open workspace, as v2 does; the 2017 API has no locks.
func mayWrite(ctx context.Context, tx *db.Tx, w workspace.Workspace, needLock bool) error {
	sub := authz.Subject(ctx)
	if sub.Kind == core.RunKind {
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM run WHERE id = $1 AND workspace_id = $2 AND status = 'applying'`, sub.ID, w.ID)
		if err == nil && (n == 0 || w.Lock.ID != sub.ID) {
			err = authz.ErrHidden()
		}
		return err
	}
	if err := authz.Workspace(ctx, tx, w.ID, core.WriteState); err != nil {
		return err
	}
	switch {
	case !w.Lock.Held() && needLock:
		return core.Errorf(core.Conflict, "the workspace must be locked by whoever writes its state")
	case w.Lock.Held() && (w.Lock.Kind != string(sub.Kind) || w.Lock.ID != sub.ID):
		return core.Errorf(core.Conflict, "workspace is locked by %s; only the holder may write its state", w.Lock)
	}
	return nil
}

// Write makes raw the current state of a workspace. find names it inside the
// transaction. same reports that nothing was new.
func (s *Service) Write(ctx context.Context, find func(context.Context, *db.Tx) (workspace.Workspace, error), raw []byte, needLock, force bool, check func(*Staged) error) (v Version, same bool, err error) {
	st, err := parse(raw)
	if err != nil {
		return v, false, err
	}
	if check != nil {
		if err := check(&st); err != nil {
			return v, false, err
		}
	}
	// Ask before storing, so that what will be refused costs no object.
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := find(ctx, tx)
		if err != nil {
			return err
		}
		if err := mayWrite(ctx, tx, w, needLock); err != nil {
			return err
		}
		cur, err := current(ctx, tx, w)
		if err == nil {
			_, err = fits(cur, st.Serial, st.Lineage, st.MD5)
		}
		if force && core.KindOf(err) == core.Conflict {
			return nil
		}
		return err
	})
	if err != nil {
		return v, false, err
	}
	if st, err = s.store(ctx, st, raw); err != nil {
		return v, false, err
	}
	return s.commitStaged(ctx, find, st, needLock, force)
}

// commitStaged makes what was staged the current state, or drops it.
func (s *Service) commitStaged(ctx context.Context, find func(context.Context, *db.Tx) (workspace.Workspace, error), st Staged, needLock, force bool) (v Version, same bool, err error) {
	var ws core.ID
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := find(ctx, tx)
		if err != nil {
			return err
		}
		if err := workspace.Hold(ctx, tx, w.ID); err != nil {
			return err
		}
		if w, err = workspace.Load(ctx, tx, w.ID); err != nil {
			return err
		}
		if err := mayWrite(ctx, tx, w, needLock); err != nil {
			return err
		}
		ws = w.ID
		sub := authz.Subject(ctx)
		run := core.ID("")
		if sub.Kind == core.RunKind {
			run = sub.ID
		}
		v, same, err = Commit(ctx, tx, w, st, run, sub.User(), force)
		return err
	})
	if err != nil {
		return v, false, s.refused(ctx, st, err)
	}
	if same {
		return v, true, s.Drop(ctx, st)
	}
	s.Saved(ws)
	return v, false, nil
}

// refused drops what was staged if err says for certain that it was not
// committed. A client that goes away, or a database, may do so in the middle of
// the commit: then nobody knows, and an object too many does less harm than a
// state version without its bytes.
func (s *Service) refused(ctx context.Context, st Staged, err error) error {
	switch core.KindOf(err) {
	case core.Internal, core.Unavailable:
		return err
	}
	return errors.Join(err, s.Drop(ctx, st))
}

// Raw reads the bytes of a version.
func (s *Service) Raw(ctx context.Context, v Version) ([]byte, error) {
	if v.Object == "" || v.Backing != "" {
		return nil, authz.ErrHidden()
	}
	return s.Blobs.Bytes(ctx, v.Object, MaxSize)
}

// The ways in which the content of a version is read.
const (
	stateRead   = "read_state"   // its bytes, or their JSON form
	pageRead    = "view_state"   // a page that shows what it holds
	outputsRead = "read_outputs" // the outputs whose values are not sensitive
	secretRead  = "read_sensitive_output"
)

// reading notes that the subject of ctx is about to be shown content of v. It
// comes before the content, which is not shown when it fails.
func (s *Service) reading(ctx context.Context, v Version, how, output string) error {
	meta := map[string]any{"workspace": v.WorkspaceID, "serial": v.Serial}
	if output != "" {
		meta["output"] = output
	}
	return s.reads.Note(ctx, s.DB, func(ctx context.Context, tx *db.Tx) (core.ID, error) {
		return db.One(ctx, tx, db.ID, `SELECT org_id FROM workspace WHERE id = $1`, v.WorkspaceID)
	}, audit.Read{Type: "state_version", Resource: v.ID, Action: how, Meta: meta, Again: how == pageRead || how == outputsRead})
}

// ReadBy notes inside tx that the worker of a run gets v: the claim is the read.
func (v Version) ReadBy(ctx context.Context, tx *db.Tx, org, run, worker core.ID) error {
	return audit.Add(ctx, tx, org, "state_version", v.ID, stateRead, map[string]any{"workspace": v.WorkspaceID, "serial": v.Serial, "run": run, "worker": worker})
}

// ForPage parses v for a page, which is a read of it.
func (s *Service) ForPage(ctx context.Context, v Version) (*tfdata.State, error) {
	if err := s.reading(ctx, v, pageRead, ""); err != nil {
		return nil, err
	}
	raw, err := s.Raw(ctx, v)
	if err != nil {
		return nil, err
	}
	st, err := tfdata.ParseState(raw)
	return &st, err
}

// RawOf is Raw of the version with this id, without asking who wants it.
func (s *Service) RawOf(ctx context.Context, id core.ID) (b []byte, err error) {
	var v Version
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		v, err = Load(ctx, tx, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.Raw(ctx, v)
}

// Get returns a version that the subject of ctx has the right to.
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

// CurrentOf returns the current state of a workspace, or NotFound.
func (s *Service) CurrentOf(ctx context.Context, ws core.ID, want core.Right) (v Version, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := workspace.Get(ctx, tx, ws, want)
		if err != nil {
			return err
		}
		cur, err := current(ctx, tx, w)
		if err == nil && cur == nil {
			return authz.ErrHidden()
		}
		if cur != nil {
			v = *cur
		}
		return err
	})
	return v, err
}

// List returns a page of the history of a workspace, newest first.
func (s *Service) List(ctx context.Context, org, name, status string, p jsonapi.Page) (vs []Version, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := workspace.Find(ctx, tx, org, name)
		if err != nil {
			return err
		}
		if err := authz.Workspace(ctx, tx, w.ID, core.ReadState); err != nil {
			return err
		}
		args := []any{w.ID}
		for st := range strings.SplitSeq(cmp.Or(status, "pending,finalized"), ",") {
			if st = strings.TrimSpace(st); st == Pending || st == Finalized || st == Discarded {
				args = append(args, st)
			}
		}
		if len(args) == 1 {
			return nil // no such status, no such version
		}
		cond := ` FROM state_version WHERE workspace_id = $1 AND status IN (` + db.In(2, len(args)-1) + `)`
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*)`+cond, args...); err != nil {
			return err
		}
		n := len(args)
		vs, err = db.All(ctx, tx, scan, `SELECT `+columns+cond+` ORDER BY seq DESC LIMIT `+db.In(n+1, 1)+` OFFSET `+db.In(n+2, 1), append(args, p.Size, p.Offset())...)
		return err
	})
	return vs, total, err
}

// QuarantinedOf returns the newest state of a run that could not become
// current.
func (s *Service) QuarantinedOf(ctx context.Context, run core.ID) (v Version, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		vs, err := db.All(ctx, tx, scan, `SELECT `+columns+` FROM state_version WHERE run_id = $1 AND status = 'quarantined' ORDER BY seq DESC LIMIT 1`, run)
		if err == nil && len(vs) == 0 {
			return authz.ErrHidden()
		}
		if len(vs) > 0 {
			v = vs[0]
		}
		return err
	})
	return v, err
}

// DownloadURL is the address from which raw bytes can be read for a minute.
// It carries who asked for it.
func (s *Service) DownloadURL(ctx context.Context, v Version) string {
	return s.Signer.Base + "/download/states/" + string(v.ID) + "/" + s.Signer.PathFor(ctx, "GET", "state/"+string(v.ID), 5*time.Minute)
}
