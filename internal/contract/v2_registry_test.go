package contract

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	tfe "github.com/hashicorp/go-tfe"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// publish adds a version of a module and uploads its archive.
func (w *v2World) publish(id tfe.RegistryModuleID, version string, files map[string]string) *tfe.RegistryModuleVersion {
	w.t.Helper()
	v := must[*tfe.RegistryModuleVersion](w.t)(w.c.RegistryModules.CreateVersion(w.t.Context(), id, tfe.RegistryModuleCreateVersionOptions{Version: &version}))
	if err := w.c.RegistryModules.UploadTarGzip(w.t.Context(), v.Links["upload"].(string), bytes.NewReader(servertest.Archive(w.t, files))); err != nil {
		w.t.Fatal(err)
	}
	return v
}

const networkModule = `terraform {
  required_providers {
    time = {
      source  = "hashicorp/time"
      version = ">= 0.10"
    }
  }
}
variable "name" {
  type        = string
  description = "of the network"
}
variable "size" { default = 3 }
resource "time_static" "made" {}
output "made" {
  description = "when"
  value       = time_static.made.id
}
module "inner" { source = "./inner" }
`

func TestV2ModulesOfTheRegistry(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newV2World(t, dsn)
		ctx := t.Context()
		me := w.s.As(servertest.AdminToken)
		m := must[*tfe.RegistryModule](t)(w.c.RegistryModules.Create(ctx, w.org, tfe.RegistryModuleCreateOptions{Name: tfe.String("network"), Provider: tfe.String("aws")}))
		if m.Status != tfe.RegistryModuleStatusPending || m.Namespace != w.org || m.RegistryName != tfe.PrivateRegistry {
			t.Errorf("created %+v", m)
		}
		id := tfe.NewPrivateRegistryModuleID(w.org, "network", "aws")
		const at = "/api/registry/v1/modules/acme/network/aws"
		if got := me.Get(t, at+"/versions").Want(t, 200).Object(t); len(got["modules"].([]any)[0].(map[string]any)["versions"].([]any)) != 0 {
			t.Errorf("without versions: %v", got)
		}
		me.Get(t, at+"/download").Want(t, 404)

		v := w.publish(id, "1.0.0", map[string]string{"main.tf": networkModule, "README.md": "# Networks", "inner/main.tf": ""})
		w.publish(id, "1.10.0", map[string]string{"main.tf": ""})
		w.publish(id, "1.9.0", map[string]string{"main.tf": ""})
		w.publish(id, "2.0.0-rc.1", map[string]string{"main.tf": ""})
		m = must[*tfe.RegistryModule](t)(w.c.RegistryModules.Read(ctx, id))
		var order []string
		for _, s := range m.VersionStatuses {
			order = append(order, s.Version+" "+string(s.Status))
		}
		if m.Status != tfe.RegistryModuleStatusSetupComplete || strings.Join(order, ",") != "2.0.0-rc.1 ok,1.10.0 ok,1.9.0 ok,1.0.0 ok" {
			t.Errorf("published %s: %v", m.Status, order)
		}
		if got := me.Get(t, at).Want(t, 200).Object(t)["version"]; got != "1.10.0" {
			t.Errorf("the latest is %v", got)
		}

		// What a module says of itself.
		said := must[*tfe.TerraformRegistryModule](t)(w.c.RegistryModules.ReadTerraformRegistryModule(ctx, id, "1.0.0"))
		in, _ := json.Marshal(said.Root.Inputs)
		if said.ID != "acme/network/aws/1.0.0" || said.Root.Readme != "# Networks" || said.Root.Empty || len(said.Root.Outputs) != 1 || said.Root.Outputs[0].Description != "when" ||
			string(in) != `[{"name":"name","type":"string","description":"of the network","default":"","required":true},{"name":"size","type":"","description":"","default":"3","required":false}]` ||
			len(said.Root.Resources) != 1 || len(said.Root.ProviderDependencies) != 1 || said.Root.ProviderDependencies[0].Source != "hashicorp/time" {
			t.Errorf("it says %+v", said)
		}

		// An archive may be replaced until somebody has got it.
		up := v.Links["upload"].(string)
		again := servertest.Archive(t, map[string]string{"main.tf": "# second\n"})
		w.s.As("").Do(t, "PUT", up, again).Want(t, 200)
		get := me.Get(t, at+"/1.0.0/download").Want(t, 204).Header.Get("X-Terraform-Get")
		w.s.As("").Do(t, "PUT", up, servertest.Archive(t, map[string]string{"main.tf": "# third\n"})).Want(t, 409)
		if got := w.s.As("").Get(t, get).Want(t, 200).Body; !bytes.Equal(got, again) {
			t.Error("the archive is not the one that was uploaded")
		}
		w.s.As("").Get(t, strings.Replace(get, string(v.ID), "modver-1111111111111111", 1)).Want(t, 404)
		w.s.As("").Do(t, "PUT", strings.TrimSuffix(up, up[len(up)-4:])+"AAAA", again).Want(t, 404)

		// What is no sound archive is not published, and can be mended.
		bad := must[*tfe.RegistryModuleVersion](t)(w.c.RegistryModules.CreateVersion(ctx, id, tfe.RegistryModuleCreateVersionOptions{Version: tfe.String("3.0.0")}))
		for _, body := range [][]byte{[]byte("no archive"), servertest.Archive(t, map[string]string{"../../etc/cron.d/x": "x"}), nil} {
			w.s.As("").Do(t, "PUT", bad.Links["upload"].(string), body).Want(t, 422)
		}
		if got := must[*tfe.RegistryModuleVersion](t)(w.c.RegistryModules.ReadVersion(ctx, id, "3.0.0")); got.Status != tfe.RegistryModuleVersionStatusRegIngressFailed {
			t.Errorf("the bad one is %s", got.Status)
		}
		me.Get(t, at+"/3.0.0/download").Want(t, 404)
		w.s.As("").Do(t, "PUT", bad.Links["upload"].(string), again).Want(t, 200)
		me.Get(t, at+"/3.0.0/download").Want(t, 204)

		for body, says := range map[string]string{
			`{"name":"network","provider":"aws"}`:                                     "Name has already been taken",
			`{"name":"` + strings.Repeat("n", 65) + `","provider":"aws"}`:             "Name is too long (maximum is 64 characters)",
			`{"name":"x","provider":"AWS"}`:                                           "Provider may hold only",
			`{"provider":"aws"}`:                                                      "Name can't be blank",
			`{"name":"x","provider":"aws","registry-name":"else"}`:                    "Registry name is not included in the list",
			`{"name":"x","provider":"aws","registry-name":"public"}`:                  "Namespace can't be blank",
			`{"name":"x","provider":"aws","namespace":"other"}`:                       "Namespace must be",
			`{"name":7,"provider":"aws"}`:                                             "Name cannot be a number",
			`{"name":"a\u0000b","provider":"aws"}`:                                    "Name may hold only",
			`{"name":"x","provider":"aws","registry-name":"public","namespace":"%%"}`: "Namespace may hold only",
		} {
			a := me.Do(t, "POST", "/api/v2/organizations/acme/registry-modules", `{"data":{"type":"registry-modules","attributes":`+body+`}}`).Want(t, 422)
			if !strings.Contains(string(a.Body), says) {
				t.Errorf("%s: %s", body, a.Body)
			}
		}
		for _, version := range []string{"", "1", "1.2", "v1.2.3", "1.2.3/..", "1.0.0", strings.Repeat("1", 200) + ".0.0", "1.2.99999999999999999999"} {
			me.Do(t, "POST", "/api/v2/registry-modules/acme/network/aws/versions", servertest.Doc("registry-module-versions", map[string]any{"version": version})).Want(t, 422)
		}

		// The catalogue lists public modules too, and narrows.
		must[*tfe.RegistryModule](t)(w.c.RegistryModules.Create(ctx, w.org, tfe.RegistryModuleCreateOptions{Name: tfe.String("vpc"), Provider: tfe.String("aws"), RegistryName: tfe.PublicRegistry, Namespace: "terraform-aws-modules"}))
		for q, want := range map[string]int{"": 2, "?q=VP": 1, "?q=terraform-aws": 1, "?q=acme": 1, "?q=%25": 0, "?filter[provider]=aws": 2, "?filter[registry_name]=public": 1, "?filter[organization_name]=other": 0, "?page[number]=2&page[size]=1": 1} {
			if got := me.Get(t, "/api/v2/organizations/acme/registry-modules"+q).Want(t, 200).List(t); len(got) != want {
				t.Errorf("%s lists %d, want %d", q, len(got), want)
			}
		}
		free := func(name string) any {
			return me.Get(t, "/api/v2/organizations/acme/registry-modules/validation?provider=aws&name="+name).Want(t, 200).One(t).Attributes["valid"]
		}
		if free("network") != false || free("vpc") != true {
			t.Error("names are not told free as they are")
		}

		if err := w.c.RegistryModules.DeleteVersion(ctx, id, "1.0.0"); err != nil {
			t.Error(err)
		}
		me.Get(t, at+"/1.0.0/download").Want(t, 404)
		w.s.As("").Get(t, get).Want(t, 404)
		if err := w.c.RegistryModules.DeleteProvider(ctx, id); err != nil {
			t.Error(err)
		}
		me.Get(t, at+"/versions").Want(t, 404)
	})
}

