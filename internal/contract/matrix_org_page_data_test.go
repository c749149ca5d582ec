package contract_test

import "net/url"

// The pages of an organization's people, teams, tokens and projects: the same
// decisions as their twins in v2.
var matrixOrgPageRows = []matrixRow{
	{"GET /app/organizations/{org}/members", "org.see", "", nil},
	{"POST /app/organizations/{org}/members", "org.members", "", url.Values{"email": {"no address"}}},
	{"POST /app/organizations/{org}/members/remove", "org.members", "fresh=member", url.Values{"member": {"{member}"}}},
	{"GET /app/organizations/{org}/tokens", "org.orgtokens", "", nil},
	{"POST /app/organizations/{org}/tokens", "org.orgtokens", "only=none", url.Values{"kind": {"organization"}}},
	{"POST /app/organizations/{org}/tokens/revoke", "org.orgtokens", "only=none", url.Values{"kind": {"audit"}}},
	{"GET /app/organizations/{org}/settings", "org.see", "", nil},
	{"POST /app/organizations/{org}/settings", "org.update", "", url.Values{"name": {"bad name"}}},
	{"POST /app/organizations/{org}/settings/delete", "org.delete", "", url.Values{"confirm": {"other"}}},
	{"GET /app/organizations/{org}/teams", "org.see", "", nil},
	{"POST /app/organizations/{org}/teams", "org.teams", "", url.Values{"name": {"bad name"}, "visibility": {"secret"}}},
	{"GET /app/organizations/{org}/teams/{team}", "org.see", "", nil},
	{"POST /app/organizations/{org}/teams/{team}", "org.teams", "skip=OA", url.Values{"name": {"bad name"}}},
	{"POST /app/organizations/{org}/teams/{team}/members", "org.members", "skip=MT", url.Values{"email": {"no address"}}},
	{"POST /app/organizations/{org}/teams/{team}/members/remove", "org.members", "skip=MT only=none", url.Values{"member": {"{member}"}}},
	{"POST /app/organizations/{org}/teams/{team}/tokens", "org.teams", "", url.Values{"expires": {"30"}, "description": {"x{n}"}}},
	{"POST /app/organizations/{org}/teams/{team}/tokens/revoke", "org.teams", "only=none", url.Values{"token": {"at-nothing"}}},
	{"POST /app/organizations/{org}/teams/{team}/delete", "org.teams", "fresh=team", url.Values{"confirm": {"other"}}},

	{"GET /app/organizations/{org}/projects", "org.see", "", nil},
	{"POST /app/organizations/{org}/projects", "org.projects", "", url.Values{"name": {"?"}}},
	{"GET /app/organizations/{org}/projects/{project}", "prj.see", "", nil},
	{"POST /app/organizations/{org}/projects/{project}", "prj.update", "", url.Values{"name": {"?"}}},
	{"POST /app/organizations/{org}/projects/{project}/delete", "prj.delete", "fresh=project", nil},
	{"POST /app/organizations/{org}/projects/{project}/access", "prj.access", "fresh=team", url.Values{"team": {"{team}"}, "access": {"read"}}},
	{"POST /app/organizations/{org}/projects/{project}/access/change", "prj.access", "", url.Values{"grant": {"{tprj}"}, "access": {"read"}}},
	{"POST /app/organizations/{org}/projects/{project}/access/remove", "prj.access", "fresh=tprj", url.Values{"grant": {"{tprj}"}}},
	{"GET /app/{org}/{workspace}/access", "ws.see", "workspace=name", nil},
	{"POST /app/{org}/{workspace}/access", "ws.access", "workspace=name fresh=team", url.Values{"team": {"{team}"}, "access": {"read"}}},
	{"POST /app/{org}/{workspace}/access/change", "ws.access", "workspace=name", url.Values{"grant": {"{tws}"}, "access": {"read"}}},
	{"POST /app/{org}/{workspace}/access/remove", "ws.access", "workspace=name fresh=tws", url.Values{"grant": {"{tws}"}}},
	{"POST /app/{org}/{workspace}/states/{state}/rollback", "ws.writestate", "workspace=name", nil},
}
