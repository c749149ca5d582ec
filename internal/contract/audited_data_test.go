package contract

import (
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"

	"interlock/internal/servertest"
)

// A proof is how a writing route is made to succeed where the matrix's own
// request does not: the matrix needs one that gets past the door, no more.
type proof struct {
	options string              // instead of the row's
	body    any                 // instead of the row's
	before  func(*grid, things) // brings the world there
}

func queued(g *grid, id things) {
	opened(g, id)
	// Something to confirm each time, whatever the state holds by now.
	id["config"] = g.owner.Upload(g.t, id["workspace"], map[string]string{"main.tf": `output "y" { value = "` + g.number() + `" }`}, map[string]any{"auto-queue-runs": false})
	r := g.owner.Queue(g.t, id["workspace"], map[string]any{"message": "x"}, "configuration-version", "configuration-versions", id["config"])
	g.owner.WaitRun(g.t, r.ID, "planned")
	id["run"], id["plan"] = r.ID, r.Rel("plan")
}

func done(method, path string, body any) func(*grid, things) {
	return func(g *grid, id things) {
		path := matrixWord.ReplaceAllStringFunc(path, func(s string) string { return id[s[1:len(s)-1]] })
		c := g.owner
		if strings.Contains(path, "/admin/") {
			c = g.s.As(servertest.AdminToken)
		}
		c.Do(g.t, method, path, body).Want(g.t, 200, 201, 202, 204)
	}
}

func lockedByOwner(g *grid, id things) {
	g.owner.Do(g.t, "POST", "/api/v2/workspaces/"+id["workspace"]+"/actions/lock", nil).Want(g.t, 200)
}

// spare makes a configuration that nothing needs.
func spare(g *grid, id things) {
	id["config"] = g.owner.Upload(g.t, id["workspace"], map[string]string{"main.tf": `output "x" { value = 1 }`}, map[string]any{"auto-queue-runs": false})
	g.owner.Upload(g.t, id["workspace"], map[string]string{"main.tf": `output "x" { value = 2 }`}, map[string]any{"auto-queue-runs": false})
}

func softDeleted(g *grid, id things) {
	spare(g, id)
	done("POST", "/api/v2/configuration-versions/{config}/actions/soft_delete_backing_data", nil)(g, id)
}

func opened(g *grid, id things) {
	for _, r := range g.owner.Get(g.t, "/api/v2/workspaces/"+id["workspace"]+"/runs?filter[status]=pending,planned,plan_queued,planning,apply_queued,applying").Want(g.t, 200).List(g.t) {
		g.owner.WaitRun(g.t, r.ID, "planned", "applied", "planned_and_finished", "errored")
		g.owner.Do(g.t, "POST", "/api/v2/runs/"+r.ID+"/actions/discard", nil).Want(g.t, 202, 409)
	}
	g.owner.Do(g.t, "POST", "/api/v2/workspaces/"+id["workspace"]+"/actions/force-unlock", nil).Want(g.t, 200, 409)
}

// staged makes an open workspace with something to take from its state, whatever
// was done before, and stages that.
func staged(g *grid, id things) {
	opened(g, id)
	g.owner.Do(g.t, "POST", "/api/v2/workspaces/"+id["workspace"]+"/actions/lock", nil).Want(g.t, 200)
	g.owner.Do(g.t, "PATCH", "/api/v2/workspaces/"+id["workspace"]+"/state-versions", servertest.Doc("state-versions", nil, "rollback-state-version", "state-versions", id["state"])).Want(g.t, 201)
	g.owner.Do(g.t, "POST", "/api/v2/workspaces/"+id["workspace"]+"/actions/unlock", nil).Want(g.t, 200)
	id["operation"] = g.owner.Do(g.t, "POST", "/api/v2/workspaces/"+id["workspace"]+"/state-operations", d("state-operations", removal)).Want(g.t, 201).One(g.t).ID
}

func operated(g *grid, id things) {
	staged(g, id)
	g.owner.Do(g.t, "POST", "/api/v2/state-operations/"+id["operation"]+"/actions/apply", attrs{"reason": "x"}).Want(g.t, 200)
}

