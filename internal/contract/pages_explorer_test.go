package contract

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"interlock/internal/db"
	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// stock is a state with a module, two providers and a data source.
const stock = `"outputs":{},"resources":[
	{"module":"module.net.module.subnets","mode":"managed","type":"aws_vpc","name":"main","provider":"provider[\"registry.terraform.io/hashicorp/aws\"]","instances":[{"index_key":"a","attributes":{}},{"index_key":"b","attributes":{}}]},
	{"mode":"managed","type":"terraform_data","name":"x","provider":"provider[\"terraform.io/builtin/terraform\"]","instances":[{"attributes":{}}]},
	{"mode":"data","type":"aws_ami","name":"y","provider":"provider[\"registry.terraform.io/hashicorp/aws\"]","instances":[{"attributes":{}}]}]`

const explorerPath = "/app/organizations/acme/explorer"

func asking(view, q string) string {
	return explorerPath + "?" + url.Values{"view": {view}, "q": {q}}.Encode()
}

// What the current states hold is found by what it is and where, and follows
// the state: an older one, a hidden one and a new one change it.
func TestExplorerFollowsTheCurrentStates(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		_, ann, eve, api := pagesWorld(t, dsn)
		shop, dns := api.Workspace(t, "acme", "shop", nil), api.Workspace(t, "acme", "dns", nil)
		ann.has(ann.get(explorerPath), "Nothing is built yet")
		api.PutState(t, shop, 1, "1.11.4", stock)
		api.PutState(t, dns, 1, "1.5.7", `"outputs":{},"resources":[{"mode":"managed","type":"aws_route53_zone","name":"main","provider":"provider[\"registry.terraform.io/hashicorp/aws\"]","instances":[{"attributes":{}}]}]`)

		for q, want := range map[string][2]string{
			"type:aws_vpc":                           {"module.net.module.subnets.aws_vpc.main", "terraform_data"},
			"type:aws_*":                             {"aws_ami.y", "terraform_data.x"},
			"type:aws_* -mode:data":                  {"aws_route53_zone.main", "aws_ami"},
			"name:main workspace:SHOP":               {"aws_vpc.main", "aws_route53_zone"},
			"module:net.subnets":                     {"aws_vpc.main", "aws_ami"},
			"module:module.net.module.subnets":       {"aws_vpc.main", "aws_ami"},
			"module:root provider:hashicorp/aws":     {"aws_ami.y", "aws_vpc"},
			"provider:aws version:1.5.*":             {"aws_route53_zone.main", "aws_vpc"},
			`project:"default project" ROUTE53`:      {"aws_route53_zone.main", "aws_vpc"},
			"engine:terraform -provider:aws":         {"terraform_data.x", "aws_"},
			"address:module.net.module.subnets.aws*": {"aws_vpc.main", "aws_ami"},
		} {
			_, found, ok := strings.Cut(ann.get(asking("resources", q)), `id="found"`)
			if !ok {
				t.Errorf("%s finds nothing", q)
			}
			ann.has(found, want[0])
			ann.lacks(found, want[1])
		}
		ann.has(ann.get(asking("resources", "100%_")), "No state that you may read holds anything like that")
		ann.has(string(ann.ask("GET", asking("resources", "colour:red"), nil).Want(t, 422).Body), "There is no field", `value="colour:red"`)
		ann.ask("GET", asking("planets", ""), nil).Want(t, 400)
		ann.ask("GET", asking("resources", strings.Repeat("a ", 30)), nil).Want(t, 422)
		ann.ask("GET", asking("resources", "a\x00"), nil).Want(t, 422)
		for view, want := range map[string]string{"types": "aws_route53_zone", "providers": "hashicorp/aws", "modules": "net.subnets", "engines": "1.5.7"} {
			ann.has(ann.get(asking(view, "")), want)
		}
		ann.lacks(ann.get(asking("engines", "type:aws_vpc")), "1.5.7")
		ann.has(ann.get(asking("engines", "-type:aws_vpc")), "1.5.7")
		csv := string(ann.ask("GET", explorerPath+"/csv?q=type:aws_vpc", nil).Want(t, 200).Body)
		if want := "shop,Default Project,module.net.module.subnets.aws_vpc.main,managed,aws_vpc,main,net.subnets,hashicorp/aws,2,terraform,1.11.4\n"; !strings.HasSuffix(csv, want) {
			t.Errorf("the file ends in %q", csv)
		}
		eve.barred([]string{explorerPath, explorerPath + "/csv"}, nil)

		// The inventory is that of the current state alone.
		api.PutState(t, dns, 2, "1.11.4", `"outputs":{},"resources":[]`)
		ann.lacks(ann.get(explorerPath), "aws_route53_zone")
		ann.lacks(ann.get(asking("engines", "")), "1.5.7")
	})
}

