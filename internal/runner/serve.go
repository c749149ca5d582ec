package runner

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"interlock/internal/bus"
	"interlock/internal/config"
	"interlock/internal/core"
	"interlock/internal/run"
	"interlock/internal/secret"
	"interlock/internal/state"
	"interlock/internal/web"
)

// Pools is who knows agents and the pools that their tokens belong to.
type Pools interface {
	// Join registers an agent, or finds one that was here before, by its id.
	Join(ctx context.Context, token string, known core.ID, name, address, version string) (agent, pool core.ID, err error)
	// Seen checks the token of an agent and notes that it is alive.
	Seen(ctx context.Context, token string, agent core.ID) (pool core.ID, err error)
	// Leave notes that an agent has ended on purpose.
	Leave(ctx context.Context, agent core.ID) error
}

// Gate is the server's side of the agents' protocol. A token of a pool opens
// it; every request about a phase is refused unless the agent has claimed it.
type Gate struct {
	Runs    *run.Service
	Configs *config.Service
	States  *state.Service
	SSHKey  func(ctx context.Context, workspace core.ID) (secret.Text, error)
	Bus     *bus.Bus
	Pools   Pools
	Signer  *web.Signer
	Mirror  *Mirror // what agents are told of the mirror of providers; nil if there is none
}

// pollFor is how long a claim waits for work. It is short so that an agent
// that is told to end need not give up an answer that is on its way.
const pollFor = 5 * time.Second

// Routes mounts the protocol. It is version 1; a change that an older agent
// does not understand gets a path of its own.
func (g *Gate) Routes(rt *web.Router) {
	on := func(method, path string, f func(*http.Request, caller) (any, error)) {
		rt.Raw(method+" /api/agent/v1/"+path, func(w http.ResponseWriter, r *http.Request) {
			c, err := g.admit(r)
			var out any
			if err == nil {
				out, err = f(r, c)
			}
			answer(w, r, out, err)
		})
	}
	rt.Raw("POST /api/agent/v1/register", func(w http.ResponseWriter, r *http.Request) {
		out, err := g.register(r)
		answer(w, r, out, err)
	})
	on("POST", "claim", g.claim)
	rt.Raw("POST /api/agent/v1/taken", func(w http.ResponseWriter, r *http.Request) {
		out, err := g.take(r)
		answer(w, r, out, err)
	})
	on("POST", "phases/{phase}/{epoch}/delegate", g.delegate)
	on("POST", "phases/{phase}/{epoch}/withdraw", func(r *http.Request, c caller) (any, error) {
		p, err := g.holds(r, c, "")
		if err != nil {
			return nil, err
		}
		return nil, g.Runs.Withdraw(r.Context(), p.ID, p.Epoch)
	})
	on("GET", "lost", func(r *http.Request, c caller) (any, error) {
		lost, err := g.Runs.LostBy(r.Context(), string(c.agent))
		return lost, err
	})
	on("POST", "leave", func(r *http.Request, c caller) (any, error) { return nil, g.Pools.Leave(r.Context(), c.agent) })
	on("GET", "runs/{run}", func(r *http.Request, c caller) (any, error) {
		over, err := g.Runs.EndedFor(r.Context(), core.ID(r.PathValue("run")), c.pool)
		return map[string]bool{"ended": over}, err
	})
	on("GET", "phases/{phase}/{epoch}/signals", func(r *http.Request, c caller) (any, error) {
		p, _, err := g.held(r, c)
		if err != nil {
			return run.Signal{Over: true}, stale(err)
		}
		return g.Runs.Signals(r.Context(), p.ID, epochOf(r))
	})
	on("POST", "phases/{phase}/{epoch}/renew", func(r *http.Request, c caller) (any, error) {
		p, _, err := g.held(r, c)
		if err != nil {
			return run.Signal{Over: true}, stale(err)
		}
		if p.TakenBy != "" && !c.delegate {
			// It is for who has taken the claim to prolong it: it is lost with them.
			if sig, err := g.Runs.Signals(r.Context(), p.ID, epochOf(r)); err != nil || sig.Taken {
				return sig, err
			}
		}
		return g.Runs.Renew(r.Context(), p.ID, epochOf(r))
	})
	on("POST", "phases/{phase}/{epoch}/log/{start}", g.log)
	on("GET", "phases/{phase}/{epoch}/configuration", g.configuration)
	on("GET", "phases/{phase}/{epoch}/state", g.state)
	on("GET", "phases/{phase}/{epoch}/plan", g.plan)
	on("POST", "phases/{phase}/{epoch}/upload/planned", g.planned)
	// Agents of the version before bring the plan and their word of it apart.
	on("POST", "phases/{phase}/{epoch}/upload/plan", g.storePlan)
	on("POST", "phases/{phase}/{epoch}/planned", func(r *http.Request, c caller) (any, error) {
		var out run.Planned
		if p, _, err := g.held(r, c); err == nil && p.Kind == run.PlanPhase && p.Epoch == epochOf(r) && p.Status == run.PhaseFinished {
			return nil, nil // told before; the answer was lost
		}
		p, rn, err := g.stands(r, c, run.PlanPhase)
		if err == nil {
			err = read(r, &out)
		}
		if err != nil {
			return nil, err
		}
		if want := planName(rn.ID, p.Epoch); out.PlanObject != want {
			return nil, core.Errorf(core.Invalid, "the plan of this claim is %s", want)
		}
		return nil, g.Runs.FinishPlan(r.Context(), p.ID, epochOf(r), out)
	})
	on("POST", "phases/{phase}/{epoch}/failed", func(r *http.Request, c caller) (any, error) {
		var in struct {
			Outcome run.Outcome
			Failure run.Failure
		}
		p, err := g.holds(r, c, run.PlanPhase)
		if err == nil {
			err = read(r, &in)
		}
		if err != nil {
			return nil, err
		}
		return nil, g.Runs.FailPlan(r.Context(), p.ID, epochOf(r), in.Outcome, in.Failure)
	})
	on("POST", "phases/{phase}/{epoch}/lost", func(r *http.Request, c caller) (any, error) {
		p, rn, err := g.stands(r, c, run.PlanPhase)
		if err != nil {
			return nil, err
		}
		var in lostInput // of an agent of the version before, nothing
		if err := json.NewDecoder(io.LimitReader(r.Body, 4<<10)).Decode(&in); err != nil && !errors.Is(err, io.EOF) {
			return nil, core.Wrap(err, core.Malformed, "what is said of a lost plan is JSON")
		}
		return nil, g.Runs.PlanLost(r.Context(), run.Lost{Phase: p, RunID: rn.ID, WorkspaceID: rn.WorkspaceID, State: rn.PlanStateID, Handed: in.Handed})
	})
	on("POST", "phases/{phase}/{epoch}/upload/applied", g.applied)
}

