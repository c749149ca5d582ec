package run

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"interlock/internal/authz"
	"interlock/internal/config"
	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/secret"
	"interlock/internal/tfdata"
	"interlock/internal/web"
	"interlock/internal/web/ui"
	"interlock/internal/workspace"
)

func (s *Service) pages(rt *web.Router) {
	rt.Page("GET /app/{org}/{workspace}", s.pageOverview)
	rt.Page("POST /app/{org}/{workspace}/lock", s.pageLock)
	rt.Page("POST /app/{org}/{workspace}/unlock", s.pageUnlock)
	rt.Page("GET /app/{org}/{workspace}/runs", s.pageRuns)
	rt.Page("POST /app/{org}/{workspace}/runs", s.pageQueue)
	rt.Page("GET /app/{org}/{workspace}/runs/{run}", s.pageRun)
	rt.Page("GET /app/{org}/{workspace}/runs/{run}/changes", s.pageChanges)
	rt.Page("GET /app/{org}/{workspace}/runs/{run}/compare", s.pageCompare)
	rt.Page("POST /app/{org}/{workspace}/runs/{run}/{action}", s.pageAct)
	rt.Stream("GET /app/{org}/{workspace}/runs/{run}/events", s.pageEvents)
	rt.Stream("GET /app/{org}/{workspace}/runs/{run}/log/{phase}", s.pageLog)
}

func (s *Service) workspaceOf(r *http.Request) (workspace.View, error) {
	return s.Workspaces.ByName(r.Context(), r.PathValue("org"), r.PathValue("workspace"))
}

// Numbers of runs that a page shows.
const (
	recentRuns = 5
	stripRuns  = 30 // as a strip
	runsOfPage = 30
)

func (s *Service) pageRuns(r *http.Request) (web.Answer, error) {
	w, err := s.workspaceOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	q := r.URL.Query()
	p := jsonapi.Page{Number: ui.PageNumber(q), Size: runsOfPage}
	l := runList{View: w, Page: p, Find: strings.TrimSpace(q.Get("q")), Status: q.Get("status"), Kind: q.Get("kind")}
	if l.Runs, l.Total, err = s.List(r.Context(), w.ID, l.filter(), p); err != nil {
		return web.Answer{}, err
	}
	if r.Header.Get("HX-Request") != "" {
		return web.Show(runsList(l))
	}
	return web.Show(runsPage(l))
}

// A detail is everything that the page of a run shows.
type detail struct {
	View
	Flags    Flags
	Events   []Event
	Comments []Comment
	Ingress  *config.Ingress // where its configuration came from, if from version control
	Panels   string          // what features above show, as HTML
	Rescue   core.ID         // a state of its apply that could not become current

	Want         wish // of what the plan does
	Summary      *tfdata.Summary
	Links        map[string][]string // what each block of the plan needs
	SummaryFault string

	PlanLog, ApplyLog logPiece

	Act  ui.Form // the form of actions, if one was refused
	Word ui.Form // the form of comments, likewise
}

// A logPiece is the end of a log as far as it goes now.
type logPiece struct {
	Lines []logLine
	Next  int64 // where to go on reading
	Cut   bool  // there is more before it
	After bool  // there is more after it, which is not streamed
	First int64 // number of the first line
	Last  int64 // number of the line after the last one
	Mark  int64 // of the line that was asked for

	Find  string // words that were looked for
	Found []foundLine
	Many  bool // more lines than these have them
}

func (d detail) path(below ...string) string {
	return ui.WorkspacePath(d.Workspace.OrgName, d.Workspace.Name, append([]string{"runs", string(d.ID)}, below...)...)
}

func (d detail) events() string {
	return d.path("events") + fmt.Sprintf("?plan=%d&apply=%d&", d.PlanLog.Next, d.ApplyLog.Next) + strings.TrimPrefix(d.Want.query(), "?")
}

// may reports whether the reader has the right to act on the run at all.
func (d detail) may(want core.Right) bool { return d.Can.Has(want) }

// version names what a region shows, so that a page is only touched when
// something has changed. It takes plain values: a pointer would name a place.
func version(of ...any) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%+v", of)
	return strconv.FormatUint(h.Sum64(), 36)
}

// runOf returns the run of a request, which must be of the workspace in its
// path.
func (s *Service) runOf(r *http.Request) (View, error) {
	v, err := s.Get(r.Context(), core.ID(r.PathValue("run")))
	if err == nil && (!strings.EqualFold(v.Workspace.OrgName, r.PathValue("org")) || !strings.EqualFold(v.Workspace.Name, r.PathValue("workspace"))) {
		err = authz.ErrHidden()
	}
	return v, err
}

