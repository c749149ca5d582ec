package run

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/web"
)

// pageLog serves the log of a phase as it is, without its frame.
func (s *Service) pageLog(w http.ResponseWriter, r *http.Request) error {
	v, err := s.runOf(r)
	if err != nil {
		return err
	}
	p := v.Plan
	switch PhaseKind(r.PathValue("phase")) {
	case PlanPhase:
	case ApplyPhase:
		p = v.Apply
	default:
		return authz.ErrHidden()
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s-%d-%s.log"`, v.Workspace.Name, v.Number, p.Kind))
	_, err = io.Copy(w, &logReader{ctx: r.Context(), s: s, phase: p.ID, size: p.LogSize})
	return err
}

const (
	// streamLife is when a page has to connect anew, and with that to show that
	// its reader is still signed in.
	streamLife = 10 * time.Minute
	// streamTick is how often a stream looks by itself: at what other servers
	// do, and at what moves with time alone.
	streamTick = 3 * time.Second
	// streamWrite is how long a reader may take to take what is sent.
	streamWrite = 30 * time.Second
)

// A stream tells the page of one run what is new.
type stream struct {
	s    *Service
	w    http.ResponseWriter
	out  bytes.Buffer
	at   map[PhaseKind]int64
	done map[PhaseKind]bool
	sent map[string]string // what regions show
	line map[PhaseKind]int64
	want wish
	d    detail
}

// pageEvents follows a run: regions of its page as they change, lines of its
// logs as they come, and the word that nothing more will.
func (s *Service) pageEvents(w http.ResponseWriter, r *http.Request) error {
	v, err := s.runOf(r)
	if err != nil {
		return err
	}
	st := stream{s: s, w: w, at: map[PhaseKind]int64{}, done: map[PhaseKind]bool{}, sent: map[string]string{}, line: map[PhaseKind]int64{}, want: wishOf(r.URL.Query())}
	if st.at[PlanPhase], st.at[ApplyPhase], err = offsets(r); err != nil {
		return err
	}
	moved, stop := s.Bus.Listen(Topic(v.ID))
	defer stop()
	beside, stop := s.Bus.Listen(WorkspaceTopic(v.WorkspaceID))
	defer stop()
	plan, stop := s.Bus.Listen(LogTopic(v.Plan.ID))
	defer stop()
	apply, stop := s.Bus.Listen(LogTopic(v.Apply.ID))
	defer stop()
	tick := time.NewTicker(streamTick)
	defer tick.Stop()
	life := time.NewTimer(streamLife)
	defer life.Stop()

	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // or a proxy keeps it to itself
	// The connection may serve other requests afterwards.
	defer http.NewResponseController(w).SetWriteDeadline(time.Time{})
	ctx := r.Context()
	for look := true; ; {
		if look {
			v, err = s.runOf(r)
		}
		if err == nil {
			err = st.step(ctx, v, look)
		}
		if err == nil && v.Ended() && st.done[PlanPhase] && st.done[ApplyPhase] {
			st.event("end", "")
			return st.flush()
		}
		if err == nil {
			err = st.flush()
		}
		if err != nil {
			return st.broken(ctx, err)
		}
		look = true
		select {
		case <-moved:
		case <-beside:
		case <-tick.C:
			st.out.WriteString(":\n\n") // finds out whether anyone still listens
		case <-plan:
			look = false
		case <-apply:
			look = false
		case <-life.C:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// broken ends a stream that has begun: it is too late for an error page.
func (st *stream) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil || core.KindOf(err) != core.Internal {
		return nil
	}
	if len(st.sent) == 0 {
		return err
	}
	return nil
}

// offsets reads where the logs of a page end: from what the browser saw last,
// or from the page's own address.
func offsets(r *http.Request) (plan, apply int64, err error) {
	a, b := r.URL.Query().Get("plan"), r.URL.Query().Get("apply")
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		a, b, _ = strings.Cut(last, ".")
	}
	plan, err1 := strconv.ParseInt(a, 10, 64)
	apply, err2 := strconv.ParseInt(b, 10, 64)
	if err1 != nil || err2 != nil || plan < 0 || apply < 0 {
		return 0, 0, core.Errorf(core.Malformed, "the place in the logs cannot be read")
	}
	return plan, apply, nil
}

// step sends what is new; look says that the run may have moved, not only its
// logs.
func (st *stream) step(ctx context.Context, v View, look bool) (err error) {
	if look {
		sum, links, fault := st.d.Summary, st.d.Links, st.d.SummaryFault
		if st.d, err = st.s.detailOf(ctx, v); err != nil {
			return err
		}
		st.d.Summary, st.d.Links, st.d.SummaryFault, st.d.Want = sum, links, fault, st.want
		for _, c := range []templ.Component{runHead(st.d), runPanels(st.d), runSide(st.d), runComments(st.d)} {
			if err := st.region(ctx, c); err != nil {
				return err
			}
		}
	}
	for _, p := range []Phase{v.Plan, v.Apply} {
		if err := st.log(ctx, p); err != nil {
			return err
		}
	}
	if !look || !st.d.planned() || st.d.Summary != nil || st.d.SummaryFault != "" {
		return nil
	}
	// The changes come last: the engine may need a while to tell them.
	if st.s.summarize(ctx, &st.d, false); st.d.Summary == nil {
		if err := st.region(ctx, runChanges(st.d)); err != nil {
			return err
		}
		if err := st.flush(); err != nil {
			return err
		}
		st.s.summarize(ctx, &st.d, true)
	}
	return st.region(ctx, runChanges(st.d))
}

// region sends a part of the page if it is not as it was sent last.
func (st *stream) region(ctx context.Context, c templ.Component) error {
	var b strings.Builder
	if err := c.Render(ctx, web.Visible(&b)); err != nil {
		return err
	}
	html := b.String()
	// Its first tag names the region and its version.
	tag, _, _ := strings.Cut(html, ">")
	name, _, _ := strings.Cut(tag, " data-version")
	if st.sent[name] == tag {
		return nil
	}
	st.sent[name] = tag
	st.event("region", html)
	return nil
}

// log sends the lines of a log that are whole, as far as they go.
func (st *stream) log(ctx context.Context, p Phase) error {
	for !st.done[p.Kind] {
		t, err := st.s.readLog(ctx, p.ID, st.at[p.Kind], 2*maxLine)
		if err != nil {
			return err
		}
		lines, used := logLines(t.Data, t.End)
		first := st.line[p.Kind]
		if first == 0 {
			if first, err = st.s.lineAt(ctx, p, st.at[p.Kind]-1); err != nil {
				return err
			}
		}
		st.line[p.Kind] = first + int64(bytes.Count(t.Data[:used], []byte{'\n'}))
		st.at[p.Kind] += int64(used)
		st.done[p.Kind] = t.End
		if len(lines) > 0 {
			var b strings.Builder
			if err := renderLog(logView{Phase: p.Kind, First: first}, lines).Render(ctx, web.Visible(&b)); err != nil {
				return err
			}
			fmt.Fprintf(&st.out, "id: %d.%d\n", st.at[PlanPhase], st.at[ApplyPhase])
			st.event(string(p.Kind), b.String())
			if err := st.flush(); err != nil {
				return err
			}
		}
		if used == 0 || t.End {
			return nil
		}
	}
	return nil
}

// event writes one event. A carriage return would end a line of it.
func (st *stream) event(name, data string) {
	fmt.Fprintf(&st.out, "event: %s\n", name)
	for line := range strings.SplitSeq(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(data), "\n") {
		fmt.Fprintf(&st.out, "data: %s\n", line)
	}
	st.out.WriteString("\n")
}

func (st *stream) flush() error {
	if st.out.Len() == 0 {
		return nil
	}
	rc := http.NewResponseController(st.w)
	if err := rc.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil {
		return err
	}
	if _, err := st.w.Write(st.out.Bytes()); err != nil {
		return err
	}
	st.out.Reset()
	return rc.Flush()
}
