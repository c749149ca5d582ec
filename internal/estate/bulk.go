package estate

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/run"
	"interlock/internal/web"
	"interlock/internal/web/ui"
	"interlock/internal/workspace"
)

// Bounds of one action over many: the workspaces, and the runs that it ends in
// each of them.
const (
	maxBulk     = 200
	maxBulkRuns = 100
)

// An action is what can be done to many workspaces. It returns what it did, in
// a sentence, and perhaps the run that came of it.
type action struct {
	Name, Label string
	do          func(s *Service, ctx context.Context, w workspace.Workspace, with string) (did string, made core.ID, err error)
}

func actions() []action {
	return []action{
		{"lock", "Lock", (*Service).bulkLock},
		{"unlock", "Unlock", (*Service).bulkUnlock},
		{"tag", "Add tags", (*Service).bulkTag},
		{"untag", "Remove tags", (*Service).bulkUntag},
		{"plan", "Queue a plan that cannot be applied", (*Service).bulkPlan},
		{"run", "Queue a run", (*Service).bulkRun},
		{"supersede", "Cancel superseded runs", (*Service).bulkSupersede},
		{"cancel", "Cancel all pending runs", (*Service).bulkCancel},
	}
}

// An outcome is what became of one workspace.
type outcome struct {
	Workspace workspace.Workspace // without a name if it is not for the caller to see
	Did       string
	Run       core.ID
	Err       string
}

// pageBulk does one thing to each of the workspaces that were chosen, one after
// the other, each in transactions of its own and with the rights that the
// person has on it: what fails for one does not stop the others.
func (s *Service) pageBulk(r *http.Request) (web.Answer, error) {
	p, err := s.in(r)
	if err != nil {
		return web.Answer{}, err
	}
	if err := r.ParseForm(); err != nil {
		return web.Answer{}, core.Wrap(err, core.Malformed, "the form cannot be read")
	}
	at := slices.IndexFunc(actions(), func(a action) bool { return a.Name == r.PostForm.Get("action") })
	if at < 0 {
		return web.Answer{}, core.Errorf(core.Malformed, "choose what is to be done with the workspaces")
	}
	ids := slices.Compact(slices.Sorted(slices.Values(r.PostForm["workspace"])))
	if len(ids) > maxBulk {
		return web.Answer{}, core.Errorf(core.Invalid, "more than %d workspaces at once", maxBulk)
	}
	with := strings.TrimSpace(r.PostForm.Get("with"))
	if strings.ContainsRune(with, 0) {
		return web.Answer{}, core.Errorf(core.Malformed, "the text holds a zero byte")
	}
	b := bulk{place: p, Action: actions()[at], Back: ui.OrgPath(p.Name, "workspaces")}
	if q := r.PostForm.Get("back"); q != "" {
		b.Back += "?" + q
	}
	for _, id := range ids {
		o, err := s.one(r.Context(), p.ID, core.ID(id), b.Action, with)
		if err != nil {
			return web.Answer{}, err
		}
		b.Outcomes = append(b.Outcomes, o)
	}
	slices.SortStableFunc(b.Outcomes, func(x, y outcome) int { return strings.Compare(x.Workspace.Name, y.Workspace.Name) })
	return web.Answer{Page: bulkPage(b)}, nil
}

// one does it to one workspace. It fails only where going on makes no sense.
func (s *Service) one(ctx context.Context, org, id core.ID, a action, with string) (o outcome, err error) {
	var w workspace.Workspace
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err = workspace.Get(ctx, tx, id, 0)
		if err == nil && w.OrgID != org {
			err = authz.ErrHidden()
		}
		return err
	})
	if err == nil {
		o.Workspace = w
		o.Did, o.Run, err = a.do(s, ctx, w, with)
	}
	switch core.KindOf(err) {
	case core.NotFound:
		o.Err = "There is no such workspace, or it is not for you to see."
	case core.Internal:
		if err == nil {
			return o, nil
		}
		if ctx.Err() != nil {
			return o, err // the person has left
		}
		slog.ErrorContext(ctx, "bulk action", "action", a.Name, "workspace", id, "err", err)
		o.Err = "Something went wrong here; the server's log says what."
	default:
		o.Err = sentence(core.Message(err))
	}
	return o, nil
}

func sentence(msg string) string {
	if msg == "" {
		return ""
	}
	return strings.ToUpper(msg[:1]) + strings.TrimSuffix(msg[1:], ".") + "."
}

