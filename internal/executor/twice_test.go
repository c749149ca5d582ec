package executor

import (
	"sync"
	"testing"
)

// A run's documents are made while its apply may begin: both open the area.
func TestAnAreaCanBeOpenTwice(t *testing.T) {
	levels(t, func(t *testing.T, sb Sandbox) {
		w := newWorld(t, sb)
		w.write("main.tf", `resource "terraform_data" "x" {}`)
		file := w.plan(nil).PlanFile
		var wg sync.WaitGroup
		for range 6 {
			spec := w.spec()
			area, err := OpenArea(w.area.Dir()+"/..", "run-1")
			if err != nil {
				t.Fatal(err)
			}
			spec.Area = area
			wg.Go(func() {
				if _, err := w.x.ShowPlan(t.Context(), spec, file); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}
