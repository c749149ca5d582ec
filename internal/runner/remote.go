package runner

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"interlock/internal/core"
	"interlock/internal/run"
	"interlock/internal/secret"
	"interlock/internal/web"
)

// Remote is the Control of an agent: the server's protocol over HTTP.
type Remote struct {
	Address string // of the server
	Token   secret.Text
	HTTP    *http.Client
	Agent   core.ID // who the server says we are
	// Given says that the token is one of a claim, which Agent, a name made up
	// for it, takes.
	Given bool

	// Of Claim's goroutine alone: the name of a claim that may have an answer
	// which did not arrive, and since when it is asked for.
	nonce string
	asked time.Time
	doubt bool // an answer did not arrive

	mu    sync.Mutex
	wired map[core.ID]wiredFiles // by phase
	last  *Mirror                // of the server, as it said with the last claim
}

// How long a request may take. A heartbeat that takes longer than a renewal is
// no heartbeat; an upload may be large.
var askWithin = run.LeaseTTL * 8 / 45 // 8 s

const (
	claimWithin  = pollFor + 10*time.Second
	uploadWithin = 10 * time.Minute
)

// Register joins the pool of the token, as the agent that we were before if
// the server still knows it.
func (c *Remote) Register(ctx context.Context, name, version string) error {
	var out struct{ Agent core.ID }
	err := c.ask(ctx, askWithin, "POST", "register", map[string]any{"agent": c.Agent, "name": name, "version": version}, &out)
	if err == nil {
		c.Agent = out.Agent
	}
	return err
}

// Leave says that this agent ends on purpose.
func (c *Remote) Leave(ctx context.Context) error {
	return c.ask(ctx, askWithin, "POST", "leave", nil, nil)
}

func (c *Remote) send(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.Address, "/")+"/api/agent/v1/"+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.Token.Reveal())
	req.Header.Set("X-Interlock-Agent", string(c.Agent))
	res, err := c.HTTP.Do(req)
	if err != nil {
		return nil, core.Wrap(err, core.Unavailable, "the server cannot be reached")
	}
	if res.StatusCode/100 == 2 {
		return res, nil
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	var e struct{ Error string }
	_ = json.Unmarshal(b, &e)
	if e.Error == "" {
		// A proxy on the way, or a server that does not know the protocol: not the
		// server's word on a claim.
		return nil, core.Errorf(core.Unavailable, "the server answered %s", res.Status)
	}
	for _, k := range []core.Kind{core.Invalid, core.Malformed, core.NotFound, core.Unknown, core.Conflict, core.Gone, core.TooLarge, core.NoSpace} {
		if web.Code(k) == res.StatusCode {
			return nil, core.Errorf(k, "%s", e.Error)
		}
	}
	return nil, core.Errorf(core.Unavailable, "the server answered %s: %s", res.Status, e.Error)
}

func (c *Remote) ask(ctx context.Context, within time.Duration, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var body io.Reader
	switch b := in.(type) {
	case nil:
	case []byte:
		body = bytes.NewReader(b)
	default:
		j, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(j)
	}
	res, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if out == nil || res.StatusCode == http.StatusNoContent {
		return nil
	}
	if raw, ok := out.(*[]byte); ok {
		*raw, err = io.ReadAll(res.Body)
	} else {
		err = json.NewDecoder(res.Body).Decode(out)
	}
	if err != nil {
		return core.Wrap(err, core.Unavailable, "the server's answer was cut off")
	}
	return nil
}

func at(phase core.ID, epoch int64, what string) string {
	return fmt.Sprintf("phases/%s/%d/%s", phase, epoch, what)
}

// claimInput is what an agent sends with a claim. Given asks only for what was
// claimed under the nonce before.
type claimInput struct {
	Nonce string `json:"nonce"`
	Given bool   `json:"given,omitempty"`
}

// Claim implements Control. A claim whose answer was lost is asked for again by
// its nonce. The lease of one that took long to arrive may be over, so it is
// renewed before anything begins; that of an apply always is, which tells the
// server that we have it.
func (c *Remote) Claim(ctx context.Context) (*run.Work, error) {
	if c.Given {
		return c.take(ctx)
	}
	w := wireWork{Work: &run.Work{}}
	if c.nonce == "" {
		c.nonce, c.asked, c.doubt = rand.Text(), time.Now(), false
	}
	err := c.ask(ctx, claimWithin, "POST", "claim", claimInput{Nonce: c.nonce}, &w)
	if err != nil && ctx.Err() != nil {
		// We are to end and wait no longer, but for what may have been given to us
		// just now.
		err = c.ask(context.WithoutCancel(ctx), askWithin, "POST", "claim", claimInput{Nonce: c.nonce, Given: true}, &w)
	}
	if c.doubt = c.doubt || err != nil; err != nil || w.Run.ID == "" {
		if !c.doubt {
			c.nonce = "" // nothing was given to it
		}
		if err != nil && core.KindOf(err) == core.Unavailable {
			pause(ctx, min(time.Second, run.LeaseTTL/9))
		}
		return nil, err
	}
	// It was given to us after we asked for it.
	w.Since = c.asked
	if w.Phase.Kind == run.ApplyPhase || time.Since(c.asked) > renewEvery {
		w.Since = time.Now()
		sig, err := c.Renew(ctx, w.Phase.ID, w.Phase.Epoch)
		if err != nil {
			return nil, err
		}
		if sig.Over {
			c.nonce = ""
			return nil, nil
		}
	}
	c.nonce = ""
	return c.keep(w), nil
}

