package surgery

import (
	"context"
	"net/http"
	"strings"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/executor"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/web/ui"
	"interlock/internal/workspace"
)

// decision is Apply or Undo.
type decision func(context.Context, core.ID, string) (Operation, error)

func (s *Service) pages(rt *web.Router) {
	const of, at = "/app/{org}/{workspace}/state-operations", "/app/{org}/{workspace}/state-operations/{operation}"
	rt.Page("GET "+of, func(r *http.Request) (web.Answer, error) { return s.listPage(r, ui.Form{}, 0) })
	rt.Page("POST "+of, s.pageStage)
	rt.Page("GET "+at, func(r *http.Request) (web.Answer, error) { return s.showPage(r, ui.Form{}, 0) })
	rt.Page("POST "+at+"/apply", func(r *http.Request) (web.Answer, error) { return s.pageDecide(r, s.Apply) })
	rt.Page("POST "+at+"/undo", func(r *http.Request) (web.Answer, error) { return s.pageDecide(r, s.Undo) })
	rt.Page("POST "+at+"/discard", func(r *http.Request) (web.Answer, error) {
		return s.pageDecide(r, func(ctx context.Context, id core.ID, _ string) (Operation, error) { return s.Discard(ctx, id) })
	})
}

func path(w workspace.View, below ...string) string {
	return ui.WorkspacePath(w.OrgName, w.Name, append([]string{"state-operations"}, below...)...)
}

func runPath(w workspace.View, o Operation) string {
	return ui.WorkspacePath(w.OrgName, w.Name, "runs", string(o.Run))
}

// removals are the operations that undo an import, as a form takes them.
func removals(o Operation) string {
	var b strings.Builder
	for _, e := range o.Edits {
		b.WriteString(executor.EditRemove + " " + e.From + "\n")
	}
	return b.String()
}

const perPage = 30

func (s *Service) find(r *http.Request) (workspace.View, error) {
	return s.Workspaces.ByName(r.Context(), r.PathValue("org"), r.PathValue("workspace"))
}

func (s *Service) listPage(r *http.Request, f ui.Form, code int) (web.Answer, error) {
	w, err := s.find(r)
	if err != nil {
		return web.Answer{}, err
	}
	p := jsonapi.Page{Number: ui.PageNumber(r.URL.Query()), Size: perPage}
	os, total, err := s.List(r.Context(), w.ID, p)
	return web.Answer{Page: listPage(w, os, total, p, f), Status: code}, err
}

func (s *Service) pageStage(r *http.Request) (web.Answer, error) {
	w, err := s.find(r)
	if err != nil {
		return web.Answer{}, err
	}
	if _, _, err := s.may(r.Context(), w.ID); err != nil {
		return web.Answer{}, err
	}
	edits, err := parse(r.PostFormValue("operations"))
	var o Operation
	if err == nil {
		o, err = s.Stage(r.Context(), w.ID, edits, "tfe-ui")
	}
	if ui.Typo(err) {
		return s.listPage(r, ui.Refused(r.PostForm, err), refusal(err))
	}
	if o.Run != "" {
		return web.Answer{Goto: runPath(w, o)}, err
	}
	return web.Answer{Goto: path(w, string(o.ID))}, err
}

// one returns the operation of a request, which must be of the workspace in its
// path.
func (s *Service) one(r *http.Request) (w workspace.View, o Operation, err error) {
	if w, err = s.find(r); err != nil {
		return w, o, err
	}
	o, err = s.Get(r.Context(), core.ID(r.PathValue("operation")))
	if err == nil && o.Workspace != w.ID {
		err = authz.ErrHidden()
	}
	return w, o, err
}

func (s *Service) showPage(r *http.Request, f ui.Form, code int) (web.Answer, error) {
	w, o, err := s.one(r)
	return web.Answer{Page: showPage(w, o, f), Status: code}, err
}

func (s *Service) pageDecide(r *http.Request, f decision) (web.Answer, error) {
	w, o, err := s.one(r)
	if err != nil {
		return web.Answer{}, err
	}
	_, err = f(r.Context(), o.ID, ui.Text(r.PostFormValue("reason")))
	if ui.Typo(err) {
		return s.showPage(r, ui.Refused(r.PostForm, err), refusal(err))
	}
	return web.Answer{Goto: path(w, string(o.ID))}, err
}

// refusal is the status of a page that shows its form again.
func refusal(err error) int {
	if core.KindOf(err) == core.Conflict {
		return http.StatusConflict
	}
	return http.StatusUnprocessableEntity
}

// parse reads operations as people type them at a prompt, one a line; what
// comes before the operation, as in "terraform state mv", is passed over.
func parse(text string) ([]executor.Edit, error) {
	var out []executor.Edit
	for line := range strings.Lines(ui.Text(text)) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		e, ok := parseLine(line)
		if !ok {
			return nil, core.Errorf(core.Invalid, "%q is not an operation such as \"mv FROM TO\"", line).InField("operations")
		}
		out = append(out, e)
	}
	return out, nil
}

func parseLine(line string) (e executor.Edit, ok bool) {
	first, rest, ok := cut(line)
	if ok && (first == "terraform" || first == "tofu") {
		if first, rest, ok = cut(rest); ok && first == "state" {
			first, rest, ok = cut(rest)
		}
	}
	if e.Operation = first; !ok {
		return e, false
	}
	if e.From, rest, ok = cut(rest); !ok || e.From == "" {
		return e, false
	}
	if e.Operation == Import {
		e.To = unquoted(rest)
		return e, e.To != ""
	}
	if e.To, rest, ok = cut(rest); !ok || rest != "" {
		return e, false
	}
	return e, e.To != "" || e.Operation == executor.EditRemove
}

// unquoted is the rest of a line as the id of what is imported: as it stands,
// but for one pair of quotes around all of it, as a shell wants them.
func unquoted(id string) string {
	if n := len(id); n > 2 && (id[0] == '\'' || id[0] == '"') && strings.IndexByte(id[1:], id[0]) == n-2 {
		return id[1 : n-1]
	}
	return id
}

// cut takes the first field from a line: fields end at spaces, except within
// double quotes, which belong to an address, and single ones, which a shell
// would take away.
func cut(line string) (field, rest string, ok bool) {
	const spaces = " \t\r\n"
	line = strings.TrimLeft(line, spaces)
	var b strings.Builder
	var quote rune
	escaped := false
	for i, c := range line {
		switch {
		case escaped || quote == '"' && c == '\\':
			escaped = !escaped
			b.WriteRune(c)
		case c == '\'' && quote == 0, c == '"' && quote == 0, quote != 0 && c == quote:
			if quote = c - quote; c == '"' {
				b.WriteRune(c)
			}
		case quote == 0 && strings.ContainsRune(spaces, c):
			return b.String(), strings.Trim(line[i:], spaces), true
		default:
			b.WriteRune(c)
		}
	}
	return b.String(), "", quote == 0
}
