package contract

import (
	"crypto/md5"
	"encoding/base64"
	"fmt"
)

// oldState is one that nobody may push over a newer one.
var oldState = func() map[string]any {
	raw := fmt.Appendf(nil, matrixState, 1)
	return d("state-versions", attrs{"serial": 1, "md5": fmt.Sprintf("%x", md5.Sum(raw)), "state": base64.StdEncoding.EncodeToString(raw)})
}()

// removal is a change of the state of matrixState.
var removal = attrs{"operations": []any{attrs{"operation": "rm", "source": "terraform_data.x"}}}

// Configurations, states and runs.
var matrixRunRows = []matrixRow{
	{"POST /api/v2/workspaces/{workspace}/configuration-versions", "ws.plan", "", d("configuration-versions", attrs{"auto-queue-runs": false})},
	{"GET /api/v2/workspaces/{workspace}/configuration-versions", "ws.runs", "", nil},
	{"GET /api/v2/configuration-versions/{config}", "ws.runs", "", nil},
	{"GET /api/v2/configuration-versions/{config}/ingress-attributes", "ws.runs", "only=none", nil},
	{"GET /api/v2/configuration-versions/{config}/download", "ws.config", "", nil},
	{"POST /api/v2/configuration-versions/{config}/actions/archive", "ws.settings", "only=none skip=R,P,W,C2,TW,PR,PW,OT", nil},
	{"POST /api/v2/configuration-versions/{config}/actions/soft_delete_backing_data", "ws.deletestate", "only=none", nil},
	{"POST /api/v2/configuration-versions/{config}/actions/restore_backing_data", "ws.deletestate", "only=none", nil},
	{"POST /api/v2/configuration-versions/{config}/actions/permanently_delete_backing_data", "ws.deletestate", "only=none", nil},
	{"POST /api/v1/terraform/configurations", "org.createws", "", attrs{"configuration": attrs{"username": "{org}", "name": "made-{n}"}}},
	{"POST /api/v1/terraform/configurations/{username}/{name}/versions", "ws.plan", "", attrs{"version": attrs{}}},
	{"GET /api/v1/terraform/configurations/{username}/{name}/versions/latest", "ws.runs", "", nil},
	{"GET /api/v1/terraform/configurations/{username}/{name}/versions/progress/{token}", "nobody", "token=nothing skip=", nil},

	{"POST /api/v2/workspaces/{workspace}/state-versions", "ws.writestate", "", oldState},
	{"PATCH /api/v2/workspaces/{workspace}/state-versions", "ws.writestate", "", d("state-versions", nil, "rollback-state-version", "state-versions", "{oldstate}")},
	{"GET /api/v2/workspaces/{workspace}/current-state-version", "ws.state", "", nil},
	{"GET /api/v2/workspaces/{workspace}/resources", "ws.state", "skip=RT", nil},
	{"GET /api/v2/workspaces/{workspace}/current-state-version-outputs", "ws.outputs", "", nil},
	{"GET /api/v2/state-versions", "ws.state", "query=filter[organization][name]={org}&filter[workspace][name]={name}", nil},
	{"GET /api/v2/state-versions/{state}", "ws.state", "", nil},
	{"POST /api/v2/state-versions/{state}/actions/soft_delete_backing_data", "ws.deletestate", "state=oldstate", nil},
	{"POST /api/v2/state-versions/{state}/actions/restore_backing_data", "ws.deletestate", "state=oldstate", nil},
	{"POST /api/v2/state-versions/{state}/actions/permanently_delete_backing_data", "ws.deletestate", "state=oldstate", nil},
	{"GET /api/v2/state-versions/{state}/download", "ws.state", "", nil},
	{"GET /api/v2/state-versions/{state}/outputs", "ws.outputs", "", nil},
	{"GET /api/v2/state-version-outputs/{output}", "ws.outputs", "", nil},
	{"GET /api/v2/workspaces/{workspace}/state-operations", "ws.state", "", nil},
	{"POST /api/v2/workspaces/{workspace}/state-operations", "ws.writestate", "", d("state-operations", attrs{"operations": []any{}})},
	{"GET /api/v2/state-operations/{operation}", "ws.state", "skip=RT", nil},
	{"POST /api/v2/state-operations/{operation}/actions/apply", "ws.writestate", "", attrs{"reason": ""}},
	{"POST /api/v2/state-operations/{operation}/actions/undo", "ws.writestate", "", attrs{"reason": "x"}},
	{"POST /api/v2/state-operations/{operation}/actions/discard", "ws.writestate", "fresh=operation", nil},
	{"GET /api/v1/terraform/state", "anyAU", "", nil},
	{"GET /api/v1/terraform/state/{username}/{name}", "ws.state", "", nil},
	{"PUT /api/v1/terraform/state/{username}/{name}", "ws.writestate", "skip=RT", attrs{"version": 4, "serial": 0, "lineage": "other"}},
	{"POST /api/v1/terraform/state/{username}/{name}/rollback", "ws.writestate", "skip=RT", nil},
	{"DELETE /api/v1/terraform/state/{username}/{name}", "ws.hidestate", "fresh=workspace", nil},

	{"POST /api/v1/environments/{username}/{name}/plan", "ws.plan", "only=P", attrs{"destroy": true}},
	{"POST /api/v2/runs", "ws.plan", "", d("runs", nil, "workspace", "workspaces", "{workspace}", "configuration-version", "configuration-versions", "{empty}")},
	{"GET /api/v2/runs/{run}", "ws.runs", "", nil},
	{"GET /api/v2/workspaces/{workspace}/runs", "ws.runs", "", nil},
	{"GET /api/v2/organizations/{org}/runs", "org.people", "", nil},
	{"GET /api/v2/organizations/{org}/runs/queue", "org.people", "", nil},
	{"GET /api/v2/organizations/{org}/capacity", "org.people", "", nil},
	{"POST /api/v2/runs/{run}/actions/apply", "ws.apply", "", nil},
	{"POST /api/v2/runs/{run}/actions/discard", "ws.apply", "", nil},
	{"POST /api/v2/runs/{run}/actions/cancel", "ws.apply", "", nil},
	{"POST /api/v2/runs/{run}/actions/force-cancel", "ws.forcecancel", "", nil},
	{"POST /api/v2/runs/{run}/actions/force-execute", "ws.forceexecute", "only=none", nil}, // 403 says that the run does not wait behind another,
	{"GET /api/v2/runs/{run}/run-events", "ws.runs", "", nil},
	{"GET /api/v2/run-events/{event}", "ws.runs", "", nil},
	{"GET /api/v2/runs/{run}/configuration-version", "ws.runs", "", nil},
	{"GET /api/v2/runs/{run}/configuration-version/download", "ws.config", "", nil},
	{"GET /api/v2/runs/{run}/comments", "ws.runs", "", nil},
	{"POST /api/v2/runs/{run}/comments", "ws.comment", "", d("comments", attrs{"body": "hm"})},
	{"GET /api/v2/comments/{comment}", "ws.runs", "", nil},
	{"GET /api/v2/plans/{plan}", "ws.runs", "", nil},
	{"GET /api/v2/runs/{run}/plan", "ws.runs", "", nil},
	{"GET /api/v2/plans/{plan}/json-output", "ws.planjson", "", nil},
	{"GET /api/v2/runs/{run}/plan/json-output", "ws.planjson", "", nil},
	{"GET /api/v2/plans/{plan}/json-output-redacted", "ws.runs", "", nil},
	{"GET /api/v2/applies/{apply}", "ws.runs", "", nil},
	{"GET /api/v2/runs/{run}/apply", "ws.runs", "", nil},
	{"GET /api/v2/applies/{apply}/errored-state", "ws.errored", "only=none", nil}, // there is none: 404 to all
	{"POST /api/v2/plan-exports", "ws.mocks", "", d("plan-exports", attrs{"data-type": "sentinel-mock-bundle-v0"}, "plan", "plans", "{plan}")},
	{"GET /api/v2/plan-exports/{export}", "ws.mocks", "", nil},
	{"DELETE /api/v2/plan-exports/{export}", "ws.mocks", "only=none", nil},
	{"GET /api/v2/plan-exports/{export}/download", "ws.mocks", "", nil},
}
