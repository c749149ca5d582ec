package runner

import (
	"context"
	"io"

	"interlock/internal/core"
	"interlock/internal/run"
	"interlock/internal/secret"
)

// wireWork is a claim on its way to an agent.
type wireWork struct {
	*run.Work
	Token  string
	SSHKey string
	Mirror *Mirror `json:",omitempty"`
	// Files are what the phase begins with, by the last part of the path where it
	// is fetched otherwise: an agent that is far away waits less. What is large,
	// missing or damaged is left out, and the fetch tells.
	Files map[string][]byte `json:",omitempty"`
}

// maxWired is up to how many bytes a file travels with a claim.
const maxWired = 128 << 10

func (g *Gate) wired(ctx context.Context, w *run.Work) wireWork {
	out := wireWork{Work: w, Token: w.Token.Reveal(), Mirror: g.Mirror, Files: map[string][]byte{}}
	// Without its key a run fails with a message of its own.
	if key, err := g.SSHKey(ctx, w.Workspace.ID); err == nil {
		out.SSHKey = key.Reveal()
	}
	put := func(name string, b []byte, err error) {
		if err == nil && len(b) <= maxWired {
			out.Files[name] = b
		}
	}
	if w.Phase.Kind == run.PlanPhase {
		if rc, err := g.Configs.Archive(ctx, w.Run.ConfigID); err == nil {
			b, err := io.ReadAll(io.LimitReader(rc, maxWired+1))
			_ = rc.Close()
			put("configuration", b, err)
		}
	} else {
		b, err := g.Runs.SmallPlanFile(ctx, w.Run, maxWired)
		put("plan", b, err)
	}
	if w.State != nil && w.State.Size <= maxWired {
		b, err := g.States.Raw(ctx, *w.State)
		put("state", b, err)
	}
	return out
}

// wiredFiles is what came with a claim and has not been used.
type wiredFiles struct {
	key   string
	files map[string][]byte
}

func (c *Remote) keep(w wireWork) *run.Work {
	w.Work.Token = secret.Text(w.Token)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wired == nil {
		c.wired = map[core.ID]wiredFiles{}
	}
	c.wired[w.Phase.ID], c.last = wiredFiles{w.SSHKey, w.Files}, w.Mirror
	return w.Work
}

// came is a file that came with a claim, once; false if it is to be fetched.
func (c *Remote) came(phase core.ID, name string) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, ok := c.wired[phase].files[name]
	delete(c.wired[phase].files, name)
	return b, ok
}

// drop forgets what came with a claim that is over here.
func (c *Remote) drop(phase core.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.wired, phase)
}
