package executor

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	version "github.com/hashicorp/go-version"

	"interlock/internal/core"
)

// Source is what the administrators of an installation say of a version of
// terraform.
type Source struct {
	Disabled  bool
	URL       string // of a build of their own, a zip; empty for the vendor's
	SHA256    string // of what is there, hex
	Elsewhere bool   // there are builds of their own, but none for this machine
}

// said is what is said of a version of a product.
func (c *Catalog) said(ctx context.Context, product, v string) Source {
	if c.Sources == nil || product == "tofu" {
		return Source{}
	}
	all, err := c.Sources(ctx)
	if err != nil {
		return Source{}
	}
	return all[v]
}

// Disabled reports whether the administrators let no new plan use an engine.
func (c *Catalog) Disabled(ctx context.Context, e Engine) bool {
	return c.said(ctx, e.Product, e.Version).Disabled
}

// own installs the administrators' build of a version, or finds it installed.
// It is kept by its sum, so that another build of that version is another one.
func (c *Catalog) own(ctx context.Context, v *version.Version, src Source) (Engine, error) {
	dir := filepath.Join(c.dir(), "own", src.SHA256)
	path := filepath.Join(dir, "terraform")
	if _, err := os.Stat(path); err == nil {
		return c.checked(ctx, path, v)
	}
	res := c.flight.DoChan("own/"+src.SHA256, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Minute)
		defer cancel()
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return nil, err
		}
		tmp, err := os.MkdirTemp(filepath.Dir(dir), ".new-*")
		if err != nil {
			return nil, err
		}
		defer func() { _ = os.RemoveAll(tmp) }()
		if err := download(ctx, src, filepath.Join(tmp, "terraform")); err != nil {
			return nil, err
		}
		if err := os.Chmod(tmp, 0o755); err != nil {
			return nil, err
		}
		if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, err
		}
		return nil, nil
	})
	select {
	case <-ctx.Done():
		return Engine{}, ctx.Err()
	case r := <-res:
		if r.Err != nil {
			return Engine{}, core.Wrap(r.Err, core.Unavailable, fmt.Sprintf("terraform %s could not be installed from %s: %.200s", v, src.URL, r.Err))
		}
		return c.checked(ctx, path, v)
	}
}

// checked refuses a build that says it is something else than it was called.
func (c *Catalog) checked(ctx context.Context, path string, v *version.Version) (Engine, error) {
	e, err := c.identify(ctx, path)
	if err != nil {
		return Engine{}, core.Wrap(err, core.Unavailable, fmt.Sprintf("what was installed as terraform %s does not run here", v))
	}
	if e.Product != "terraform" || !sameVersion(e.Version, v) {
		return Engine{}, core.Errorf(core.Unavailable, "what was installed as terraform %s says it is %s %s", v, e.Product, e.Version)
	}
	return e, nil
}

// download gets a zip that holds the engine, and believes only its sum.
func download(ctx context.Context, src Source, to string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, src.URL, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the answer was %s", res.Status)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxEngine+1))
	if err != nil {
		return err
	}
	if len(b) > maxEngine {
		return fmt.Errorf("it is larger than %d bytes", maxEngine)
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != src.SHA256 {
		return errors.New("it does not have the checksum that was given")
	}
	zr, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return fmt.Errorf("it is no zip file: %w", err)
	}
	in, err := zr.Open("terraform")
	if err != nil {
		return errors.New("the zip file holds no terraform")
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, io.LimitReader(in, maxEngine+1))
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err == nil && n > maxEngine {
		err = fmt.Errorf("it holds more than %d bytes", maxEngine)
	}
	return err
}