var laterState = func() map[string]any {
	raw := fmt.Appendf(nil, matrixState, 7)
	return d("state-versions", attrs{"serial": 7, "md5": fmt.Sprintf("%x", md5.Sum(raw)), "state": base64.StdEncoding.EncodeToString(raw)})
}()

const page = "workspace=name "

func tagged(typ string) map[string]any {
	return attrs{"data": attrs{"type": typ, "relationships": attrs{"tag-bindings": attrs{"data": []any{d("tag-bindings", attrs{"key": "k", "value": "v"})["data"]}}}}}
}

// noRule changes the guard of a place so that it holds nobody.
var noRule = d("guards", attrs{"second-factor": "never"})

// oldWindow is one that has closed.
var oldWindow = url.Values{"from": {"2020-01-01T00:00"}, "to": {"2020-01-02T00:00"}, "reason": {"long ago"}}

// glass sees to it that break-glass is on, or that it is not.
func glass(on bool) func(*grid, things) {
	return func(g *grid, id things) {
		at := "/api/v2/workspaces/" + id["workspace"] + "/guard/actions/"
		if on {
			g.owner.Do(g.t, "POST", at+"break-glass", attrs{"reason": "fire", "minutes": 5}).Want(g.t, 201, 409)
		} else {
			g.owner.Do(g.t, "POST", at+"end-break-glass", nil).Want(g.t, 204, 409)
		}
	}
}

