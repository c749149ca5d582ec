package contract

import (
	"crypto/md5"
	"fmt"
	"strings"
	"sync"
	"testing"

	tfe "github.com/hashicorp/go-tfe"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// An address that is good without a token is good no longer than the access of
// the one whom it was made for.
func TestV2AddressesEndWithTheAccess(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newV2World(t, dsn)
		ws := w.workspace("left", tfe.WorkspaceCreateOptions{})
		sv := w.pushState(ws, 1, stateResources)
		ann := w.s.User(t, "ann")
		w.s.Access(t, w.org, "left", ann, "admin")
		state := ann.Get(t, "/api/v2/state-versions/"+sv.ID).Want(t, 200).One(t).Str("hosted-state-download-url")
		cv := ann.Do(t, "POST", "/api/v2/workspaces/"+ws.ID+"/configuration-versions", servertest.Doc("configuration-versions", map[string]any{"auto-queue-runs": true})).Want(t, 201).One(t).Str("upload-url")
		nobody := w.s.As("")
		nobody.Get(t, state).Want(t, 200)

		admin := "/api/v2/admin/users/" + ann.ID + "/actions/"
		w.s.Admin.Do(t, "POST", admin+"suspend", nil).Want(t, 200)
		nobody.Get(t, state).Want(t, 404)
		archive := servertest.Archive(t, map[string]string{"main.tf": `output "x" { value = 1 }`})
		nobody.Do(t, "PUT", cv, archive).Want(t, 404)
		w.s.Admin.Do(t, "POST", admin+"unsuspend", nil).Want(t, 200)
		nobody.Get(t, state).Want(t, 200)

		lock := "/api/v2/workspaces/" + ws.ID + "/actions/"
		ann.Do(t, "POST", lock+"lock", nil).Want(t, 200)
		raw := []byte(`{"version":4,"terraform_version":"1.11.4","serial":2,"lineage":"l","outputs":{},"resources":[]}`)
		next := ann.Do(t, "POST", "/api/v2/workspaces/"+ws.ID+"/state-versions", servertest.Doc("state-versions", map[string]any{"serial": 2, "lineage": "l", "md5": fmt.Sprintf("%x", md5.Sum(raw))})).Want(t, 201).One(t)

		w.s.Access(t, w.org, "left", ann, "read")
		seen := ann.Get(t, "/api/v2/state-versions/"+next.ID).Want(t, 200).One(t) // who only reads gets no address that takes
		for _, v := range []servertest.Resource{next, seen} {
			nobody.Do(t, "PUT", v.Str("hosted-state-upload-url"), raw).Want(t, 404)
			nobody.Do(t, "PUT", v.Str("hosted-json-state-upload-url"), raw).Want(t, 404)
		}
		nobody.Do(t, "PUT", cv, archive).Want(t, 404)
		if rl, err := w.c.Runs.List(t.Context(), ws.ID, nil); err != nil || len(rl.Items) != 0 {
			t.Errorf("%+v, %v", rl, err)
		}
		w.s.Access(t, w.org, "left", ann, "plan")
		nobody.Do(t, "PUT", cv, archive).Want(t, 200)
		w.s.Access(t, w.org, "left", ann, "write")
		nobody.Do(t, "PUT", next.Str("hosted-state-upload-url"), raw).Want(t, 200)
	})
}

func TestV2WhatIsMalformedIsNotPassedOver(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newV2World(t, dsn)
		ws := w.workspace("strict", tfe.WorkspaceCreateOptions{})
		w.upload(ws, `output "x" { value = 1 }`, tfe.ConfigurationVersionCreateOptions{})
		for _, data := range []string{`"cv-1"`, `5`, `{"id":5}`, `[1,2]`, `true`} {
			w.s.Admin.Do(t, "POST", "/api/v2/runs", `{"data":{"type":"runs","attributes":{"plan-only":true},"relationships":{"workspace":{"data":{"type":"workspaces","id":"`+ws.ID+`"}},"configuration-version":{"data":`+data+`}}}}`,
				"Content-Type", "application/vnd.api+json").Want(t, 422)
			w.s.Admin.Do(t, "POST", "/api/v2/organizations/"+w.org+"/workspaces", `{"data":{"type":"workspaces","attributes":{"name":"q"},"relationships":{"project":{"data":`+data+`}}}}`,
				"Content-Type", "application/vnd.api+json").Want(t, 422)
		}
		for _, v := range []string{"../../x", "-x", "1.11.4; id", strings.Repeat("v", 1000)} {
			w.s.Admin.Do(t, "POST", "/api/v2/runs", servertest.Doc("runs", map[string]any{"plan-only": true, "terraform-version": v}, "workspace", "workspaces", ws.ID)).Want(t, 422)
		}
		if rl, err := w.c.Runs.List(t.Context(), ws.ID, nil); err != nil || len(rl.Items) != 0 {
			t.Errorf("%+v, %v", rl, err)
		}
	})
}

