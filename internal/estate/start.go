package estate

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"

	"interlock/examples"
	"interlock/internal/config"
	"interlock/internal/core"
	"interlock/internal/run"
	"interlock/internal/web"
	"interlock/internal/web/ui"
	"interlock/internal/workspace"
)

// A starter is the form that makes a first run, with the ways to do it
// elsewhere.
type starter struct {
	place
	Host string // of the server, as a cloud block names it
	Base string
	Form ui.Form
}

func (s *Service) starter(p place, f ui.Form) starter {
	host := s.Base
	if u, err := url.Parse(s.Base); err == nil {
		host = u.Host
	}
	return starter{place: p, Host: host, Base: s.Base, Form: f}
}

func (s *Service) pageStart(r *http.Request) (web.Answer, error) {
	return s.startPage(r, ui.Fill("workspace", r.URL.Query().Get("workspace")), 0)
}

func (s *Service) startPage(r *http.Request, f ui.Form, code int) (web.Answer, error) {
	p, err := s.in(r)
	return web.Answer{Page: startPage(s.starter(p, f)), Status: code}, err
}

// maxField bounds what is typed beside an archive, in bytes.
const maxField = 16 << 10

// pageUpload makes the workspace that is named if there is none, gives it the
// archive or the sample, and queues a run of it. What went well before a
// failure stays: sent again, the form goes on from there.
func (s *Service) pageUpload(r *http.Request) (web.Answer, error) {
	typed, archive, err := readUpload(r)
	var v run.Run
	var w workspace.Workspace
	if _, denied := s.in(r); denied != nil {
		return web.Answer{}, denied
	}
	if err == nil {
		w, v, err = s.start(r.Context(), r.PathValue("org"), typed, archive)
	}
	if ui.Typo(err) {
		code := http.StatusUnprocessableEntity
		if core.KindOf(err) == core.TooLarge {
			code = http.StatusRequestEntityTooLarge
		}
		return s.startPage(r, ui.Refused(typed, err), code)
	}
	if core.KindOf(err) == core.Denied {
		return web.Answer{}, err
	}
	return web.Answer{Goto: ui.WorkspacePath(w.OrgName, w.Name, "runs", string(v.ID))}, err
}

// start is pageUpload without the page. An archive of nil is the sample.
func (s *Service) start(ctx context.Context, org string, typed url.Values, archive io.Reader) (w workspace.Workspace, v run.Run, err error) {
	if w, err = s.workspaceFor(ctx, org, strings.TrimSpace(typed.Get("workspace"))); err != nil {
		return w, v, err
	}
	if archive == nil {
		if archive, err = sample(); err != nil {
			return w, v, err
		}
	}
	c, err := s.Configs.Create(ctx, w.ID, config.New{Source: "tfe-ui"})
	if err != nil {
		return w, v, err
	}
	if err := s.Configs.Store(ctx, c.ID, archive); err != nil {
		if core.KindOf(err) == core.Invalid {
			err = core.Wrap(err, core.Invalid, core.Message(err)).InField("archive")
		}
		return w, v, err
	}
	message := strings.TrimSpace(typed.Get("message"))
	if message == "" {
		message = "Queued by an upload on the page"
	}
	v, err = s.Runs.Create(ctx, w.ID, run.New{ConfigID: c.ID, Message: message, Source: "tfe-ui"})
	return w, v, err
}

// workspaceFor finds the workspace that is named, or makes it.
func (s *Service) workspaceFor(ctx context.Context, org, name string) (workspace.Workspace, error) {
	if name == "" {
		return workspace.Workspace{}, core.Errorf(core.Invalid, "can't be blank").InField("workspace")
	}
	have, err := s.Workspaces.ByName(ctx, org, name)
	if core.KindOf(err) != core.NotFound {
		return have.Workspace, err
	}
	w := workspace.Defaults()
	w.Name, w.Source = name, "tfe-ui"
	w, err = s.Workspaces.Create(ctx, org, "", w)
	if core.KindOf(err) == core.Invalid {
		err = core.Wrap(err, core.Invalid, core.Message(err)).InField("workspace")
	}
	return w, err
}

// readUpload reads the form up to its archive, which is the last of it. A nil
// archive asks for the sample.
func readUpload(r *http.Request) (typed url.Values, archive io.Reader, err error) {
	typed = url.Values{}
	parts, err := r.MultipartReader()
	if err != nil {
		// Without a file a form may come the plain way.
		r.Body = http.MaxBytesReader(nil, r.Body, 4*maxField)
		if err := r.ParseForm(); err != nil {
			return typed, nil, core.Wrap(err, core.Malformed, "the form cannot be read")
		}
		typed = r.PostForm
		return typed, nil, needArchive(typed)
	}
	for {
		part, err := parts.NextPart()
		if err == io.EOF {
			return typed, nil, needArchive(typed)
		}
		if err != nil {
			return typed, nil, core.Wrap(err, core.Malformed, "the form ended early")
		}
		if part.FormName() == "archive" && typed.Get("with") != "sample" {
			archive, err := filled(part)
			return typed, archive, err
		}
		b, err := io.ReadAll(io.LimitReader(part, maxField+1))
		if err != nil {
			return typed, nil, core.Wrap(err, core.Malformed, "the form ended early")
		}
		if len(b) > maxField || len(typed) > 20 {
			return typed, nil, core.Errorf(core.TooLarge, "the form holds more than it asks for")
		}
		typed.Set(part.FormName(), string(b))
	}
}

func needArchive(typed url.Values) error {
	if typed.Get("with") == "sample" {
		return nil
	}
	return core.Errorf(core.Invalid, "choose a .tar.gz file").InField("archive")
}

// filled refuses a file that was not chosen, which browsers send as an empty one.
func filled(part *multipart.Part) (io.Reader, error) {
	first := make([]byte, 1)
	n, err := part.Read(first)
	for n == 0 && err == nil {
		n, err = part.Read(first)
	}
	if n == 0 {
		return nil, needArchive(nil)
	}
	return io.MultiReader(bytes.NewReader(first), part), nil
}

// sample packs the quickstart.
func sample() (io.Reader, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	t := tar.NewWriter(z)
	text := examples.Quickstart()
	if err := t.WriteHeader(&tar.Header{Name: "main.tf", Mode: 0o644, Size: int64(len(text)), Format: tar.FormatPAX}); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(t, text); err != nil {
		return nil, err
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	return &b, z.Close()
}

// mayStart reports whether the reader could make a run here at all.
func (p place) mayStart() bool { return p.Can.Has(core.CreateWorkspace) }
