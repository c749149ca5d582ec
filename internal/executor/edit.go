package executor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"

	"github.com/hashicorp/terraform-exec/tfexec"

	"interlock/internal/core"
)

// The operations of an Edit, which are commands of the engine's own.
const (
	EditMove            = "mv"
	EditRemove          = "rm"
	EditReplaceProvider = "replace-provider"
)

// An Edit is one change of a state: where something goes, what is forgotten, or
// which provider answers instead of another.
type Edit struct {
	Operation string
	From      string // an address, or a provider's source
	To        string // of mv and replace-provider
}

// provider is a source address: type, namespace/type or host/namespace/type.
var provider = regexp.MustCompile(`^([a-zA-Z0-9][a-zA-Z0-9.:-]*/)?([a-zA-Z0-9_-]+/)?[a-zA-Z0-9_-]+$`)

// Check refuses what could not be an operation, or could be taken for a flag.
func (e Edit) Check() error {
	check := address
	switch e.Operation {
	case EditMove:
	case EditReplaceProvider:
		check = func(s string) error {
			if len(s) > 512 || !provider.MatchString(s) || s[0] == '-' {
				return core.Errorf(core.Invalid, "%q is not the source of a provider, such as registry.terraform.io/hashicorp/aws", s)
			}
			return nil
		}
	case EditRemove:
		if e.To != "" {
			return core.Errorf(core.Invalid, "rm has no destination")
		}
		return address(e.From)
	default:
		return core.Errorf(core.Invalid, "%q is no operation; it is mv, rm or replace-provider", e.Operation)
	}
	if err := check(e.From); err != nil {
		return err
	}
	return check(e.To)
}

// EditState has the engine change a copy of a state in an area without a
// configuration, one edit after the other, and returns what it left. It needs no
// provider and no network. What the engine refuses is Invalid, in its own words.
func (x *Executor) EditState(ctx context.Context, s Spec, state []byte, edits []Edit) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	for _, e := range edits {
		if err := e.Check(); err != nil {
			return nil, err
		}
	}
	root, err := s.Area.work(s.WorkDir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if err := x.hidden(&s); err != nil {
		return nil, err
	}
	if err := placeState(root, statePath(&s), true, state); err != nil {
		return nil, fmt.Errorf("place state: %w", err)
	}
	if err := writeCLIConfig(&s, nil); err != nil {
		return nil, err
	}
	for i, e := range edits {
		if err := x.edit(ctx, &s, e); err != nil {
			if len(edits) > 1 && core.KindOf(err) == core.Invalid {
				err = core.Wrap(err, core.Invalid, fmt.Sprintf("operation %d: %s", i+1, core.Message(err)))
			}
			return nil, err
		}
	}
	whole, damaged, err := collectState(root, statePath(&s))
	if err == nil && (whole == nil || damaged != nil) {
		err = core.Errorf(core.Internal, "the engine left no whole state")
	}
	return whole, err
}

func (x *Executor) edit(ctx context.Context, s *Spec, e Edit) error {
	var out bytes.Buffer
	c := call{spec: s, workDir: s.workPath(), out: &out, bare: true, asksVersion: true}
	switch e.Operation {
	case EditMove:
		c.run = func(ctx context.Context, tf *tfexec.Terraform) error {
			return tf.StateMv(ctx, e.From, e.To, tfexec.Lock(false))
		}
	case EditRemove:
		c.run = func(ctx context.Context, tf *tfexec.Terraform) error {
			return tf.StateRm(ctx, e.From, tfexec.Lock(false))
		}
	default: // tfexec knows no replace-provider
		c.args = []string{"state", "replace-provider", "-auto-approve", "-no-color", "-lock=false", e.From, e.To}
	}
	res, err := x.do(ctx, c)
	switch {
	case err != nil:
		return err
	case res.canceled && res.err != nil:
		return core.Errorf(core.Unavailable, "the operation took too long or was given up; nothing was changed")
	case res.err != nil && res.exit < 0:
		return res.failed(s, "state "+e.Operation)
	case res.err != nil:
		return core.Wrap(errors.New(out.String()), core.Invalid, said(out.Bytes()))
	case e.Operation == EditReplaceProvider && bytes.Contains(out.Bytes(), []byte("No matching resources found")):
		return core.Errorf(core.Invalid, "no resource of the state belongs to provider %s", e.From)
	}
	return nil
}

// colors are the terminal's.
var colors = regexp.MustCompile("\x1b\\[[0-9;]*m")

// said is what the engine printed as one sentence, without its frame.
func said(out []byte) string {
	text := strings.NewReplacer("│", " ", "╷", " ", "╵", " ").Replace(string(colors.ReplaceAll(lastLines(out), nil)))
	if i := strings.Index(text, "Error:"); i >= 0 {
		text = text[i+len("Error:"):]
	}
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 500 {
		text = strings.ToValidUTF8(text[:500], "") + "…"
	}
	return "the engine refuses it: " + text
}

// direct starts the engine as tfexec does, for commands that it does not know.
func (x *Executor) direct(dir string, env map[string]string, c call) func(context.Context, *tfexec.Terraform) error {
	return func(ctx context.Context, _ *tfexec.Terraform) error {
		cmd := exec.CommandContext(ctx, x.wrapper, c.args...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, c.out, c.errOut
		for k, v := range env {
			cmd.Env = append(cmd.Env, k+"="+v)
		}
		return cmd.Run()
	}
}
