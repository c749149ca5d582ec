package contract

import (
	"strings"
	"testing"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// The vendor's explorer: its views, filters, order, fields and file, over the
// states that the caller may read.
func TestV2Explorer(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn)
		ann := s.User(t, "ann")
		ann.Org(t, "acme")
		shop, dns := ann.Workspace(t, "acme", "shop", nil), ann.Workspace(t, "acme", "dns", nil)
		ann.Workspace(t, "acme", "empty", nil)
		ann.PutState(t, shop, 1, "1.11.4", stock)
		ann.PutState(t, dns, 1, "1.5.7", `"outputs":{},"resources":[{"mode":"managed","type":"aws_route53_zone","name":"main","provider":"provider[\"registry.terraform.io/hashicorp/aws\"]","instances":[{"attributes":{}}]}]`)
		const at = "/api/v2/organizations/acme/explorer"
		ask := func(who *servertest.Client, pairs ...string) []servertest.Resource {
			return who.Get(t, at+"?"+form(pairs).Encode()).Want(t, 200).List(t)
		}
		values := func(rs []servertest.Resource, attribute string) string {
			var out []string
			for _, r := range rs {
				v, _ := r.Attributes[attribute].(string)
				out = append(out, v)
			}
			return strings.Join(out, " ")
		}
		for _, c := range []struct {
			want, attribute string
			pairs           []string
		}{
			{"dns empty shop", "workspace-name", []string{"type", "workspaces"}},
			{"shop empty dns", "workspace-name", []string{"type", "workspaces", "sort", "-workspace_name"}},
			{"shop", "workspace-name", []string{"type", "workspaces", "filter[0][module_count][gt][0]", "0"}},
			{"dns shop", "workspace-name", []string{"type", "workspaces", "filter[0][providers][contains][0]", "hashicorp/AWS"}},
			{"empty", "workspace-name", []string{"type", "workspaces", "filter[0][state_version_terraform_version][is_empty][0]", "", "filter[1][workspace_name][is_not][0]", "dns"}},
			{"dns empty shop", "workspace-name", []string{"type", "workspaces", "filter[0][workspace_created_at][is_after][0]", "2020-01-01"}},
			{"", "workspace-name", []string{"type", "workspaces", "filter[0][workspace_created_at][is_before][0]", "2020-01-01T00:00:00Z"}},
			{"", "workspace-name", []string{"type", "workspaces", "filter[0][workspace_name][contains][0]", "*"}},
			{"1.11.4 1.5.7", "version", []string{"type", "tf_versions"}},
			{"aws terraform", "name", []string{"type", "providers"}},
			{"hashicorp/aws terraform.io/builtin/terraform", "source", []string{"type", "providers", "sort", "-workspace_count"}},
			{"net.subnets", "name", []string{"type", "modules"}},
			{"shop", "workspaces", []string{"type", "modules"}},
		} {
			if got := values(ask(ann, c.pairs...), c.attribute); got != c.want {
				t.Errorf("%v gives %q, want %q", c.pairs, got, c.want)
			}
		}
		one := ask(ann, "type", "workspaces", "fields[workspaces]", "workspace_name,provider_count", "filter[0][external_id][is][0]", shop)
		if len(one) != 1 || len(one[0].Attributes) != 2 || one[0].Attributes["provider-count"] != float64(2) || one[0].ID != shop || one[0].Type != "visibility-workspace" {
			t.Errorf("%+v", one)
		}
		if got := string(ann.Get(t, at+"/export/csv?"+form([]string{"type", "providers", "fields[providers]", "name,workspace_count"}).Encode()).Want(t, 200).Body); got != "name,workspace_count\naws,2\nterraform,1\n" {
			t.Errorf("the file is %q", got)
		}
		if rs := ask(ann, "type", "workspaces", "page[size]", "2", "page[number]", "2"); values(rs, "workspace-name") != "shop" {
			t.Errorf("the second page is %+v", rs)
		}
		for _, bad := range [][]string{{}, {"type", "planets"}, {"type", "modules", "sort", "source"}, {"type", "modules", "fields[modules]", "drifted"}, {"type", "modules", "filter[0][name]", "x"},
			{"type", "modules", "filter[0][name][gt][0]", "x"}, {"type", "modules", "filter[0][workspace_count][gt][0]", "x"}, {"type", "workspaces", "filter[0][workspace_created_at][is_after][0]", "soon"},
			{"type", "modules", "filter[0][name][is][0]", "\x00"}} {
			ann.Get(t, at+"?"+form(bad).Encode()).Want(t, 422)
			ann.Get(t, at+"/export/csv?"+form(bad).Encode()).Want(t, 422)
		}
		rita, eve := s.User(t, "rita"), s.User(t, "eve")
		s.Access(t, "acme", "dns", rita, "read")
		if got := values(ask(rita, "type", "workspaces"), "workspace-name") + " " + values(ask(rita, "type", "tf_versions"), "version") + " " + values(ask(rita, "type", "modules"), "name"); got != "dns 1.5.7 " {
			t.Errorf("rita sees %q", got)
		}
		for _, q := range []string{"type=workspaces", "type=planets"} {
			eve.Get(t, at+"?"+q).Want(t, 404)
			eve.Get(t, at+"/export/csv?"+q).Want(t, 404)
		}
	})
}
