package workspace

import (
	"cmp"
	"context"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
)

// A Binding is a tag on a workspace or a project: a key, and perhaps a value.
// The word tags of older clients are keys without a value.
type Binding struct {
	ID    core.ID
	Owner core.ID
	Key   string
	Value string
	TagID core.ID
}

// An owner is what tags are bound to.
type owner struct {
	id, org, project core.ID // project of a workspace; empty for a project
}

func workspaceOwner(w Workspace) owner { return owner{w.ID, w.OrgID, w.ProjectID} }

// Bounds of tags, in characters and items.
const (
	maxTagName    = 255
	maxTagKey     = 128
	maxTagValue   = 256
	maxBindings   = 10
	maxTagsAtOnce = 100
)

var tagForm = core.NewPattern(`^[\pL\pN_]([\pL\pN _:.=+/@-]*[\pL\pN_:.=+/@-])?$`)

// bindMode says how new bindings meet the old.
type bindMode int

const (
	bindFree    bindMode = iota // add; as many as word tags may be
	bindAdd                     // add or change values
	bindReplace                 // the others go
)

func (b Binding) validate(m bindMode) error {
	longest := maxTagKey
	if m == bindFree && b.Value == "" {
		longest = maxTagName
	}
	switch {
	case b.Key == "":
		return core.Errorf(core.Invalid, "can't be blank").InField("key")
	case len([]rune(b.Key)) > longest:
		return core.Errorf(core.Invalid, "is too long (maximum is %d characters)", longest).InField("key")
	case !tagForm.MatchString(b.Key):
		return core.Errorf(core.Invalid, "is invalid").InField("key")
	case len([]rune(b.Value)) > maxTagValue:
		return core.Errorf(core.Invalid, "is too long (maximum is %d characters)", maxTagValue).InField("value")
	case b.Value != "" && !tagForm.MatchString(b.Value):
		return core.Errorf(core.Invalid, "is invalid").InField("value")
	}
	return nil
}

const bindingColumns = `b.id, b.owner_id, b.key, b.value, b.tag_id`

func scanBinding(r db.Row) (b Binding, err error) {
	return b, r.Scan(&b.ID, &b.Owner, &b.Key, &b.Value, &b.TagID)
}

// bindingsOf loads the bindings of workspaces or projects, in one query.
func bindingsOf(ctx context.Context, tx *db.Tx, owners []core.ID) (map[core.ID][]Binding, error) {
	out := map[core.ID][]Binding{}
	if len(owners) == 0 {
		return out, nil
	}
	all, err := db.All(ctx, tx, scanBinding, `SELECT `+bindingColumns+` FROM tag_binding b WHERE b.owner_id IN (`+db.In(1, len(owners))+`) ORDER BY b.place`, args(owners)...)
	for _, b := range all {
		out[b.Owner] = append(out[b.Owner], b)
	}
	return out, err
}

func args(ids []core.ID) []any {
	out := make([]any, len(ids))
	for i, id := range ids {
		out[i] = id
	}
	return out
}

