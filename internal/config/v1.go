package config

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/variable"
	"interlock/internal/web"
	"interlock/internal/workspace"
)

func (s *Service) v1Routes(rt *web.Router) {
	rt.V1("POST /api/v1/terraform/configurations", s.v1CreateEnvironment)
	rt.V1("POST /api/v1/terraform/configurations/{username}/{name}/versions", s.v1Create)
	rt.V1("GET /api/v1/terraform/configurations/{username}/{name}/versions/latest", s.v1Latest)
	rt.V1("GET /api/v1/terraform/configurations/{username}/{name}/versions/progress/{token}", s.v1Progress)
}

// uuid returns a random (version 4) UUID, the form of a v1 progress token.
func uuid() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func newEnvironment(name string) workspace.Workspace {
	w := workspace.Defaults()
	w.Name, w.Source = name, "atlas"
	return w
}

func (s *Service) v1CreateEnvironment(r *http.Request) (any, error) {
	in, err := web.ReadInput(r)
	if err != nil {
		return nil, err
	}
	in, err = in.Object("configuration")
	if err != nil {
		return nil, err
	}
	username, err := in.String("username")
	if err != nil {
		return nil, err
	}
	name, err := in.String("name")
	if err != nil {
		return nil, err
	}
	switch {
	case username == "":
		return nil, core.Errorf(core.Invalid, "can't be blank").InField("username")
	case len(name) > workspace.MaxV1Name:
		return nil, core.Errorf(core.Invalid, "is too long (maximum is %d characters)", workspace.MaxV1Name).InField("name")
	}
	w, err := s.Workspaces.Create(r.Context(), username, "", newEnvironment(name))
	if err != nil {
		return nil, err
	}
	return map[string]string{"username": w.OrgName, "name": w.Name}, nil
}

// createEnvironment is how terraform push starts an environment.
func (s *Service) createEnvironment(ctx context.Context, tx *db.Tx, username, name string) (workspace.Workspace, error) {
	if len(name) > workspace.MaxV1Name {
		return workspace.Workspace{}, core.Errorf(core.Invalid, "is too long (maximum is %d characters)", workspace.MaxV1Name).InField("name")
	}
	w, err := s.Workspaces.CreateIn(ctx, tx, username, "", newEnvironment(name))
	// Whoever may see the organization but not create in it learns nothing of
	// what it holds; a name that is taken by a hidden environment looks the same.
	if k := core.KindOf(err); k == core.Denied {
		return w, authz.ErrHidden()
	}
	return w, err
}

func (s *Service) v1Create(r *http.Request) (any, error) {
	in, err := web.ReadInput(r)
	if err != nil {
		return nil, err
	}
	if in, err = in.Object("version"); err != nil {
		return nil, err
	}
	// Strings alone: atlas-go cannot read anything else back.
	texts, err := in.Strings("metadata")
	if err != nil {
		return nil, err
	}
	meta := make(map[string]any, len(texts))
	for k, v := range texts {
		meta[k] = v
	}
	vars, err := in.Strings("variables")
	if err != nil {
		return nil, err
	}
	sets, whole, err := tfVars(in)
	if err != nil {
		return nil, err
	}
	if !whole {
		for k, v := range vars {
			sets = append(sets, variable.Set{Key: k, Value: v})
		}
	}
	var v Version
	var token string
	creating := false
	create := func(ctx context.Context, tx *db.Tx) error {
		w, err := workspace.Find(ctx, tx, r.PathValue("username"), r.PathValue("name"))
		if creating = core.KindOf(err) == core.NotFound; creating {
			w, err = s.createEnvironment(ctx, tx, r.PathValue("username"), r.PathValue("name"))
		}
		if err != nil {
			return err
		}
		if err := authz.Workspace(ctx, tx, w.ID, core.QueuePlan); err != nil {
			return err
		}
		denied := authz.Workspace(ctx, tx, w.ID, core.WriteVariables)
		if whole {
			err = s.Variables.Replace(ctx, tx, w, sets, denied)
		} else {
			err = s.Variables.Merge(ctx, tx, w, sets, false, denied)
		}
		if err != nil {
			return err
		}
		v, token, err = s.createIn(ctx, tx, w, New{Source: "atlas", AutoQueueRuns: true, Metadata: meta})
		return err
	}
	err = s.DB.Do(r.Context(), create)
	if creating && core.KindOf(err) == core.Invalid {
		// Of two first pushes at once the slower one finds the name taken, and
		// now the environment.
		err = s.DB.Do(r.Context(), create)
	}
	if err != nil {
		return nil, err
	}
	return map[string]any{"version": v.Number, "upload_path": s.UploadURL(r.Context(), v), "token": token}, nil
}

