package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/web"
)

const (
	maxSums      = 256 << 10
	maxSignature = 64 << 10
	maxBinary    = 1 << 30
)

func (s *Service) assetRoutes(rt *web.Router) {
	for file, receive := range map[string]func(context.Context, core.ID, []byte) error{"shasums": s.receiveSums, "shasums-sig": s.receiveSignature} {
		rt.Raw("PUT /upload/providers/{version}/"+file+"/{capability}", s.uploadFile(file, receive))
		rt.Raw("GET /download/providers/{version}/"+file+"/{capability}", s.downloadFile(file))
	}
	rt.Raw("PUT /upload/provider-binaries/{platform}/{capability}", s.uploadBinary)
	rt.Raw("GET /download/provider-binaries/{platform}/{capability}/{file}", s.downloadBinary)
}

func (s *Service) fileURL(method, file string, v ProviderVersion) string {
	where, ttl := "/upload/providers/", uploadTTL
	if method == "GET" {
		where, ttl = "/download/providers/", downloadTTL
	}
	return s.Signer.Base + where + string(v.ID) + "/" + file + "/" + s.Signer.Path(method, file+"/"+string(v.ID), ttl)
}

func (s *Service) binaryURL(method string, f Platform) string {
	if method == "GET" {
		return s.Signer.Base + "/download/provider-binaries/" + string(f.ID) + "/" + s.Signer.Path("GET", "provider-binary/"+string(f.ID), downloadTTL) + "/" + f.Filename
	}
	return s.Signer.Base + "/upload/provider-binaries/" + string(f.ID) + "/" + s.Signer.Path("PUT", "provider-binary/"+string(f.ID), uploadTTL)
}

// uploadFile takes one of the two small files of a version.
func (s *Service) uploadFile(file string, receive func(context.Context, core.ID, []byte) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := core.ID(r.PathValue("version"))
		err := s.Signer.Check("PUT", file+"/"+string(id), r.PathValue("capability"))
		if err == nil {
			var b []byte
			if b, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxSums)); err != nil {
				err = core.Wrap(err, core.Invalid, "the file broke off or is too large")
			} else {
				err = receive(r.Context(), id, b)
			}
		}
		web.Answer2017(w, r, err)
	}
}

// parseSums reads the lines of a SHA256SUMS file: a sum, two spaces, a name.
func parseSums(sums string) (map[string]string, error) {
	out := map[string]string{}
	for line := range strings.SplitSeq(sums, "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" {
			continue
		}
		sum, name, ok := strings.Cut(line, "  ")
		if raw, err := hex.DecodeString(sum); !ok || err != nil || len(raw) != 32 || !fileName.MatchString(name) {
			return nil, core.Errorf(core.Invalid, "the file is not a list of SHA-256 sums: each line holds a sum, two spaces and the name of a file")
		}
		out[name] = strings.ToLower(sum)
	}
	if len(out) == 0 {
		return nil, core.Errorf(core.Invalid, "the list of sums is empty")
	}
	return out, nil
}

func (s *Service) receiveSums(ctx context.Context, id core.ID, b []byte) error {
	if _, err := parseSums(string(b)); err != nil {
		return err
	}
	return s.change(ctx, id, `UPDATE registry_provider_version SET sums = $2, updated_at = $3 WHERE id = $1 AND verified = false`, string(b))
}

func (s *Service) receiveSignature(ctx context.Context, id core.ID, b []byte) error {
	switch {
	case len(b) == 0 || len(b) > maxSignature:
		return core.Errorf(core.Invalid, "the file is not a signature")
	case bytes.HasPrefix(bytes.TrimSpace(b), []byte("-----BEGIN")):
		return core.Errorf(core.Invalid, "the signature is armored; clients read only binary ones, as gpg --detach-sign makes them")
	}
	return s.change(ctx, id, `UPDATE registry_provider_version SET signature = $2, updated_at = $3 WHERE id = $1 AND verified = false`, base64.StdEncoding.EncodeToString(b))
}

// change stores one of a version's files, unless both would be there with a
// key that did not sign.
func (s *Service) change(ctx context.Context, id core.ID, q, value string) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := loadFiles(ctx, tx, id); err != nil {
			return err
		}
		n, err := tx.Exec(ctx, q, id, value, tx.Now())
		if err != nil {
			return err
		}
		if n == 0 {
			return core.Errorf(core.Conflict, "this version is signed already and stays as it is; publish another")
		}
		return settle(ctx, tx, id)
	})
}

type files struct{ sums, signature, armor string }

func loadFiles(ctx context.Context, tx *db.Tx, id core.ID) (files, error) {
	return db.One(ctx, tx, func(r db.Row) (f files, err error) { return f, r.Scan(&f.sums, &f.signature, &f.armor) }, `
		SELECT v.sums, v.signature, COALESCE(k.armor, '') FROM registry_provider_version v JOIN registry_provider p ON p.id = v.provider_id
		LEFT JOIN gpg_key k ON k.org_id = p.org_id AND k.key_id = upper(v.key_id) WHERE v.id = $1`, id)
}

