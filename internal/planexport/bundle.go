package planexport

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"time"

	"interlock/internal/core"
	"interlock/internal/run"
)

type object = map[string]any

// bundle makes the archive: one mock file for each import that a policy can
// use, and the configuration that points at them.
func bundle(v run.View, plan []byte) ([]byte, error) {
	var p object
	dec := json.NewDecoder(bytes.NewReader(plan))
	dec.UseNumber()
	if err := dec.Decode(&p); err != nil {
		return nil, core.Wrap(err, core.Invalid, "the plan's JSON cannot be read")
	}
	files := []struct {
		name  string
		parts []part
	}{
		{"mock-tfplan-v2.sentinel", tfplan(p)},
		{"mock-tfstate-v2.sentinel", tfstate(p)},
		{"mock-tfconfig-v2.sentinel", tfconfig(p)},
		{"mock-tfrun.sentinel", tfrun(v)},
	}
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	tw := tar.NewWriter(zw)
	add := func(name string, b []byte) error {
		if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(b)), ModTime: time.Unix(0, 0)}); err != nil {
			return err
		}
		_, err := tw.Write(b)
		return err
	}
	conf := ""
	for i, f := range files {
		if err := add(f.name, sentinel(f.parts)); err != nil {
			return nil, err
		}
		conf += fmt.Sprintf("mock %q {\n  module {\n    source = %q\n  }\n}\n\n", []string{"tfplan/v2", "tfstate/v2", "tfconfig/v2", "tfrun"}[i], f.name)
	}
	if err := add("sentinel.hcl", []byte(conf)); err != nil {
		return nil, err
	}
	if err := tw.Close(); err != nil {
		return nil, err
	}
	err := zw.Close()
	return out.Bytes(), err
}

func obj(v any) object { o, _ := v.(object); return o }

func list(v any) []any { l, _ := v.([]any); return l }

func text(v any) string { s, _ := v.(string); return s }

// orEmpty is v, or an empty map where there is nothing.
func orEmpty(v any) any {
	if v == nil {
		return object{}
	}
	return v
}

// tfplan is what the import tfplan/v2 offers.
func tfplan(p object) []part {
	changes := func(name string) object {
		out := object{}
		for _, c := range list(p[name]) {
			key := text(obj(c)["address"])
			if d := text(obj(c)["deposed"]); d != "" {
				key += ":" + d
			}
			out[key] = c
		}
		return out
	}
	variables := object{}
	for name, v := range obj(p["variables"]) {
		variables[name] = object{"name": name, "value": obj(v)["value"]}
	}
	planned := obj(p["planned_values"])
	outputs := object{}
	for name, c := range obj(p["output_changes"]) {
		outputs[name] = object{"name": name, "change": c}
	}
	return []part{
		{"terraform_version", p["terraform_version"]}, {"variables", variables},
		{"planned_values", object{"outputs": orEmpty(planned["outputs"]), "resources": instances(obj(planned["root_module"]), object{})}},
		{"resource_changes", changes("resource_changes")}, {"resource_drift", changes("resource_drift")},
		{"output_changes", outputs}, {"raw", p},
	}
}

// instances lists the resources of a module and of those in it, by address.
func instances(module, into object) object {
	for _, r := range list(module["resources"]) {
		x := object{"module_address": text(module["address"]), "tainted": false, "deposed_key": "", "depends_on": []any{}}
		for k, v := range obj(r) {
			x[k] = v
		}
		into[text(x["address"])] = x
	}
	for _, m := range list(module["child_modules"]) {
		instances(obj(m), into)
	}
	return into
}

// tfstate is what the import tfstate/v2 offers: the state before the plan.
func tfstate(p object) []part {
	prior := obj(p["prior_state"])
	values := obj(prior["values"])
	version := prior["terraform_version"]
	if version == nil {
		version = p["terraform_version"]
	}
	return []part{{"terraform_version", version}, {"outputs", orEmpty(values["outputs"])}, {"resources", instances(obj(values["root_module"]), object{})}}
}

// tfconfig is what the import tfconfig/v2 offers: the configuration, with the
// modules laid flat.
func tfconfig(p object) []part {
	conf := obj(p["configuration"])
	flat := map[string]object{"resources": {}, "provisioners": {}, "variables": {}, "outputs": {}, "module_calls": {}}
	var walk func(module object, address string)
	walk = func(module object, address string) {
		at := func(name string) string {
			if address == "" {
				return name
			}
			return address + ":" + name
		}
		for _, r := range list(module["resources"]) {
			x := object{"module_address": address, "depends_on": []any{}, "count": object{}, "for_each": object{}, "config": object{}, "provisioners": []any{}}
			for k, v := range obj(r) {
				x[k] = v
			}
			for from, to := range map[string]string{"expressions": "config", "count_expression": "count", "for_each_expression": "for_each"} {
				if v, ok := x[from]; ok {
					x[to] = v
					delete(x, from)
				}
			}
			if address != "" {
				x["address"] = address + "." + text(x["address"])
			}
			key := text(x["address"])
			for i, pr := range list(x["provisioners"]) {
				flat["provisioners"][fmt.Sprintf("%s:%d", key, i)] = pr
			}
			flat["resources"][key] = x
		}
		for _, kind := range []string{"variables", "outputs"} {
			for name, v := range obj(module[kind]) {
				x := object{"name": name, "module_address": address}
				for k, w := range obj(v) {
					x[k] = w
				}
				flat[kind][at(name)] = x
			}
		}
		for name, call := range obj(module["module_calls"]) {
			x := object{"name": name, "module_address": address}
			for k, v := range obj(call) {
				if k != "module" {
					x[k] = v
				}
			}
			flat["module_calls"][at(name)] = x
			inner := "module." + name
			if address != "" {
				inner = address + "." + inner
			}
			walk(obj(obj(call)["module"]), inner)
		}
	}
	walk(obj(conf["root_module"]), "")
	return []part{{"providers", orEmpty(conf["provider_config"])}, {"resources", flat["resources"]}, {"provisioners", flat["provisioners"]},
		{"variables", flat["variables"]}, {"outputs", flat["outputs"]}, {"module_calls", flat["module_calls"]}}
}

// tfrun is what the import tfrun offers.
func tfrun(v run.View) []part {
	w := v.Workspace
	strs := func(in []string) []any {
		out := []any{}
		for _, s := range in {
			out = append(out, s)
		}
		return out
	}
	return []part{
		{"id", string(v.ID)}, {"created_at", v.CreatedAt.UTC().Format(time.RFC3339Nano)}, {"created_by", v.CreatedName}, {"message", v.Message}, {"commit_sha", ""},
		{"is_destroy", v.IsDestroy}, {"refresh", v.Refresh}, {"refresh_only", v.RefreshOnly}, {"replace_addrs", strs(v.Replaces)}, {"speculative", v.PlanOnly},
		{"target_addrs", strs(v.Targets)}, {"project", object{"id": string(w.ProjectID)}}, {"variables", object{}}, {"organization", object{"name": w.OrgName}},
		{"workspace", object{"id": string(w.ID), "name": w.Name, "created_at": w.CreatedAt.UTC().Format(time.RFC3339Nano), "description": w.Description,
			"execution_mode": w.ExecutionMode, "auto_apply": w.AutoApply, "tags": []any{}, "working_directory": w.WorkingDirectory, "vcs_repo": nil}},
		{"cost_estimate", nil},
	}
}
