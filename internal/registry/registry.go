// Package registry is an organization's private registry: modules and
// providers that its members publish and that the CLI and runs install, over
// the vendor's API for publishing and the registry protocol for installing.
package registry

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	goversion "github.com/hashicorp/go-version"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/blob"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/secret"
	"interlock/internal/web"
)

// Service is what the APIs call.
type Service struct {
	DB     *db.DB
	Blobs  *blob.Store
	Signer *web.Signer
	Dir    string // for archives that are being looked at; emptied at start

	// Published hear of a version of a module that can be had from now on, in its
	// transaction; Wake is called after that.
	Published []func(ctx context.Context, tx *db.Tx, module core.ID, version string) error
	Wake      []func(context.Context) error

	looking sync.Mutex // one archive at a time takes disk and processor
}

// Prepare drops what a crash has left of archives that were being looked at.
func (s *Service) Prepare() error { return os.RemoveAll(s.Dir) }

// The registries that an entry may belong to.
const (
	Private = "private" // published here
	Public  = "public"  // an entry of the catalogue that points elsewhere
)

const (
	uploadTTL   = time.Hour
	downloadTTL = 15 * time.Minute // a provider is fetched some time after it was looked up
)

// Routes mounts the APIs.
func (s *Service) Routes(rt *web.Router) {
	s.moduleRoutes(rt)
	s.providerRoutes(rt)
	s.keyRoutes(rt)
	s.protocolRoutes(rt)
}

// org finds an organization on which the subject of ctx has the rights of
// want, and returns all that it has. A run's token speaks the registry
// protocol and does not get in here.
func org(ctx context.Context, tx *db.Tx, name string, want core.Right) (account.Org, core.Right, error) {
	o, err := account.FindOrg(ctx, tx, name)
	if err != nil {
		return o, 0, err
	}
	have, err := rights(ctx, tx, o.ID, want)
	return o, have, err
}

// rights is org for an organization whose id is known.
func rights(ctx context.Context, tx *db.Tx, id core.ID, want core.Right) (core.Right, error) {
	have, err := authz.OrgRights(ctx, tx, id)
	if err == nil && (authz.Subject(ctx).Kind == core.RunKind || !have.Has(core.ReadOrg|want)) {
		err = authz.ErrHidden()
	}
	return have, err
}

// fold makes names equal that people would take for one.
func fold(name string) string { return strings.ToLower(name) }

var likeSpecial = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

// The names of the registry protocol, which reserves other letters.
var (
	namePattern   = core.NewPattern(`^[0-9A-Za-z](?:[0-9A-Za-z_-]{0,62}[0-9A-Za-z])?$`)
	systemPattern = core.NewPattern(`^[0-9a-z]{1,64}$`)
	semver        = core.NewPattern(`^(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)
)

func checkName(field, value string, ok *core.Pattern) error {
	switch {
	case value == "":
		return core.Errorf(core.Invalid, "can't be blank").InField(field)
	case len(value) > 64:
		return core.Errorf(core.Invalid, "is too long (maximum is 64 characters)").InField(field)
	case !ok.MatchString(value) && ok == systemPattern:
		return core.Errorf(core.Invalid, "may hold only lower-case letters and digits").InField(field)
	case !ok.MatchString(value):
		return core.Errorf(core.Invalid, "may hold only letters, digits, - and _, and begins and ends with a letter or digit").InField(field)
	}
	return nil
}

func checkVersion(v string) error {
	if v == "" {
		return core.Errorf(core.Invalid, "can't be blank").InField("version")
	}
	if len(v) <= 128 && semver.MatchString(v) {
		if _, err := goversion.NewSemver(v); err == nil {
			return nil
		}
	}
	return core.Errorf(core.Invalid, "is not a semantic version such as 1.2.3").InField("version")
}

// checkRegistry fills in the default where there is one and refuses what is
// neither private nor public.
func checkRegistry(r string) error {
	outside := core.Errorf(core.Invalid, "is not included in the list").InField("registry-name")
	switch r {
	case Private, Public:
		return nil
	case "":
		blank := core.Errorf(core.Invalid, "can't be blank").InField("registry-name")
		blank.Also = outside
		return blank
	}
	return outside
}

// newer orders versions, the highest first. What is stored has passed
// checkVersion.
func newer(a, b string) int {
	x, errX := goversion.NewVersion(a)
	y, errY := goversion.NewVersion(b)
	if errX != nil || errY != nil || x.Equal(y) {
		return cmp.Compare(b, a)
	}
	return y.Compare(x)
}

func taken(err error, field string) error {
	if core.KindOf(err) == core.Conflict {
		return core.Errorf(core.Invalid, "has already been taken").InField(field)
	}
	return err
}

// store puts an upload of at most limit bytes into the object store under a
// name of its own. A body that breaks off can be sent again.
func (s *Service) store(w http.ResponseWriter, r *http.Request, prefix string, id core.ID, limit int64) (object string, info blob.Info, err error) {
	tooLarge := core.Errorf(core.Invalid, "the upload is larger than %d bytes", limit)
	if r.ContentLength > limit {
		return "", info, tooLarge
	}
	object = prefix + "/" + string(id) + "." + secret.NewToken(8)
	body := &upload{r: http.MaxBytesReader(w, r.Body, limit)}
	info, err = s.Blobs.Put(r.Context(), object, body)
	if body.err != nil {
		s.drop(r.Context(), object)
		if _, ok := body.err.(*http.MaxBytesError); ok {
			return "", info, tooLarge
		}
		return "", info, core.Wrap(body.err, core.Malformed, "the upload broke off; it can be repeated")
	}
	return object, info, err
}

// upload keeps an error of the sender apart from those of the store.
type upload struct {
	r   io.Reader
	err error
}

func (u *upload) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	if err != nil && err != io.EOF {
		u.err = err
	}
	return n, err
}

// drop removes objects that no row names; at worst they stay as rubbish.
func (s *Service) drop(ctx context.Context, objects ...string) {
	for _, o := range objects {
		if o != "" {
			_ = s.Blobs.Delete(context.WithoutCancel(ctx), o)
		}
	}
}

// settled removes the objects of a change that is over: gone ones if it was
// made, fresh ones if it was refused. Where a commit's answer was lost, all
// stay: one too many is rubbish, one too few a loss.
func (s *Service) settled(ctx context.Context, err error, fresh, gone string) {
	switch {
	case err == nil:
		s.drop(ctx, gone)
	case core.KindOf(err) != core.Internal && core.KindOf(err) != core.Unavailable && core.KindOf(err) != core.NoSpace:
		s.drop(ctx, fresh)
	}
}

func scanText(r db.Row) (v string, err error) { return v, r.Scan(&v) }

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