// tfVars reads the list of variables that push sends; whole says that it was
// sent, and so is the whole set.
func tfVars(in web.Input) (sets []variable.Set, whole bool, err error) {
	list, err := formList(in["tf_vars"])
	if err != nil || list == nil {
		return nil, false, err
	}
	for _, e := range list {
		o, ok := e.(map[string]any)
		if !ok {
			return nil, false, core.Errorf(core.Invalid, "must be a list of objects").InField("tf_vars")
		}
		var set variable.Set
		if set.Key, err = web.Input(o).String("key"); err != nil {
			return nil, false, err
		}
		if set.Value, err = web.Input(o).String("value"); err != nil {
			return nil, false, err
		}
		if set.HCL, err = web.Input(o).Bool("hcl"); err != nil {
			return nil, false, err
		}
		sets = append(sets, set)
	}
	return sets, true, nil
}

// formList takes a JSON list, or the object with keys 0, 1, … that a form
// makes of one. nil stays nil.
func formList(v any) ([]any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case []any:
		return v, nil
	case map[string]any:
		out := make([]any, 0, len(v))
		for i := range len(v) {
			e, ok := v[fmt.Sprint(i)]
			if !ok {
				return nil, core.Errorf(core.Invalid, "must be a list").InField("tf_vars")
			}
			out = append(out, e)
		}
		return out, nil
	}
	return nil, core.Errorf(core.Invalid, "must be a list").InField("tf_vars")
}

func (s *Service) v1Latest(r *http.Request) (any, error) {
	var v Version
	var vars []variable.Variable
	err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		w, err := workspace.Find(ctx, tx, r.PathValue("username"), r.PathValue("name"))
		if err != nil {
			return err
		}
		if err := authz.Workspace(ctx, tx, w.ID, core.ReadRuns); err != nil {
			return err
		}
		if w.ConfigID == "" {
			return authz.ErrHidden()
		}
		if v, err = Load(ctx, tx, w.ConfigID); err != nil {
			return err
		}
		if v.Status == Pending || v.Status == Errored {
			return authz.ErrHidden() // announced, never whole
		}
		if authz.Workspace(ctx, tx, w.ID, core.ReadVariables) == nil {
			vars, err = s.Variables.ListIn(ctx, tx, w.ID)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	type tfVar struct {
		Key   string `json:"key"`
		Value string `json:"value"`
		HCL   bool   `json:"hcl"`
	}
	list, plain := []tfVar{}, map[string]string{}
	for _, x := range vars {
		if x.Category == variable.Terraform {
			list = append(list, tfVar{x.Key, x.Value, x.HCL})
			plain[x.Key] = x.Value
		}
	}
	return map[string]any{"version": map[string]any{"version": v.Number, "metadata": v.Metadata, "tf_vars": list, "variables": plain}}, nil
}

func (s *Service) v1Progress(r *http.Request) (any, error) {
	hash := s.Box.HashToken(r.PathValue("token"))
	var v Version
	err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		w, err := workspace.Find(ctx, tx, r.PathValue("username"), r.PathValue("name"))
		if err != nil {
			return err
		}
		v, err = db.One(ctx, tx, scan, `SELECT `+columns+` FROM config_version WHERE progress_hash = $1 AND workspace_id = $2`, hash, w.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	total, done, finished := v.Size, v.Size, v.Status != Pending
	if p, ok := s.uploads.Load(hash); ok && !finished {
		total, done = p.(*progress).total.Load(), p.(*progress).done.Load()
	}
	percent := int64(0)
	if v.Status == Uploaded {
		percent = 100
	} else if total > 0 {
		percent = min(100, done*100/total)
	}
	return map[string]any{"progress": percent, "total": total, "uploaded": done, "finished": finished}, nil
}