// bind puts bindings on o. The caller has checked the right to change o. It
// costs a statement a binding.
func (s *Service) bind(ctx context.Context, tx *db.Tx, o owner, list []Binding, mode bindMode) error {
	if len(list) == 0 && mode != bindReplace {
		return nil
	}
	if len(list) > maxTagsAtOnce {
		return core.Errorf(core.Invalid, "more than %d tags at once", maxTagsAtOnce)
	}
	have, err := bindingsOf(ctx, tx, []core.ID{o.id})
	if err != nil {
		return err
	}
	old := map[string]Binding{}
	for _, b := range have[o.id] {
		old[b.Key] = b
	}
	keys := map[string]bool{}
	for _, b := range list {
		if err := b.validate(mode); err != nil {
			return err
		}
		keys[b.Key] = true
	}
	if err := s.notReserved(ctx, tx, o, keys); err != nil {
		return err
	}
	n := len(keys)
	for k := range old {
		if mode != bindReplace && !keys[k] {
			n++
		}
	}
	if mode != bindFree && n > max(maxBindings, len(old)) {
		return core.Errorf(core.Invalid, "cannot exceed %d bindings per resource", maxBindings)
	}
	for k, b := range old {
		if mode == bindReplace && !keys[k] {
			if _, err := tx.Exec(ctx, `DELETE FROM tag_binding WHERE id = $1`, b.ID); err != nil {
				return err
			}
		}
	}
	tags, err := s.orgTags(ctx, tx, o, keys)
	if err != nil {
		return err
	}
	for _, b := range list {
		if _, ok := old[b.Key]; ok && mode == bindFree {
			continue // the word is there; its value stays
		}
		if _, err := tx.Exec(ctx, `INSERT INTO tag_binding (owner_id, key, value, id, org_id, tag_id, place)
			SELECT $1, $2, $3, $4, $5, $6, COALESCE(max(place), 0) + 1 FROM tag_binding WHERE owner_id = $1
			ON CONFLICT (owner_id, key) DO UPDATE SET value = $3`,
			o.id, b.Key, b.Value, core.NewID("tb"), o.org, tags[b.Key]); err != nil {
			return err
		}
	}
	return nil
}

// orgTags makes the keys on a workspace tags of its organization and returns
// their ids.
func (s *Service) orgTags(ctx context.Context, tx *db.Tx, o owner, keys map[string]bool) (map[string]core.ID, error) {
	out := map[string]core.ID{}
	if o.project == "" || len(keys) == 0 {
		return out, nil
	}
	names := []any{o.org}
	for k := range keys {
		names = append(names, k)
		if _, err := tx.Exec(ctx, `INSERT INTO tag (id, org_id, name, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (org_id, name) DO NOTHING`,
			core.NewID("tag"), o.org, k, tx.Now()); err != nil {
			return nil, err
		}
	}
	ts, err := db.All(ctx, tx, scanTag, `SELECT `+tagColumns+` FROM tag t WHERE t.org_id = $1 AND t.name IN (`+db.In(2, len(keys))+`)`, names...)
	for _, t := range ts {
		out[t.Name] = t.ID
	}
	return out, err
}

// notReserved refuses to override on a workspace what its project sets for a
// reserved key.
func (s *Service) notReserved(ctx context.Context, tx *db.Tx, o owner, keys map[string]bool) error {
	if o.project == "" {
		return nil
	}
	fixed, err := db.All(ctx, tx, func(r db.Row) (k string, err error) { return k, r.Scan(&k) }, `
		SELECT k.key FROM reserved_tag_key k JOIN tag_binding b ON b.org_id = k.org_id AND b.key = k.key
		WHERE k.org_id = $1 AND k.disable_overrides AND b.owner_id = $2`, o.org, o.project)
	for _, k := range fixed {
		if keys[k] {
			return core.Errorf(core.Invalid, "%q is reserved and cannot be overridden", k).InField("key")
		}
	}
	return err
}

// Bindings returns the bindings of a workspace, with those it inherits of its
// project if effective. Inherited ones name the project as their owner.
func (s *Service) Bindings(ctx context.Context, ws core.ID, effective bool) (bs []Binding, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := Get(ctx, tx, ws, 0)
		if err != nil {
			return err
		}
		all, err := bindingsOf(ctx, tx, []core.ID{w.ID, w.ProjectID})
		if bs = all[w.ID]; effective {
			bs = inherit(bs, all[w.ProjectID])
		}
		return err
	})
	return bs, err
}

// inherit adds to a workspace's bindings those of its project that it does not
// override.
func inherit(own, project []Binding) []Binding {
	out, have := append([]Binding(nil), own...), map[string]bool{}
	for _, b := range own {
		have[b.Key] = true
	}
	for _, b := range project {
		if !have[b.Key] {
			out = append(out, b)
		}
	}
	return out
}

