package executor

import (
	"strings"
	"testing"
)

// The CLI reads the plan log as JSON lines of the engine: nothing of ours may
// stand among them.
func TestStructuredPlanLogIsTheEnginesAlone(t *testing.T) {
	levels(t, func(t *testing.T, sb Sandbox) {
		w := newWorld(t, sb)
		w.write("main.tf", `resource "terraform_data" "x" {}`)
		w.plan(func(s *PlanSpec) { s.JSON = true })
		for line := range strings.Lines(w.log.String()) {
			if !strings.HasPrefix(line, `{"@level"`) {
				t.Errorf("not a line of the engine: %s", line)
			}
		}
	})
}