// noteFile adds to the trail that a file of a version came, or that a key came
// or went which changes what it is worth.
func noteFile(ctx context.Context, tx *db.Tx, id core.ID) error {
	org, err := db.One(ctx, tx, db.ID, `SELECT p.org_id FROM registry_provider p JOIN registry_provider_version v ON v.provider_id = p.id WHERE v.id = $1`, id)
	if err != nil {
		return err
	}
	return audit.Add(ctx, tx, org, "registry_provider_version", id, "upload", nil)
}

// settle finds out what of a version can be offered, from its files and the
// organization's key as they are. It fails if all is there and the key did not
// make the signature.
func settle(ctx context.Context, tx *db.Tx, id core.ID) error {
	f, err := loadFiles(ctx, tx, id)
	if err != nil {
		return err
	}
	if err := noteFile(ctx, tx, id); err != nil {
		return err
	}
	verified := f.sums != "" && f.signature != "" && f.armor != ""
	if verified {
		if err := checkSignature(f); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, `UPDATE registry_provider_version SET verified = $2 WHERE id = $1`, id, verified); err != nil {
		return err
	}
	listed := map[string]string{}
	if verified {
		if listed, err = parseSums(f.sums); err != nil {
			return err
		}
	}
	vs := []ProviderVersion{{ID: id}}
	if err := fillPlatforms(ctx, tx, vs); err != nil {
		return err
	}
	for _, p := range vs[0].Platforms { // maxPlatforms at most
		offered := p.Object != "" && listed[p.Filename] == strings.ToLower(p.Shasum)
		if offered == p.Offered {
			continue
		}
		if _, err := tx.Exec(ctx, `UPDATE registry_provider_platform SET offered = $2 WHERE id = $1`, p.ID, offered); err != nil {
			return err
		}
	}
	return nil
}

func checkSignature(f files) error {
	ring, err := openpgp.ReadArmoredKeyRing(strings.NewReader(f.armor))
	if err != nil {
		return err
	}
	signature, err := base64.StdEncoding.DecodeString(f.signature)
	if err != nil {
		return err
	}
	if _, err := openpgp.CheckDetachedSignature(ring, strings.NewReader(f.sums), bytes.NewReader(signature), nil); err != nil {
		return core.Wrap(err, core.Invalid, "the signature of the sums was not made by the version's key")
	}
	return nil
}

func (s *Service) loadPlatform(ctx context.Context, id core.ID) (f Platform, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		f, err = db.One(ctx, tx, scanPlatform, `SELECT `+platformColumns+` FROM registry_provider_platform f WHERE f.id = $1`, id)
		return err
	})
	return f, err
}

// uploadBinary takes the archive of a platform, which must have the sum that
// was announced.
func (s *Service) uploadBinary(w http.ResponseWriter, r *http.Request) {
	id := core.ID(r.PathValue("platform"))
	err := s.Signer.Check("PUT", "provider-binary/"+string(id), r.PathValue("capability"))
	if err == nil {
		err = s.receiveBinary(w, r, id)
	}
	web.Answer2017(w, r, err)
}

func (s *Service) receiveBinary(w http.ResponseWriter, r *http.Request, id core.ID) error {
	ctx := r.Context()
	f, err := s.loadPlatform(ctx, id)
	if err != nil {
		return err
	}
	object, info, err := s.store(w, r, "providers", id, maxBinary)
	if err != nil {
		return err
	}
	if !strings.EqualFold(info.SHA256, f.Shasum) {
		s.drop(ctx, object)
		return core.Errorf(core.Invalid, "the file has the SHA-256 sum %s, not the announced one", info.SHA256)
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE registry_provider_platform SET object = $2, size = $3 WHERE id = $1 AND object = $4`, id, object, info.Size, f.Object)
		if err != nil {
			return err
		}
		if n == 0 {
			return core.Errorf(core.Conflict, "another upload of this file was quicker")
		}
		return settle(ctx, tx, f.VersionID)
	})
	s.settled(ctx, err, object, f.Object)
	return err
}

func (s *Service) downloadBinary(w http.ResponseWriter, r *http.Request) {
	id := core.ID(r.PathValue("platform"))
	err := s.Signer.Check("GET", "provider-binary/"+string(id), r.PathValue("capability"))
	if err == nil {
		var f Platform
		if f, err = s.loadPlatform(r.Context(), id); err == nil && f.Object == "" {
			err = authz.ErrHidden()
		}
		if err == nil {
			err = s.send(w, r, f.Object, "application/zip", f.Size)
		}
	}
	if err != nil {
		web.Answer2017(w, r, err)
	}
}

func (s *Service) downloadFile(file string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := core.ID(r.PathValue("version"))
		err := s.Signer.Check("GET", file+"/"+string(id), r.PathValue("capability"))
		var f files
		if err == nil {
			err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
				f, err = loadFiles(ctx, tx, id)
				return err
			})
		}
		body := []byte(f.sums)
		if err == nil && file == "shasums-sig" {
			body, err = base64.StdEncoding.DecodeString(f.signature)
		}
		if err == nil && len(body) == 0 {
			err = authz.ErrHidden()
		}
		if err != nil {
			web.Answer2017(w, r, err)
			return
		}
		contentType := "text/plain; charset=utf-8"
		if file == "shasums-sig" {
			contentType = "application/octet-stream"
		}
		fileHeader(w, contentType, int64(len(body)))
		_, _ = w.Write(body)
	}
}
