package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"interlock/internal/core"
	"interlock/internal/run"
	"interlock/internal/seal"
)

// An agent, or one of several servers, notes each claim before it begins, in a
// file of its own: until when it holds the lease, which the supervisor of the
// phase's engines reads there, what the claim is, and a copy of its log. After a
// restart it delivers what the others do not have, also of a run that they have
// given up. The state is in the run's area. No variable and no token is in the
// journal.

// supervised is when the supervisor stops an engine whose agent does not: a
// little after the agent would, and before the server gives the lease up.
var supervised = fenceAfter + run.LeaseTTL/9

func (r *Runner) claimFile(phase core.ID) string {
	return filepath.Join(r.Journal, string(phase)+".claim")
}

// leaseFile is where the supervisor reads until when it may run a phase.
func (r *Runner) leaseFile(phase core.ID) string {
	if r.Journal == "" {
		return ""
	}
	return r.claimFile(phase)
}

func (r *Runner) hold(phase core.ID, since time.Time) {
	if f := r.leaseFile(phase); f != "" {
		if err := seal.KeepLease(f, since, supervised); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a phase that has just ended
			slog.Warn("note the lease", "phase", phase, "err", err)
		}
	}
}

// self is what a failure calls this process.
func (r *Runner) self() string {
	if r.agent {
		return "The agent"
	}
	return "The server"
}

// keepClaim notes a claim. What cannot be noted must not begin: after a restart
// nobody would know of it.
func (r *Runner) keepClaim(j *job) error {
	p := j.w.Phase
	if r.Journal == "" {
		return nil
	}
	b, err := json.Marshal(run.Lost{Phase: p, RunID: j.w.Run.ID, WorkspaceID: j.w.Workspace.ID, State: j.w.Run.PlanStateID})
	if err == nil {
		err = writeSynced(r.claimFile(p.ID), slices.Concat(seal.LeaseLine(j.w.Since, supervised), b, []byte("\n")))
	}
	if err == nil {
		j.log.spool, err = os.OpenFile(r.claimFile(p.ID), os.O_APPEND|os.O_WRONLY, 0)
	}
	return err
}

// noted is what the journal has of a claim, and of its log since.
func (r *Runner) noted(phase core.ID) (l run.Lost, log []byte, err error) {
	b, err := os.ReadFile(r.claimFile(phase))
	if err != nil {
		return l, nil, err
	}
	if len(b) > 0 && b[0] == '{' { // of the version before, which had three files
		log, _ = os.ReadFile(r.oldLog(phase))
	} else if len(b) >= seal.LeaseSize {
		b, log, _ = bytes.Cut(b[seal.LeaseSize:], []byte("\n"))
	}
	return l, log, json.Unmarshal(b, &l)
}

func (r *Runner) oldLog(phase core.ID) string { return filepath.Join(r.Journal, string(phase)+".log") }

func writeSynced(file string, b []byte) error {
	f, err := os.OpenFile(file+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	return err
}

func (r *Runner) forget(phase core.ID) {
	if r.Journal != "" {
		_ = os.Remove(r.claimFile(phase))
	}
}

// forgetOld removes what the version before kept besides the claim.
func (r *Runner) forgetOld(phase core.ID) {
	if r.Journal != "" {
		_, _ = os.Remove(r.oldLog(phase)), os.Remove(filepath.Join(r.Journal, string(phase)+".lease"))
	}
}

// journaled adds to the phases that the server knows to be lost those that it
// has given up and whose state may still be here.
func (r *Runner) journaled(lost []run.Lost) []run.Lost {
	if r.Journal == "" {
		return lost
	}
	es, _ := os.ReadDir(r.Journal)
	for _, e := range es {
		phase, ok := strings.CutSuffix(e.Name(), ".claim")
		if !ok {
			continue
		}
		l, _, err := r.noted(core.ID(phase))
		if err != nil || slices.ContainsFunc(lost, func(x run.Lost) bool { return x.Phase.ID == l.Phase.ID }) {
			continue
		}
		lost = append(lost, l)
	}
	return lost
}

// replayLog delivers what was written of a log before this process died. The
// offset at which the copy begins is where the log was when it was claimed.
func (r *Runner) replayLog(ctx context.Context, l run.Lost) {
	if r.Journal == "" {
		return
	}
	was, b, err := r.noted(l.Phase.ID)
	if err != nil || was.Phase.Epoch != l.Phase.Epoch {
		return
	}
	for at := was.Phase.LogSize; len(b) > 0; {
		n := min(len(b), maxAppend)
		if err := r.Control.AppendLog(ctx, l.Phase.ID, l.Phase.Epoch, at, b[:n]); err != nil {
			slog.WarnContext(ctx, "deliver the rest of a log", "run", l.RunID, "err", err)
			return
		}
		b, at = b[n:], at+int64(n)
	}
}
