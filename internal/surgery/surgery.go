// Package surgery changes states by the engine's own commands: mv, rm and
// replace-provider. Somebody stages what is to be done and sees what it does to
// which addresses, somebody confirms it with a reason, and it can be undone.
// Nothing but the transaction of the confirmation changes anything. An import
// needs a provider: it is a run, whose plan is the preview (see import.go).
package surgery

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"os"
	"strings"
	"time"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/config"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/executor"
	"interlock/internal/jsonapi"
	"interlock/internal/run"
	"interlock/internal/state"
	"interlock/internal/tfdata"
	"interlock/internal/workspace"
)

// The statuses of an operation.
const (
	Previewed = "previewed"
	Applied   = "applied"
	Undone    = "undone"
	Discarded = "discarded"
)

const (
	maxEdits  = 50
	maxReason = 1024 // bytes
	// patience is how long the engine may take for all edits of an operation.
	patience = 2 * time.Minute
)

// An Operation is a list of edits of one state version and what came of it.
type Operation struct {
	ID          core.ID
	Workspace   core.ID
	Base        core.ID // the version that was looked at; of an import, the current one if there was one
	BaseSerial  int64
	Edits       []executor.Edit
	Changes     []tfdata.AddressChange
	Status      string
	Reason      string
	UndoReason  string
	Result      core.ID // the version that it made
	Undo        core.ID // the version that brought Base back
	CreatedBy   core.ID
	CreatedName string
	CreatedAt   time.Time
	DecidedName string
	DecidedAt   *time.Time
	Run         core.ID // that imports; empty for other operations
	RunNumber   int64

	md5 string // of the state that the preview came to
}

// Service is what the API and the pages call.
type Service struct {
	DB         *db.DB
	Configs    *config.Service
	States     *state.Service
	Runs       *run.Service
	Workspaces *workspace.Service
	Exec       *executor.Executor
	Catalog    *executor.Catalog
	Root       string // of the areas, which live as long as one call

	slots chan struct{}
}

// Prepare removes what a server that died has left. It is called once, before
// anything else.
func (s *Service) Prepare() error {
	s.slots = make(chan struct{}, 2) // engines at once; others wait
	if err := os.MkdirAll(s.Root, 0o700); err != nil {
		return err
	}
	return s.Exec.Clear(s.Root)
}

// edit has the engine of w edit the bytes of version v, and returns what comes
// after them, with the serial that it would have.
func (s *Service) edit(ctx context.Context, w workspace.Workspace, v state.Version, edits []executor.Edit) (before, after []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if before, err = s.States.Raw(ctx, v); err != nil {
		return nil, nil, err
	}
	t, err := tfdata.ParseState(before)
	if err == nil && t.Encrypted {
		err = core.Errorf(core.Conflict, "the state was encrypted before it was sent; it cannot be changed here")
	}
	if err != nil {
		return nil, nil, err
	}
	serial, err := state.NextSerial(v, before)
	if err != nil {
		return nil, nil, err
	}
	engine, err := s.Catalog.Find(ctx, w.Engine, w.EngineVersion)
	if err != nil {
		return nil, nil, err
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return nil, nil, core.Wrap(ctx.Err(), core.Unavailable, "other operations are at work; try again")
	}
	area, err := executor.OpenArea(s.Root, string(core.NewID("edit")))
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = area.Remove() }()
	if after, err = s.Exec.EditState(ctx, executor.Spec{Area: area, Engine: engine, Grace: 5 * time.Second}, before, edits); err != nil {
		return nil, nil, err
	}
	after, err = tfdata.WithSerial(after, serial)
	return before, after, err
}

func sum(raw []byte) string {
	x := md5.Sum(raw)
	return hex.EncodeToString(x[:])
}

// Check refuses edits that no engine is asked for.
func Check(edits []executor.Edit) error {
	if len(edits) == 0 {
		return core.Errorf(core.Invalid, "can't be blank").InField("operations")
	}
	if len(edits) > maxEdits {
		return core.Errorf(core.Invalid, "are more than %d", maxEdits).InField("operations")
	}
	for _, e := range edits {
		check := e.Check
		switch e.Operation {
		case executor.EditMove, executor.EditRemove, executor.EditReplaceProvider:
		case Import:
			check = func() error { return checkImport(e) }
		default:
			return core.Errorf(core.Invalid, "%q is no operation; it is mv, rm, replace-provider or import", e.Operation).InField("operations")
		}
		if err := check(); err != nil {
			return core.Wrap(err, core.Invalid, core.Message(err)).InField("operations")
		}
	}
	return nil
}

