package executor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/terraform-exec/tfexec"
)

const (
	schemaProbe     = "zzzz_interlock_schema.tf"
	builtinProvider = "terraform.io/builtin/terraform"
)

// Schemas is "providers schema -json" for the configuration in the area, the
// built-in provider always among them. Documents are shared between runs whose
// lock files are equal. So that no run can plant one for others, the engine is
// asked without the run's environment and home, it checks each provider
// against the lock file, and a document that lacks one is not kept.
func (x *Executor) Schemas(ctx context.Context, s Spec) (Document, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	root, err := s.Area.work(s.WorkDir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	lock, err := readRun(root, ".terraform.lock.hcl")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read lock file: %w", err)
	}
	// Providers that are not under the lock cannot be shared.
	own := s.Env["TF_CLI_CONFIG_FILE"] != "" || s.Env["TF_REATTACH_PROVIDERS"] != ""
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%s\n", s.Engine.Product, s.Engine.Version, s.Engine.Path)
	h.Write(lock)
	file := filepath.Join(x.cfg.DataDir, "engines", "schemas", hex.EncodeToString(h.Sum(nil))+".json")
	if !own {
		if b, err := os.ReadFile(file); err == nil {
			return b, nil
		}
	}
	// A document for one configuration shall do for any other with this lock.
	if err := writeRun(root, schemaProbe, []byte("data \"terraform_remote_state\" \"interlock_schema\" {\n}\n")); err != nil {
		return nil, fmt.Errorf("ask for schemas: %w", err)
	}
	defer func() { _ = root.RemoveAll(schemaProbe) }()
	env := map[string]string{"TF_CLI_ARGS": "", "TF_LOG": ""}
	doc, err := x.oneOutput(ctx, call{spec: &s, workDir: s.workPath(), env: env, bare: !own, run: func(ctx context.Context, tf *tfexec.Terraform) error {
		_, err := tf.ProvidersSchema(ctx)
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return exit
		}
		// Formats newer than the library are none of its business here.
		return nil
	}}, "the provider schemas")
	if err != nil || own || !complete(doc, lock) {
		return doc, err
	}
	x.schemas.Lock()
	defer x.schemas.Unlock()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, fmt.Errorf("keep schemas: %w", err)
	}
	if err := writeFile(file, doc); err != nil {
		return nil, fmt.Errorf("keep schemas: %w", err)
	}
	return doc, nil
}

// complete tells whether doc has exactly the providers of the lock file and
// the built-in one.
func complete(doc Document, lock []byte) bool {
	var d struct {
		Schemas map[string]json.RawMessage `json:"provider_schemas"`
	}
	if json.Unmarshal(doc, &d) != nil {
		return false
	}
	tokens, diags := hclsyntax.LexConfig(lock, "lock", hcl.InitialPos)
	if diags.HasErrors() {
		return false
	}
	want := map[string]bool{builtinProvider: true}
	for i, t := range tokens {
		if t.Type == hclsyntax.TokenIdent && string(t.Bytes) == "provider" && i+2 < len(tokens) && tokens[i+2].Type == hclsyntax.TokenQuotedLit {
			want[string(tokens[i+2].Bytes)] = true
		}
	}
	for p := range want {
		if d.Schemas[p] == nil {
			return false
		}
	}
	return len(d.Schemas) == len(want)
}