// Lost implements Control.
func (c *Remote) Lost(ctx context.Context) (ls []run.Lost, err error) {
	if c.Given {
		return nil, nil
	}
	err = c.ask(ctx, askWithin, "GET", "lost", nil, &ls)
	return ls, err
}

// Signals implements Control.
func (c *Remote) Signals(ctx context.Context, phase core.ID, epoch int64) (sig run.Signal, err error) {
	err = c.ask(ctx, askWithin, "GET", at(phase, epoch, "signals"), nil, &sig)
	return sig, err
}

// Renew implements Control.
func (c *Remote) Renew(ctx context.Context, phase core.ID, epoch int64) (sig run.Signal, err error) {
	err = c.ask(context.WithoutCancel(ctx), askWithin, "POST", at(phase, epoch, "renew"), nil, &sig)
	return sig, err
}

// AppendLog implements Control.
func (c *Remote) AppendLog(ctx context.Context, phase core.ID, epoch, start int64, data []byte) error {
	return c.ask(ctx, 30*time.Second, "POST", at(phase, epoch, fmt.Sprintf("log/%d", start)), data, nil)
}

func (c *Remote) fetch(ctx context.Context, w *run.Work, what string) (b []byte, err error) {
	if b, ok := c.came(w.Phase.ID, what); ok {
		return b, nil
	}
	for try := 0; ; try++ {
		err = c.ask(ctx, uploadWithin, "GET", at(w.Phase.ID, w.Phase.Epoch, what), nil, &b)
		if core.KindOf(err) != core.Unavailable || try == 8 {
			return b, err
		}
		pause(ctx, time.Second)
	}
}

// Archive implements Control.
func (c *Remote) Archive(ctx context.Context, w *run.Work) (io.ReadCloser, error) {
	b, err := c.fetch(ctx, w, "configuration")
	return io.NopCloser(bytes.NewReader(b)), err
}

// State implements Control.
func (c *Remote) State(ctx context.Context, w *run.Work) ([]byte, error) {
	if w.State == nil {
		return nil, nil
	}
	return c.fetch(ctx, w, "state")
}

// SSHKey implements Control.
func (c *Remote) SSHKey(_ context.Context, w *run.Work) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wired[w.Phase.ID].key, nil
}

// PlanFile implements Control.
func (c *Remote) PlanFile(ctx context.Context, w *run.Work) ([]byte, error) {
	return c.fetch(ctx, w, "plan")
}

// StorePlan implements Control: the file goes with the report.
func (c *Remote) StorePlan(context.Context, *PlanEnd) error { return nil }

// FinishPlan implements Control.
func (c *Remote) FinishPlan(ctx context.Context, e *PlanEnd) error {
	defer c.drop(e.Phase)
	return c.report(ctx, at(e.Phase, e.Epoch, "upload/planned"), planHead{e.Out, int64(len(e.File)), e.Out.Rest.Start, int64(len(e.Out.Rest.Data))}, e.File, e.Out.Rest.Data)
}

// report sends a line of JSON and the bytes that it tells of.
func (c *Remote) report(ctx context.Context, path string, head any, parts ...[]byte) error {
	line, err := json.Marshal(head)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, uploadWithin)
	defer cancel()
	body := []io.Reader{bytes.NewReader(line), strings.NewReader("\n")}
	for _, b := range parts {
		body = append(body, bytes.NewReader(b))
	}
	res, err := c.send(ctx, "POST", path, io.MultiReader(body...))
	if err == nil {
		_ = res.Body.Close()
	}
	return err
}

// FailPlan implements Control.
func (c *Remote) FailPlan(ctx context.Context, phase core.ID, epoch int64, o run.Outcome, f run.Failure) error {
	defer c.drop(phase)
	return c.ask(ctx, askWithin, "POST", at(phase, epoch, "failed"), map[string]any{"Outcome": o, "Failure": f}, nil)
}

// lostInput is what an agent says of a plan that it gives up.
type lostInput struct{ Handed bool }

// PlanLost implements Control.
func (c *Remote) PlanLost(ctx context.Context, l run.Lost) error {
	defer c.drop(l.Phase.ID)
	return c.ask(ctx, askWithin, "POST", at(l.Phase.ID, l.Phase.Epoch, "lost"), lostInput{Handed: l.Handed}, nil)
}

// Stage implements Control: the state goes with the report.
func (c *Remote) Stage(context.Context, *End) error { return nil }

// FinishApply implements Control.
func (c *Remote) FinishApply(ctx context.Context, e *End) error {
	defer c.drop(e.Phase)
	head := endHead{e.Out.Outcome, e.Out.Failure, e.Kept, int64(len(e.Whole)), int64(len(e.Damaged)), e.Out.Rest.Start, int64(len(e.Out.Rest.Data))}
	return c.report(ctx, at(e.Phase, e.Epoch, "upload/applied"), head, e.Whole, e.Damaged, e.Out.Rest.Data)
}

// Ended implements Control.
func (c *Remote) Ended(ctx context.Context, id core.ID) (bool, error) {
	var out struct{ Ended bool }
	err := c.ask(ctx, askWithin, "GET", "runs/"+string(id), nil, &out)
	return out.Ended, err
}