// detailOf loads what a page shows of v besides its plan and its logs.
func (s *Service) detailOf(ctx context.Context, v View) (d detail, err error) {
	d = detail{View: v, Flags: s.Flags(ctx, v)}
	for _, panel := range s.Panels {
		var b strings.Builder
		c, err := panel(ctx, v)
		if err == nil && c != nil {
			err = c.Render(ctx, &b)
		}
		if err != nil {
			return d, err
		}
		d.Panels += b.String()
	}
	if d.Events, err = s.Events(ctx, v.ID); err != nil {
		return d, err
	}
	if d.Comments, err = s.Comments(ctx, v.ID); err != nil {
		return d, err
	}
	c, err := s.configOf(ctx, v)
	if err != nil && core.KindOf(err) != core.NotFound {
		return d, err
	}
	d.Ingress = c.Ingress
	if v.Status != core.Errored && v.Status != core.Canceled || v.Apply.StartedAt == nil || !v.Can.Has(core.ReadState) {
		return d, nil
	}
	sv, err := s.States.QuarantinedOf(ctx, v.ID)
	if core.KindOf(err) == core.NotFound {
		return d, nil
	}
	d.Rescue = sv.ID
	return d, err
}

// summarize adds the changes of the plan. Making the documents of a plan may
// take the engine a while; without wait only those are read that exist.
func (s *Service) summarize(ctx context.Context, d *detail, wait bool) {
	if !d.planned() || d.Summary != nil || !wait && d.Plan.RedactedObject == "" {
		return
	}
	plan, err := s.planDigest(ctx, d.View)
	switch {
	case err == nil:
		d.Summary, d.Links = plan.sum, plan.links
	case ctx.Err() == nil:
		d.SummaryFault = core.Message(err)
	}
}

// planned reports whether there is a plan to show.
func (d detail) planned() bool { return d.PlanObject != "" || d.Plan.Status == PhaseFinished }

// shownLog is how much of the end of a log a page begins with, in bytes.
const shownLog = 256 << 10

// logEnd reads the end of a log as far as it goes now.
func (s *Service) logEnd(ctx context.Context, p Phase) (out logPiece, err error) {
	out.Next = max(0, p.LogSize+1-shownLog)
	out.Cut = out.Next > 0
	var b []byte
	for at := out.Next; ; {
		t, err := s.readLog(ctx, p.ID, at, shownLog)
		if err != nil {
			return out, err
		}
		b = append(b, t.Data...)
		at = t.Next
		if len(t.Data) > 0 && !t.End && len(b) < 2*shownLog {
			continue
		}
		if i := bytes.IndexByte(b, '\n'); out.Cut && i >= 0 {
			b = b[i+1:]
			out.Next += int64(i + 1)
		}
		if out.First, err = s.lineAt(ctx, p, out.Next-1); err != nil {
			return out, err
		}
		lines, used := logLines(b, t.End)
		out.Lines, out.Next = lines, out.Next+int64(used)
		out.Last = out.First + int64(bytes.Count(b[:used], []byte{'\n'}))
		return out, nil
	}
}

func (s *Service) pageRun(r *http.Request) (web.Answer, error) {
	v, err := s.runOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	if w := lineWishOf(r.URL.Query()); w.Phase != "" && r.Header.Get("HX-Request") != "" {
		d := detail{View: v}
		l, err := s.logOf(r.Context(), d.phase(w.Phase), w)
		return web.Answer{Page: logFound(d, w.Phase, l)}, err
	}
	return s.runPage(r, v, ui.Form{}, ui.Form{}, 0)
}

func (d detail) phase(k PhaseKind) Phase {
	if k == ApplyPhase {
		return d.Apply
	}
	return d.Plan
}

// logOf reads what a page shows of a log.
func (s *Service) logOf(ctx context.Context, p Phase, w lineWish) (l logPiece, err error) {
	if w.Phase == p.Kind && w.At > 0 {
		l, err = s.logAround(ctx, p, w.At)
	} else {
		l, err = s.logEnd(ctx, p)
	}
	if err == nil && w.Phase == p.Kind && w.Find != "" {
		l.Find = w.Find
		l.Found, l.Many, err = s.find(ctx, p, w.Find)
	}
	return l, err
}

