package executor

import "context"

type Engine struct{ Product, Version, Path string }
type CatalogConfig struct{ DataDir, EnginePath, Mirror string }
type Catalog struct{}
type Sandbox struct{ name, note string }
type Area struct{}

func NewCatalog(cfg CatalogConfig) *Catalog               { panic("skeleton") }
func (c *Catalog) Installed(ctx context.Context) []Engine { panic("skeleton") }
func (c *Catalog) Find(ctx context.Context, product, version string) (Engine, error) {
	panic("skeleton")
}
func DetectSandbox(want, selfExe string) (Sandbox, error)                       { panic("skeleton") }
func (s Sandbox) Name() string                                                  { return s.name }
func (s Sandbox) Note() string                                                  { return s.note }
func SandboxExecMain(args []string) int                                         { panic("skeleton") }
func OpenArea(root, runID string) (*Area, error)                                { panic("skeleton") }
func (a *Area) ConfigDir() string                                               { panic("skeleton") }
func (a *Area) Remove() error                                                   { panic("skeleton") }
func ValidateHCL(expr string) error                                             { panic("skeleton") }
func installWrapper(dir string) (string, error)                                 { panic("skeleton") }
func (x *Executor) Plan(ctx context.Context, s PlanSpec) (PlanResult, error)    { panic("skeleton") }
func (x *Executor) Apply(ctx context.Context, s ApplySpec) (ApplyResult, error) { panic("skeleton") }
func (x *Executor) ShowPlan(ctx context.Context, s Spec, planFile string) (Document, error) {
	panic("skeleton")
}
func (x *Executor) ShowState(ctx context.Context, s Spec, stateFile string) (Document, error) {
	panic("skeleton")
}
func (x *Executor) Schemas(ctx context.Context, s Spec) (Document, error) { panic("skeleton") }
func (x *Executor) Reap(a *Area) error                                    { panic("skeleton") }
func (x *Executor) Salvage(a *Area) (state []byte, exit *int, err error)  { panic("skeleton") }
