package run

import (
	"context"
	"net/http"
	"slices"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/tfdata"
	"interlock/internal/web"
)

// A difference is what two plans do to one resource.
type difference struct {
	Address     string
	Here, There *tfdata.Change // nil where a plan does nothing to it
}

// compared is what differs between the plans of two runs.
type compared struct {
	detail
	Other   *View
	Choices []View
	Diffs   []difference
	Same    int
	Fault   string
}

// compare lists what two plans do differently, in the order of danger of the
// first.
func compare(here, there []tfdata.Change) (out []difference, same int) {
	name := func(c tfdata.Change) string { return c.Address + "\x00" + c.Deposed }
	equal := func(a, b tfdata.Change) bool {
		return a.Kind == b.Kind && a.PreviousAddress == b.PreviousAddress && a.Importing == b.Importing && a.Omitted == b.Omitted && slices.Equal(a.Attributes, b.Attributes)
	}
	left := map[string]int{}
	for i, c := range there {
		left[name(c)] = i
	}
	for i, c := range here {
		j, ok := left[name(c)]
		switch {
		case !ok:
			out = append(out, difference{c.Address, &here[i], nil})
		case equal(c, there[j]):
			same++
		default:
			out = append(out, difference{c.Address, &here[i], &there[j]})
		}
		delete(left, name(c))
	}
	for i, c := range there {
		if _, ok := left[name(c)]; ok {
			out = append(out, difference{c.Address, nil, &there[i]})
		}
	}
	return out, same
}

// comparable is how many other runs are offered.
const comparable = 30

// pageCompare shows what the plan of a run does that another's does not.
func (s *Service) pageCompare(r *http.Request) (web.Answer, error) {
	v, err := s.runOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	c := compared{detail: detail{View: v}}
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		rs, err := db.All(ctx, tx, scan, `SELECT `+columns+` FROM run r WHERE r.workspace_id = $1 AND r.id <> $2 AND r.plan_object <> '' ORDER BY r.number DESC LIMIT $3`,
			v.WorkspaceID, v.ID, comparable)
		for _, x := range rs {
			c.Choices = append(c.Choices, View{Run: x, Workspace: v.Workspace})
		}
		return err
	})
	if err != nil {
		return web.Answer{}, err
	}
	with := core.ID(r.URL.Query().Get("with"))
	if with == "" {
		return web.Show(comparePage(c))
	}
	other, err := s.Get(r.Context(), with)
	if err == nil && other.WorkspaceID != v.WorkspaceID {
		err = core.Errorf(core.NotFound, "not found")
	}
	if err != nil {
		return web.Answer{}, err
	}
	c.Other = &other
	there := detail{View: other}
	s.summarize(r.Context(), &c.detail, true)
	s.summarize(r.Context(), &there, true)
	switch {
	case c.Summary == nil:
		c.Fault = "The plan of #" + num(v.Number) + " cannot be read: " + orNone(c.SummaryFault)
	case there.Summary == nil:
		c.Fault = "The plan of #" + num(other.Number) + " cannot be read: " + orNone(there.SummaryFault)
	default:
		c.Diffs, c.Same = compare(c.Summary.Changes, there.Summary.Changes)
	}
	return web.Show(comparePage(c))
}

func orNone(fault string) string {
	if fault == "" {
		return "there is none."
	}
	return fault + "."
}
