package runner

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"

	"interlock/internal/core"
	"interlock/internal/run"
)

// An agent reports the end of a phase in one request: a line of JSON, and the
// bytes that it tells of.

// maxHead bounds that line in bytes.
const maxHead = 64 << 10

// planHead is the first line of the report of a plan; its file follows, and the
// rest of its log.
type planHead struct {
	Out       run.Planned
	File      int64 // size in bytes
	RestStart int64
	Rest      int64 // size in bytes
}

// reported is what follows the first line of a report.
type reported struct {
	br    *bufio.Reader
	limit *io.LimitedReader
	read  int64 // bytes so far
}

// readHead reads the first line of a report.
func readHead(r *http.Request, into any) (reported, error) {
	b := reported{limit: &io.LimitedReader{R: r.Body, N: maxHead}}
	b.br = bufio.NewReader(b.limit)
	line, err := b.br.ReadBytes('\n')
	if err != nil || json.Unmarshal(line, into) != nil {
		return b, core.Errorf(core.Malformed, "the report of a phase begins with a line of JSON of at most %d bytes", maxHead)
	}
	return b, nil
}

// part reads the next part, whose size the line has told.
func (b *reported) part(size int64) ([]byte, error) {
	if size < 0 || size > maxUpload-b.read {
		return nil, core.Errorf(core.TooLarge, "a plan and a state have at most %d bytes", maxUpload)
	}
	b.read += size
	b.limit.N = size
	if size == 0 {
		return nil, nil
	}
	part := make([]byte, size) // no memory is taken before it is read into
	if n, err := io.ReadFull(b.br, part); err != nil {
		return nil, core.Errorf(core.Malformed, "the body ended early: %d of %d bytes", n, size)
	}
	return part, nil
}

// rest reads the part that is the rest of a log.
func (b *reported) rest(start, size int64) (run.LogPiece, error) {
	if err := fitsLog(start, size); err != nil {
		return run.LogPiece{}, err
	}
	data, err := b.part(size)
	return run.LogPiece{Start: start, Data: data}, err
}

// planned takes the end of a plan with its file.
func (g *Gate) planned(r *http.Request, c caller) (any, error) {
	p, rn, err := g.held(r, c)
	if err == nil && p.Kind == run.PlanPhase && p.Epoch == epochOf(r) && p.Status == run.PhaseFinished {
		return nil, nil // told before; the answer was lost
	}
	if err == nil && (p.Kind != run.PlanPhase || p.Epoch != epochOf(r) || p.Status != run.PhaseRunning) {
		err = core.Errorf(core.Gone, "this claim is over")
	}
	var h planHead
	var body reported
	if err == nil {
		body, err = readHead(r, &h)
	}
	if err != nil {
		return nil, err
	}
	e := &PlanEnd{Phase: p.ID, Run: rn.ID, Epoch: p.Epoch, Out: h.Out}
	if e.File, err = body.part(h.File); err == nil {
		e.Out.Rest, err = body.rest(h.RestStart, h.Rest)
	}
	if err != nil {
		return nil, err
	}
	ctx := r.Context()
	l := local{runs: g.Runs}
	if err := l.StorePlan(ctx, e); err != nil {
		return nil, err
	}
	return nil, l.FinishPlan(ctx, e)
}

// endHead is the first line of the report of an apply; the bytes of the states
// follow it.
type endHead struct {
	Outcome        run.Outcome
	Failure        run.Failure
	Kept           bool
	Whole, Damaged int64 // sizes in bytes
	RestStart      int64
	Rest           int64 // size in bytes
}

// applied takes the end of an apply with the state it left. An apply is claimed
// once, so whoever claimed it may bring its state also when the claim is over,
// which has raised the epoch; it is kept for recovery then.
func (g *Gate) applied(r *http.Request, c caller) (any, error) {
	p, rn, err := g.held(r, c)
	if err != nil {
		return nil, err
	}
	if p.Kind != run.ApplyPhase || epochOf(r) > p.Epoch {
		return nil, core.Errorf(core.Gone, "this claim is over")
	}
	if p.Status == run.PhaseFinished {
		return nil, nil // told before, with its state; the answer was lost
	}
	var h endHead
	body, err := readHead(r, &h)
	if err == nil && (h.Outcome < run.Succeeded || h.Outcome > run.Unknown) {
		err = core.Errorf(core.Malformed, "%d is no outcome", h.Outcome)
	}
	if err != nil {
		return nil, err
	}
	e := &End{Phase: p.ID, Run: rn.ID, Epoch: epochOf(r), Before: rn.PlanStateID, Out: run.Applied{Outcome: h.Outcome, Failure: h.Failure}, Kept: h.Kept}
	if e.Whole, err = body.part(h.Whole); err == nil {
		e.Damaged, err = body.part(h.Damaged)
	}
	if err == nil {
		e.Out.Rest, err = body.rest(h.RestStart, h.Rest)
	}
	if err != nil {
		return nil, err
	}
	ctx := r.Context()
	l := local{runs: g.Runs, states: g.States}
	if err := l.Stage(ctx, e); err != nil {
		return nil, err
	}
	believe(&e.Out, h.Whole > 0 || e.Out.Outcome != run.Succeeded)
	return nil, l.FinishApply(ctx, e)
}
