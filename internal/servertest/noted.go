package servertest

import (
	"context"
	"strings"
	"testing"

	"interlock/internal/audit"
	"interlock/internal/db"
)

// unnoted is what a request may write without a row in the audit trail, and
// why. Everything else fails the test in which it happens.
var unnoted = map[string]string{
	"session UPDATE":            "that it was used; its beginning and its end are noted",
	"scim_token UPDATE":         "that it was used",
	"api_token UPDATE":          "that it was used",
	"user_identity UPDATE":      "that it was used to sign in",
	"saml_answer INSERT":        "half a sign-in; a whole one is noted",
	"saml_answer UPDATE":        "half a sign-in",
	"saml_answer DELETE":        "assertions that are too old to count again",
	"user_totp UPDATE":          "that a code was used to sign in; on and off are noted",
	"phase UPDATE":              "documents that are made of a plan when somebody asks; what a run does is noted",
	"vcs_delivery INSERT":       "a webhook that was heard; what comes of it is noted with the run",
	"vcs_event INSERT":          "what a webhook told; what comes of it is noted with the run",
	"vcs_event UPDATE":          "how far it was worked off",
	"vcs_pull INSERT":           "a pull request that was heard of",
	"vcs_pull UPDATE":           "what is known of a pull request",
	"vcs_outcome INSERT":        "what came of an event in a workspace; the run is noted",
	"vcs_outcome UPDATE":        "what the forge was told of it",
	"vcs_repository UPDATE":     "when it is looked at next",
	"module_test_config UPDATE": "an archive that came for a test that was asked for; the test is noted",
	"login_code UPDATE":         "that a code of the CLI's was spent; the token that comes of it is noted",
	"login_step INSERT":         "half a sign-in; a whole one is noted",
	"login_step UPDATE":         "half a sign-in",
	"login_step DELETE":         "half a sign-in",
}

// noted fails t when a request changes something and adds nothing to the trail
// in the same transaction. So whatever a test does through a server is held
// against decision 9, also what was written after this.
func noted(t testing.TB) func(context.Context, *db.Tx, []string) {
	return func(ctx context.Context, tx *db.Tx, wrote []string) {
		// What a worker does is noted as what becomes of the run, not by request.
		if audit.Request(ctx) == "" || audit.Noted(tx) || agents(wrote) {
			return
		}
		var silent []string
		for _, w := range wrote {
			if unnoted[w] == "" {
				silent = append(silent, w)
			}
		}
		if len(silent) > 0 {
			t.Errorf("request %s: %s without a row in the audit trail", audit.Request(ctx), strings.Join(silent, ", "))
		}
	}
}

// agents reports whether a transaction wrote only what workers write: agents
// come with requests, the server's own workers do not.
func agents(wrote []string) bool {
	work := map[string]bool{"agent": true, "phase": true, "run": true, "run_event": true, "log_chunk": true, "api_token": true, "workspace": true,
		"config_version": true, "run_trigger_due": true, "delivery": true, "inventory": true, "inventory_head": true, "run_code": true,
		"letter": true, "subscription_event": true}
	worked := false
	for _, w := range wrote {
		table, _, _ := strings.Cut(w, " ")
		if !work[table] {
			return false
		}
		worked = worked || table == "log_chunk" || table == "run_event" || table == "agent" || table == "phase"
	}
	return worked
}