// may looks whether the subject of ctx may change the state of a workspace.
func (s *Service) may(ctx context.Context, ws core.ID) (w workspace.Workspace, cur *state.Version, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if w, err = workspace.Get(ctx, tx, ws, core.ReadState|core.WriteState); err != nil {
			return err
		}
		cur, err = state.Current(ctx, tx, w)
		return err
	})
	return w, cur, err
}

// Stage has the engine try the edits on a copy of the current state and keeps
// what they do to addresses. The state itself is as it was. Imports are queued
// as a run instead, which says that it came from source.
func (s *Service) Stage(ctx context.Context, ws core.ID, edits []executor.Edit, source string) (o Operation, err error) {
	w, cur, err := s.may(ctx, ws)
	if err != nil {
		return o, err
	}
	if err := Check(edits); err != nil {
		return o, err
	}
	if only, err := importsOnly(edits); err != nil {
		return o, err
	} else if only {
		return s.stageImport(ctx, w, cur, edits, source)
	}
	if cur == nil {
		return o, core.Errorf(core.Conflict, "the workspace has no state yet")
	}
	before, after, err := s.edit(ctx, w, *cur, edits)
	if core.KindOf(err) == core.Invalid {
		err = core.Wrap(err, core.Invalid, core.Message(err)).InField("operations")
	}
	if err != nil {
		return o, err
	}
	changes, err := tfdata.CompareAddresses(before, after)
	if err != nil {
		return o, err
	}
	if len(changes) == 0 {
		return o, core.Errorf(core.Invalid, "would change nothing").InField("operations")
	}
	sub := authz.Subject(ctx)
	o = Operation{ID: core.NewID("sop"), Workspace: ws, Base: cur.ID, BaseSerial: cur.Serial, Edits: edits, Changes: changes, Status: Previewed,
		CreatedBy: sub.User(), CreatedName: sub.Name, md5: sum(after)}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := workspace.Get(ctx, tx, ws, core.ReadState|core.WriteState)
		if err != nil {
			return err
		}
		if err := insert(ctx, tx, &o); err != nil {
			return err
		}
		return o.note(ctx, tx, w.OrgID, "preview", nil)
	})
	return o, err
}

// note adds what was done to the trail: addresses are in it, and no values.
func (o Operation) note(ctx context.Context, tx *db.Tx, org core.ID, action string, more map[string]any) error {
	meta := map[string]any{"workspace": o.Workspace, "state_version": o.Base, "operations": words(o.Edits)}
	for k, v := range more {
		meta[k] = v
	}
	return audit.Add(ctx, tx, org, "state_operation", o.ID, action, meta)
}

func words(edits []executor.Edit) []string {
	out := make([]string, len(edits))
	for i, e := range edits {
		out[i] = strings.TrimSpace(e.Operation + " " + e.From + " " + e.To)
	}
	return out
}

// reasonable checks the reason of a decision.
func reasonable(reason string) (string, error) {
	reason = strings.TrimSpace(strings.ToValidUTF8(reason, "\uFFFD"))
	switch {
	case reason == "":
		return "", core.Errorf(core.Invalid, "can't be blank").InField("reason")
	case len(reason) > maxReason:
		return "", core.Errorf(core.Invalid, "is longer than %d bytes", maxReason).InField("reason")
	}
	return reason, nil
}

// found returns an operation with its workspace, for who has the rights.
func (s *Service) found(ctx context.Context, id core.ID, want core.Right) (o Operation, w workspace.Workspace, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if o, err = load(ctx, tx, id); err != nil {
			return err
		}
		w, err = workspace.Get(ctx, tx, o.Workspace, want)
		return err
	})
	return o, w, err
}

// Get returns an operation to whoever may read the state.
func (s *Service) Get(ctx context.Context, id core.ID) (Operation, error) {
	o, _, err := s.found(ctx, id, core.ReadState)
	return o, err
}

// List returns a page of the operations of a workspace, newest first.
func (s *Service) List(ctx context.Context, ws core.ID, p jsonapi.Page) (os []Operation, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := workspace.Get(ctx, tx, ws, core.ReadState); err != nil {
			return err
		}
		os, total, err = list(ctx, tx, ws, p)
		return err
	})
	return os, total, err
}