// Members read and install, publishers publish, strangers see nothing.
func TestV2RegistryPermissions(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newV2World(t, dsn)
		ctx := t.Context()
		must[*tfe.RegistryModule](t)(w.c.RegistryModules.Create(ctx, w.org, tfe.RegistryModuleCreateOptions{Name: tfe.String("net"), Provider: tfe.String("aws")}))
		must[*tfe.RegistryProvider](t)(w.c.RegistryProviders.Create(ctx, w.org, tfe.RegistryProviderCreateOptions{Name: "net", Namespace: w.org, RegistryName: tfe.PrivateRegistry}))
		w.publish(tfe.NewPrivateRegistryModuleID(w.org, "net", "aws"), "1.0.0", map[string]string{"main.tf": ""})
		member, eve := w.s.User(t, "mia"), w.s.User(t, "eve")
		w.s.Join(t, w.org, member)
		eve.Org(t, "evil")
		token := func(name string, o *tfe.OrganizationAccessOptions) *servertest.Client {
			team := must[*tfe.Team](t)(w.c.Teams.Create(ctx, w.org, tfe.TeamCreateOptions{Name: &name, OrganizationAccess: o}))
			return w.s.As(must[*tfe.TeamToken](t)(w.c.TeamTokens.Create(ctx, team.ID)).Token)
		}
		plain, modules := token("plain", nil), token("modules", &tfe.OrganizationAccessOptions{ManageModules: tfe.Bool(true)})
		providers := token("providers", &tfe.OrganizationAccessOptions{ManageProviders: tfe.Bool(true)})
		whole := w.s.As(must[*tfe.OrganizationToken](t)(w.c.OrganizationTokens.Create(ctx, w.org)).Token)

		const mods, provs = "/api/v2/organizations/acme/registry-modules", "/api/v2/organizations/acme/registry-providers"
		newModule := func(n string) map[string]any {
			return servertest.Doc("registry-modules", map[string]any{"name": n, "provider": "aws"})
		}
		newProvider := func(n string) map[string]any {
			return servertest.Doc("registry-providers", map[string]any{"name": n, "namespace": "acme", "registry-name": "private"})
		}
		for _, c := range []struct {
			name                              string
			who                               *servertest.Client
			read, install, publish, providers int
		}{
			{"member", member, 200, 204, 404, 404}, {"plain", plain, 200, 204, 404, 404}, {"modules", modules, 200, 204, 201, 404},
			{"providers", providers, 200, 204, 404, 201}, {"whole", whole, 200, 204, 201, 201}, {"eve", eve, 404, 404, 404, 404}, {"nobody", w.s.As(""), 401, 401, 401, 401},
		} {
			for _, path := range []string{mods, mods + "/private/acme/net/aws", provs, provs + "/private/acme/net", provs + "/private/acme/net/versions", "/api/registry/private/v2/gpg-keys?filter[namespace]=acme", "/api/registry/v1/modules/acme/net/aws/1.0.0", "/api/registry/v1/providers/acme/net/versions"} {
				if a := c.who.Get(t, path); a.Status != c.read {
					t.Errorf("%s: GET %s: %d, want %d", c.name, path, a.Status, c.read)
				}
			}
			if a := c.who.Get(t, "/api/registry/v1/modules/acme/net/aws/1.0.0/download"); a.Status != c.install {
				t.Errorf("%s installs: %d, want %d", c.name, a.Status, c.install)
			}
			version := map[string]any{"version": "9.0." + string(rune('0'+len(c.name)))}
			for what, want := range map[[2]string]int{{"POST", mods}: c.publish, {"POST", mods + "/private/acme/net/aws/versions"}: c.publish, {"POST", provs}: c.providers} {
				var body any = newModule("by-" + c.name)
				if strings.HasSuffix(what[1], "versions") {
					body = servertest.Doc("registry-module-versions", version)
				} else if what[1] == provs {
					body = newProvider("by-" + c.name)
				}
				if a := c.who.Do(t, what[0], what[1], body); a.Status != want {
					t.Errorf("%s: %s %s: %d, want %d", c.name, what[0], what[1], a.Status, want)
				}
			}
			if c.publish != 201 {
				c.who.Do(t, "DELETE", mods+"/private/acme/net/aws", nil).Want(t, c.publish)
				c.who.Do(t, "PATCH", mods+"/private/acme/net/aws", servertest.Doc("registry-modules", nil)).Want(t, c.publish)
			}
		}
		// Hidden and absent look alike; who may not publish gets no address to upload to.
		if a, b := eve.Get(t, mods+"/private/acme/net/aws"), eve.Get(t, "/api/v2/organizations/nowhere/registry-modules/private/nowhere/x/y"); !bytes.Equal(a.Body, b.Body) {
			t.Errorf("%s and %s differ", a.Body, b.Body)
		}
		must[*tfe.RegistryModuleVersion](t)(w.c.RegistryModules.CreateVersion(ctx, tfe.NewPrivateRegistryModuleID(w.org, "net", "aws"), tfe.RegistryModuleCreateVersionOptions{Version: tfe.String("2.0.0")}))
		if a := member.Get(t, mods+"/private/acme/net/aws/version?module_version=2.0.0").Want(t, 200); strings.Contains(string(a.Body), "/upload/") {
			t.Errorf("a member is told where to upload: %s", a.Body)
		}

		// The organization's trail tells what was published.
		trail := string(whole.Get(t, "/api/v2/organization/audit-trail?page[size]=100").Want(t, 200).Body)
		for _, typ := range []string{"registry_module", "registry_module_version", "registry_provider"} {
			if !strings.Contains(trail, `"type":"`+typ+`"`) {
				t.Errorf("the trail has no %s: %s", typ, trail)
			}
		}

		// Sharing opens the protocol, and nothing else.
		admin := w.s.As(servertest.AdminToken)
		eve.Get(t, "/api/registry/v1/modules/acme/net/aws/versions").Want(t, 404)
		admin.Do(t, "PATCH", "/api/v2/admin/organizations/acme/relationships/module-consumers", `{"data":[{"type":"organizations","id":"evil"}]}`).Want(t, 204)
		eve.Get(t, "/api/registry/v1/modules/acme/net/aws/versions").Want(t, 200)
		eve.Get(t, "/api/registry/v1/providers/acme/net/versions").Want(t, 404)
		w.s.User(t, "zoe").Get(t, "/api/registry/v1/modules/acme/net/aws/versions").Want(t, 404)
		eve.Get(t, mods).Want(t, 404)
		admin.Do(t, "PATCH", "/api/v2/admin/organizations/acme", servertest.Doc("organizations", map[string]any{"global-provider-sharing": true})).Want(t, 200)
		eve.Get(t, "/api/registry/v1/providers/acme/net/versions").Want(t, 200)
	})
}
