// Package executor runs terraform and tofu on this machine: it finds and
// installs engines, keeps one area of disk per run, starts each phase of a run
// in a sandbox and proves afterwards that nothing of it is still running.
//
// It knows nothing of runs as the platform sees them. What it is told is in
// PlanSpec and ApplySpec; what came of it is in the results.
package executor

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"interlock/internal/core"
)

// Config says where an Executor keeps its things and how it shuts runs in.
type Config struct {
	DataDir string  // the server's data directory; never visible to a run
	Sandbox Sandbox // from DetectSandbox
	// CABundle is a file of certificates that runs trust, "" for the system's.
	CABundle string
	Limits   Limits // of every phase
	// ProviderDir holds unpacked providers that every run may read, "" for none.
	ProviderDir string
	// Guard, if set, is asked before each phase where its connections may not go.
	// Where the kernel or the sandbox cannot guard them, nothing does: see Guarded.
	Guard func() Guard
}

// Executor starts engines. It may be used from many goroutines, one phase of
// an area at a time.
type Executor struct {
	cfg     Config
	wrapper string // what tfexec takes for the engine

	unguarded func() error // why connections are not guarded; nil if they are
	schemas   sync.Mutex
}

// New prepares DataDir/engines for use.
func New(cfg Config) (*Executor, error) {
	if cfg.Limits.NoNetwork && cfg.Sandbox.name == "none" {
		return nil, core.Errorf(core.Unavailable, "setting run-network: none needs a sandbox; sandbox none cannot keep runs from the network (allowed: host, or sandbox bwrap or landlock)")
	}
	if !filepath.IsAbs(cfg.DataDir) {
		abs, err := filepath.Abs(cfg.DataDir)
		if err != nil {
			return nil, err
		}
		cfg.DataDir = abs
	}
	if cfg.Sandbox.name == "" {
		return nil, core.Errorf(core.Invalid, "the executor needs a sandbox; see DetectSandbox")
	}
	dir := filepath.Join(cfg.DataDir, "engines")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	w, err := installSupervisor(dir)
	if w == "" && err == nil {
		w, err = installWrapper(dir)
	}
	if err != nil {
		return nil, err
	}
	x := &Executor{cfg: cfg, wrapper: w, unguarded: func() error { return errors.New("it was not asked for") }}
	if cfg.Guard != nil {
		program := ""
		if len(supervisor) > 0 && filepath.Base(w) != wrapperName {
			program = w
		}
		// Who asks first waits for the answer; the start does not.
		x.unguarded = sync.OnceValue(func() error { return cfg.Sandbox.TryGuard(program) })
	}
	return x, nil
}

// Sandbox returns the isolation in force.
func (x *Executor) Sandbox() Sandbox { return x.cfg.Sandbox }

// Value is one terraform variable: a string as it stands, or an HCL literal.
type Value struct {
	Value string
	HCL   bool
}

// Spec is what every phase of a run needs. The zero value of everything but
// Area and Engine is usable.
type Spec struct {
	Area    *Area
	Engine  Engine
	WorkDir string // below the configuration's root, "" for the root itself

	// Env is the whole environment that the run is given besides a fixed PATH,
	// a home of its own and the server's locale, proxy and certificate
	// settings. Names are shell identifiers. TF_WORKSPACE, TF_DATA_DIR and what
	// else would move the state are left out.
	Env map[string]string
	// TFVars are terraform variables. RunVars are HCL literals given with the
	// run; they win over TFVars. Both win over every file in the configuration.
	TFVars  map[string]Value
	RunVars map[string]string

	// Credentials are tokens by host[:port], for what the engine itself asks of
	// a server: states of other workspaces, modules, providers.
	Credentials map[string]string

	// SSHKey is a private key in OpenSSH's or PEM form, without a passphrase, with
	// which git fetches modules. It is on disk only while init runs.
	SSHKey string

	// Lease, if set, is a file that KeepLease writes: the supervisor kills the run
	// when its time is over, whether or not this process can.
	Lease string

	JSON    bool      // the engine's -json log instead of text for people
	Secrets []string  // masked in the log, also when encoded
	Log     io.Writer // whole lines, redacted, as they appear; nil drops them

	small bool // see light

	Parallelism int  // 0 means the engine's own default, 10
	Debug       bool // TF_LOG=TRACE into the log

	// Interrupt, once closed, sends the engine one SIGINT and kills everything
	// when Grace is over. Kill, once closed, kills everything at once. The end
	// of the context is the same as Interrupt: an apply that is merely cut off
	// loses state.
	Interrupt <-chan struct{}
	Kill      <-chan struct{}
	Grace     time.Duration // 0 means 30 s

	// Providers, if set, is asked before init where the engine gets providers
	// from. Its context ends when the phase is to stop.
	Providers func(ctx context.Context, q ProviderRequest) (Providers, error)
	// Installed, if set, is given the lock file that a successful init left.
	Installed func(lock []byte)
}

// PlanSpec describes one plan.
type PlanSpec struct {
	Spec
	State          []byte // nil for none
	Destroy        bool
	RefreshOnly    bool
	Refresh        bool // false is -refresh=false
	Targets        []string
	Replace        []string
	Invoke         []string // addresses of actions
	GenerateConfig bool
}

// Counts is how many resources an operation touches. All are -1 when the
// engine did not say.
type Counts struct{ Adds, Changes, Destroys, Imports int }

// PlanResult is what a plan came to.
type PlanResult struct {
	Counts
	HasChanges      bool
	PlanFile        string // where the plan is, out of the run's reach; "" if there is none
	SHA256          string // of PlanFile, hex
	Initialised     bool   // init was needed and ran
	GeneratedConfig string
	ExitCode        int
	Canceled        bool // ended because of Interrupt or Kill
	Killed          bool // did not obey Interrupt, or Kill was closed
}

// ApplySpec describes one apply of a saved plan.
type ApplySpec struct {
	Spec
	Plan  []byte // the confirmed plan; nil means the area's own
	State []byte // written only if the area holds no state, as on another machine than the plan's

	// OnState, if set, is given the state file, open at its beginning, soon after
	// each change. The engine may be writing it: what is read may be a part.
	OnState func(*os.File)
}

// ApplyResult is what an apply came to. It is filled in on failure as well.
type ApplyResult struct {
	Counts
	// State is the state file after the engine ended, errored.tfstate before
	// terraform.tfstate, nil if there is none. Damaged is the file's content
	// when it is not a whole JSON document, as after a kill; State is nil then.
	State    []byte
	Damaged  []byte
	ExitCode int // -1 if the engine was killed or never ran
	Canceled bool
	Killed   bool
}

// Document is a JSON document exactly as the engine printed it.
type Document = json.RawMessage
