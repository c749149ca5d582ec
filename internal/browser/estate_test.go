package browser_test

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"interlock/internal/servertest"
)

// attach chooses a file in a form, as a person does in the dialog.
func (p *page) attach(selector, file string) {
	p.t.Helper()
	var doc struct {
		Root struct {
			NodeID int `json:"nodeId"`
		} `json:"root"`
		NodeID int `json:"nodeId"`
	}
	_ = json.Unmarshal(p.call("DOM.getDocument", map[string]any{"depth": 0}), &doc)
	_ = json.Unmarshal(p.call("DOM.querySelector", map[string]any{"nodeId": doc.Root.NodeID, "selector": selector}), &doc)
	p.call("DOM.setFileInputFiles", map[string]any{"nodeId": doc.NodeID, "files": []string{file}})
}

// choose picks an option of a select.
func (p *page) choose(selector, value string) {
	p.t.Helper()
	p.until("the choice "+selector, "(() => { const e = document.querySelector("+quote(selector)+"); if (!e) return false; e.value = "+quote(value)+"; e.dispatchEvent(new Event('change', {bubbles: true})); return e.value === "+quote(value)+" })()")
}

// archive packs files as a person would with tar.
func archive(t *testing.T, files map[string]string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.tar.gz")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(f)
	w := tar.NewWriter(z)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []interface{ Close() error }{w, z, f} {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// From an empty organization to an applied run with nothing but the pages: what
// is no archive is refused and keeps what was typed, the archive plans and
// applies; the sample waits on the dashboard.
func TestFirstRunByUpload(t *testing.T) {
	b := openBrowser(t)
	s, _ := start(t)
	p := b.page(t, s.URL)
	p.signIn("ann", servertest.Password)
	p.says("From here to the first applied run")
	p.says("terraform login 127.0.0.1")
	p.shot("dashboard-empty")

	junk := filepath.Join(t.TempDir(), "main.tf")
	if err := os.WriteFile(junk, []byte(quickstart(t)["main.tf"]), 0o644); err != nil {
		t.Fatal(err)
	}
	p.fill("#upload-name", "shop")
	p.fill("#f-message", "my first")
	p.attach("#archive", junk)
	p.press("Upload and queue a run")
	p.says("Archive is not gzip.")
	p.shot("first-run-refused")
	if got := p.eval("document.querySelector('#upload-name').value + '/' + document.querySelector('#f-message').value"); got != "shop/my first" {
		t.Errorf("the form holds %v", got)
	}
	p.attach("#archive", archive(t, quickstart(t)))
	p.press("Upload and queue a run")
	p.says("Needs confirmation")
	p.says("my first")
	p.press("Confirm and apply")
	p.until("the end", "document.querySelector('#run-head .badge').innerText.includes('Applied')")
	p.visit("/app/ann")
	p.says("No run is queued or at work.")

	p.shot("dashboard-quiet")

	p.visit("/app/organizations/ann/start")
	p.press("Run the sample")
	p.says("Needs confirmation")
	p.visit("/app/ann")
	p.says("Waiting for someone to confirm or discard the plan.")
	for _, path := range []string{"/app/ann", "/app/organizations/ann/start", "/app/organizations/ann/workspaces"} {
		p.visit(path)
		p.fits(path)
	}
	p.innocent()
}

// A dashboard at work, and one action over workspaces on some of which it is
// not for the person to do.
func TestBulkAction(t *testing.T) {
	b := openBrowser(t)
	s, ann := start(t)
	ann.Org(t, "acme")
	names := []string{"dns", "network", "shop", "shop-staging"}
	ids := map[string]string{}
	for _, n := range names {
		ids[n] = ann.Workspace(t, "acme", n, nil)
	}
	bob := s.User(t, "bob")
	s.Access(t, "acme", "shop", bob, "write")
	s.Access(t, "acme", "network", bob, "read")
	p := b.page(t, s.URL)
	p.signIn("bob", servertest.Password)
	p.visit("/app/organizations/acme/workspaces")
	p.says("network")
	if got := p.eval("document.body.innerText.includes('dns')"); got != false {
		t.Error("bob sees a workspace that is not for him to see")
	}
	p.eval("document.querySelector('[data-all]').click()")
	p.choose("#bulk-action", "lock")
	p.fill("#bulk-with", "counting the stock")
	p.press("Do it")
	p.says("1 workspace done, 1 not.")
	p.says("You may see this, but not lock it.")
	p.shot("bulk-result")
	if w := ann.WorkspaceNamed(t, "acme", "shop"); w.Attributes["locked"] != true {
		t.Error("shop is not locked")
	}
	if w := ann.WorkspaceNamed(t, "acme", "network"); w.Attributes["locked"] != false {
		t.Error("network is locked")
	}
	p.press("Back to the workspaces")
	p.says("counting the stock")

	// What its owner sees of it: a plan that waits, a failure, a run behind a
	// lock; and the list narrowed by tag and kept as a view.
	ann.Push(t, "acme", "dns", quickstart(t))
	ann.Push(t, "acme", "shop", quickstart(t))
	ann.Push(t, "acme", "network", map[string]string{"main.tf": "resource \"terraform_data\" \"a\" {\n  input = var.nothing\n}\n"})
	a := b.page(t, s.URL)
	a.signIn("ann", servertest.Password)
	a.visit("/app/acme")
	a.says("Waiting for someone to confirm or discard the plan.")
	a.says("The workspace is locked by User bob: counting the stock")
	a.until("the failure", `document.querySelector("#failed").innerText.includes("network")`)
	a.shot("dashboard")
	a.visit("/app/organizations/acme/workspaces")
	a.eval(`document.querySelectorAll("[name=workspace]").forEach((e, i) => { e.checked = i > 1 })`)
	a.choose("#bulk-action", "tag")
	a.fill("#bulk-with", "team=shop, critical")
	a.press("Do it")
	a.says("2 workspaces done, 0 not.")
	a.visit("/app/organizations/acme/workspaces")
	a.fill("#f-tags", "team=shop")
	a.press("Find")
	a.until("two of four", `document.querySelectorAll("[name=workspace]").length === 2`)
	a.fill("[name=view-name]", "The shop")
	a.eval(`document.querySelector("[name=shared]").click()`)
	a.press("Save view")
	a.press("The shop (everybody's)")
	a.until("two of four", `document.querySelectorAll("[name=workspace]").length === 2 && location.search.includes("team")`)
	a.shot("workspaces")
	a.choose("#f-status", "errored")
	a.says("No workspace here is like that.")
	for _, path := range []string{"/app/acme", "/app/organizations/acme/workspaces"} {
		a.visit(path)
		a.fits(path)
	}
	a.innocent()
	p.innocent()
}

// A question to the explorer by keyboard alone: from an engine version to the
// resources it wrote, narrowed, kept as a view, and taken along as a file.
func TestExplorerQuery(t *testing.T) {
	b := openBrowser(t)
	s, ann := start(t)
	ann.Org(t, "acme")
	block := func(module, typ, name, provider string, n int) string {
		if module != "" {
			module = `"module":"` + module + `",`
		}
		keys := `{"attributes":{}}`
		for i := 1; i < n; i++ {
			keys += fmt.Sprintf(`,{"index_key":%d,"attributes":{}}`, i)
		}
		return `{` + module + `"mode":"managed","type":"` + typ + `","name":"` + name + `","provider":"provider[\"registry.terraform.io/` + provider + `\"]","instances":[` + keys + `]}`
	}
	for name, st := range map[string]struct {
		engine string
		blocks []string
	}{
		"network": {"1.11.4", []string{block("", "aws_vpc", "main", "hashicorp/aws", 1), block("module.subnets", "aws_subnet", "private", "hashicorp/aws", 3)}},
		"shop":    {"1.11.4", []string{block("module.web", "aws_instance", "web", "hashicorp/aws", 4), block("", "random_pet", "name", "hashicorp/random", 1)}},
		"legacy":  {"1.5.7", []string{block("", "aws_instance", "old", "hashicorp/aws", 2), block("", "aws_db_instance", "old", "hashicorp/aws", 1)}},
	} {
		ann.PutState(t, ann.Workspace(t, "acme", name, nil), 1, st.engine, `"outputs":{},"resources":[`+strings.Join(st.blocks, ",")+`]`)
	}
	p := b.page(t, s.URL)
	p.signIn("ann", servertest.Password)
	p.visit("/app/acme")
	p.press("Explorer")
	p.says("module.subnets.aws_subnet.private")
	p.shot("explorer")
	p.press("Engine versions")
	p.press("1.5.7")
	p.says("aws_db_instance.old")
	if p.eval(`document.querySelector("#found").innerText.includes("aws_vpc")`) != false {
		t.Error("a resource of another engine version is shown")
	}
	p.fill("#f-q", "type:aws_instance -version:1.5.*")
	p.key("Enter", 13, "\r")
	p.until("the one", `document.querySelectorAll("#found tbody tr").length === 1 && document.querySelector("#found").innerText.includes("module.web.aws_instance.web")`)
	p.fill("[name=view-name]", "New instances")
	p.key("Enter", 13, "\r")
	p.until("the view", `document.querySelector(".chip")?.innerText.includes("New instances")`)
	p.fill("#f-q", "planet:earth")
	p.key("Enter", 13, "\r")
	p.says("There is no field")
	p.shot("explorer-refused")
	p.press("New instances")
	p.says("module.web.aws_instance.web")
	got := p.eval(`(() => { const x = new XMLHttpRequest(); x.open("GET", [...document.querySelectorAll("a")].find(a => a.innerText === "Download as CSV").href, false); x.send(); return x.responseText })()`)
	if want := "shop,Default Project,module.web.aws_instance.web,managed,aws_instance,web,web,hashicorp/aws,4,terraform,1.11.4"; !strings.Contains(fmt.Sprint(got), want) {
		t.Errorf("the file holds %v", got)
	}
	p.press("Providers")
	p.until("the providers", `document.querySelector("#found th")?.innerText === "Provider"`)
	p.shot("explorer-providers")
	for _, path := range []string{"/app/organizations/acme/explorer", "/app/organizations/acme/explorer?view=providers"} {
		p.visit(path)
		p.fits(path)
	}
	p.innocent()
}

// The map is a picture with a list that says the same, and leads from one
// workspace to what is near it; the figures count what has run.
func TestMapAndUsage(t *testing.T) {
	b := openBrowser(t)
	s, ann := start(t)
	ann.Org(t, "acme")
	ids := map[string]string{}
	for _, n := range []string{"network", "dns", "cluster", "shop", "shop-staging", "a-workspace-with-quite-a-long-name", "monitoring", "alone"} {
		ids[n] = ann.Workspace(t, "acme", n, nil)
	}
	for _, l := range [][2]string{{"network", "dns"}, {"network", "cluster"}, {"cluster", "shop"}, {"cluster", "shop-staging"}, {"shop", "monitoring"}, {"a-workspace-with-quite-a-long-name", "shop"}} {
		ann.Do(t, "POST", "/api/v2/workspaces/"+ids[l[1]]+"/run-triggers", servertest.Doc("run-triggers", map[string]any{}, "sourceable", "workspaces", ids[l[0]])).Want(t, 201)
	}
	for _, l := range [][2]string{{"network", "cluster"}, {"dns", "shop"}} {
		ann.Do(t, "POST", "/api/v2/workspaces/"+ids[l[0]]+"/relationships/remote-state-consumers", map[string]any{"data": []any{map[string]any{"type": "workspaces", "id": ids[l[1]]}}}).Want(t, 204)
	}
	p := b.page(t, s.URL)
	p.signIn("ann", servertest.Password)
	p.visit("/app/acme")
	p.press("Map")
	p.until("seven boxes and eight lines", `document.querySelectorAll(".graph .box").length === 7 && document.querySelectorAll(".graph .link").length === 8`)
	p.shot("map")
	p.eval(`document.querySelector('[aria-label="What is near dns"]').dispatchEvent(new MouseEvent("click", {bubbles: true}))`)
	p.until("what is near dns", `document.querySelector(".graph .here") !== null && !document.querySelector(".graph").textContent.includes("alone")`)
	p.visit("/app/organizations/acme/map?workspace=alone")
	p.says("Nothing that you may see leads to alone or from it.")

	ann.Push(t, "acme", "network", quickstart(t))
	ann.Push(t, "acme", "dns", map[string]string{"main.tf": "resource \"terraform_data\" \"a\" {\n  input = var.nothing\n}\n"})
	p.visit("/app/acme")
	p.until("the failure", `document.querySelector("#failed")?.innerText.includes("dns")`)
	p.says("Waiting for someone to confirm")
	p.press("Usage")
	p.says("0 applied, 1 failed, 0 ended otherwise, 1 going on")
	p.shot("usage")
	for _, path := range []string{"/app/organizations/acme/map", "/app/organizations/acme/usage"} {
		p.visit(path)
		p.fits(path)
	}
	p.innocent()
}
