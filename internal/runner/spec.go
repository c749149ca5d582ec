package runner

import (
	"context"
	"fmt"
	"io"
	"net/url"

	"interlock/internal/core"
	"interlock/internal/executor"
	"interlock/internal/run"
	"interlock/internal/tarball"
	"interlock/internal/variable"
)

// spec is what both phases tell the executor.
func (j *job) spec(area *executor.Area) (executor.Spec, error) {
	w := j.w
	engine, err := j.engine()
	if err != nil {
		return executor.Spec{}, failure{"engine-missing", err}
	}
	env, vars, secrets := map[string]string{}, map[string]executor.Value{}, append(run.Secrets(w.Variables), w.Token.Reveal())
	for _, v := range w.Variables {
		if v.Category == variable.Env {
			env[v.Key] = v.Value
		} else {
			vars[v.Key] = executor.Value{Value: v.Value, HCL: v.HCL}
		}
	}
	for k, v := range j.environment() {
		env[k] = v
	}
	runVars := map[string]string{}
	for _, v := range w.RunVars {
		if runVars[v.Key], err = executor.Literal(v.Value); err != nil {
			return executor.Spec{}, err
		}
	}
	key, err := j.sshKey()
	if err != nil {
		return executor.Spec{}, err
	}
	if key != "" {
		secrets = append(secrets, key)
	}
	credentials := map[string]string{}
	if u, err := url.Parse(j.r.Base); err == nil && w.Token != "" {
		credentials[u.Host] = w.Token.Reveal()
	}
	providers, installed := j.r.providers(w, env)
	if j.r.Installer != nil && j.r.Installer.Secret != "" {
		secrets = append(secrets, j.r.Installer.Secret)
	}
	return executor.Spec{
		Providers: providers, Installed: installed, Area: area, Engine: engine, WorkDir: w.Run.WorkingDirectory, Env: env, Credentials: credentials, SSHKey: key, TFVars: vars, RunVars: runVars, JSON: w.Run.Structured,
		Secrets: secrets, Log: j.log, Debug: w.Run.Debugging, Interrupt: j.interrupt, Kill: j.kill, Lease: j.r.leaseFile(w.Phase.ID), Grace: j.r.CancelGrace,
	}, nil
}

// environment is what a run sees of itself, by the names of 2017 and by
// today's.
func (j *job) environment() map[string]string {
	w := j.w
	slug := w.Org + "/" + w.Workspace.Name
	return map[string]string{
		"ATLAS_ADDRESS": j.r.Base, "ATLAS_TOKEN": w.Token.Reveal(), "ATLAS_RUN_ID": string(w.Run.ID),
		"ATLAS_CONFIGURATION_NAME": w.Workspace.Name, "ATLAS_CONFIGURATION_SLUG": slug, "ATLAS_CONFIGURATION_VERSION": fmt.Sprint(w.Config.Number),
		"ATLAS_CONFIGURATION_VERSION_GITHUB_BRANCH": w.Config.Branch, "ATLAS_CONFIGURATION_VERSION_GITHUB_COMMIT_SHA": w.Config.Commit, "ATLAS_CONFIGURATION_VERSION_GITHUB_TAG": w.Config.Tag,
		"TFC_RUN_ID": string(w.Run.ID), "TFC_WORKSPACE_NAME": w.Workspace.Name, "TFC_WORKSPACE_SLUG": slug,
		"TFC_CONFIGURATION_VERSION_GIT_BRANCH": w.Config.Branch, "TFC_CONFIGURATION_VERSION_GIT_COMMIT_SHA": w.Config.Commit, "TFC_CONFIGURATION_VERSION_GIT_TAG": w.Config.Tag,
	}
}

// prepare makes a fresh area with the run's configuration in it, which it asks
// for by way of fetch.
func (r *Runner) prepare(ctx context.Context, w *run.Work, fetch func(func() error) error) (*executor.Area, error) {
	rn := w.Run
	area, err := executor.FreshArea(r.Root, string(rn.ID))
	if err != nil {
		return nil, err
	}
	var rc io.ReadCloser
	err = fetch(func() (err error) { rc, err = r.Control.Archive(ctx, w); return err })
	if err != nil {
		return nil, failure{"configuration-missing", core.Wrap(err, core.Invalid, "the configuration of this run cannot be read: "+core.Message(err))}
	}
	defer rc.Close()
	if _, err := tarball.Unpack(ctx, rc, area.ConfigDir(), tarball.Limits{}); err != nil {
		return nil, failure{"configuration-damaged", err}
	}
	return area, nil
}
