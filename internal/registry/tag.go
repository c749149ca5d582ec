package registry

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"interlock/internal/audit"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

// A Tag is a key with a value that a module or provider carries, as projects
// and workspaces do.
type Tag struct{ Key, Value string }

const maxTags = 10

func scanTag(r db.Row) (t Tag, err error) { return t, r.Scan(&t.Key, &t.Value) }

// tagsOf reads the relationship tag-bindings, whose members come whole. set
// reports whether it was there.
func tagsOf(rels jsonapi.Rels) (tags []Tag, set bool, err error) {
	rel, set := rels["tag-bindings"]
	if !set || string(rel.Data) == "null" {
		return nil, false, nil
	}
	var in []struct {
		Attributes struct {
			Key   string `json:"key"`
			Value string `json:"value"`
		} `json:"attributes"`
	}
	if err := json.Unmarshal(rel.Data, &in); err != nil {
		return nil, false, core.Wrap(err, core.Invalid, "tag-bindings is not a list of tag bindings")
	}
	if len(in) > maxTags {
		return nil, false, core.Errorf(core.Invalid, "has more than %d tags", maxTags).InField("tag-bindings")
	}
	for _, b := range in {
		t := Tag{b.Attributes.Key, b.Attributes.Value}
		switch {
		case t.Key == "":
			return nil, false, core.Errorf(core.Invalid, "can't be blank").InField("key")
		case len(t.Key) > 128:
			return nil, false, core.Errorf(core.Invalid, "is too long (maximum is 128 characters)").InField("key")
		case len(t.Value) > 256:
			return nil, false, core.Errorf(core.Invalid, "is too long (maximum is 256 characters)").InField("value")
		case strings.ContainsRune(t.Key+t.Value, 0):
			return nil, false, core.Errorf(core.Invalid, "holds a zero byte").InField("key")
		case slices.ContainsFunc(tags, func(o Tag) bool { return o.Key == t.Key }):
			return nil, false, core.Errorf(core.Invalid, "is named twice").InField("key")
		}
		tags = append(tags, t)
	}
	return tags, true, nil
}

func setTags(ctx context.Context, tx *db.Tx, owner core.ID, tags []Tag) error {
	if _, err := tx.Exec(ctx, `DELETE FROM registry_tag WHERE owner_id = $1`, owner); err != nil {
		return err
	}
	for _, t := range tags { // ten at most
		if _, err := tx.Exec(ctx, `INSERT INTO registry_tag (owner_id, key, value) VALUES ($1, $2, $3)`, owner, t.Key, t.Value); err != nil {
			return err
		}
	}
	return nil
}

// TagModule replaces the tags of a module, if set.
func (s *Service) TagModule(ctx context.Context, orgName string, a Address, tags []Tag, set bool) (m Module, have core.Right, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, h, err := org(ctx, tx, orgName, core.ManageModules)
		if err != nil {
			return err
		}
		have = h
		if m, err = loadModule(ctx, tx, o, a); err != nil || !set {
			return err
		}
		m.UpdatedAt = tx.Now()
		if _, err := tx.Exec(ctx, `UPDATE registry_module SET updated_at = $2 WHERE id = $1`, m.ID, tx.Now()); err != nil {
			return err
		}
		if err := setTags(ctx, tx, m.ID, tags); err != nil {
			return err
		}
		return audit.Add(ctx, tx, o.ID, "registry_module", m.ID, "update", map[string]any{"name": m.Name, "tags": len(tags)})
	})
	return m, have, err
}

// tagDoc lists the tags of a module or provider that the caller has been shown
// to see.
func (s *Service) tagDoc(r *http.Request, owner core.ID) (*jsonapi.Doc, error) {
	var tags []Tag
	err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		tags, err = db.All(ctx, tx, scanTag, `SELECT key, value FROM registry_tag WHERE owner_id = $1 ORDER BY key`, owner)
		return err
	})
	if err != nil {
		return nil, err
	}
	return jsonapi.List(tags, func(t Tag) jsonapi.Resource {
		return jsonapi.Resource{ID: string(owner) + ":" + t.Key, Type: "tag-bindings", Attributes: map[string]string{"key": t.Key, "value": t.Value}}
	}), nil
}
