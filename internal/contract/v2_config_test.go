package contract

import (
	"strings"
	"testing"

	tfe "github.com/hashicorp/go-tfe"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

func TestV2LifeOfConfigurations(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newV2World(t, dsn)
		ctx := t.Context()
		ws := w.workspace("configs", tfe.WorkspaceCreateOptions{})
		admin := w.s.Admin
		cv, err := w.c.ConfigurationVersions.Create(ctx, ws.ID, tfe.ConfigurationVersionCreateOptions{AutoQueueRuns: tfe.Bool(false)})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := w.c.Workspaces.ReadByID(ctx, ws.ID); err != nil || got.CurrentConfigurationVersion == nil || got.CurrentConfigurationVersion.ID != cv.ID {
			t.Errorf("current configuration: %+v, %v", got.CurrentConfigurationVersion, err)
		}
		if _, err := w.c.Runs.Create(ctx, tfe.RunCreateOptions{Workspace: ws}); err == nil {
			t.Error("a run of a configuration that was never uploaded")
		}
		// An upload may be repeated until a run has used it.
		put := func(value string, code int) {
			t.Helper()
			w.s.As("").Do(t, "PUT", cv.UploadURL, servertest.Archive(t, map[string]string{"main.tf": "output \"x\" {\n  value = " + value + "\n}\n"})).Want(t, code)
		}
		put("1", 200)
		put("2", 200)
		w.await(w.run(ws, tfe.RunCreateOptions{PlanOnly: tfe.Bool(true)}).ID, tfe.RunPlannedAndFinished)
		put("3", 409)

		act := func(who *servertest.Client, id, what string, code int) string {
			t.Helper()
			return string(who.Do(t, "POST", "/api/v2/configuration-versions/"+id+"/actions/"+what, nil).Want(t, code).Body)
		}
		if b := act(admin, cv.ID, "archive", 409); !strings.Contains(b, "transition not allowed") || !strings.Contains(b, "because it is current") {
			t.Errorf("%s", b)
		}
		w.upload(ws, "output \"x\" {\n  value = 4\n}\n", tfe.ConfigurationVersionCreateOptions{})
		ann := w.s.User(t, "ann")
		w.s.Access(t, w.org, "configs", ann, "plan")
		act(ann, cv.ID, "archive", 404)
		act(ann, cv.ID, "soft_delete_backing_data", 404)
		act(admin, cv.ID, "soft_delete_backing_data", 200)
		admin.Get(t, "/api/v2/configuration-versions/"+cv.ID+"/download").Want(t, 404)
		if _, err := w.c.Runs.Create(ctx, tfe.RunCreateOptions{Workspace: ws, ConfigurationVersion: cv}); err == nil {
			t.Error("a run of hidden bytes")
		}
		act(admin, cv.ID, "restore_backing_data", 200)
		admin.Get(t, "/api/v2/configuration-versions/"+cv.ID+"/download").Want(t, 200)
		act(admin, cv.ID, "permanently_delete_backing_data", 409)
		act(admin, cv.ID, "archive", 202)
		act(admin, cv.ID, "archive", 202)
		if got, err := w.c.ConfigurationVersions.Read(ctx, cv.ID); err != nil || got.Status != tfe.ConfigurationArchived || got.StatusTimestamps.ArchivedAt.IsZero() {
			t.Errorf("%+v, %v", got, err)
		}
		list, err := w.c.ConfigurationVersions.List(ctx, ws.ID, &tfe.ConfigurationVersionListOptions{ListOptions: tfe.ListOptions{PageSize: 1}})
		if err != nil || list.TotalCount != 2 || len(list.Items) != 1 {
			t.Errorf("%+v, %v", list, err)
		}
	})
}
