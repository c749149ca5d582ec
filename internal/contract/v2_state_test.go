package contract

import (
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	tfe "github.com/hashicorp/go-tfe"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

const stateResources = `"outputs":{"open":{"value":"o","type":"string"},"secret":{"value":"s","type":"string","sensitive":true}},"resources":[
	{"module":"module.net","mode":"managed","type":"aws_vpc","name":"main","provider":"provider[\"registry.terraform.io/hashicorp/aws\"]","instances":[{"index_key":"a","attributes":{}},{"index_key":"b","attributes":{}}]},
	{"mode":"managed","type":"terraform_data","name":"x","provider":"provider[\"terraform.io/builtin/terraform\"]","instances":[{"attributes":{}}]},
	{"mode":"data","type":"aws_ami","name":"y","provider":"provider[\"registry.terraform.io/hashicorp/aws\"]","instances":[{"attributes":{}}]}]`

// locked pushes a state under a lock of its own.
func (w *v2World) pushState(ws *tfe.Workspace, serial int, body string) *tfe.StateVersion {
	w.t.Helper()
	ctx := w.t.Context()
	if _, err := w.c.Workspaces.Lock(ctx, ws.ID, tfe.WorkspaceLockOptions{}); err != nil {
		w.t.Fatal(err)
	}
	raw := fmt.Appendf(nil, `{"version":4,"terraform_version":"1.11.4","serial":%d,"lineage":"l",%s}`, serial, body)
	sv, err := w.c.StateVersions.Create(ctx, ws.ID, tfe.StateVersionCreateOptions{
		Serial: tfe.Int64(int64(serial)), MD5: tfe.String(fmt.Sprintf("%x", md5.Sum(raw))), State: tfe.String(base64.StdEncoding.EncodeToString(raw)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.c.Workspaces.Unlock(ctx, ws.ID); err != nil {
		w.t.Fatal(err)
	}
	return sv
}

func TestV2LifeOfStates(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newV2World(t, dsn)
		ctx := t.Context()
		ws := w.workspace("states", tfe.WorkspaceCreateOptions{})
		first := w.pushState(ws, 1, stateResources)
		second := w.pushState(ws, 2, `"outputs":{},"resources":[]`)

		// What a version holds is told without its values.
		got, err := w.c.StateVersions.ReadWithOptions(ctx, first.ID, &tfe.StateVersionReadOptions{Include: []tfe.StateVersionIncludeOpt{tfe.SVoutputs, tfe.SVcreatedby}})
		if err != nil || !got.ResourcesProcessed || *got.BillableRUMCount != 2 || len(got.Resources) != 3 || len(got.Outputs) != 2 || got.Outputs[0].Value != "o" || got.Outputs[1].Value != nil {
			t.Errorf("%+v, %v", got, err)
		}
		a := w.s.Admin.Get(t, "/api/v2/workspaces/"+ws.ID+"/current-state-version").Want(t, 200)
		if a.Header.Get("X-Terraform-Snapshot-Interval") != "20" {
			t.Error("no snapshot interval")
		}
		page, err := w.c.StateVersions.ListOutputs(ctx, first.ID, &tfe.StateVersionOutputsListOptions{ListOptions: tfe.ListOptions{PageNumber: 2, PageSize: 1}})
		if err != nil || page.TotalCount != 2 || len(page.Items) != 1 || page.Items[0].Name != "secret" {
			t.Errorf("%+v, %v", page, err)
		}

		// A rollback is a new version with the next serial, from the lock's holder.
		back := func() servertest.Answer {
			return w.s.Admin.Do(t, "PATCH", "/api/v2/workspaces/"+ws.ID+"/state-versions", servertest.Doc("state-versions", nil, "rollback-state-version", "state-versions", first.ID))
		}
		back().Want(t, 409)
		if _, err := w.c.Workspaces.Lock(ctx, ws.ID, tfe.WorkspaceLockOptions{}); err != nil {
			t.Fatal(err)
		}
		if r := back().Want(t, 201).One(t); r.Int("serial") != 3 || r.Rel("rollback-state-version") != first.ID {
			t.Errorf("rollback: %+v", r)
		}
		// An announced upload that never comes keeps the lock until it is forced.
		if _, err := w.c.StateVersions.Create(ctx, ws.ID, tfe.StateVersionCreateOptions{Serial: tfe.Int64(4), MD5: tfe.String(strings.Repeat("0", 32))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.c.Workspaces.ForceUnlock(ctx, ws.ID); err != nil {
			t.Errorf("force unlock: %v", err)
		}
		res, err := w.c.WorkspaceResources.List(ctx, ws.ID, nil)
		if err != nil || res.TotalCount != 4 || res.Items[1].Address != "net.aws_vpc.main[\"a\"]" || *res.Items[1].NameIndex != "a" || res.Items[1].Provider != "hashicorp/aws" {
			t.Errorf("%+v, %v", res, err)
		}

		// Bytes can be hidden and brought back, but not those of the head.
		cur, err := w.c.StateVersions.ReadCurrent(ctx, ws.ID)
		if err != nil {
			t.Fatal(err)
		}
		act := func(id, what string, code int) {
			t.Helper()
			w.s.Admin.Do(t, "POST", "/api/v2/state-versions/"+id+"/actions/"+what, nil).Want(t, code)
		}
		act(cur.ID, "soft_delete_backing_data", 409)
		act(second.ID, "restore_backing_data", 409)
		act(second.ID, "soft_delete_backing_data", 204)
		w.s.Admin.Get(t, "/api/v2/state-versions/"+second.ID+"/download").Want(t, 404)
		act(second.ID, "restore_backing_data", 204)
		act(second.ID, "permanently_delete_backing_data", 409)
		act(second.ID, "soft_delete_backing_data", 204)
		act(second.ID, "permanently_delete_backing_data", 204)
		act(second.ID, "restore_backing_data", 409)
		if sv := w.s.Admin.Get(t, "/api/v2/state-versions/"+second.ID).Want(t, 200).One(t); sv.Str("status") != "backing_data_permanently_deleted" {
			t.Errorf("%+v", sv)
		}

		// Writers may write and roll back, and hide nothing.
		ann := w.s.User(t, "ann")
		w.s.Access(t, w.org, "states", ann, "write")
		ann.Do(t, "POST", "/api/v2/state-versions/"+first.ID+"/actions/soft_delete_backing_data", nil).Want(t, 404)
		bob := w.s.User(t, "bob")
		bob.Get(t, "/api/v2/workspaces/"+ws.ID+"/resources").Want(t, 404)
	})
}
