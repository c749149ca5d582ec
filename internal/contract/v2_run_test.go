package contract

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"
	"time"

	tfe "github.com/hashicorp/go-tfe"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

func TestV2ListsOfRuns(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn, "--runners=0")
		w := &v2World{t: t, s: s, c: goTFE(t, s, servertest.AdminToken), org: "acme"}
		ctx := t.Context()
		if _, err := w.c.Organizations.Create(ctx, tfe.OrganizationCreateOptions{Name: &w.org, Email: tfe.String("ops@example.com")}); err != nil {
			t.Fatal(err)
		}
		ws := w.workspace("lists", tfe.WorkspaceCreateOptions{})
		w.upload(ws, "output \"x\" {\n  value = 1\n}\n", tfe.ConfigurationVersionCreateOptions{})
		first := w.run(ws, tfe.RunCreateOptions{Message: tfe.String("100% of it"), Variables: []*tfe.RunVariable{{Key: "greeting", Value: "Hello, World!"}}})
		second := w.run(ws, tfe.RunCreateOptions{IsDestroy: tfe.Bool(true)})
		only := w.run(ws, tfe.RunCreateOptions{PlanOnly: tfe.Bool(true)})
		saved := w.run(ws, tfe.RunCreateOptions{SavePlan: tfe.Bool(true)})
		if first.StatusTimestamps.PlanQueueableAt.IsZero() || len(first.RunEvents) == 0 || first.Variables[0].Value != "Hello, World!" {
			t.Errorf("%+v", first)
		}

		for what, c := range map[string]struct {
			o    tfe.RunListOptions
			want []string
		}{
			"default":   {tfe.RunListOptions{}, []string{saved.ID, second.ID, first.ID}},
			"pending":   {tfe.RunListOptions{Status: "pending"}, []string{second.ID}},
			"two":       {tfe.RunListOptions{Status: "pending,plan_queued"}, []string{saved.ID, second.ID, first.ID}},
			"no status": {tfe.RunListOptions{Status: "sung"}, nil},
			"plan only": {tfe.RunListOptions{Operation: "plan_only"}, []string{only.ID}},
			"kinds":     {tfe.RunListOptions{Operation: "save_plan,destroy"}, []string{saved.ID, second.ID}},
			"apply":     {tfe.RunListOptions{Operation: "plan_and_apply"}, []string{first.ID}},
			"source":    {tfe.RunListOptions{Source: "tfe-ui"}, nil},
			"user":      {tfe.RunListOptions{User: servertest.AdminName}, []string{saved.ID, second.ID, first.ID}},
			"stranger":  {tfe.RunListOptions{User: "nobody"}, nil},
			"commit":    {tfe.RunListOptions{Commit: "abc"}, nil},
			"search":    {tfe.RunListOptions{Search: "100% OF"}, []string{first.ID}},
			"no search": {tfe.RunListOptions{Search: "1%of"}, nil},
			"page":      {tfe.RunListOptions{ListOptions: tfe.ListOptions{PageNumber: 2, PageSize: 2}}, []string{first.ID}},
		} {
			rl, err := w.c.Runs.List(ctx, ws.ID, &c.o)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range rl.Items {
				got = append(got, r.ID)
			}
			total := len(c.want)
			if what == "page" {
				total = 3
			}
			if strings.Join(got, " ") != strings.Join(c.want, " ") || rl.TotalCount != total {
				t.Errorf("%s: %v of %d, want %v", what, got, rl.TotalCount, c.want)
			}
		}
		for q, code := range map[string]int{"filter[status_group]=sung": 400, "filter[timeframe]=soon": 400, "include=sung": 400, "filter[status_group]=final": 200, "filter[timeframe]=year": 200,
			"filter[timeframe]=1999&include=workspace,plan,apply,created_by,confirmed_by,configuration_version,comments,run_events": 200} {
			for _, path := range []string{"/api/v2/workspaces/" + ws.ID + "/runs?", "/api/v2/organizations/acme/runs?"} {
				s.Admin.Get(t, path+strings.NewReplacer("[", "%5B", "]", "%5D").Replace(q)).Want(t, code)
			}
		}

		// The organization's queue in the order of service, for who may see it.
		q, err := w.c.Organizations.ReadRunQueue(ctx, w.org, tfe.ReadRunQueueOptions{})
		if err != nil || len(q.Items) != 3 || q.Items[0].ID != first.ID || q.Items[0].PositionInQueue != 1 || q.Items[2].ID != only.ID {
			t.Errorf("%+v, %v", q, err)
		}
		if c, err := w.c.Organizations.ReadCapacity(ctx, w.org); err != nil || c.Pending != 3 || c.Running != 0 {
			t.Errorf("%+v, %v", c, err)
		}
		elsewhere := w.workspace("elsewhere", tfe.WorkspaceCreateOptions{})
		ann := s.User(t, "ann")
		s.Access(t, w.org, "elsewhere", ann, "admin")
		c := goTFE(t, s, ann.Token)
		if rl, err := c.Runs.ListForOrganization(ctx, w.org, nil); err != nil || len(rl.Items) != 0 {
			t.Errorf("ann sees %+v, %v", rl, err)
		}
		if q, err := c.Organizations.ReadRunQueue(ctx, w.org, tfe.ReadRunQueueOptions{}); err != nil || len(q.Items) != 0 {
			t.Errorf("ann sees %+v, %v", q, err)
		}
		if rl, err := w.c.Runs.ListForOrganization(ctx, w.org, &tfe.RunListForOrganizationOptions{WorkspaceNames: elsewhere.Name}); err != nil || len(rl.Items) != 0 {
			t.Errorf("%+v, %v", rl, err)
		}
		if rl, err := w.c.Runs.ListForOrganization(ctx, w.org, &tfe.RunListForOrganizationOptions{ListOptions: tfe.ListOptions{PageSize: 2}, WorkspaceNames: "lists"}); err != nil || len(rl.Items) != 2 || rl.NextPage != 2 {
			t.Errorf("%+v, %v", rl, err)
		}

		// What is said is part of the history, with who said it.
		if _, err := w.c.Comments.Create(ctx, first.ID, tfe.CommentCreateOptions{Body: "why?"}); err != nil {
			t.Fatal(err)
		}
		es, err := w.c.RunEvents.List(ctx, first.ID, &tfe.RunEventListOptions{Include: []tfe.RunEventIncludeOpt{tfe.RunEventActor, tfe.RunEventComment}})
		if err != nil {
			t.Fatal(err)
		}
		last := es.Items[len(es.Items)-1]
		if last.Action != "commented" || last.Comment.Body != "why?" || last.Actor.Username != servertest.AdminName {
			t.Errorf("%+v", last)
		}
		ann.Get(t, "/api/v2/run-events/"+last.ID).Want(t, 404)
		ann.Get(t, "/api/v2/runs/"+first.ID+"/configuration-version").Want(t, 404)

		// A run that is canceled tells when.
		if err := w.c.Runs.Cancel(ctx, second.ID, tfe.RunCancelOptions{}); err != nil {
			t.Fatal(err)
		}
		r, err := w.c.Runs.ReadWithOptions(ctx, second.ID, &tfe.RunReadOptions{Include: []tfe.RunIncludeOpt{tfe.RunCreatedBy}})
		if err != nil || r.CanceledAt.IsZero() || r.ForceCancelAvailableAt.IsZero() || r.CreatedBy.Username != servertest.AdminName {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// An export holds the plan as mock data, without what is sensitive.
func TestV2PlanExports(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newV2World(t, dsn)
		ctx := t.Context()
		ws := w.workspace("mocks", tfe.WorkspaceCreateOptions{})
		w.upload(ws, "variable \"v\" {\n  default   = \"hush-hush\"\n  sensitive = true\n}\nresource \"terraform_data\" \"x\" {\n  input = var.v\n}\n", tfe.ConfigurationVersionCreateOptions{})
		run := w.await(w.run(ws, tfe.RunCreateOptions{}).ID, tfe.RunPlanned)
		o := tfe.PlanExportCreateOptions{Plan: run.Plan, DataType: tfe.PlanExportType(tfe.PlanExportSentinelMockBundleV0)}
		reader := w.s.User(t, "reader")
		w.s.Access(t, w.org, "mocks", reader, "plan")
		if _, err := goTFE(t, w.s, reader.Token).PlanExports.Create(ctx, o); err == nil {
			t.Error("who may only plan exported a plan")
		}
		pe, err := w.c.PlanExports.Create(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.c.PlanExports.Create(ctx, o); err == nil {
			t.Error("a second export at the same time")
		}
		for end := time.Now().Add(20 * time.Second); pe.Status != tfe.PlanExportFinished; time.Sleep(20 * time.Millisecond) {
			if pe, err = w.c.PlanExports.Read(ctx, pe.ID); err != nil || time.Now().After(end) {
				t.Fatalf("%+v, %v", pe, err)
			}
		}
		b, err := w.c.PlanExports.Download(ctx, pe.ID)
		if err != nil {
			t.Fatal(err)
		}
		zr, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		files := map[string]string{}
		for tr := tar.NewReader(zr); ; {
			h, err := tr.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(tr)
			files[h.Name] = string(text)
		}
		for name, part := range map[string]string{"sentinel.hcl": `mock "tfplan/v2"`, "mock-tfplan-v2.sentinel": `"terraform_data.x": {`, "mock-tfrun.sentinel": run.ID, "mock-tfconfig-v2.sentinel": "module_calls = {}", "mock-tfstate-v2.sentinel": "resources = {}"} {
			if !strings.Contains(files[name], part) {
				t.Errorf("%s lacks %q: %.300s", name, part, files[name])
			}
			if strings.Contains(files[name], "hush-hush") {
				t.Errorf("%s holds a sensitive value", name)
			}
		}
		if p, err := w.c.Plans.Read(ctx, run.Plan.ID); err != nil || len(p.Exports) != 1 {
			t.Errorf("%+v, %v", p, err)
		}
		if err := w.c.PlanExports.Delete(ctx, pe.ID); err != nil {
			t.Error(err)
		}
		w.s.Admin.Get(t, "/api/v2/plan-exports/"+pe.ID).Want(t, 404)
	})
}

