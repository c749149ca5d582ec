package contract

import (
	"strings"
	"testing"

	tfe "github.com/hashicorp/go-tfe"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// A version of a module that is published queues a run where the module is
// linked, as a new artifact did in 2017; and nowhere else.
func TestAModuleVersionQueuesRuns(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newV2World(t, dsn)
		me := w.s.As(servertest.AdminToken)
		must[*tfe.RegistryModule](t)(w.c.RegistryModules.Create(t.Context(), w.org, tfe.RegistryModuleCreateOptions{Name: tfe.String("network"), Provider: tfe.String("aws")}))
		id := tfe.NewPrivateRegistryModuleID(w.org, "network", "aws")
		linked, free := me.Workspace(t, w.org, "linked", nil), me.Workspace(t, w.org, "free", nil)
		for _, ws := range []string{linked, free} {
			me.Upload(t, ws, map[string]string{"main.tf": `resource "terraform_data" "a" {}`}, map[string]any{"auto-queue-runs": false})
		}
		at := "/api/v2/workspaces/" + linked + "/module-links"
		add := func(module string) servertest.Answer {
			return me.Do(t, "POST", at, servertest.Doc("module-links", map[string]any{"module": module}))
		}
		for _, bad := range []string{"", "network", "network/azure", "other/aws"} {
			add(bad).Want(t, 422)
		}
		link := add("network/aws").Want(t, 201).One(t)
		add("network/aws").Want(t, 422)
		p := signIn(t, w.s, servertest.AdminName, servertest.AdminPassword)
		if page := p.get("/app/" + w.org + "/linked/run-triggers"); !strings.Contains(page, "network/aws") {
			t.Error("the page does not show the link")
		}
		w.publish(id, "1.0.0", map[string]string{"main.tf": ""})
		r := me.WaitNewRun(t, linked, 0, "planned")
		if r.Str("trigger-reason") != "dependency" || r.Str("message") != "Version 1.0.0 of module network/aws was published" {
			t.Errorf("the run: %v", r.Attributes)
		}
		if n := len(me.Runs(t, free)); n != 0 {
			t.Errorf("%d runs where the module is not linked", n)
		}
		me.Discard(t, r.ID)
		me.Do(t, "DELETE", at+"/"+link.ID, nil).Want(t, 204)
		me.Do(t, "DELETE", at+"/"+link.ID, nil).Want(t, 404)
		w.publish(id, "1.1.0", map[string]string{"main.tf": ""})
		if n := len(me.Runs(t, linked)); n != 1 {
			t.Errorf("%d runs, one of them after the link was taken away", n)
		}
	})
}