// What generated configuration imports would be destroyed by the next run.
func TestV2GeneratedConfigurationIsNotApplied(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newV2World(t, dsn)
		for _, save := range []bool{false, true} {
			name, ends := "adopts", tfe.RunPlanned
			if save {
				name, ends = "saves", tfe.RunPlannedAndSaved
			}
			ws := w.workspace(name, tfe.WorkspaceCreateOptions{AutoApply: tfe.Bool(true)})
			w.upload(ws, "import {\n  to = terraform_data.found\n  id = \"an-id\"\n}\n", tfe.ConfigurationVersionCreateOptions{})
			r := w.await(w.run(ws, tfe.RunCreateOptions{AllowConfigGeneration: tfe.Bool(true), SavePlan: &save}).ID, ends)
			got := w.s.Admin.Get(t, "/api/v2/runs/"+r.ID).Want(t, 200).One(t)
			if got.In("actions", "is-confirmable") != false || got.In("waiting", "reason") != "generated-configuration" {
				t.Errorf("%v %v", got.Attributes["actions"], got.Attributes["waiting"])
			}
			w.status(w.c.Runs.Apply(t.Context(), r.ID, tfe.RunApplyOptions{}), 409)
			if err := w.c.Runs.Discard(t.Context(), r.ID, tfe.RunDiscardOptions{}); err != nil {
				t.Error(err)
			}
		}
	})
}

// An engine that succeeded has changed the world. If what it left cannot be
// kept as the state, the run says so.
func TestV2AStateThatCannotBeReadIsNoSuccess(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newV2World(t, dsn)
		for name, n := range map[string]int{"deep": 130, "deeper": 700} {
			ws := w.workspace(name, tfe.WorkspaceCreateOptions{AutoApply: tfe.Bool(true)})
			w.upload(ws, `resource "terraform_data" "x" { input = jsondecode("`+strings.Repeat("[", n)+"1"+strings.Repeat("]", n)+`") }`, tfe.ConfigurationVersionCreateOptions{})
			got := w.s.Admin.WaitRun(t, w.run(ws, tfe.RunCreateOptions{}).ID, "applied", "errored")
			if name == "deep" {
				if got.Str("status") != "applied" {
					t.Errorf("%s %s", got.Str("status"), got.Str("reason-text"))
				}
				w.s.Admin.Get(t, "/api/v2/workspaces/"+ws.ID+"/current-state-version").Want(t, 200)
				continue
			}
			if got.Str("status") != "errored" || got.Str("reason") != "state-quarantined" {
				t.Errorf("%s %s: %s", got.Str("status"), got.Str("reason"), got.Str("reason-text"))
			}
			w.s.Admin.Get(t, "/api/v2/applies/"+got.Rel("apply")+"/errored-state").Want(t, 307)
		}
	})
}

func TestV2OneOfManyDeletesDeletes(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newV2World(t, dsn)
		ws := w.workspace("gone", tfe.WorkspaceCreateOptions{})
		var wg sync.WaitGroup
		var mu sync.Mutex
		codes := map[int]int{}
		for range 8 {
			wg.Go(func() {
				a := w.s.Admin.Do(t, "DELETE", "/api/v2/workspaces/"+ws.ID, nil)
				mu.Lock()
				codes[a.Status]++
				mu.Unlock()
			})
		}
		wg.Wait()
		if codes[204] != 1 || codes[404] != 7 {
			t.Errorf("%v", codes)
		}
	})
}
