package state

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strconv"
	"time"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/web"
	"interlock/internal/workspace"
)

func (s *Service) v1Routes(rt *web.Router) {
	rt.V1("GET /api/v1/terraform/state", s.v1List)
	rt.V1Raw("GET /api/v1/terraform/state/{username}/{name}", s.v1Get)
	rt.V1Raw("PUT /api/v1/terraform/state/{username}/{name}", s.v1Put)
	rt.V1("DELETE /api/v1/terraform/state/{username}/{name}", s.v1Delete)
	rt.V1("POST /api/v1/terraform/state/{username}/{name}/rollback", s.v1Rollback)
}

// v1Page is the number of states on a page of the 2017 list.
const v1Page = 20

// v1Time is how the 2017 API writes a time.
func v1Time(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func (s *Service) v1List(r *http.Request) (any, error) {
	q := r.URL.Query()
	page := 1
	if v := q.Get("page"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > 1_000_000 {
			return nil, core.Errorf(core.Invalid, "must be a positive number").InField("page")
		}
		page = n
	}
	type environment struct {
		Username string `json:"username"`
		Name     string `json:"name"`
	}
	type entry struct {
		UpdatedAt   string      `json:"updated_at"`
		Environment environment `json:"environment"`
	}
	list := []entry{}
	var total int64
	err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		visible, arg := authz.VisibleWorkspaces(authz.Subject(ctx), 1)
		from := ` FROM workspace w JOIN organization o ON o.id = w.org_id JOIN state_version sv ON sv.id = w.state_id
			WHERE ` + visible + ` AND ($2 = '' OR o.name_key = lower($2))`
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*)`+from, arg, q.Get("username")); err != nil {
			return err
		}
		found, err := db.All(ctx, tx, func(r db.Row) (e entry, err error) {
			var at time.Time
			err = r.Scan(&at, &e.Environment.Username, &e.Environment.Name)
			e.UpdatedAt = v1Time(at)
			return e, err
		}, `SELECT sv.created_at, o.name, w.name`+from+` ORDER BY sv.created_at DESC, w.id LIMIT $3 OFFSET $4`, arg, q.Get("username"), v1Page, (page-1)*v1Page)
		list = append(list, found...)
		return err
	})
	return map[string]any{"states": list, "meta": map[string]any{"page": page, "total": total}}, err
}

func (s *Service) v1Get(w http.ResponseWriter, r *http.Request) error {
	serial := int64(-1)
	if v := r.URL.Query().Get("version"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			return core.Errorf(core.Invalid, "must be a serial").InField("version")
		}
		serial = n
	}
	var v *Version
	err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		ws, err := workspace.Find(ctx, tx, r.PathValue("username"), r.PathValue("name"))
		if err != nil {
			return err
		}
		if err := authz.Workspace(ctx, tx, ws.ID, core.ReadState); err != nil {
			return err
		}
		if serial < 0 {
			v, err = current(ctx, tx, ws)
			return err
		}
		vs, err := db.All(ctx, tx, scan, `SELECT `+columns+` FROM state_version WHERE workspace_id = $1 AND serial = $2 AND status = 'finalized' ORDER BY seq DESC LIMIT 1`, ws.ID, serial)
		if err == nil && len(vs) == 0 {
			return authz.ErrHidden()
		}
		if len(vs) > 0 {
			v = &vs[0]
		}
		return err
	})
	if err != nil {
		return err
	}
	if v == nil {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if err := s.reading(r.Context(), *v, stateRead, ""); err != nil {
		return err
	}
	if v.Object == "" || v.Backing != "" {
		return authz.ErrHidden()
	}
	sum, err := hex.DecodeString(v.MD5)
	if err != nil {
		return err
	}
	w.Header().Set("Content-MD5", base64.StdEncoding.EncodeToString(sum))
	return s.send(r.Context(), w, v.Object)
}

func (s *Service) v1Put(w http.ResponseWriter, r *http.Request) error {
	raw, err := readState(w, r)
	if err != nil {
		return err
	}
	if want := r.Header.Get("Content-MD5"); want != "" {
		sum := md5.Sum(raw)
		got := base64.StdEncoding.EncodeToString(sum[:])
		if want != got && want != hex.EncodeToString(sum[:]) {
			return core.Errorf(core.Malformed, "the body does not match its Content-MD5: it arrived damaged")
		}
	}
	username, name := r.PathValue("username"), r.PathValue("name")
	if _, err := parse(raw); err != nil {
		return err
	}
	if err := s.ensure(r.Context(), username, name); err != nil {
		return err
	}
	_, _, err = s.Write(r.Context(), func(ctx context.Context, tx *db.Tx) (workspace.Workspace, error) {
		return workspace.Find(ctx, tx, username, name)
	}, raw, false, false, nil)
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// ensure makes the environment that a first state belongs to. When two first
// states come at once, the slower one finds the name taken, and then finds the
// environment.
func (s *Service) ensure(ctx context.Context, username, name string) error {
	err := s.ensureOnce(ctx, username, name)
	if core.KindOf(err) == core.Invalid {
		err = s.ensureOnce(ctx, username, name)
	}
	return err
}

func (s *Service) ensureOnce(ctx context.Context, username, name string) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := workspace.Find(ctx, tx, username, name)
		if core.KindOf(err) != core.NotFound {
			return err
		}
		if len(name) > workspace.MaxV1Name {
			return core.Errorf(core.Invalid, "is too long (maximum is %d characters)", workspace.MaxV1Name).InField("name")
		}
		w := workspace.Defaults()
		w.Name, w.Source = name, "atlas"
		_, err = s.Workspaces.CreateIn(ctx, tx, username, "", w)
		if core.KindOf(err) == core.Denied {
			return authz.ErrHidden()
		}
		return err
	})
}

func (s *Service) v1Delete(r *http.Request) (any, error) {
	var id core.ID
	err := s.DB.Do(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		ws, err := workspace.Find(ctx, tx, r.PathValue("username"), r.PathValue("name"))
		if err != nil {
			return err
		}
		// Hiding a state strands what it describes, so it takes an administrator.
		if err := authz.Workspace(ctx, tx, ws.ID, core.ChangeSettings|core.WriteState); err != nil {
			return err
		}
		if err := workspace.Hold(ctx, tx, ws.ID); err != nil {
			return err
		}
		if ws, err = workspace.Load(ctx, tx, ws.ID); err != nil {
			return err
		}
		sub := authz.Subject(ctx)
		if ws.Lock.Held() && ws.Lock.ID != sub.ID {
			return core.Errorf(core.Conflict, "workspace is locked by %s", ws.Lock)
		}
		id = ws.ID
		if ws.StateID != "" {
			v, err := Load(ctx, tx, ws.StateID)
			if err != nil {
				return err
			}
			if err := v.note(ctx, tx, "hide"); err != nil {
				return err
			}
		} else if err := audit.Add(ctx, tx, ws.OrgID, "workspace", ws.ID, "hide_state", map[string]any{"name": ws.Name}); err != nil {
			return err
		}
		return noCurrent(ctx, tx, ws.ID)
	})
	if err == nil {
		s.Saved(id)
	}
	return nil, err
}