// proofs are by route.
var proofs = map[string]proof{
	"PATCH /api/v2/workspaces/{workspace}/guard":                                           {body: noRule},
	"PATCH /api/v2/organizations/{org}/guard":                                              {body: noRule},
	"POST /api/v2/workspaces/{workspace}/guard/actions/break-glass":                        {before: glass(false), body: attrs{"reason": "fire", "minutes": 5}},
	"POST /api/v2/workspaces/{workspace}/guard/actions/end-break-glass":                    {before: glass(true)},
	"POST /app/{org}/{workspace}/guard":                                                    {body: url.Values{"required-approvals": {"0"}, "second-factor": {"never"}, "second-factor-check": {"verify"}}},
	"POST /app/{org}/{workspace}/guard/windows":                                            {body: oldWindow},
	"POST /app/organizations/{org}/guard":                                                  {body: url.Values{"required-approvals": {"0"}, "second-factor": {"never"}, "second-factor-check": {"verify"}}},
	"POST /app/organizations/{org}/guard/windows":                                          {body: oldWindow},
	"POST /app/{org}/{workspace}/guard/break-glass":                                        {before: glass(false), body: url.Values{"reason": {"fire"}, "minutes": {"5"}}},
	"POST /app/{org}/{workspace}/guard/end-break-glass":                                    {before: glass(true)},
	"POST /api/v2/configuration-versions/{config}/actions/archive":                         {before: spare},
	"POST /api/v2/configuration-versions/{config}/actions/soft_delete_backing_data":        {before: spare},
	"POST /api/v2/configuration-versions/{config}/actions/restore_backing_data":            {before: softDeleted},
	"POST /api/v2/configuration-versions/{config}/actions/permanently_delete_backing_data": {before: softDeleted},
	"POST /api/v2/state-versions/{state}/actions/permanently_delete_backing_data":          {before: done("POST", "/api/v2/state-versions/{oldstate}/actions/soft_delete_backing_data", nil)},
	"PUT /api/v1/terraform/state/{username}/{name}":                                        {before: opened, body: attrs{"version": 4, "serial": 70, "lineage": "l"}},
	"POST /api/v2/admin/users":                                                             {body: d("users", attrs{"username": "made-{n}", "email": "made-{n}@example.com", "password": "long enough"})},
	"POST /api/v2/admin/organizations/{org}/subscription":                                  {options: "fresh=org", body: d("subscription", attrs{})},
	"POST /api/v2/admin/users/{user}/actions/unsuspend":                                    {before: done("POST", "/api/v2/admin/users/{guest}/actions/suspend", nil)},
	"POST /api/v2/admin/users/{user}/actions/revoke_admin":                                 {before: done("POST", "/api/v2/admin/users/{guest}/actions/grant_admin", nil)},
	"POST /site/users/{user}/unsuspend":                                                    {before: done("POST", "/api/v2/admin/users/{guest}/actions/suspend", nil)},
	"POST /site/users/{user}/revoke-admin":                                                 {before: done("POST", "/api/v2/admin/users/{guest}/actions/grant_admin", nil)},
	"POST /site/users":                                                                     {body: url.Values{"name": {"page-{n}"}, "email": {"page-{n}@example.com"}, "password": {"long enough"}}},
	"POST /api/v2/workspaces/{workspace}/actions/unlock":                                   {before: func(g *grid, id things) { opened(g, id); lockedByOwner(g, id) }},
	"POST /api/v2/workspaces/{workspace}/actions/force-unlock":                             {before: lockedByOwner},
	"POST /api/v2/workspaces/{workspace}/state-versions":                                   {before: lockedByOwner, body: laterState},
	"PATCH /api/v2/workspaces/{workspace}/state-versions":                                  {body: d("state-versions", nil, "rollback-state-version", "state-versions", "{oldstate}")},
	"POST /api/v2/workspaces/{workspace}/state-operations":                                 {body: d("state-operations", removal)},
	"POST /api/v2/state-operations/{operation}/actions/apply":                              {body: attrs{"reason": "x"}, before: staged},
	"POST /api/v2/state-operations/{operation}/actions/undo":                               {before: operated},
	"POST /api/v2/state-operations/{operation}/actions/discard":                            {before: staged},
	"POST /app/{org}/{workspace}/state-operations":                                         {options: page, body: url.Values{"operations": {"mv terraform_data.x terraform_data.y"}}, before: staged},
	"POST /app/{org}/{workspace}/state-operations/{operation}/apply":                       {options: page, body: url.Values{"reason": {"x"}}, before: staged},
	"POST /app/{org}/{workspace}/state-operations/{operation}/undo":                        {options: page, before: operated},
	"POST /app/{org}/{workspace}/state-operations/{operation}/discard":                     {options: page, before: staged},
	"POST /api/v2/tags/{tag}/relationships/workspaces": {before: func(g *grid, id things) {
		g.owner.Do(g.t, "POST", "/api/v2/workspaces/"+id["workspace"]+"/relationships/tags", map[string]any{"data": []any{map[string]any{"type": "tags", "attributes": map[string]any{"name": "green"}}}}).Want(g.t, 204)
		id["tag"] = g.owner.Get(g.t, "/api/v2/organizations/acme/tags").Want(g.t, 200).List(g.t)[0].ID
	}},
	"POST /api/v2/projects/{project}/relationships/workspaces":                                    {options: "fresh=project"},
	"PUT /api/v1/environments/{username}/{name}/variables":                                        {body: attrs{"variables": attrs{"other": "v{n}"}}},
	"PATCH /api/v2/organizations/{org}/registry-modules/{registry}/{namespace}/{name}/{provider}": {options: inRegistry, body: tagged("registry-modules")},
	"PATCH /api/v2/organizations/{org}/registry-providers/{registry}/{namespace}/{name}":          {options: inRegistry, body: tagged("registry-providers")},
	"POST /api/v2/runs/{run}/actions/discard":                                                     {before: queued},
	"POST /api/v2/runs/{run}/actions/apply":                                                       {before: queued},
	"POST /app/{org}/{workspace}/runs/{run}/{action}":                                             {options: page, before: queued},
	"POST /api/v2/runs":                                {body: d("runs", attrs{"plan-only": true}, "workspace", "workspaces", "{workspace}", "configuration-version", "configuration-versions", "{config}")},
	"POST /api/v2/plan-exports":                        {before: queued},
	"PUT /api/v2/workspaces/{workspace}/schedule":      {body: d("workspace-schedules", attrs{"interval-minutes": 60})},
	"PATCH /api/v2/workspaces/{workspace}/schedule":    {body: d("workspace-schedules", attrs{"interval-minutes": 90})},
	"DELETE /api/v2/workspaces/{workspace}/schedule":   {before: done("PUT", "/api/v2/workspaces/{workspace}/schedule", d("workspace-schedules", attrs{"interval-minutes": 60}))},
	"POST /api/v2/workspaces/{workspace}/run-triggers": {options: "fresh=workspace"},

	"POST /app/organizations":                                        {body: url.Values{"name": {"page-{n}"}, "email": {"a@example.com"}}},
	"POST /app/account":                                              {body: url.Values{"username": {"{selfname}"}, "email": {"new-{n}@example.com"}}},
	"POST /app/account/tokens":                                       {body: url.Values{"description": {"x"}, "expires": {"30"}}},
	"POST /app/account/revoke":                                       {options: "fresh=mytoken", body: url.Values{"token": {"{mytoken}"}}},
	"POST /app/account/two-factor/begin":                             {body: url.Values{"password": {servertest.Password}}},
	"POST /app/organizations/{org}/workspaces":                       {body: url.Values{"name": {"page-{n}"}, "project": {"{project}"}, "engine": {"terraform"}}},
	"POST /app/{org}/{workspace}/variables":                          {options: page, body: url.Values{"key": {"key{n}"}, "category": {"terraform"}}},
	"POST /app/{org}/{workspace}/variables/{var}":                    {options: page + "fresh=var", body: url.Values{"key": {"key{n}"}, "category": {"terraform"}}},
	"POST /app/{org}/{workspace}/lock":                               {options: page, before: opened},
	"POST /app/{org}/{workspace}/unlock":                             {options: page, before: func(g *grid, id things) { opened(g, id); lockedByOwner(g, id) }},
	"POST /app/{org}/{workspace}/schedule":                           {options: page, body: url.Values{"every": {"2"}, "unit": {"hours"}}},
	"POST /app/{org}/{workspace}/schedule/delete":                    {options: page, before: done("PUT", "/api/v2/workspaces/{workspace}/schedule", d("workspace-schedules", attrs{"interval-minutes": 60}))},
	"POST /app/organizations/{org}/members":                          {body: url.Values{"email": {"invited-{n}@example.com"}}},
	"POST /app/organizations/{org}/settings/retention":               {body: url.Values{"keep": {"days"}, "days": {"30"}}},
	"POST /app/organizations/{org}/teams/{team}":                     {options: "fresh=team", body: url.Values{"name": {"crew-{n}"}, "visibility": {"secret"}}},
	"POST /app/organizations/{org}/projects":                         {body: url.Values{"name": {"page-{n}"}}},
	"POST /app/organizations/{org}/projects/{project}":               {options: "fresh=project", body: url.Values{"name": {"page-{n}"}}},
	"POST /app/{org}/{workspace}/settings/consumers":                 {options: page, body: url.Values{"consumer": {"source"}}},
	"POST /app/{org}/{workspace}/settings/retention":                 {options: page, body: url.Values{"keep": {"days"}, "days": {"30"}}},
	"POST /app/{org}/{workspace}/states/{state}/rollback":            {options: page, before: opened},
	"POST /app/organizations/{org}/varsets":                          {body: url.Values{"name": {"page-{n}"}}},
	"POST /app/organizations/{org}/varsets/{set}":                    {options: "set=varset fresh=varset", body: url.Values{"name": {"page-{n}"}}},
	"POST /app/organizations/{org}/varsets/{set}/vars":               {options: "set=varset fresh=varset", body: url.Values{"key": {"key{n}"}, "category": {"terraform"}}},
	"POST /app/organizations/{org}/varsets/{set}/vars/{var}":         {options: "set=varset var=vsvar fresh=vsvar", body: url.Values{"key": {"key{n}"}, "category": {"terraform"}}},
	"POST /app/organizations/{org}/agents":                           {body: url.Values{"name": {"page-{n}"}}},
	"POST /app/organizations/{org}/agents/{pool}":                    {options: "fresh=pool", body: url.Values{"name": {"page-{n}"}}},
	"POST /app/organizations/{org}/ssh-keys":                         {body: url.Values{"name": {"page-{n}"}, "value": {"-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n"}}},
	"POST /app/organizations/{org}/ssh-keys/rename":                  {options: "fresh=sshkey", body: url.Values{"key": {"{sshkey}"}, "name": {"page-{n}"}}},
	"POST /app/organizations/{org}/ssh-keys/delete":                  {options: "fresh=sshkey", body: url.Values{"key": {"{sshkey}"}}},
	"POST /app/{org}/{workspace}/notifications":                      {options: page, body: url.Values{"name": {"page-{n}"}, "destination-type": {"generic"}, "url": {"http://127.0.0.1:1/"}}},
	"POST /app/organizations/{org}/projects/{project}/notifications": {options: "fresh=project", body: url.Values{"name": {"page-{n}"}, "destination-type": {"generic"}, "url": {"http://127.0.0.1:1/"}}},
	"POST /app/{org}/{workspace}/run-triggers":                       {options: page + "fresh=workspace", body: url.Values{"source": {"source"}}},
}

