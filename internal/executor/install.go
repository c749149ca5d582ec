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
	"strings"

	version "github.com/hashicorp/go-version"
	"github.com/hashicorp/hc-install/product"
	"github.com/hashicorp/hc-install/releases"
	"github.com/opentofu/tofudl"

	"interlock/internal/core"
)

// maxEngine bounds an engine's size, packed or not.
const maxEngine = 1 << 30

// fetch puts the engine into dir. The vendors' tools check the signature of
// the checksums and the checksums; a directory is the operator's own, so there
// the checksums suffice.
func (c *Catalog) fetch(ctx context.Context, name string, v *version.Version, dir string) error {
	mirror := c.cfg.Mirror
	remote := strings.HasPrefix(mirror, "https://") || strings.HasPrefix(mirror, "http://")
	switch {
	case mirror != "" && !remote:
		return fetchLocal(mirror, name, v.String(), dir)
	case name == "terraform":
		ev := &releases.ExactVersion{Product: product.Terraform, Version: v, InstallDir: dir, ApiBaseURL: mirror}
		_, err := ev.Install(ctx)
		return err
	default:
		return fetchTofu(ctx, mirror, v, dir)
	}
}

func fetchTofu(ctx context.Context, mirror string, v *version.Version, dir string) error {
	// A client of its own: the library would set up the shared one.
	opts := []tofudl.ConfigOpt{tofudl.ConfigHTTPClient(&http.Client{})}
	if mirror != "" {
		base := strings.TrimSuffix(mirror, "/")
		opts = append(opts, tofudl.ConfigAPIURL(base+"/api.json"), tofudl.ConfigDownloadMirrorURLTemplate(base+"/v{{ .Version }}/{{ .Artifact }}"))
	}
	d, err := tofudl.New(opts...)
	if err != nil {
		return err
	}
	b, err := d.Download(ctx, tofudl.DownloadOptVersion(tofudl.Version(v.String())))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "tofu"), b, 0o755)
}

func fetchLocal(mirror, name, v, dir string) error {
	from := filepath.Join(mirror, name, v)
	archive := fmt.Sprintf("%s_%s_%s.zip", name, v, platform())
	sums, err := os.ReadFile(filepath.Join(from, fmt.Sprintf("%s_%s_SHA256SUMS", name, v)))
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(from, archive))
	if err != nil {
		return err
	}
	defer f.Close()
	// What is checked is what is unpacked, whatever happens to the file.
	b, err := io.ReadAll(io.LimitReader(f, maxEngine+1))
	if err != nil {
		return err
	}
	if len(b) > maxEngine {
		return fmt.Errorf("%s is larger than %d bytes", archive, maxEngine)
	}
	sum := sha256.Sum256(b)
	if !listed(sums, hex.EncodeToString(sum[:]), archive) {
		return fmt.Errorf("%s does not have the checksum of SHA256SUMS", archive)
	}
	zr, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return fmt.Errorf("open %s: %w", archive, err)
	}
	in, err := zr.Open(name)
	if err != nil {
		return fmt.Errorf("open %s: %w", archive, err)
	}
	defer in.Close()
	out, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, io.LimitReader(in, maxEngine+1))
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err == nil && n > maxEngine {
		err = fmt.Errorf("%s holds more than %d bytes", archive, maxEngine)
	}
	return err
}

func listed(sums []byte, sum, file string) bool {
	for line := range strings.Lines(string(sums)) {
		f := strings.Fields(line)
		if len(f) == 2 && strings.EqualFold(f[0], sum) && strings.TrimPrefix(f[1], "*") == file {
			return true
		}
	}
	return false
}

// Add puts an engine that was checked elsewhere in its place, where running
// servers find it, and takes the file. One that is there already stays.
func (c *Catalog) Add(ctx context.Context, product, v, file string) (Engine, error) {
	exact, err := version.NewSemver(v)
	if product != "terraform" && product != "tofu" || err != nil {
		return Engine{}, core.Errorf(core.Invalid, "%s %s is no engine", product, v)
	}
	dir := filepath.Join(c.dir(), product, exact.String())
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return Engine{}, err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".new-*")
	if err != nil {
		return Engine{}, err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	binary := filepath.Join(tmp, product)
	if err := os.Rename(file, binary); err != nil {
		return Engine{}, err
	}
	if err := os.Chmod(binary, 0o755); err != nil {
		return Engine{}, err
	}
	// What it says it is decides, before anybody can find it.
	said, sv, err := ask(ctx, binary)
	if err != nil {
		return Engine{}, core.Wrap(err, core.Invalid, fmt.Sprintf("%s %s does not run here", product, v))
	}
	if said != product || !sameVersion(sv, exact) {
		return Engine{}, core.Errorf(core.Invalid, "what is called %s %s says that it is %s %s", product, v, said, sv)
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return Engine{}, err
	}
	if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, os.ErrExist) {
		return Engine{}, err
	}
	return c.identify(ctx, filepath.Join(dir, product))
}
