package app

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"interlock/internal/account"
	"interlock/internal/admin"
	"interlock/internal/agentpool"
	"interlock/internal/autodestroy"
	"interlock/internal/config"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/drift"
	"interlock/internal/estate"
	"interlock/internal/executor"
	"interlock/internal/explorer"
	"interlock/internal/guard"
	"interlock/internal/jobs"
	"interlock/internal/login"
	"interlock/internal/moduletest"
	"interlock/internal/notify"
	"interlock/internal/outbound"
	"interlock/internal/planexport"
	"interlock/internal/registry"
	"interlock/internal/run"
	"interlock/internal/runner"
	"interlock/internal/runtrigger"
	"interlock/internal/schedule"
	"interlock/internal/scim"
	"interlock/internal/sshkey"
	"interlock/internal/sso"
	"interlock/internal/state"
	"interlock/internal/surgery"
	"interlock/internal/trail"
	"interlock/internal/upgrade"
	"interlock/internal/variable"
	"interlock/internal/vcs"
	"interlock/internal/vcs/git"
	"interlock/internal/web"
	"interlock/internal/web/ui"
	"interlock/internal/workspace"
)

// wire makes the services, from the bottom of the house to its roof, and
// mounts them.
func (s *Server) wire(ctx context.Context) error {
	s.metrics = newMetrics(s.db)
	s.signer = &web.Signer{Box: s.box, Base: s.URL, Now: s.db.Now}
	s.accounts = &account.Service{DB: s.db, Box: s.box}
	var err error
	if s.signer.Era, err = s.accounts.Era(ctx); err != nil {
		return err
	}
	s.workspaces = &workspace.Service{DB: s.db, Bus: s.bus, DefaultEngine: s.defaultEngine}
	s.variables = &variable.Service{DB: s.db, Box: s.box, Workspaces: s.workspaces}
	s.configs = &config.Service{DB: s.db, Blobs: s.blobs, Box: s.box, Signer: s.signer, Workspaces: s.workspaces, Variables: s.variables}
	s.states = &state.Service{DB: s.db, Blobs: s.blobs, Box: s.box, Signer: s.signer, Workspaces: s.workspaces}
	s.runs = &run.Service{DB: s.db, Blobs: s.blobs, Box: s.box, Bus: s.bus, Signer: s.signer, Accounts: s.accounts, Workspaces: s.workspaces,
		Variables: s.variables, Configs: s.configs, States: s.states, Slots: func() int { return s.cfg.Runners }}
	node, err := nodeID(s.cfg.DataDir)
	if err != nil {
		return err
	}
	keys := &sshkey.Service{DB: s.db, Box: s.box, Workspaces: s.workspaces}
	mirrored, installer, err := s.openMirror(ctx)
	if err != nil {
		return err
	}
	s.runner = &runner.Runner{Installer: installer, SSHKey: keys.OfWorkspace, Runs: s.runs, Configs: s.configs, States: s.states, Bus: s.bus, Exec: s.exec, Catalog: s.catalog,
		Node: node, Root: filepath.Join(s.cfg.DataDir, "work"), Slots: s.cfg.Runners, Base: s.URL, Grace: s.cfg.ShutdownGrace}
	if s.db.Postgres() != nil {
		s.runner.Journal = filepath.Join(s.cfg.DataDir, "journal") // other servers may give us up
	}
	s.runner.Prepare()
	s.runs.MakeArtifacts = s.runner.MakeArtifacts

	s.notify = &notify.Service{DB: s.db, Box: s.box, Bus: s.bus, Outbound: outbound.New(s.cfg.OutboundAllow), Base: s.URL, Mail: s.accounts.SendMail, Log: s.runs.LogEnd}
	s.exports = &planexport.Service{DB: s.db, Blobs: s.blobs, Runs: s.runs}

	out := outbound.New(s.cfg.OutboundAllow)
	s.vcs = &vcs.Service{DB: s.db, Box: s.box, Bus: s.bus, Runs: s.runs, Configs: s.configs, Workspaces: s.workspaces, Outbound: out, Base: s.URL, Interval: s.cfg.VCSInterval,
		Git: &git.Git{Outbound: out, Local: s.cfg.VCSLocal, Root: filepath.Join(s.cfg.DataDir, "git")}}
	if err := s.vcs.Git.Prepare(); err != nil {
		return err
	}
	s.workspaces.Connect = s.vcs.Connect

	// Facts that lower floors tell to higher ones.
	s.accounts.OrgCreated = append(s.accounts.OrgCreated, workspace.AddDefaultProject)
	s.accounts.UserDeleting = append(s.accounts.UserDeleting, s.variables.DeleteOfUser)
	s.accounts.OrgDeleting = append(s.accounts.OrgDeleting, s.runs.OrgDeleting)
	s.workspaces.UnlockCheck = append(s.workspaces.UnlockCheck, state.PendingUpload)
	s.workspaces.ForcedOpen = append(s.workspaces.ForcedOpen, state.DiscardPending)
	s.workspaces.AgentPool = agentpool.Usable
	s.workspaces.ProjectDeleting = append(s.workspaces.ProjectDeleting, s.variables.DeleteOfProject)
	s.workspaces.Deleting = append(s.workspaces.Deleting, s.runs.Deleting, s.variables.DeleteOf)
	s.workspaces.Changed = s.lookAgain
	s.workspaces.Include = map[string]workspace.Includer{
		"current_run": s.runs.CurrentRuns, "current_run.plan": s.runs.CurrentPlans, "outputs": s.states.CurrentOutputs,
		"current_configuration_version": s.configs.CurrentVersions, "current_configuration_version.ingress_attributes": s.configs.CurrentIngress,
		"current-state-version": s.states.CurrentVersions, "current_state_version": s.states.CurrentVersions,
	}
	s.configs.Uploaded = append(s.configs.Uploaded, s.runs.ConfigUploaded)
	s.configs.Done = func(ws core.ID) { s.bus.Publish(run.DispatchTopic, run.MovedTopic, run.WorkspaceTopic(ws)) }
	s.states.Saved = s.lookAgain
	s.states.RunDocs = s.runs.Docs
	s.runs.Told = append(s.runs.Told, s.notify.Told)

	triggers := &runtrigger.Service{DB: s.db, Runs: s.runs}
	s.runs.Told = append(s.runs.Told, triggers.Told)
	s.runs.AfterApplied = append(s.runs.AfterApplied, triggers.Queue)
	destroyer := &autodestroy.Service{DB: s.db, Runs: s.runs, Tell: s.notify.TellOf}
	s.runs.Told = append(s.runs.Told, destroyer.Told)
	s.runs.AfterApplied = append(s.runs.AfterApplied, destroyer.Sweep)
	guards := &guard.Service{DB: s.db, Accounts: s.accounts, Runs: s.runs, Tell: s.notify.TellOf}
	s.runs.Gates = append(s.runs.Gates, guards.Gate())
	s.runs.Panels = append(s.runs.Panels, guards.Panel)
	planner := &schedule.Service{DB: s.db, Runs: s.runs}
	engines := &upgrade.Service{DB: s.db, Runs: s.runs, Workspaces: s.workspaces, Installed: s.catalog.Installed}
	s.workspaces.OrgEngine = func(ctx context.Context, tx *db.Tx, org core.ID) (string, string, error) {
		d, err := upgrade.DefaultOf(ctx, tx, org)
		if core.KindOf(err) == core.NotFound {
			err = nil
		}
		return d.Engine, d.Version, err
	}
	drifts := &drift.Service{DB: s.db, Bus: s.bus, Runs: s.runs, Workspaces: s.workspaces, Found: []func(context.Context, *db.Tx, drift.Assessment, *drift.Assessment) error{s.assessed}}
	s.drifts = drifts
	s.runs.Sweeps = append(s.runs.Sweeps, triggers.Queue, destroyer.Sweep, planner.Sweep, drifts.Sweep, guards.Sweep)

	site := &admin.Service{DB: s.db, Accounts: s.accounts, Workspaces: s.workspaces, Runs: s.runs, Installed: s.catalog.Installed,
		LookAgain: func() { s.bus.Publish(run.DispatchTopic) }, Examine: s.examine}
	if err := site.Seed(ctx); err != nil {
		return err
	}
	s.catalog.Sources = func(ctx context.Context) (map[string]executor.Source, error) {
		return site.Sources(ctx, runtime.GOARCH)
	}

	modules := &registry.Service{DB: s.db, Blobs: s.blobs, Signer: s.signer, Dir: filepath.Join(s.cfg.DataDir, "registry")}
	modules.Published, modules.Wake = append(modules.Published, triggers.Published), append(modules.Wake, triggers.Queue)
	if err := modules.Prepare(); err != nil {
		return err
	}
	tests := &moduletest.Service{DB: s.db, Blobs: s.blobs, Box: s.box, Bus: s.bus, Signer: s.signer}
	s.tester = &moduletest.Worker{Service: tests, Exec: s.exec, Catalog: s.catalog, Installer: installer, DefaultEngine: s.defaultEngine, Node: node,
		Root: filepath.Join(s.cfg.DataDir, "tests"), Grace: s.cfg.ShutdownGrace}
	pools := &agentpool.Service{DB: s.db, Accounts: s.accounts}
	s.runs.Sweeps = append(s.runs.Sweeps, pools.Sweep)
	doors := &sso.Service{DB: s.db, Box: s.box, Accounts: s.accounts, Outbound: outbound.New(s.cfg.OutboundAllow), Base: s.URL}
	s.accounts.SignInWays = doors.Ways
	surgeon := &surgery.Service{DB: s.db, Configs: s.configs, States: s.states, Runs: s.runs, Workspaces: s.workspaces, Exec: s.exec, Catalog: s.catalog, Root: filepath.Join(s.cfg.DataDir, "surgery")}
	if err := surgeon.Prepare(); err != nil {
		return err
	}
	rt := web.NewRouter(s.accounts.Identify, s.accounts.IdentifySession, strings.HasPrefix(s.URL, "https:"), s.metrics.observe)
	rt.KeepBy(s.db.Version)
	rt.LimitRate(s.accounts.RateLimit)
	rt.SayTexts(func(ctx context.Context) ui.Texts {
		t := s.accounts.Texts(ctx)
		return ui.Texts{Support: t.SupportEmail, Login: t.LoginHelp, Footer: t.Footer, Error: t.Error, NewUser: t.NewUser}
	})
	for _, f := range []interface{ Routes(*web.Router) }{
		s.accounts, s.workspaces, s.variables, s.configs, s.states, s.runs, s.notify, s.exports,
		&login.Service{DB: s.db, Box: s.box, Accounts: s.accounts}, doors,
		&scim.Service{DB: s.db, Box: s.box, Accounts: s.accounts, Base: s.URL},
		modules, tests,
		pools, &runner.Gate{Runs: s.runs, Configs: s.configs, States: s.states, SSHKey: keys.OfWorkspace, Bus: s.bus, Pools: pools, Signer: s.signer, Mirror: s.agentMirror(mirrored)},
		mirrored, keys, triggers, guards, planner, drifts, engines, surgeon, s.vcs,
		&explorer.Service{DB: s.db, Accounts: s.accounts}, &trail.Service{DB: s.db},
		&estate.Service{DB: s.db, Accounts: s.accounts, Workspaces: s.workspaces, Configs: s.configs, Runs: s.runs, Base: s.URL},
		site, web.Static{}, s.metrics, health{s}, newMeta(s.cfg.IPRanges),
	} {
		f.Routes(rt)
	}
	s.router = rt
	return nil
}

