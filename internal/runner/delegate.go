package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"interlock/internal/core"
	"interlock/internal/run"
)

// An agent may give a claim to another process (run/delegate.go). Its token is
// good for this claim alone and opens the same requests about the phase, once
// the process has taken the claim under a name that nobody else knows.

const (
	delegatePrefix = "phase."
	// delegateFor is for how long a token may be used: longer than any phase.
	delegateFor = 7 * 24 * time.Hour
)

func delegated(phase core.ID, epoch int64) string {
	return fmt.Sprintf("phase/%s/%d", phase, epoch)
}

// delegate makes the token of a claim.
func (g *Gate) delegate(r *http.Request, c caller) (any, error) {
	p, _, err := g.stands(r, c, "")
	if err == nil && c.delegate {
		err = core.Errorf(core.Gone, "this claim was given away already")
	}
	if err == nil {
		err = g.Runs.Delegate(r.Context(), p.ID, p.Epoch)
	}
	if err != nil {
		return nil, err
	}
	token := fmt.Sprintf("%s%s.%d.%s", delegatePrefix, p.ID, p.Epoch, g.Signer.Path("RUN", delegated(p.ID, p.Epoch), delegateFor))
	return map[string]string{"token": token}, nil
}

// claimOf reads the claim that a token is for.
func (g *Gate) claimOf(token string) (phase core.ID, epoch int64, err error) {
	parts := strings.SplitN(strings.TrimPrefix(token, delegatePrefix), ".", 3)
	if !strings.HasPrefix(token, delegatePrefix) || len(parts) != 3 {
		return "", 0, core.Errorf(core.Unknown, "this is no token of a claim")
	}
	epoch, err = strconv.ParseInt(parts[1], 10, 64)
	if err != nil || g.Signer.Check("RUN", delegated(core.ID(parts[0]), epoch), parts[2]) != nil {
		return "", 0, core.Errorf(core.Unknown, "this is no token of a claim")
	}
	return core.ID(parts[0]), epoch, nil
}

// take is the first request of a process that a claim was given to.
func (g *Gate) take(r *http.Request) (any, error) {
	phase, epoch, err := g.claimOf(bearer(r))
	if err != nil {
		return nil, err
	}
	var in claimInput
	if err := json.NewDecoder(io.LimitReader(r.Body, 4<<10)).Decode(&in); err != nil {
		return nil, core.Wrap(err, core.Malformed, "a claim is taken with JSON that holds a nonce")
	}
	w, err := g.Runs.Take(r.Context(), phase, epoch, in.Nonce)
	if core.KindOf(err) == core.Conflict {
		err = core.Wrap(err, core.Gone, "another process has taken this claim: nothing is begun here")
	}
	if err != nil {
		return nil, err
	}
	return g.wired(r.Context(), w), nil
}

// admitDelegate lets a process that has taken a claim do what the agent that
// gave it may do with this one phase.
func (g *Gate) admitDelegate(r *http.Request) (c caller, err error) {
	phase, epoch, err := g.claimOf(bearer(r))
	if err != nil {
		return c, err
	}
	p, err := g.Runs.TakenBy(r.Context(), phase, r.Header.Get("X-Interlock-Agent"))
	if err != nil {
		return c, err
	}
	if r.PathValue("run") != string(p.RunID) && (r.PathValue("phase") != string(phase) || epochOf(r) != epoch) {
		return c, core.Errorf(core.Unknown, "the token of a claim is for nothing else")
	}
	return caller{agent: core.ID(p.Node), pool: p.PoolID, delegate: true}, nil
}

// Delegate makes a token with which another process may take a claim, once.
func (c *Remote) Delegate(ctx context.Context, phase core.ID, epoch int64) (string, error) {
	c.drop(phase)
	var out struct{ Token string }
	err := c.ask(ctx, askWithin, "POST", at(phase, epoch, "delegate"), nil, &out)
	return out.Token, err
}

// Withdraw takes a claim back that nobody has taken; Conflict says that somebody
// has.
func (c *Remote) Withdraw(ctx context.Context, phase core.ID, epoch int64) error {
	return c.ask(ctx, askWithin, "POST", at(phase, epoch, "withdraw"), nil, nil)
}

// take is Claim of a process to which a claim was given.
func (c *Remote) take(ctx context.Context) (*run.Work, error) {
	w := wireWork{Work: &run.Work{}}
	since := time.Now()
	if err := c.ask(ctx, claimWithin, "POST", "taken", claimInput{Nonce: string(c.Agent)}, &w); err != nil {
		return nil, err
	}
	w.Since = since
	return c.keep(w), nil
}
