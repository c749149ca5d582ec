package state

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/tfdata"
	"interlock/internal/workspace"
)

type resourceAttributes struct {
	Address      string     `json:"address"`
	Name         string     `json:"name"`
	Module       string     `json:"module"`
	Provider     string     `json:"provider"`
	ProviderType string     `json:"provider-type"`
	NameIndex    *string    `json:"name-index"`
	CreatedAt    *time.Time `json:"created-at"`
	UpdatedAt    *time.Time `json:"updated-at"`
	ModifiedBy   *core.ID   `json:"modified-by-state-version-id"`
}

// v2Resources lists what the current state of a workspace holds, read from the
// state itself: nothing beside it can disagree with it. When a resource came
// and which version changed it last is not recorded, and so is null.
func (s *Service) v2Resources(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	ws := core.ID(r.PathValue("workspace"))
	v, err := s.CurrentOf(r.Context(), ws, core.ReadState)
	if core.KindOf(err) == core.NotFound {
		// Nothing there, or nothing to be seen: only the first has an empty list.
		err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := workspace.Get(ctx, tx, ws, core.ReadState)
			return err
		})
		return jsonapi.Paged(r, nil, p, 0, func(tfdata.ResourceInstance) jsonapi.Resource { return jsonapi.Resource{} }), err
	}
	if err != nil {
		return nil, err
	}
	raw, err := s.Raw(r.Context(), v)
	if err != nil {
		return nil, err
	}
	t, err := tfdata.ParseState(raw)
	if err != nil {
		return nil, err
	}
	rs := t.List
	if q := strings.ToLower(r.URL.Query().Get("q")); q != "" {
		kept := rs[:0]
		for _, x := range rs {
			if strings.Contains(strings.ToLower(x.Address), q) {
				kept = append(kept, x)
			}
		}
		rs = kept
	}
	if !sortInstances(rs, r.URL.Query().Get("sort")) {
		return nil, core.Errorf(core.Malformed, "sort is not an order of resources")
	}
	from := min(p.Offset(), len(rs))
	return jsonapi.Paged(r, rs[from:min(from+p.Size, len(rs))], p, len(rs), func(x tfdata.ResourceInstance) jsonapi.Resource {
		sum := sha256.Sum256([]byte(string(ws) + " " + x.Address))
		a := resourceAttributes{Address: strings.TrimPrefix(modulePath(x.Module)+strings.TrimPrefix(x.Address, x.Module), "."), Name: x.Name, Module: cmp.Or(modulePath(x.Module), "root"), Provider: publicSource(x.Provider), ProviderType: x.Type}
		if i := nameIndex(x); i != "" {
			a.NameIndex = &i
		}
		return jsonapi.Resource{ID: "wsr-" + hex.EncodeToString(sum[:8]), Type: "resources", Attributes: a}
	}), nil
}