func settled(o Operation) error {
	return core.Errorf(core.Conflict, "the operation is %s already", o.Status)
}

// Apply makes the state that the preview showed the current one, with the next
// serial. It is Conflict if the state has moved since the preview, if somebody
// else holds the lock, or if the engine now comes to something else. The engine
// edits the copy once more, and what it leaves is stored with the new status in
// one transaction: whatever is cut off before that has changed nothing.
func (s *Service) Apply(ctx context.Context, id core.ID, reason string) (o Operation, err error) {
	o, w, err := s.found(ctx, id, core.ReadState|core.WriteState)
	if err != nil {
		return o, err
	}
	if reason, err = reasonable(reason); err != nil {
		return o, err
	}
	if err := o.byRun(); err != nil {
		return o, err
	}
	if o.Status != Previewed {
		return o, settled(o)
	}
	base, err := s.base(ctx, w, o.Base)
	if err != nil {
		return o, err
	}
	_, after, err := s.edit(ctx, w, base, o.Edits)
	if err != nil {
		return o, err
	}
	if sum(after) != o.md5 {
		return o, core.Errorf(core.Conflict, "the engine now makes another state of it than in the preview; stage it again")
	}
	_, err = s.States.Follow(ctx, o.Workspace, o.Base, after, "", func(ctx context.Context, tx *db.Tx, w workspace.Workspace, v state.Version) error {
		o.Result, o.Reason = v.ID, reason
		if err := o.settle(ctx, tx, Previewed, Applied); err != nil {
			return err
		}
		return o.note(ctx, tx, w.OrgID, "apply", map[string]any{"reason": reason, "result": v.ID, "serial": v.Serial})
	})
	return o, err
}

// base loads the version of a workspace that is to be followed, before the
// engine is asked for work that would be refused.
func (s *Service) base(ctx context.Context, w workspace.Workspace, id core.ID) (v state.Version, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := state.MayFollow(ctx, tx, w, id); err != nil {
			return err
		}
		v, err = state.Load(ctx, tx, id)
		return err
	})
	return v, err
}

// Undo makes the version before the operation the current state again, with the
// next serial. It is Conflict once anything else has been written since.
func (s *Service) Undo(ctx context.Context, id core.ID, reason string) (o Operation, err error) {
	o, w, err := s.found(ctx, id, core.ReadState|core.WriteState)
	if err != nil {
		return o, err
	}
	if reason, err = reasonable(reason); err != nil {
		return o, err
	}
	if err := o.byRun(); err != nil {
		return o, err
	}
	if o.Status != Applied {
		return o, core.Errorf(core.Conflict, "the operation is %s; only an applied one can be undone", o.Status)
	}
	made, err := s.base(ctx, w, o.Result)
	if err != nil {
		return o, err
	}
	raw, err := s.States.Raw(ctx, made)
	if err != nil {
		return o, err
	}
	serial, err := state.NextSerial(made, raw)
	if err != nil {
		return o, err
	}
	if raw, err = s.States.RawOf(ctx, o.Base); err != nil {
		return o, err
	}
	if raw, err = tfdata.WithSerial(raw, serial); err != nil {
		return o, err
	}
	_, err = s.States.Follow(ctx, o.Workspace, o.Result, raw, o.Base, func(ctx context.Context, tx *db.Tx, w workspace.Workspace, v state.Version) error {
		o.Undo, o.UndoReason = v.ID, reason
		if err := o.settle(ctx, tx, Applied, Undone); err != nil {
			return err
		}
		return o.note(ctx, tx, w.OrgID, "undo", map[string]any{"reason": reason, "result": v.ID, "serial": v.Serial})
	})
	return o, err
}

// Discard gives up an operation that was only staged.
func (s *Service) Discard(ctx context.Context, id core.ID) (o Operation, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if o, err = load(ctx, tx, id); err != nil {
			return err
		}
		w, err := workspace.Get(ctx, tx, o.Workspace, core.ReadState|core.WriteState)
		if err != nil {
			return err
		}
		if err := o.byRun(); err != nil {
			return err
		}
		if o.Status != Previewed {
			return settled(o)
		}
		if err := o.settle(ctx, tx, Previewed, Discarded); err != nil {
			return err
		}
		return o.note(ctx, tx, w.OrgID, "discard", nil)
	})
	return o, err
}