// What an agent pool is to run waits for its agents: our own workers leave it.
func TestV2RunsOfAPoolWaitForItsAgents(t *testing.T) {
	t.Parallel()
	w := newV2World(t, t.TempDir()+"/x.db")
	ctx := t.Context()
	pool, err := w.c.AgentPools.Create(ctx, w.org, tfe.AgentPoolCreateOptions{Name: tfe.String("far")})
	if err != nil {
		t.Fatal(err)
	}
	away := w.workspace("away", tfe.WorkspaceCreateOptions{ExecutionMode: tfe.String("agent"), AgentPoolID: &pool.ID})
	here := w.workspace("here", tfe.WorkspaceCreateOptions{})
	const tf = "output \"x\" {\n  value = 1\n}\n"
	w.upload(away, tf, tfe.ConfigurationVersionCreateOptions{})
	w.upload(here, tf, tfe.ConfigurationVersionCreateOptions{})
	waits := w.run(away, tfe.RunCreateOptions{})
	w.await(w.run(here, tfe.RunCreateOptions{}).ID, tfe.RunPlanned)
	a := w.s.Admin.Get(t, "/api/v2/runs/"+waits.ID).Want(t, 200)
	if a.One(t).Str("status") != "plan_queued" || !strings.Contains(string(a.Body), "agent of the workspace's agent pool") {
		t.Errorf("%s", a.Body)
	}
	for name, n := range map[string]int{"far": 1, "near": 0} {
		rl, err := w.c.Runs.ListForOrganization(ctx, w.org, &tfe.RunListForOrganizationOptions{AgentPoolNames: name})
		if err != nil || len(rl.Items) != n {
			t.Errorf("%s: %+v, %v", name, rl, err)
		}
	}
	if err := w.c.Runs.Cancel(ctx, waits.ID, tfe.RunCancelOptions{}); err != nil {
		t.Error(err)
	}
}
