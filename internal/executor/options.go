package executor

import (
	"strings"

	"github.com/hashicorp/terraform-exec/tfexec"

	"interlock/internal/core"
)

func planOptions(s *PlanSpec) ([]tfexec.PlanOption, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	opts := []tfexec.PlanOption{
		tfexec.Out(s.Area.path("out", "plan.tfplan")), tfexec.Lock(false),
		tfexec.Refresh(s.Refresh || s.RefreshOnly), tfexec.RefreshOnly(s.RefreshOnly),
	}
	if s.Destroy {
		if s.RefreshOnly {
			return nil, core.Errorf(core.Invalid, "a run cannot both destroy and only refresh")
		}
		opts = append(opts, tfexec.Destroy(true))
	}
	if s.Parallelism > 0 {
		opts = append(opts, tfexec.Parallelism(s.Parallelism))
	}
	for _, t := range s.Targets {
		if err := address(t); err != nil {
			return nil, err
		}
		opts = append(opts, tfexec.Target(t))
	}
	for _, r := range s.Replace {
		if err := address(r); err != nil {
			return nil, err
		}
		opts = append(opts, tfexec.Replace(r))
	}
	if s.GenerateConfig {
		opts = append(opts, tfexec.GenerateConfigOut(s.Area.path("out", "generated.tf")))
	}
	return opts, nil
}

func address(a string) error {
	if a == "" || a[0] == '-' || len(a) > 4096 || strings.ContainsAny(a, "\x00\n\r") {
		return core.Errorf(core.Invalid, "%q is not a resource address", a)
	}
	return nil
}
