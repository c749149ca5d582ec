package moduletest

import (
	"context"
	"io"
	"net/http"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/secret"
	"interlock/internal/tarball"
	"interlock/internal/web"
)

const uploadTTL = time.Hour

// limits bounds an archive under test: code, not data.
func limits() tarball.Limits {
	return tarball.Limits{Compressed: 64 << 20, Expanded: 256 << 20, Entries: 20_000}
}

func (s *Service) uploadURL(id core.ID) string {
	if id == "" {
		return ""
	}
	return s.Signer.Base + "/upload/object/tests/" + string(id) + "/" + s.Signer.Path("PUT", "test-config/"+string(id), uploadTTL)
}

// upload takes an archive from whoever holds the address.
func (s *Service) upload(w http.ResponseWriter, r *http.Request) {
	id := core.ID(r.PathValue("config"))
	err := s.Signer.Check("PUT", "test-config/"+string(id), r.PathValue("capability"))
	if err == nil {
		err = s.receive(w, r, id)
	}
	web.Answer2017(w, r, err)
}

// receive stores an archive, looks at it, and only then lets it be tested.
func (s *Service) receive(w http.ResponseWriter, r *http.Request, id core.ID) error {
	ctx, lim := r.Context(), limits()
	if r.ContentLength > lim.Compressed {
		return core.Errorf(core.TooLarge, "the archive is larger than %d bytes", lim.Compressed)
	}
	object := "tests/" + string(id) + "." + secret.NewToken(8)
	body := &sender{r: http.MaxBytesReader(w, r.Body, lim.Compressed)}
	_, err := s.Blobs.Put(ctx, object, body)
	if body.err != nil {
		err = core.Wrap(body.err, core.Malformed, "the upload broke off, or is larger than allowed; it can be repeated")
	}
	if err == nil {
		err = s.sound(ctx, object, lim)
	}
	if err == nil {
		err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			n, err := tx.Exec(ctx, `UPDATE module_test_config SET object = $2 WHERE id = $1 AND object = ''`, id, object)
			if err == nil && n == 0 {
				return core.Errorf(core.Conflict, "this configuration has been uploaded already; make another for another upload")
			}
			return err
		})
	}
	if k := core.KindOf(err); err != nil && k != core.Internal && k != core.Unavailable {
		_ = s.Blobs.Delete(context.WithoutCancel(ctx), object)
	}
	return err
}

// sound reads the stored archive under the rules for archives from anyone.
func (s *Service) sound(ctx context.Context, object string, lim tarball.Limits) error {
	body, err := s.Blobs.Get(ctx, object)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = tarball.Check(ctx, body, lim)
	return err
}

// sender keeps an error of the sender apart from those of the store.
type sender struct {
	r   io.Reader
	err error
}

func (u *sender) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	if err != nil && err != io.EOF {
		u.err = err
	}
	return n, err
}