// openQueue makes the queue of jobs, once all who bring jobs are there.
func (s *Server) openQueue(ctx context.Context) (err error) {
	kinds := jobs.NewKinds()
	s.notify.Jobs(kinds)
	s.exports.Jobs(kinds)
	s.Retention().Jobs(kinds)
	s.queue, err = jobs.Open(ctx, s.db.Postgres(), filepath.Join(s.cfg.DataDir, "jobs.db"), kinds)
	s.notify.Queue, s.exports.Queue = s.queue, s.queue
	return err
}

// lookAgain lets the queue of a workspace see that a lock or the state has
// changed. A failure only delays: the sweep looks too.
func (s *Server) lookAgain(ws core.ID) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.runs.WorkspaceChanged(ctx, ws); err != nil {
		slog.Warn("look at a workspace's queue", "workspace", ws, "err", err)
	}
}

// defaultEngine prefers the product of the client, then what is installed.
func (s *Server) defaultEngine(hint string) string {
	if hint != "" {
		return hint
	}
	for _, e := range s.catalog.Installed(context.Background()) {
		if e.Product == "terraform" {
			return e.Product
		}
	}
	if es := s.catalog.Installed(context.Background()); len(es) > 0 {
		return es[0].Product
	}
	return "terraform"
}

// admit makes the first administrator, or the link by which one is made.
func (s *Server) admit(ctx context.Context) error {
	a := s.cfg.Admin
	if a.Username != "" {
		err := s.accounts.EnsureAdmin(ctx, account.NewUser{Username: a.Username, Password: a.Password, Email: a.Email}, a.Token)
		if err != nil {
			return UsageError{fmt.Sprintf("setting INTERLOCK_ADMIN_USERNAME: %q cannot be the administrator; it %s", a.Username, core.Message(err))}
		}
		return nil
	}
	token, err := s.accounts.SetupToken(ctx)
	if token != "" {
		s.Setup = s.URL + "/setup/" + token
	}
	return err
}