func (s *Service) runPage(r *http.Request, v View, act, word ui.Form, code int) (web.Answer, error) {
	d, err := s.detailOf(r.Context(), v)
	if err != nil {
		return web.Answer{}, err
	}
	d.Act, d.Word, d.Want = act, word, wishOf(r.URL.Query())
	s.summarize(r.Context(), &d, r.URL.Query().Has("changes") || d.Want != wish{})
	lw := lineWishOf(r.URL.Query())
	if d.PlanLog, err = s.logOf(r.Context(), v.Plan, lw); err != nil {
		return web.Answer{}, err
	}
	d.ApplyLog, err = s.logOf(r.Context(), v.Apply, lw)
	return web.Answer{Page: runPage(d), Status: code}, err
}

// pageAct does one of the things that can be done with a run.
func (s *Service) pageAct(r *http.Request) (web.Answer, error) {
	v, err := s.runOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	comment := ui.Text(r.PostFormValue("comment"))
	ctx := r.Context()
	switch r.PathValue("action") {
	case "confirm":
		if err = secondLook(v, r.PostFormValue("seen")); err == nil {
			err = s.ConfirmWith(ctx, v.ID, comment, secret.Text(r.PostFormValue("code")))
		}
	case "enter-code":
		err = s.EnterCode(ctx, v.ID, comment, secret.Text(r.PostFormValue("code")))
	case "discard":
		err = s.Discard(ctx, v.ID, comment)
	case "cancel":
		err = s.Cancel(ctx, v.ID, comment)
	case "force-cancel":
		err = s.ForceCancel(ctx, v.ID, comment)
	case "force-execute":
		err = s.ForceExecute(ctx, v.ID)
	case "comment":
		if _, err = s.Comment(ctx, v.ID, ui.Text(r.PostFormValue("body"))); ui.Typo(err) {
			return s.runPage(r, v, ui.Form{}, ui.Refused(r.PostForm, err), http.StatusUnprocessableEntity)
		}
	default:
		err = authz.ErrHidden()
	}
	if ui.Typo(err) {
		f := ui.Refused(r.PostForm, err)
		if v, err = s.runOf(r); err != nil { // it may have moved
			return web.Answer{}, err
		}
		return s.runPage(r, v, f, ui.Form{}, http.StatusConflict)
	}
	return web.Answer{Goto: detail{View: v}.path()}, err
}

// headline says in a sentence what the run does.
func (d detail) headline() string {
	var s string
	switch {
	case d.IsDestroy && d.PlanOnly:
		s = "Plans the destruction of everything this workspace manages, and destroys nothing."
	case d.IsDestroy:
		s = "Destroys everything this workspace manages, once the plan is confirmed."
	case d.RefreshOnly && d.PlanOnly:
		s = "Compares the state with what is really there, and changes nothing."
	case d.RefreshOnly:
		s = "Brings the state up to what is really there, and changes no resource."
	case d.PlanOnly:
		s = "Plans only: it can never be applied."
	case d.SavePlan:
		s = "Plans and saves the plan, to be applied later."
	case d.AutoApply:
		s = "Plans and applies without asking."
	default:
		s = "Plans, and applies once the plan is confirmed."
	}
	if len(d.Targets) > 0 {
		s += " Only for " + some(d.Targets) + "."
	}
	if len(d.Replaces) > 0 {
		s += " Replaces " + some(d.Replaces) + "."
	}
	if !d.Refresh {
		s += " The state is not refreshed first."
	}
	return s
}

// some names the first few of a list.
func some(list []string) string {
	if len(list) > 3 {
		return strings.Join(list[:3], ", ") + fmt.Sprintf(" and %d more", len(list)-3)
	}
	return strings.Join(list, ", ")
}

// words say an event of the history for a reader.
func (e Event) words() string {
	switch e.Event {
	case "created":
		return "Queued"
	case "commented":
		return "Comment"
	case "cancel_asked":
		return "Cancel asked for"
	case "code_entered":
		return "Code given"
	case "approved":
		return "Approved"
	case "approval_revoked":
		return "Approval taken back"
	case "break_glass_used":
		return "Went on under break-glass"
	case "force_cancel_asked":
		return "Force-cancel asked for"
	case string(core.Requeue):
		return "Planning again: its worker was lost"
	}
	return ui.StatusName(e.To)
}

// host is where the CLI finds the server, for a cloud block.
func host(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return base
	}
	return u.Host
}
