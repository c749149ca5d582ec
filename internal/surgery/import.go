package surgery

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	version "github.com/hashicorp/go-version"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/executor"
	"interlock/internal/run"
	"interlock/internal/state"
	"interlock/internal/tfdata"
	"interlock/internal/workspace"
)

// Import is the operation that needs the provider and so is a run: of an edit,
// From is the address and To the id of what is imported.
const Import = "import"

// The statuses of an import besides Applied and Discarded: they are its run's.
const (
	Waiting = "waiting" // its run has not ended
	Failed  = "failed"
	Nothing = "nothing" // the plan found nothing to do
)

// What an import is told to import, in bytes.
const (
	maxImportAddress = 2048
	maxImportID      = 4096
)

// importsOnly reports whether all edits are imports, and refuses a mixture.
func importsOnly(edits []executor.Edit) (bool, error) {
	n := 0
	for _, e := range edits {
		if e.Operation == Import {
			n++
		}
	}
	if n > 0 && n < len(edits) {
		return false, core.Errorf(core.Invalid, "An import is a run of its own and cannot be mixed with other operations; stage one kind at a time").InField("operations")
	}
	return n > 0, nil
}

// place is the address of one instance of a managed resource, which an import
// block and a target can name.
func place(address string) (hcl.Traversal, error) {
	if err := (executor.Edit{Operation: executor.EditRemove, From: address}).Check(); err != nil {
		return nil, err
	}
	bad := core.Errorf(core.Invalid, "%.200q is not the address of a resource, such as aws_vpc.main or module.net.aws_vpc.main[0]", address)
	if len(address) > maxImportAddress || !utf8.ValidString(address) {
		return nil, bad
	}
	t, diags := hclsyntax.ParseTraversalAbs([]byte(address), "address", hcl.InitialPos)
	if diags.HasErrors() {
		return nil, bad
	}
	rest := t
	word := func() (w string) {
		if len(rest) > 0 {
			switch s := rest[0].(type) {
			case hcl.TraverseRoot:
				w = s.Name
			case hcl.TraverseAttr:
				w = s.Name
			}
		}
		if w != "" {
			rest = rest[1:]
		}
		return w
	}
	key := func() {
		if len(rest) > 0 {
			if k, ok := rest[0].(hcl.TraverseIndex); ok && (k.Key.Type() == cty.String || k.Key.Type() == cty.Number && k.Key.AsBigFloat().IsInt()) {
				rest = rest[1:]
			}
		}
	}
	kind := word()
	for kind == "module" {
		if word() == "" {
			return nil, bad
		}
		key()
		kind = word()
	}
	if kind == "data" {
		return nil, core.Errorf(core.Invalid, "%.200q is a data source, which is read and not imported", address)
	}
	if kind == "" || word() == "" {
		return nil, bad
	}
	if key(); len(rest) > 0 {
		return nil, bad
	}
	return t, nil
}

// written is a traversal as engines write it.
func written(t hcl.Traversal) string { return string(hclwrite.TokensForTraversal(t).Bytes()) }

// checkImport refuses what no import block can say.
func checkImport(e executor.Edit) error {
	if _, err := place(e.From); err != nil {
		return err
	}
	if strings.TrimSpace(e.To) == "" {
		return core.Errorf(core.Invalid, "The import of %.200s lacks the id of what is there", e.From)
	}
	if len(e.To) > maxImportID || !utf8.ValidString(e.To) || strings.ContainsFunc(e.To, unicode.IsControl) {
		return core.Errorf(core.Invalid, "The id for %.200s must be a line of text of at most %d bytes", e.From, maxImportID)
	}
	return nil
}

// blocks are the import blocks of edits and the addresses that these name. Both
// are written from what was parsed, so that no text leaves its string.
func blocks(edits []executor.Edit) (content []byte, addresses []string, err error) {
	f := hclwrite.NewEmptyFile()
	for _, e := range edits {
		t, err := place(e.From)
		if err != nil {
			return nil, nil, err
		}
		a := written(t)
		if slices.Contains(addresses, a) {
			return nil, nil, core.Errorf(core.Invalid, "have %s twice", a).InField("operations")
		}
		addresses = append(addresses, a)
		b := f.Body().AppendNewBlock(Import, nil).Body()
		b.SetAttributeTraversal("to", t)
		b.SetAttributeValue("id", cty.StringVal(e.To))
	}
	return f.Bytes(), addresses, nil
}

// knowsImports refuses a workspace whose engine has no import blocks. What an
// agent has for a constraint only the agent knows: there the engine says it.
func (s *Service) knowsImports(ctx context.Context, w workspace.Workspace) error {
	product, v := w.Engine, strings.TrimPrefix(strings.TrimSpace(w.EngineVersion), "v")
	exact, err := version.NewSemver(v)
	if plain, _, _ := strings.Cut(v, "-"); err != nil || strings.Count(plain, ".") != 2 {
		if w.ExecutionMode == "agent" {
			return nil
		}
		engine, err := s.Catalog.Find(ctx, product, v)
		if err != nil {
			return err
		}
		product, v = engine.Product, engine.Version
		if exact, err = version.NewVersion(v); err != nil {
			return err
		}
	}
	if exact.Core().LessThan(version.Must(version.NewVersion("1.5.0"))) {
		return core.Errorf(core.Conflict, "%s %s has no import blocks, which came with 1.5.0; choose a later version for the workspace", cmp.Or(product, "terraform"), v)
	}
	return nil
}