func (s *Service) bulkLock(ctx context.Context, w workspace.Workspace, reason string) (string, core.ID, error) {
	_, err := s.Workspaces.LockWorkspace(ctx, w.ID, reason)
	return "Locked.", "", err
}

func (s *Service) bulkUnlock(ctx context.Context, w workspace.Workspace, _ string) (string, core.ID, error) {
	_, err := s.Workspaces.UnlockWorkspace(ctx, w.ID)
	return "Unlocked.", "", err
}

// tagsOf reads "key, key=value".
func tagsOf(with string) (bs []workspace.Binding, err error) {
	for word := range strings.SplitSeq(with, ",") {
		if k, v, _ := strings.Cut(strings.TrimSpace(word), "="); k != "" {
			bs = append(bs, workspace.Binding{Key: strings.TrimSpace(k), Value: strings.TrimSpace(v)})
		}
	}
	if len(bs) == 0 {
		return nil, core.Errorf(core.Invalid, "Name the tags, such as team=shop, critical")
	}
	return bs, nil
}

func (s *Service) bulkTag(ctx context.Context, w workspace.Workspace, with string) (string, core.ID, error) {
	bs, err := tagsOf(with)
	if err == nil {
		_, err = s.Workspaces.Bind(ctx, w.ID, bs)
	}
	return "Tagged.", "", err
}

func (s *Service) bulkUntag(ctx context.Context, w workspace.Workspace, with string) (string, core.ID, error) {
	bs, err := tagsOf(with)
	if err != nil {
		return "", "", err
	}
	var ts []workspace.Tag
	for _, b := range bs {
		ts = append(ts, workspace.Tag{Name: b.Key})
	}
	return "The workspace does not carry these tags any more.", "", s.Workspaces.RemoveTags(ctx, w.ID, ts)
}

func (s *Service) queue(ctx context.Context, w workspace.Workspace, message string, planOnly *bool) (string, core.ID, error) {
	if message == "" {
		message = "Queued with others on the page"
	}
	v, err := s.Runs.Create(ctx, w.ID, run.New{Message: message, Source: "tfe-ui", PlanOnly: planOnly})
	return "Queued run #" + num(v.Number) + ".", v.ID, err
}

func (s *Service) bulkPlan(ctx context.Context, w workspace.Workspace, message string) (string, core.ID, error) {
	yes := true
	return s.queue(ctx, w, message, &yes)
}

func (s *Service) bulkRun(ctx context.Context, w workspace.Workspace, message string) (string, core.ID, error) {
	return s.queue(ctx, w, message, nil)
}

// bulkSupersede cancels the pending runs that a newer pending one makes
// needless: the newest sees all that they would have seen.
func (s *Service) bulkSupersede(ctx context.Context, w workspace.Workspace, why string) (string, core.ID, error) {
	return s.cancel(ctx, w, why, 1)
}

func (s *Service) bulkCancel(ctx context.Context, w workspace.Workspace, why string) (string, core.ID, error) {
	return s.cancel(ctx, w, why, 0)
}

// cancel ends the pending runs of a workspace but for the newest keep of them.
func (s *Service) cancel(ctx context.Context, w workspace.Workspace, why string, keep int) (string, core.ID, error) {
	// Asked before there is a run to cancel, so that the answer does not depend on one.
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error { return authz.Workspace(ctx, tx, w.ID, core.ApplyRuns) })
	if err != nil {
		return "", "", err
	}
	vs, _, err := s.Runs.List(ctx, w.ID, run.Filter{Statuses: words(core.Pending)}, jsonapi.Page{Number: 1, Size: maxBulkRuns})
	if err != nil {
		return "", "", err
	}
	n := int64(0)
	for _, v := range vs[min(keep, len(vs)):] {
		switch err := s.Runs.Cancel(ctx, v.ID, why); core.KindOf(err) {
		case core.Conflict: // it has begun or ended meanwhile
		default:
			if err != nil {
				return "", "", err
			}
			n++
		}
	}
	if n == 0 {
		return "No run had to be canceled.", "", nil
	}
	return "Canceled " + ui.Count(n, "run", "runs") + ".", "", nil
}

// A bulk is what became of all of them.
type bulk struct {
	place
	Action   action
	Outcomes []outcome
	Back     string
}

func (b bulk) failed() (n int64) {
	for _, o := range b.Outcomes {
		if o.Err != "" {
			n++
		}
	}
	return n
}
