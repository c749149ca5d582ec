package contract

import (
	"net/url"

	"interlock/internal/servertest"
)

type attrs = map[string]any

var d = servertest.Doc

// refs is a document of references to objects by words of the world.
func refs(typ string, words ...string) map[string]any {
	list := []any{}
	for _, w := range words {
		list = append(list, attrs{"type": typ, "id": w})
	}
	return attrs{"data": list}
}

// Accounts, organizations, teams, tokens and administration.
var matrixAccountRows = []matrixRow{
	{"GET /api/v2/ping", "open", "", nil},
	{"GET /api/v2/account/details", "any", "skip=RT", nil}, // what a run's token is told of itself is not laid down
	{"PATCH /api/v2/account/update", "user", "", d("users", nil)},
	{"PATCH /api/v2/account/password", "user", "", d("users", attrs{"current_password": "wrong", "password": "new password here", "password_confirmation": "new password here"})},
	{"GET /api/v2/users/{user}", "any", "user=self skip=RT,TW,TO,OT", nil},
	{"POST /api/v2/admin/users", "admin", "", d("users", attrs{"username": "made-{n}", "email": "made-{n}@example.com"})},
	{"GET /api/v2/organization/audit-trail", "audit", "", nil},
	{"GET /api/v2/organizations", "anyAU", "", nil},
	{"POST /api/v2/organizations", "user", "", d("organizations", attrs{"name": "new-{n}", "email": "a@example.com"})},
	{"GET /api/v2/organizations/{org}", "org.see", "", nil},
	{"PATCH /api/v2/organizations/{org}", "org.update", "", d("organizations", nil)},
	{"DELETE /api/v2/organizations/{org}", "org.delete", "fresh=org skip=TO", nil},
	{"GET /api/v2/organizations/{org}/entitlement-set", "org.see", "", nil},
	{"GET /api/v2/organizations/{org}/relationships/data-retention-policy", "org.people", "", nil},
	{"POST /api/v2/organizations/{org}/relationships/data-retention-policy", "org.policy", "", d("data-retention-policy-dont-deletes", nil)},
	{"PATCH /api/v2/organizations/{org}/relationships/data-retention-policy", "org.policy", "", d("data-retention-policy-dont-deletes", nil)},
	{"DELETE /api/v2/organizations/{org}/relationships/data-retention-policy", "org.policy", "", nil},

	{"GET /api/v2/organizations/{org}/teams", "org.people", "", nil},
	{"POST /api/v2/organizations/{org}/teams", "org.teams", "", d("teams", attrs{"name": "t-{n}"})},
	{"GET /api/v2/teams/{team}", "org.people", "", nil},
	{"PATCH /api/v2/teams/{team}", "org.teams", "skip=OA", d("teams", attrs{"name": "crew-{n}"})}, // OA changes what a team may do, and that alone
	{"DELETE /api/v2/teams/{team}", "org.teams", "fresh=team", nil},
	{"POST /api/v2/teams/{team}/relationships/users", "org.members", "skip=MT bodies=free", refs("users", "{guestname}")},
	{"DELETE /api/v2/teams/{team}/relationships/users", "org.members", "skip=MT bodies=free", refs("users", "{guestname}")},
	{"GET /api/v2/teams/{team}/relationships/organization-memberships", "org.people", "", nil},
	{"POST /api/v2/teams/{team}/relationships/organization-memberships", "org.members", "skip=MT", refs("organization-memberships", "{member}")},
	{"DELETE /api/v2/teams/{team}/relationships/organization-memberships", "org.members", "skip=MT", refs("organization-memberships", "{member}")},
	{"GET /api/v2/organizations/{org}/organization-memberships", "org.people", "", nil},
	{"POST /api/v2/organizations/{org}/organization-memberships", "org.members", "", d("organization-memberships", attrs{"email": "invited-{n}@example.com"})},
	{"GET /api/v2/organization-memberships", "user", "", nil},
	{"GET /api/v2/organization-memberships/{member}", "org.people", "", nil},
	{"DELETE /api/v2/organization-memberships/{member}", "org.members", "fresh=member", nil},
	{"GET /api/v2/account/vars", "user", "", nil},
	{"POST /api/v2/account/vars", "user", "", d("personal-vars", attrs{"organization": "nowhere-{n}", "key": "k", "category": "env"})},
	{"PATCH /api/v2/account/vars/{var}", "user", "only=none", d("personal-vars", nil)},
	{"DELETE /api/v2/account/vars/{var}", "user", "only=none", nil},
	{"GET /api/v2/users/{user}/authentication-tokens", "user", "user=self", nil},
	{"POST /api/v2/users/{user}/authentication-tokens", "user", "user=self", d("authentication-tokens", attrs{"description": "x"})},
	{"GET /api/v2/authentication-tokens/{token}", "user", "token=mytoken fresh=mytoken only=M0 skip=" + matrixUsersButM0, nil},
	{"DELETE /api/v2/authentication-tokens/{token}", "user", "token=mytoken fresh=mytoken only=M0 skip=" + matrixUsersButM0, nil},
	{"GET /api/v2/teams/{team}/authentication-token", "org.teams", "team=owners skip=MT only=none", nil},
	{"POST /api/v2/teams/{team}/authentication-token", "org.teams", "fresh=team", nil},
	{"POST /api/v2/teams/{team}/authentication-tokens", "org.teams", "fresh=team", d("authentication-tokens", attrs{"description": "x"})},
	{"DELETE /api/v2/teams/{team}/authentication-token", "org.owners", "team=owners only=none", nil},
	{"GET /api/v2/organizations/{org}/team-tokens", "org.people", "", nil},
	{"GET /api/v2/organizations/{org}/authentication-token", "org.orgtokens", "", nil},
	{"POST /api/v2/organizations/{org}/authentication-token", "org.orgtokens", "only=none", nil}, // a new one would end OT
	{"DELETE /api/v2/organizations/{org}/authentication-token", "org.orgtokens", "only=none", nil},

	{"GET /api/v2/admin/feature-sets", "admin", "", nil},
	{"POST /api/v2/admin/organizations/{org}/subscription", "admin", "", nil},
	{"GET /api/v2/admin/organizations", "admin", "", nil},
	{"GET /api/v2/admin/organizations/{org}", "admin", "", nil},
	{"PATCH /api/v2/admin/organizations/{org}", "admin", "", d("organizations", nil)},
	{"DELETE /api/v2/admin/organizations/{org}", "admin", "fresh=org", nil},
	{"GET /api/v2/admin/organizations/{org}/relationships/module-consumers", "admin", "", nil},
	{"PATCH /api/v2/admin/organizations/{org}/relationships/module-consumers", "admin", "", refs("organizations", "other")},
	{"GET /api/v2/admin/users", "admin", "", nil},
	{"GET /api/v2/admin/users/{user}", "admin", "user=guest", nil},
	{"DELETE /api/v2/admin/users/{user}", "admin", "user=guest fresh=guest", nil},
	{"POST /api/v2/admin/users/{user}/actions/suspend", "admin", "user=guest fresh=guest", nil},
	{"POST /api/v2/admin/users/{user}/actions/unsuspend", "admin", "user=guest fresh=guest", nil},
	{"POST /api/v2/admin/users/{user}/actions/grant_admin", "admin", "user=guest fresh=guest", nil},
	{"POST /api/v2/admin/users/{user}/actions/revoke_admin", "admin", "user=guest fresh=guest", nil},
	{"GET /api/v2/admin/workspaces", "admin", "", nil},
	{"GET /api/v2/admin/workspaces/{workspace}", "admin", "", nil},
	{"DELETE /api/v2/admin/workspaces/{workspace}", "admin", "fresh=workspace", nil},
	{"GET /api/v2/admin/runs", "admin", "", nil},
	{"POST /api/v2/admin/runs/{run}/actions/force-cancel", "admin", "", nil},

	{"GET /api/v2/admin/identity-providers", "admin", "", nil},
	{"POST /api/v2/admin/identity-providers", "admin", "", d("identity-providers", attrs{"name": ""})},
	{"GET /api/v2/admin/identity-providers/{provider}", "admin", "only=none", nil},
	{"PATCH /api/v2/admin/identity-providers/{provider}", "admin", "only=none", d("identity-providers", nil)},
	{"DELETE /api/v2/admin/identity-providers/{provider}", "admin", "only=none", nil},
	{"GET /api/v2/organizations/{org}/scim-tokens", "org.orgtokens", "", nil},
	{"POST /api/v2/organizations/{org}/scim-tokens", "org.orgtokens", "", d("scim-tokens", attrs{"expired-at": "2001-01-01T00:00:00Z"})},
	{"GET /api/v2/scim-tokens/{token}", "org.orgtokens", "only=none", nil},
	{"DELETE /api/v2/scim-tokens/{token}", "org.orgtokens", "only=none", nil},
	{"GET /api/v2/account/subscriptions", "user", "", nil},
	{"POST /api/v2/account/subscriptions", "user", "", d("subscriptions", attrs{"organization": "acme", "cadence": "weekly"})},
	{"GET /api/v2/account/letters", "user", "", nil},
	{"GET /api/v2/subscriptions/{subscription}", "user", "only=none", nil},
	{"PATCH /api/v2/subscriptions/{subscription}", "user", "only=none", d("subscriptions", nil)},
	{"DELETE /api/v2/subscriptions/{subscription}", "user", "only=none", nil},
	{"GET /api/v2/admin/saml-settings", "admin", "", nil},
	{"PATCH /api/v2/admin/saml-settings", "admin", "", d("saml-settings", attrs{"idp-cert": "bad"})},
	{"POST /api/v2/admin/saml-settings/actions/revoke-old-certificate", "admin", "only=none", nil},
	{"GET /api/v2/admin/terraform-versions", "admin", "", nil},
	{"POST /api/v2/admin/terraform-versions", "admin", "", d("terraform-versions", attrs{"version": "bad"})},
	{"GET /api/v2/admin/terraform-versions/{version}", "admin", "only=none", nil},
	{"PATCH /api/v2/admin/terraform-versions/{version}", "admin", "only=none", d("terraform-versions", nil)},
	{"DELETE /api/v2/admin/terraform-versions/{version}", "admin", "only=none", nil},
	{"GET /api/v2/admin/general-settings", "admin", "", nil},
	{"PATCH /api/v2/admin/general-settings", "admin", "", d("general-settings", nil)},
	{"GET /api/v2/admin/customization-settings", "admin", "", nil},
	{"PATCH /api/v2/admin/customization-settings", "admin", "", d("customization-settings", nil)},
	{"GET /api/v2/admin/smtp-settings", "admin", "", nil},
	{"PATCH /api/v2/admin/smtp-settings", "admin", "", d("smtp-settings", nil)},

	{"GET /site/users", "admin", "", nil},
	{"GET /site/health", "admin", "", nil},
	{"GET /site/organizations", "admin", "", nil},
	{"GET /site/engines", "admin", "", nil},
	{"GET /site/settings", "admin", "", nil},
	{"POST /site/settings", "admin", "", url.Values{"max-orgs": {"5"}, "max-workspaces": {"100"}, "rate-limit": {"30"}, "plan-timeout": {"2h"}, "apply-timeout": {"24h"}}},
	{"GET /site/sso", "admin", "", nil},
	{"POST /site/sso", "admin", "", url.Values{"name": {""}}},
	{"GET /site/sso-saml", "admin", "", nil},
	{"POST /site/sso-saml", "admin", "", url.Values{"name": {""}}},
	{"GET /site/sso/{provider}", "admin", "only=none", nil},
	{"POST /site/sso/{provider}", "admin", "only=none", nil},
	{"POST /site/sso/{provider}/check", "admin", "only=none", nil},
	{"POST /site/sso/{provider}/delete", "admin", "only=none", nil},
	{"POST /site/users", "admin", "", url.Values{"name": {"bad name"}}},
	{"GET /site/users/{user}", "admin", "user=guest", nil},
	{"POST /site/users/{user}/suspend", "admin", "user=guest fresh=guest", nil},
	{"POST /site/users/{user}/unsuspend", "admin", "user=guest fresh=guest", nil},
	{"POST /site/users/{user}/grant-admin", "admin", "user=guest fresh=guest", nil},
	{"POST /site/users/{user}/revoke-admin", "admin", "user=guest fresh=guest", nil},
	{"POST /site/users/{user}/delete", "admin", "user=guest fresh=guest", url.Values{"confirm": {"nobody"}}},

	{"GET /api/v1/user/{username}", "any", "username=selfname", nil},
	{"POST /api/v1/authenticate", "open", "only=none", nil}, // asks for a password
	{"GET /api/v1/authenticate", "anyAU", "", nil},
}

// matrixUsersButM0 keeps the rows about a token of one's own, made anew each
// time, to one user; to the tokens that are not users' they do not exist.
const matrixUsersButM0 = "OO"
