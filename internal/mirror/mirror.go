// Package mirror serves the node's provider store over the provider network
// mirror protocol, and fetches through it what it lacks: to engines of this
// machine on the loopback, and to everybody whom the setting lets.
package mirror

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/providers"
	"interlock/internal/secret"
	"interlock/internal/web"
)

// Who may read the mirror. It is a way to have this server fetch things, so it
// takes a token unless the operator says otherwise; what it serves is public
// by itself, so any token will do, also that of a run.
const (
	Authenticated = "authenticated"
	Open          = "open"
	Off           = "off"
)

// Service is the mirror of a node.
type Service struct {
	Store    *providers.Store
	Upstream providers.Upstream // nil: only what is in the store
	Signer   *web.Signer
	Mode     string
	// Direct are hosts that are not mirrored: this server's own, whose registry
	// knows who may have what, and those that the operator names.
	Direct []string
}

// Path is where the mirror is on a server.
const Path = "/api/registry/v1/mirror/"

// downloadTTL is how long the address of an archive works. Engines fetch many
// after another.
const downloadTTL = 15 * time.Minute

// Routes mounts the protocol.
func (s *Service) Routes(rt *web.Router) {
	rt.V2Open("GET "+Path+"{host}/{namespace}/{type}/{file}", s.answer)
	rt.Raw("GET /download/mirror/{host}/{namespace}/{type}/{version}/{platform}/{capability}/{file}", s.download)
}

func (s *Service) answer(w http.ResponseWriter, r *http.Request) error {
	switch {
	case s.Mode == Off:
		return authz.ErrHidden()
	case s.Mode != Open && !authz.Subject(r.Context()).Known():
		return core.Errorf(core.Unknown, "unauthorized")
	}
	a, err := s.address(r)
	if err != nil {
		return err
	}
	doc, err := s.document(r.Context(), a, r.PathValue("file"), func(version, platform string) string {
		object := objectName(a, version, platform)
		return s.Signer.Base + "/download/" + object + "/" + s.Signer.Path("GET", object, downloadTTL) + "/" + providers.FileName(a, version, platform)
	})
	if err == nil {
		web.WriteJSON(w, r, doc)
	}
	return err
}

// objectName is what a capability is for.
func objectName(a providers.Address, version, platform string) string {
	return "mirror/" + a.String() + "/" + version + "/" + platform
}

// address is the provider of a request. What cannot be one is not here.
func (s *Service) address(r *http.Request) (providers.Address, error) {
	a, err := providers.ParseAddress(r.PathValue("host") + "/" + r.PathValue("namespace") + "/" + r.PathValue("type"))
	if err != nil {
		return a, core.Wrap(err, core.NotFound, core.Message(err))
	}
	for _, h := range s.Direct {
		if a.Host == h {
			return a, core.Errorf(core.NotFound, "providers of %s are not mirrored; they come from there", h)
		}
	}
	return a, nil
}

// document is one of the two documents of the protocol.
func (s *Service) document(ctx context.Context, a providers.Address, file string, at func(version, platform string) string) (any, error) {
	name, ok := strings.CutSuffix(file, ".json")
	if !ok {
		return nil, authz.ErrHidden()
	}
	if name == "index" {
		vs, err := s.Store.Versions(ctx, s.Upstream, a)
		doc := providers.Index{Versions: map[string]struct{}{}}
		for _, v := range vs {
			doc.Versions[v] = struct{}{}
		}
		return doc, s.noted(ctx, a, err)
	}
	if err := providers.CheckVersion(name); err != nil {
		return nil, core.Wrap(err, core.NotFound, core.Message(err))
	}
	offers, err := s.Store.Offers(ctx, s.Upstream, a, name)
	doc := providers.Archives{Archives: map[string]providers.Archive{}}
	for p, o := range offers {
		x := providers.Archive{URL: at(name, p)}
		if o.H1 != "" {
			x.Hashes = append(x.Hashes, o.H1)
		}
		if o.SHA256 != "" {
			x.Hashes = append(x.Hashes, "zh:"+o.SHA256)
		}
		doc.Archives[p] = x
	}
	return doc, s.noted(ctx, a, err)
}

// noted tells the operator why something cannot be had: engines show only the
// status of the answer.
func (s *Service) noted(ctx context.Context, a providers.Address, err error) error {
	if err != nil && core.KindOf(err) != core.NotFound && ctx.Err() == nil {
		slog.WarnContext(ctx, "provider mirror", "provider", a.String(), "err", err)
	}
	return err
}

func (s *Service) download(w http.ResponseWriter, r *http.Request) {
	a, err := s.address(r)
	version, platform := r.PathValue("version"), r.PathValue("platform")
	if err == nil {
		err = s.Signer.Check("GET", objectName(a, version, platform), r.PathValue("capability"))
	}
	if err == nil && s.Mode == Off {
		err = authz.ErrHidden()
	}
	if err == nil {
		err = s.send(w, r, a, version, platform)
	}
	if err != nil {
		web.Answer2017(w, r, err)
	}
}

func (s *Service) send(w http.ResponseWriter, r *http.Request, a providers.Address, version, platform string) error {
	p, err := s.Store.Package(r.Context(), s.Upstream, a, version, platform)
	if err != nil {
		return s.noted(r.Context(), a, err)
	}
	w.Header().Set("Content-Type", "application/zip")
	w.Header().Set("Cache-Control", "no-store")
	http.ServeFile(w, r, p.Path)
	return nil
}

// Local serves engines of this machine that trust cert's authority, until ctx
// ends. It returns the URL that they are given: a secret word of this start
// stands in it, so that nobody else has the mirror and no run's token is
// needed.
func (s *Service) Local(ctx context.Context, cert tls.Certificate) (url, word string, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	word = secret.NewToken(24)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /"+word+"/{host}/{namespace}/{type}/{file}", func(w http.ResponseWriter, r *http.Request) {
		if err := s.local(w, r); err != nil {
			http.Error(w, core.Message(err), web.Code(core.KindOf(err)))
		}
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 32 << 10,
		ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug)}
	go func() {
		err := srv.Serve(tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}))
		if !errors.Is(err, http.ErrServerClosed) {
			slog.ErrorContext(ctx, "the provider mirror of this machine's runs ended", "err", err)
		}
	}()
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	return "https://" + ln.Addr().String() + "/" + word + "/", word, nil
}

func (s *Service) local(w http.ResponseWriter, r *http.Request) error {
	a, err := s.address(r)
	if err != nil {
		return err
	}
	file := r.PathValue("file")
	if rest, ok := strings.CutPrefix(file, "terraform-provider-"+a.Type+"_"); ok && strings.HasSuffix(rest, ".zip") {
		version, platform, _ := strings.Cut(strings.TrimSuffix(rest, ".zip"), "_")
		return s.send(w, r, a, version, platform)
	}
	doc, err := s.document(r.Context(), a, file, func(version, platform string) string { return providers.FileName(a, version, platform) })
	if err == nil {
		web.WriteJSON(w, r, doc)
	}
	return err
}
