package run

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/secret"
	"interlock/internal/tfdata"
	"interlock/internal/variable"
	"interlock/internal/workspace"
)

// maxPlan bounds a plan file and its JSON documents in bytes.
const maxPlan = 512 << 20

// PlanFile reads the plan that is to be applied, and fails unless it is byte
// for byte the one that was stored when the plan ended.
func (s *Service) PlanFile(ctx context.Context, r Run) ([]byte, error) {
	return s.SmallPlanFile(ctx, r, maxPlan)
}

// SmallPlanFile is PlanFile of at most limit bytes.
func (s *Service) SmallPlanFile(ctx context.Context, r Run, limit int64) ([]byte, error) {
	mismatch := core.Errorf(core.Conflict, "plan hash mismatch: the stored plan file is not the one that was reviewed")
	b, err := s.Blobs.Bytes(ctx, r.PlanObject, limit)
	switch core.KindOf(err) {
	case core.Unavailable, core.NoSpace:
		return nil, err
	}
	if err != nil {
		mismatch.Err = err
		return nil, mismatch
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != r.PlanDigest {
		return nil, mismatch
	}
	return b, nil
}

// StorePlanFile keeps a plan file under a name of its own and returns name and
// digest.
func (s *Service) StorePlanFile(ctx context.Context, run core.ID, epoch int64, b []byte) (object, digest string, err error) {
	object = "plans/" + string(run) + "." + string(rune('0'+epoch%10))
	info, err := s.Blobs.Put(ctx, object, bytes.NewReader(b))
	return object, info.SHA256, err
}

// StoreArtifacts keeps the JSON documents of a plan: as the engine shows it,
// and with its secrets removed, in the form that the CLI renders.
func (s *Service) StoreArtifacts(ctx context.Context, run core.ID, show, schemas []byte) error {
	var p Phase
	var sensitive, secrets []string
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		r, err := load(ctx, tx, run)
		if err != nil {
			return err
		}
		ps, err := phasesOf(ctx, tx, []Run{r})
		for _, x := range ps[run] {
			if x.Kind == PlanPhase {
				p = x
			}
		}
		if err == nil {
			sensitive, secrets, err = s.sensitive(r)
		}
		return err
	})
	if err != nil {
		return err
	}
	redacted, err := tfdata.RedactPlan(show, sensitive, schemas)
	if err != nil {
		return err
	}
	if redacted, err = hideSecrets(redacted, secrets); err != nil {
		return err
	}
	forCLI, err := tfdata.ForCLI(redacted, schemas)
	if err != nil {
		return err
	}
	objects := map[string][]byte{"plan-json/": show, "plan-redacted/": redacted, "plan-cli/": forCLI}
	name := string(p.ID) + "." + secret.NewToken(8) // see archiveLog
	for prefix, b := range objects {
		if _, err := s.Blobs.Put(ctx, prefix+name, bytes.NewReader(b)); err != nil {
			return err
		}
	}
	sum, err := tfdata.Summarize(show)
	if err != nil {
		return err
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		err := tx.Write(ctx, `UPDATE phase SET json_object = $2, redacted_object = $3, schema_object = $4 WHERE id = $1`,
			p.ID, "plan-json/"+name, "plan-redacted/"+name, "plan-cli/"+name)
		if err != nil || p.Additions >= 0 {
			return err
		}
		return tx.Write(ctx, `UPDATE phase SET additions = $2, changes = $3, destructions = $4, imports = $5 WHERE id = $1`,
			p.ID, sum.Counts.Add, sum.Counts.Change, sum.Counts.Destroy, sum.Counts.Import)
	})
}

// sensitive lists the Terraform variables that the platform knows to be
// sensitive, also where the configuration does not say so, and what must not
// be seen of all variables.
func (s *Service) sensitive(r Run) (keys, secrets []string, err error) {
	in, err := s.inputs(r)
	for _, v := range in.Variables {
		if v.Sensitive {
			keys = append(keys, v.Key)
		}
	}
	return keys, Secrets(in.Variables), err
}