// Who may not read a state learns nothing of what it holds, in no view; and
// saved views are one's own or everybody's.
func TestExplorerShowsNoStateThatIsNotTheReaders(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s, ann, _, api := pagesWorld(t, dsn)
		shop, dns := api.Workspace(t, "acme", "shop", nil), api.Workspace(t, "acme", "dns", nil)
		api.PutState(t, shop, 1, "1.11.4", stock)
		api.PutState(t, dns, 1, "1.5.7", `"outputs":{},"resources":[{"mode":"managed","type":"aws_route53_zone","name":"main","provider":"provider[\"registry.terraform.io/hashicorp/dns\"]","instances":[{"attributes":{}}]}]`)
		rita := s.User(t, "rita")
		s.Access(t, "acme", "dns", rita, "read")
		r := signIn(t, s, "rita", servertest.Password)
		for view, sees := range map[string]string{"resources": "aws_route53_zone", "types": "aws_route53_zone", "providers": "hashicorp/dns", "engines": "1.5.7"} {
			_, body, _ := strings.Cut(r.get(asking(view, "")), `id="found"`)
			r.has(body, sees)
			r.lacks(body, "aws_vpc", "hashicorp/aws", "1.11.4", "net.subnets")
		}
		r.has(r.get(asking("engines", "-type:aws_route53_zone")), "No state that you may read")
		if csv := string(r.ask("GET", explorerPath+"/csv", nil).Want(t, 200).Body); strings.Contains(csv, "shop") {
			t.Errorf("the file holds %q", csv)
		}

		const views = "/app/organizations/acme/views"
		r.post(views, "list", "explorer", "view-name", "Zones", "query", "q=type%3Aaws_route53_zone&page=3")
		r.has(r.get(explorerPath), "Zones", "/views/view-")
		ann.lacks(ann.get(explorerPath), "Zones")
		r.ask("POST", views, form([]string{"list", "explorer", "view-name", "All", "query", "", "shared", "true"})).Want(t, 403)
		r.ask("POST", views, form([]string{"list", "planets", "view-name", "x", "query", ""})).Want(t, 422)
		r.ask("POST", views, form([]string{"list", "explorer", "view-name", " ", "query", ""})).Want(t, 422)
		ann.post(views, "list", "explorer", "view-name", "VPCs", "query", "q=type%3Aaws_vpc", "shared", "true")
		body := r.get(explorerPath)
		r.has(body, "VPCs", "(everybody's)")
		r.lacks(body, "Remove VPCs")
		_, rest, _ := strings.Cut(ann.get(explorerPath), views+"/")
		shared, _, _ := strings.Cut(rest, "/")
		r.ask("POST", views+"/"+shared+"/delete", nil).Want(t, 403)
		_, rest, _ = strings.Cut(body, views+"/")
		own, _, _ := strings.Cut(rest, "/")
		ann.ask("POST", views+"/"+own+"/delete", nil).Want(t, 404)
		r.post(views + "/" + own + "/delete")
		r.lacks(r.get(explorerPath), "Zones")
		ann.post(views + "/" + shared + "/delete")
	})
}

// States that became current before there was an inventory are in it after a
// start.
func TestExplorerTakesStockAtTheStart(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		dir := t.TempDir()
		s := servertest.StartIn(t, dir, dsn)
		api := s.User(t, "ann")
		api.Org(t, "acme")
		api.PutState(t, api.Workspace(t, "acme", "shop", nil), 1, "1.11.4", stock)
		api.PutState(t, api.Workspace(t, "acme", "dns", nil), 1, "1.11.4", strings.ReplaceAll(stock, "aws_vpc", "aws_zone"))
		if err := s.App.DB().Do(context.Background(), func(ctx context.Context, tx *db.Tx) error {
			for _, q := range []string{`DELETE FROM inventory`, `DELETE FROM inventory_head`, `UPDATE state_version SET summary = '' WHERE workspace_id IN (SELECT id FROM workspace WHERE name = 'dns')`} {
				if _, err := tx.Exec(ctx, q); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		s.Stop(t)
		s = servertest.StartIn(t, dir, dsn)
		// It is done beside the serving, and says nothing when it is.
		ann := signIn(t, s, "ann", servertest.Password)
		for end := time.Now().Add(20 * time.Second); ; {
			body := ann.get(explorerPath)
			if strings.Contains(body, "aws_vpc.main") && strings.Contains(body, "aws_zone.main") {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("not both workspaces are in the inventory: %s", body)
			}
			<-time.After(20 * time.Millisecond)
		}
	})
}
