package state

import (
	"net/http"
	"slices"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/tfdata"
	"interlock/internal/workspace"
)

// A comparison is what differs between a version and another of its workspace.
type comparison struct {
	Choices []Version // the last versions, for whoever wants to compare
	With    *Version
	Diff    *tfdata.StateDiff
	Fault   string // why there is no difference to show
}

// compare reads what the page of v was asked to compare it with: the older of
// the two comes first.
func (s *Service) compare(r *http.Request, w workspace.View, v Version) (c comparison, before, after Version, err error) {
	c.Choices, _, err = s.List(r.Context(), w.OrgName, w.Name, Finalized, jsonapi.Page{Number: 1, Size: perPage})
	if err != nil {
		return c, before, after, err
	}
	c.Choices = slices.DeleteFunc(c.Choices, func(x Version) bool { return x.ID == v.ID })
	with := core.ID(r.URL.Query().Get("with"))
	if with == "" {
		return c, before, after, nil
	}
	other, err := s.Get(r.Context(), with, core.ReadState)
	if err == nil && other.WorkspaceID != w.ID {
		err = authz.ErrHidden()
	}
	if err != nil {
		return c, before, after, err
	}
	c.With = &other
	before, after = other, v
	if before.CreatedAt.After(after.CreatedAt) {
		before, after = after, before
	}
	if before.Object == "" || after.Object == "" {
		c.Fault = "One of the two has not been uploaded."
		return c, before, after, nil
	}
	a, err := s.Raw(r.Context(), before)
	if err != nil {
		return c, before, after, err
	}
	b, err := s.Raw(r.Context(), after)
	if err != nil {
		return c, before, after, err
	}
	d, err := tfdata.DiffStates(a, b)
	if err != nil {
		c.Fault = "They cannot be compared: " + core.Message(err) + "."
		return c, before, after, nil
	}
	c.Diff = &d
	return c, before, after, nil
}

// previous is the version before v among those that are offered.
func (c comparison) previous(v Version) core.ID {
	for _, x := range c.Choices {
		if x.Serial < v.Serial {
			return x.ID
		}
	}
	return ""
}

// shownDiffs bounds how many resources a page compares at once.
const shownDiffs = 200
