package runner

import (
	"context"
	"encoding/json"
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

// An agent, or one of several servers, writes each claim down before it begins,
// and copies the log beside it: after a restart it delivers what the others do
// not have, also of a run that they have given up. The state is in the run's
// area. No variable and no token is in the journal.

// supervised is when the supervisor stops an engine whose agent does not: a
// little after the agent would, and before the server gives the lease up.
var supervised = fenceAfter + run.LeaseTTL/9

func (r *Runner) claimFile(phase core.ID) string {
	return filepath.Join(r.Journal, string(phase)+".claim")
}

func (r *Runner) logFile(phase core.ID) string {
	return filepath.Join(r.Journal, string(phase)+".log")
}

// leaseFile is where the supervisor reads until when it may run a phase.
func (r *Runner) leaseFile(phase core.ID) string {
	if r.Journal == "" {
		return ""
	}
	return filepath.Join(r.Journal, string(phase)+".lease")
}

func (r *Runner) hold(phase core.ID, since time.Time) {
	if f := r.leaseFile(phase); f != "" {
		if err := seal.KeepLease(f, since, supervised); err != nil {
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
	r.hold(p.ID, j.w.Since)
	if r.Journal == "" {
		return nil
	}
	b, err := json.Marshal(run.Lost{Phase: p, RunID: j.w.Run.ID, WorkspaceID: j.w.Workspace.ID, State: j.w.Run.PlanStateID})
	if err == nil {
		err = writeSynced(r.claimFile(p.ID), b)
	}
	if err == nil {
		j.log.spool, err = os.OpenFile(r.logFile(p.ID), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	}
	return err
}

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
	if f := r.leaseFile(phase); f != "" {
		_ = os.Remove(f)
	}
	if r.Journal == "" {
		return
	}
	for _, f := range []string{r.claimFile(phase), r.logFile(phase)} {
		_ = os.Remove(f)
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
		if !strings.HasSuffix(e.Name(), ".claim") {
			continue
		}
		var l run.Lost
		b, err := os.ReadFile(filepath.Join(r.Journal, e.Name()))
		if err != nil || json.Unmarshal(b, &l) != nil || slices.ContainsFunc(lost, func(x run.Lost) bool { return x.Phase.ID == l.Phase.ID }) {
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
	b, err := os.ReadFile(r.logFile(l.Phase.ID))
	var was run.Lost
	c, cerr := os.ReadFile(r.claimFile(l.Phase.ID))
	if err != nil || cerr != nil || json.Unmarshal(c, &was) != nil || was.Phase.Epoch != l.Phase.Epoch {
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
