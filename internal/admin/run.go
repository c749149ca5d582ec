package admin

import (
	"net/http"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/run"
)

func (s *Service) runs(r *http.Request) (*jsonapi.Doc, error) {
	inc, err := jsonapi.Includes(r, "workspace", "workspace.organization", "workspace.organization.owners")
	if err != nil {
		return nil, err
	}
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	var f run.AdminFilter
	if f.Statuses, err = words(r, "filter[status]"); err != nil {
		return nil, err
	}
	if f.Part, err = query(r, "q"); err != nil {
		return nil, err
	}
	if f.From, err = moment(r, "filter[from]"); err != nil {
		return nil, err
	}
	if f.To, err = moment(r, "filter[to]"); err != nil {
		return nil, err
	}
	as, total, err := s.Runs.AdminList(r.Context(), f, p)
	if err != nil {
		return nil, err
	}
	d := jsonapi.Paged(r, as, p, int(total), runResource)
	owners := inc["workspace.organization.owners"]
	orgs := owners || inc["workspace.organization"]
	if !orgs && !inc["workspace"] {
		return d, nil
	}
	ids := make([]core.ID, len(as))
	for i, a := range as {
		ids[i] = a.WorkspaceID
	}
	ws, err := s.Workspaces.AdminGetAll(r.Context(), ids...)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(ws))
	for i, w := range ws {
		names[i] = w.OrgName
		d.Included = append(d.Included, workspaceResource(w))
	}
	if orgs {
		err = s.includeOrgs(r.Context(), d, names, owners)
	}
	return d, err
}

func (s *Service) forceCancel(w http.ResponseWriter, r *http.Request) error {
	if err := authz.SiteAdmin(r.Context()); err != nil {
		return err
	}
	var in struct {
		Comment string `json:"comment"`
	}
	if err := jsonapi.DecodePlain(r.Body, &in); err != nil {
		return err
	}
	if err := s.Runs.AdminForceCancel(r.Context(), core.ID(r.PathValue("run")), in.Comment); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