// unproven are the writing routes that the test does not have succeed, and why.
// Whatever test does, servertest watches it: what a request writes without a row
// fails there.
var unproven = map[string]string{
	"POST /api/v2/runs/{run}/actions/approve":                                "needs another person; TestGuards and package guard",
	"POST /api/v2/runs/{run}/actions/revoke-approval":                        "needs another person; package guard",
	"POST /api/v2/runs/{run}/actions/enter-code":                             "needs a rule that would hold the others; TestACodeAtApply",
	"POST /app/{org}/{workspace}/runs/{run}/approve":                         "the same service call as in v2",
	"POST /app/{org}/{workspace}/runs/{run}/revoke-approval":                 "the same service call as in v2",
	"POST /app/{org}/{workspace}/settings":                                   "the same service call as in v2",
	"POST /api/v1/terraform/state/{username}/{name}/rollback":                "TestStateHistoryGoesBack",
	"POST /api/v2/workspaces/{workspace}/module-links":                       "TestAModuleVersionQueuesRuns",
	"DELETE /api/v2/workspaces/{workspace}/module-links/{link}":              "TestAModuleVersionQueuesRuns",
	"POST /app/{org}/{workspace}/run-triggers/modules":                       "the same service call as in v2",
	"POST /app/{org}/{workspace}/run-triggers/modules/delete":                "the same service call as in v2",
	"POST /app/organizations/{org}/upload/start":                             "an archive goes with it; TestPagesOfTheFirstRun",
	"POST /app/organizations/{org}/workspaces/bulk":                          "the same service calls as in v2; TestPagesOfManyWorkspaces",
	"POST /app/organizations/{org}/views/{view}/delete":                      "TestPagesOfManyWorkspaces",
	"POST /api/v2/notification-configurations/{notification}/actions/verify": "needs a receiver; TestV2Notifications",
	"POST /api/v2/notification-configurations/{notification}/actions/enable": "needs a receiver; TestV2Notifications",
	"POST /app/{org}/{workspace}/notifications/{notification}/verify":        "the same service call as in v2",
	"DELETE " + oneModule:                                                    "TestV2ModulesOfTheRegistry",
	"DELETE " + oneModule + "/{version}":                                     "TestV2ModulesOfTheRegistry",
	"POST /api/v2/registry-modules/{org}/{name}/{rest...}":                   "older names of the same service calls",
	"POST " + moduleTests + "/test-runs/configuration-versions":              "package cli: it needs engines",
	"POST " + moduleTests + "/test-runs":                                     "package cli: it needs engines",
	"POST " + moduleTests + "/test-runs/{test}/cancel":                       "package cli: it needs engines",
	"POST " + moduleTests + "/test-runs/{test}/force-cancel":                 "package cli: it needs engines",
	"POST " + moduleTests + "/vars":                                          "package cli: only a module that has a branch has some",
	"PATCH " + moduleTests + "/vars/{var}":                                   "package cli: only a module that has a branch has some",
	"DELETE " + moduleTests + "/vars/{var}":                                  "package cli: only a module that has a branch has some",
	"POST " + oneProvider + "/versions":                                      "needs a signing key; TestV2ProvidersOfTheRegistry",
	"DELETE " + oneProvider + "/versions/{version}":                          "needs a signing key; TestV2ProvidersOfTheRegistry",
	"POST " + oneProvider + "/versions/{version}/platforms":                  "needs a signing key; TestV2ProvidersOfTheRegistry",
	"DELETE " + oneProvider + "/versions/{version}/platforms/{os}/{arch}":    "needs a signing key; TestV2ProvidersOfTheRegistry",
	"POST " + gpgKeys:                                                                      "needs a signing key; TestV2ProvidersOfTheRegistry",
	"PATCH " + gpgKeys + "/{namespace}/{key}":                                              "needs a signing key; TestV2ProvidersOfTheRegistry",
	"DELETE " + gpgKeys + "/{namespace}/{key}":                                             "needs a signing key; TestV2ProvidersOfTheRegistry",
	"POST /app/account/sessions":                                                           "needs two browsers; TestTwoFactor",
	"PATCH /api/v2/account/password":                                                       "it ends the sessions of the one who asks; TestV2Accounts",
	"POST /app/account/password":                                                           "the same service call as in v2",
	"POST /api/v1/authenticate":                                                            "the same service call as POST /signin",
	"POST /signin":                                                                         "TestPagesOfAccounts; every session of this world came by it",
	"POST /signin/code":                                                                    "TestTwoFactor",
	"POST /setup/{token}":                                                                  "works once, on an empty installation",
	"POST /app/account/two-factor/confirm":                                                 "TestTwoFactor",
	"POST /app/account/two-factor/renew":                                                   "TestTwoFactor",
	"POST /app/account/two-factor/drop":                                                    "TestTwoFactor",
	"POST /app/account/connections":                                                        "TestSingleSignOn",
	"POST /oauth/authorize":                                                                "a no changes nothing; a yes is in package cli",
	"POST /api/v2/admin/organizations/{org}/subscription":                                  "there is nothing to subscribe to: it changes nothing",
	"POST /api/v2/admin/runs/{run}/actions/force-cancel":                                   "TestV2Administration; needs an engine that hangs",
	"POST /api/v2/runs/{run}/actions/cancel":                                               "TestV2LifeOfRuns; needs an engine at work",
	"POST /api/v2/runs/{run}/actions/force-cancel":                                         "needs an engine that hangs; package chaos",
	"POST /api/v2/runs/{run}/actions/force-execute":                                        "needs a queue; package run",
	"POST /api/v2/admin/identity-providers":                                                "TestSingleSignOn",
	"PATCH /api/v2/admin/identity-providers/{provider}":                                    "TestSingleSignOn",
	"DELETE /api/v2/admin/identity-providers/{provider}":                                   "TestSingleSignOn",
	"POST /site/sso":                                                                       "the same service call as in v2",
	"POST /app/organizations/{org}/directory":                                              "the same service call as in v2",
	"POST /app/organizations/{org}/directory/revoke":                                       "the same service call as in v2",
	"POST /api/v2/organizations/{org}/scim-tokens":                                         "TestSCIM",
	"DELETE /api/v2/scim-tokens/{token}":                                                   "TestSCIM",
	"POST /app/account/subscriptions":                                                      "the same service call as in v2",
	"POST /app/account/subscriptions/end":                                                  "the same service call as in v2",
	"POST /api/v2/account/subscriptions":                                                   "TestPersonalLetters",
	"PATCH /api/v2/subscriptions/{subscription}":                                           "TestPersonalLetters",
	"DELETE /api/v2/subscriptions/{subscription}":                                          "TestPersonalLetters",
	"POST /site/sso-saml":                                                                  "the same service call as in v2",
	"PATCH /api/v2/admin/saml-settings":                                                    "TestSAMLSettings",
	"POST /api/v2/admin/saml-settings/actions/revoke-old-certificate":                      "TestSAMLSettings",
	"POST /site/sso/{provider}":                                                            "the same service call as in v2",
	"POST /site/sso/{provider}/check":                                                      "asks the provider and changes nothing",
	"POST /site/sso/{provider}/delete":                                                     "the same service call as in v2",
	"POST /site/users/{user}/delete":                                                       "the same service call as in v2",
	"POST /api/v2/admin/terraform-versions":                                                "TestV2Administration",
	"PATCH /api/v2/admin/terraform-versions/{version}":                                     "TestV2Administration",
	"DELETE /api/v2/admin/terraform-versions/{version}":                                    "TestV2Administration",
	"POST /app/organizations/{org}/settings":                                               "the same service call as in v2",
	"POST /app/organizations/{org}/settings/delete":                                        "the same service call as in v2",
	"POST /app/organizations/{org}/teams/{team}/members":                                   "the same service call as POST /app/organizations/{org}/members",
	"POST /app/organizations/{org}/teams/{team}/tokens/revoke":                             "the same service call as in v2",
	"POST /app/organizations/{org}/projects/{project}/access/{grant}":                      "the same service call as in v2",
	"POST /app/{org}/{workspace}/access/{grant}":                                           "the same service call as in v2",
	"POST /app/organizations/{org}/varsets/{set}/targets":                                  "the same service call as in v2",
	"POST /app/organizations/{org}/agents/{pool}/tokens/revoke":                            "the same service call as in v2",
	"POST /app/organizations/{org}/agents/{pool}/scope":                                    "the same service call as in v2",
	"POST /app/{org}/{workspace}/notifications/{notification}":                             "the same service call as in v2",
	"POST /app/organizations/{org}/projects/{project}/notifications/{notification}":        "the same service call as in v2",
	"POST /app/organizations/{org}/projects/{project}/notifications/{notification}/verify": "the same service call as in v2",
	"POST /app/organizations/{org}/projects/{project}/notifications/{notification}/delete": "the same service call as in v2",
	"POST /app/organizations/{org}/vcs":                                                    "the same service call as in v2",
	"POST /app/organizations/{org}/vcs/{client}/test":                                      "asks the forge and changes nothing",
	"POST /app/organizations/{org}/vcs/{client}/discover":                                  "looks into a repository and changes nothing",
	"POST /app/organizations/{org}/vcs/{client}/workspaces":                                "needs a repository; TestPagesOfVersionControl",
	"POST /app/{org}/{workspace}/version-control":                                          "needs a repository; TestPagesOfVersionControl",
	"POST /app/{org}/{workspace}/version-control/fetch":                                    "needs a repository; TestPagesOfVersionControl",

	// Drift, personal variables, engines: their own tests have them succeed.
	"DELETE /api/v2/account/vars/{var}":                             "the tests of personal variables",
	"DELETE /api/v2/workspaces/{workspace}/drift-ignore-rules/{id}": "the tests of drift",
	"PATCH /api/v2/account/vars/{var}":                              "the tests of personal variables",
	"POST /api/v2/account/vars":                                     "the tests of personal variables",
	"POST /api/v2/workspaces/{workspace}/actions/assess":            "the tests of drift",
	"POST /api/v2/workspaces/{workspace}/drift-ignore-rules":        "the tests of drift",
	"POST /app/account/variables":                                   "the tests of personal variables",
	"POST /app/account/variables/delete":                            "the tests of personal variables",
	"POST /app/organizations/{org}/engine":                          "the tests of engines",
	"POST /app/{org}/{workspace}/drift/ignore":                      "the tests of drift",
	"POST /app/{org}/{workspace}/drift/settings":                    "the tests of drift",
	"POST /app/{org}/{workspace}/drift/watch":                       "the tests of drift",
	"POST /app/{org}/{workspace}/drift/{settle}":                    "the tests of drift",
	"POST /app/{org}/{workspace}/engine/use":                        "the tests of engines",
	"PUT /api/v2/organizations/{org}/engine-default":                "the tests of engines",
}