// planName is the object that StorePlanFile makes for a claim.
func planName(id core.ID, epoch int64) string {
	return "plans/" + string(id) + "." + string(rune('0'+epoch%10))
}

// caller is an agent, or, as a delegate, the process that has taken a claim of it.
type caller struct {
	agent, pool core.ID
	delegate    bool
}

func bearer(r *http.Request) string {
	h := r.Header.Get("Authorization")
	if len(h) > 7 && strings.EqualFold(h[:7], "Bearer ") {
		return strings.TrimSpace(h[7:])
	}
	return ""
}

func (g *Gate) admit(r *http.Request) (c caller, err error) {
	if strings.HasPrefix(bearer(r), delegatePrefix) {
		return g.admitDelegate(r)
	}
	c.agent = core.ID(r.Header.Get("X-Interlock-Agent"))
	c.pool, err = g.Pools.Seen(r.Context(), bearer(r), c.agent)
	return c, err
}

func epochOf(r *http.Request) int64 {
	n, err := strconv.ParseInt(r.PathValue("epoch"), 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// held is the phase of a request that this agent claimed last.
func (g *Gate) held(r *http.Request, c caller) (run.Phase, run.Run, error) {
	p, rn, err := g.Runs.Held(r.Context(), core.ID(r.PathValue("phase")), string(c.agent))
	if err == nil && p.PoolID != c.pool {
		err = core.Errorf(core.Gone, "this phase is not of the agent's pool")
	}
	return p, rn, err
}

// holds is stands for a request that needs no more than the phase.
func (g *Gate) holds(r *http.Request, c caller, kind run.PhaseKind) (run.Phase, error) {
	p, err := g.Runs.HoldsPhase(r.Context(), core.ID(r.PathValue("phase")), epochOf(r), string(c.agent))
	return p, fits(p, c, kind, err)
}

func fits(p run.Phase, c caller, kind run.PhaseKind, err error) error {
	if err == nil && (p.PoolID != c.pool || kind != "" && p.Kind != kind) {
		err = core.Errorf(core.Gone, "this phase is not of the agent's pool or not a %s", kind)
	}
	return err
}

// stands is held for a claim that is not over; kind "" is either.
func (g *Gate) stands(r *http.Request, c caller, kind run.PhaseKind) (run.Phase, run.Run, error) {
	p, rn, err := g.Runs.Holds(r.Context(), core.ID(r.PathValue("phase")), epochOf(r), string(c.agent))
	return p, rn, fits(p, c, kind, err)
}

func read(r *http.Request, into any) error {
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		return core.Wrap(err, core.Malformed, "the body is not the JSON that this request takes")
	}
	return nil
}

// answer writes JSON, or the bytes of a reader.
func answer(w http.ResponseWriter, r *http.Request, out any, err error) {
	if err != nil {
		k := core.KindOf(err)
		if k == core.Internal && r.Context().Err() == nil {
			slog.ErrorContext(r.Context(), "agent's request failed", "route", r.Pattern, "err", err)
		}
		msg := "something went wrong on the server's side; its log knows more"
		if k != core.Internal {
			msg = core.Message(err)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(web.Code(k))
		_ = json.NewEncoder(w).Encode(map[string]string{"error": msg})
		return
	}
	switch v := out.(type) {
	case nil:
		w.WriteHeader(http.StatusNoContent)
	case io.ReadCloser:
		defer v.Close()
		w.Header().Set("Content-Type", "application/octet-stream")
		if _, err := io.Copy(w, v); err != nil {
			panic(http.ErrAbortHandler) // the agent must not take it for whole
		}
	case []byte:
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(v)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
}

func (g *Gate) register(r *http.Request) (any, error) {
	var in struct {
		Agent   core.ID `json:"agent"`
		Name    string  `json:"name"`
		Version string  `json:"version"`
	}
	if err := read(r, &in); err != nil {
		return nil, err
	}
	ip := r.RemoteAddr
	if i := strings.LastIndexByte(ip, ':'); i > 0 {
		ip = strings.Trim(ip[:i], "[]")
	}
	agent, pool, err := g.Pools.Join(r.Context(), bearer(r), in.Agent, in.Name, ip, in.Version)
	return map[string]core.ID{"agent": agent, "pool": pool}, err
}

func (g *Gate) claim(r *http.Request, c caller) (any, error) {
	ctx := r.Context()
	var in claimInput
	if err := json.NewDecoder(io.LimitReader(r.Body, 4<<10)).Decode(&in); err != nil && !errors.Is(err, io.EOF) || len(in.Nonce) > 100 {
		return nil, core.Errorf(core.Malformed, "a claim is JSON with a nonce of at most 100 characters")
	}
	if in.Given {
		w, err := g.Runs.ClaimedBefore(ctx, string(c.agent), c.pool, in.Nonce)
		if err != nil || w == nil {
			return nil, err
		}
		return g.wired(ctx, w), nil
	}
	news, stop := g.Bus.Listen(run.DispatchTopic)
	defer stop()
	end := time.NewTimer(pollFor)
	defer end.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	// An earlier request of this nonce may be at work still, so its claim is
	// looked for now and then.
	for claim := g.Runs.ClaimFor; ; {
		// The token may have been revoked while we waited.
		if _, err := g.Pools.Seen(ctx, bearer(r), c.agent); err != nil {
			return nil, err
		}
		w, err := claim(ctx, string(c.agent), c.pool, in.Nonce)
		if err != nil {
			return nil, err
		}
		if w != nil {
			return g.wired(ctx, w), nil
		}
		select {
		case <-news:
			claim = g.Runs.ClaimNext
		case <-tick.C:
			claim = g.Runs.ClaimFor
		case <-end.C:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (g *Gate) log(r *http.Request, c caller) (any, error) {
	p, err := g.holds(r, c, "")
	if err != nil {
		return nil, err
	}
	start, err := strconv.ParseInt(r.PathValue("start"), 10, 64)
	if err != nil || start < 0 {
		return nil, core.Errorf(core.Malformed, "%q is no offset", r.PathValue("start"))
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, maxAppend+1))
	if err != nil {
		return nil, core.Wrap(err, core.Malformed, "the body ended early")
	}
	if err := fitsLog(start, int64(len(b))); err != nil {
		return nil, err
	}
	return nil, g.Runs.AppendLog(r.Context(), p.ID, p.Epoch, start, b)
}

// fitsLog tells whether so many bytes may be added to a log at start.
func fitsLog(start, size int64) error {
	if size < 0 || size > maxAppend || start < 0 || start > run.MaxLog+4096-size {
		return core.Errorf(core.TooLarge, "a piece of a log has at most %d bytes and a log %d", maxAppend, run.MaxLog)
	}
	return nil
}

func (g *Gate) configuration(r *http.Request, c caller) (any, error) {
	_, rn, err := g.stands(r, c, "")
	if err != nil {
		return nil, err
	}
	rc, err := g.Configs.Archive(r.Context(), rn.ConfigID)
	return rc, err
}

func (g *Gate) state(r *http.Request, c caller) (any, error) {
	_, rn, err := g.stands(r, c, "")
	if err != nil {
		return nil, err
	}
	b, err := g.States.RawOf(r.Context(), rn.PlanStateID)
	return b, err
}

func (g *Gate) plan(r *http.Request, c caller) (any, error) {
	_, rn, err := g.stands(r, c, run.ApplyPhase)
	if err != nil {
		return nil, err
	}
	b, err := g.Runs.PlanFile(r.Context(), rn)
	return b, err
}

// maxUpload bounds a plan file or a state on its way here, in bytes.
const maxUpload = 512 << 20

func (g *Gate) storePlan(r *http.Request, c caller) (any, error) {
	p, rn, err := g.stands(r, c, run.PlanPhase)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, maxUpload+1))
	if err != nil {
		return nil, core.Wrap(err, core.Malformed, "the body ended early")
	}
	if len(b) > maxUpload {
		return nil, core.Errorf(core.TooLarge, "a plan has at most %d bytes", maxUpload)
	}
	object, digest, err := g.Runs.StorePlanFile(r.Context(), rn.ID, p.Epoch, b)
	return map[string]string{"object": object, "digest": digest}, err
}