// Bind adds bindings to a workspace, or changes their values.
func (s *Service) Bind(ctx context.Context, ws core.ID, list []Binding) (bs []Binding, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := Get(ctx, tx, ws, core.ChangeSettings)
		if err != nil {
			return err
		}
		if err := s.bind(ctx, tx, workspaceOwner(w), list, bindAdd); err != nil {
			return err
		}
		if err := w.noteTags(ctx, tx, "add_tags", list); err != nil {
			return err
		}
		all, err := bindingsOf(ctx, tx, []core.ID{ws})
		bs = all[ws]
		return err
	})
	return bs, err
}

// AddTags puts word tags on a workspace: by name, or by the id of a tag of the
// organization.
func (s *Service) AddTags(ctx context.Context, ws core.ID, tags []Tag) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := Get(ctx, tx, ws, core.ChangeSettings)
		if err != nil {
			return err
		}
		names, err := s.tagNames(ctx, tx, w.OrgID, tags)
		if err != nil {
			return err
		}
		list := make([]Binding, len(names))
		for i, n := range names {
			list[i] = Binding{Key: n}
		}
		if err := s.bind(ctx, tx, workspaceOwner(w), list, bindFree); err != nil {
			return err
		}
		return w.noteTags(ctx, tx, "add_tags", list)
	})
}

// noteTags adds to the trail which tags a workspace got or lost.
func (w Workspace) noteTags(ctx context.Context, tx *db.Tx, action string, list []Binding) error {
	keys := make([]string, len(list))
	for i, b := range list {
		keys[i] = b.Key
	}
	return audit.Add(ctx, tx, w.OrgID, "workspace", w.ID, action, map[string]any{"name": w.Name, "tags": keys})
}

// RemoveTags takes tags off a workspace; those it does not carry are gone
// already.
func (s *Service) RemoveTags(ctx context.Context, ws core.ID, tags []Tag) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := Get(ctx, tx, ws, core.ChangeSettings)
		if err != nil {
			return err
		}
		if len(tags) > maxTagsAtOnce {
			return core.Errorf(core.Invalid, "more than %d tags at once", maxTagsAtOnce)
		}
		var gone []Binding
		for _, t := range tags {
			if _, err := tx.Exec(ctx, `DELETE FROM tag_binding WHERE owner_id = $1 AND (key = $2 AND $2 <> '' OR tag_id = $3 AND $3 <> '')`, ws, t.Name, t.ID); err != nil {
				return err
			}
			gone = append(gone, Binding{Key: cmp.Or(t.Name, string(t.ID))})
		}
		return w.noteTags(ctx, tx, "remove_tags", gone)
	})
}

// tagNames resolves tags that are given by id; one of another organization
// does not exist.
func (s *Service) tagNames(ctx context.Context, tx *db.Tx, org core.ID, tags []Tag) ([]string, error) {
	if len(tags) > maxTagsAtOnce {
		return nil, core.Errorf(core.Invalid, "more than %d tags at once", maxTagsAtOnce)
	}
	ids := []any{org}
	for _, t := range tags {
		if t.ID != "" {
			ids = append(ids, t.ID)
		}
	}
	byID := map[core.ID]string{}
	if len(ids) > 1 {
		ts, err := db.All(ctx, tx, scanTag, `SELECT `+tagColumns+` FROM tag t WHERE t.org_id = $1 AND t.id IN (`+db.In(2, len(ids)-1)+`)`, ids...)
		if err != nil {
			return nil, err
		}
		for _, t := range ts {
			byID[t.ID] = t.Name
		}
	}
	names := make([]string, len(tags))
	for i, t := range tags {
		if names[i] = t.Name; t.ID != "" {
			if names[i] = byID[t.ID]; names[i] == "" {
				return nil, authz.ErrHidden()
			}
		}
	}
	return names, nil
}