// stageImport queues the run of an import: of the current configuration and a
// file of import blocks, with their addresses as targets. Its plan is the
// preview, and only somebody's confirmation applies it.
func (s *Service) stageImport(ctx context.Context, w workspace.Workspace, cur *state.Version, edits []executor.Edit, source string) (o Operation, err error) {
	const want = core.ReadState | core.WriteState | core.QueuePlan
	content, addresses, err := blocks(edits)
	if err != nil {
		return o, err
	}
	edits = slices.Clone(edits)
	for i, a := range addresses {
		edits[i].From = a
	}
	dir := ""
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := workspace.Get(ctx, tx, w.ID, want); err != nil {
			return err
		}
		dir, err = s.Runs.Directory(ctx, tx, w)
		return err
	})
	switch {
	case err != nil:
		return o, err
	case w.ExecutionMode == "local":
		return o, core.Errorf(core.Conflict, "the workspace's execution mode is local: its runs, and so its imports, happen where the CLI is")
	case w.ConfigID == "":
		return o, core.Errorf(core.Conflict, "the workspace has no configuration yet; upload one that has the resource first")
	}
	if err := s.knowsImports(ctx, w); err != nil {
		return o, err
	}
	if cur != nil {
		if err := s.absent(ctx, *cur, addresses); err != nil {
			return o, err
		}
	}
	sub := authz.Subject(ctx)
	o = Operation{ID: core.NewID("sop"), Workspace: w.ID, Edits: edits, Changes: []tfdata.AddressChange{}, Status: Previewed,
		Run: core.NewID("run"), CreatedBy: sub.User(), CreatedName: sub.Name}
	if cur != nil {
		o.Base, o.BaseSerial = cur.ID, cur.Serial
	}
	c, err := s.Configs.Extend(ctx, w.ConfigID, source, dir, "interlock_import_"+string(o.ID)+".tf", content)
	if err != nil {
		return o, err
	}
	no := false
	_, err = s.Runs.Queue(ctx, func(ctx context.Context, tx *db.Tx) (core.ID, core.ID, run.New, error) {
		n := run.New{ID: o.Run, ConfigID: c.ID, PlanOnly: &no, AutoApply: &no, Targets: addresses, Message: message(addresses, edits, sub.Name), Source: source, TriggerReason: Import}
		if err := workspace.Hold(ctx, tx, w.ID); err != nil {
			return "", "", n, err
		}
		now, err := workspace.Get(ctx, tx, w.ID, want)
		if err != nil {
			return "", "", n, err
		}
		at, err := s.Runs.Directory(ctx, tx, now)
		if err != nil {
			return "", "", n, err
		}
		if now.ConfigID != w.ConfigID || at != dir {
			return "", "", n, core.Errorf(core.Conflict, "the configuration has just changed; stage it again")
		}
		if err := insert(ctx, tx, &o); err != nil {
			return "", "", n, err
		}
		return w.ID, sub.ID, n, o.note(ctx, tx, w.OrgID, "import", map[string]any{"run": o.Run})
	})
	if err != nil {
		return o, err
	}
	return s.Get(ctx, o.ID)
}

// absent refuses addresses that the state has already: an engine would pass
// over them, and an undo would take out what was there before.
func (s *Service) absent(ctx context.Context, v state.Version, addresses []string) error {
	raw, err := s.States.Raw(ctx, v)
	if err != nil {
		return err
	}
	t, err := tfdata.ParseState(raw)
	if err != nil || t.Encrypted {
		return err
	}
	for _, r := range t.List {
		if r.Mode == "managed" && slices.Contains(addresses, r.Address) {
			return core.Errorf(core.Invalid, "The state has %s already", r.Address).InField("operations")
		}
	}
	return nil
}

// message says in a run's words what it imports and who asked.
func message(addresses []string, edits []executor.Edit, who string) string {
	const most = 10 // more lines say no more
	var b strings.Builder
	fmt.Fprintf(&b, "Import %.200s", addresses[0])
	if n := len(addresses) - 1; n > 0 {
		fmt.Fprintf(&b, " and %d more", n)
	}
	fmt.Fprintf(&b, " into the state, asked for by %s", who)
	for i, a := range addresses {
		if i == most {
			b.WriteString("\n…")
			break
		}
		fmt.Fprintf(&b, "\n%.400s from %.400q", a, edits[i].To)
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

// outcome is the status of an import whose run has this one.
func outcome(of core.Status) string {
	switch of {
	case core.Applied:
		return Applied
	case core.Errored:
		return Failed
	case core.Discarded, core.Canceled:
		return Discarded
	case core.PlannedAndFinished:
		return Nothing
	}
	return Waiting
}

// byRun refuses to decide on an import here.
func (o Operation) byRun() error {
	if o.Run == "" {
		return nil
	}
	return core.Errorf(core.Conflict, "the operation is an import: it is confirmed or discarded with its run %s, and undone by rm", o.Run)
}