// planDocument returns one of the JSON documents of a plan, making them first
// if nobody has asked before. No document yet is nil.
func (s *Service) planDocument(ctx context.Context, plan core.ID, want core.Right, pick func(Phase) string) (Phase, string, error) {
	p, r, err := s.phaseFor(ctx, plan, PlanPhase, want)
	if err != nil || p.Status != PhaseFinished && r.PlanObject == "" {
		return p, "", err
	}
	if pick(p) == "" {
		if err := s.MakeArtifacts(ctx, r.ID); err != nil {
			return p, "", err
		}
		if p, _, err = s.phaseFor(ctx, plan, PlanPhase, want); err != nil {
			return p, "", err
		}
	}
	return p, pick(p), nil
}

// phaseFor returns a phase that the subject of ctx has the right to.
func (s *Service) phaseFor(ctx context.Context, id core.ID, kind PhaseKind, want core.Right) (p Phase, r Run, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if p, err = loadPhase(ctx, tx, id); err != nil {
			return err
		}
		if p.Kind != kind {
			return authz.ErrHidden()
		}
		if r, err = load(ctx, tx, p.RunID); err != nil {
			return err
		}
		return authz.Workspace(ctx, tx, r.WorkspaceID, core.ReadRuns|want)
	})
	return p, r, err
}

// PlanSummary is the plan of a run as a page shows it, without secrets; nil
// while there is none.
func (s *Service) PlanSummary(ctx context.Context, v View) (*tfdata.Summary, error) {
	d, err := s.planDigest(ctx, v)
	return d.sum, err
}

func (s *Service) planDigest(ctx context.Context, v View) (digest, error) {
	_, object, err := s.planDocument(ctx, v.Plan.ID, 0, func(p Phase) string { return p.RedactedObject })
	if err != nil || object == "" {
		return digest{}, err
	}
	if d, ok := s.looked.get(object); ok {
		return d, nil
	}
	// Many may open the page of a big plan at once: one of them reads it.
	got, err, _ := s.looking.Do(object, func() (any, error) {
		b, err := s.Blobs.Bytes(context.WithoutCancel(ctx), object, maxPlan)
		if err != nil {
			return digest{}, err
		}
		sum, err := tfdata.Summarize(b)
		if err != nil {
			return digest{}, err
		}
		links, err := tfdata.Links(b)
		if err != nil {
			return digest{}, err
		}
		d := digest{&sum, links}
		s.looked.put(object, d)
		return d, nil
	})
	return got.(digest), err
}

// ByID returns a run without asking who wants it, for workers.
func (s *Service) ByID(ctx context.Context, id core.ID) (r Run, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		r, err = load(ctx, tx, id)
		return err
	})
	return r, err
}

// inputs opens what the run was frozen with.
func (s *Service) inputs(r Run) (in frozenInputs, err error) {
	err = openFrozen(s, r, &in)
	return in, err
}

// HasArtifacts reports whether the JSON documents of a run's plan exist.
func (s *Service) HasArtifacts(ctx context.Context, run core.ID) (have bool, err error) {
	ids, err := db.Ask(ctx, s.DB, db.ID, `SELECT id FROM phase WHERE run_id = $1 AND kind = 'plan' AND json_object <> ''`, run)
	return len(ids) > 0, err
}

// RedactedPlan returns the JSON of a plan as the engine shows it, without what
// is sensitive, and its run, without asking who wants them. It makes the JSON
// if that does not exist yet.
func (s *Service) RedactedPlan(ctx context.Context, plan core.ID) (v View, b []byte, err error) {
	look := func() (p Phase, err error) {
		err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
			if p, err = loadPhase(ctx, tx, plan); err != nil {
				return err
			}
			if v.Run, err = load(ctx, tx, p.RunID); err != nil {
				return err
			}
			v.Workspace, err = workspace.Load(ctx, tx, v.WorkspaceID)
			return err
		})
		return p, err
	}
	p, err := look()
	if err == nil && p.RedactedObject == "" {
		if err = s.MakeArtifacts(ctx, v.ID); err == nil {
			p, err = look()
		}
	}
	if err != nil {
		return v, nil, err
	}
	if p.RedactedObject == "" {
		return v, nil, core.Errorf(core.Invalid, "the plan has no JSON form")
	}
	b, err = s.Blobs.Bytes(ctx, p.RedactedObject, maxPlan)
	return v, b, err
}

func openFrozen(s *Service, r Run, in *frozenInputs) error {
	return variable.OpenFrozen(s.Box, r.ID, r.frozen, in)
}
