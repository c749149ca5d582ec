package admin

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	version "github.com/hashicorp/go-version"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/executor"
	"interlock/internal/jsonapi"
)

// Version is a version of terraform that workspaces may or may not choose.
type Version struct {
	ID         core.ID
	Version    string
	Official   bool
	Enabled    bool
	Beta       bool // only for organizations that have access to beta tools
	Deprecated bool
	Reason     string // why it is deprecated
	Archs      []Arch // empty: the vendor's release
	Usage      int64  // workspaces that ask for exactly it
	CreatedAt  time.Time
}

// Arch is where the build for one platform comes from.
type Arch struct {
	URL  string `json:"url"`
	SHA  string `json:"sha"` // SHA-256 of what is there, hex
	OS   string `json:"os"`
	Arch string `json:"arch"`
}

const versionSelect = `SELECT v.id, v.version, v.official, v.enabled, v.beta, v.deprecated, v.reason, v.archs, v.created_at,
	(SELECT count(*) FROM workspace w WHERE w.engine = 'terraform' AND w.engine_version = v.version) FROM engine_version v`

func scanVersion(r db.Row) (v Version, err error) {
	var archs string
	if err := r.Scan(&v.ID, &v.Version, &v.Official, &v.Enabled, &v.Beta, &v.Deprecated, &v.Reason, &archs, &v.CreatedAt, &v.Usage); err != nil {
		return v, err
	}
	return v, json.Unmarshal([]byte(archs), &v.Archs)
}

// on is the build for one architecture, or an empty one.
func (v Version) on(arch string) Arch {
	for _, a := range v.Archs {
		if a.Arch == arch {
			return a
		}
	}
	return Arch{}
}

// set names the build for amd64 the older way, as the only one.
func (v *Version) set(address, sha string) {
	v.Archs = []Arch{{address, sha, "linux", "amd64"}}
}

func (v *Version) validate() error {
	p, err := version.NewSemver(v.Version)
	plain, _, _ := strings.Cut(v.Version, "-")
	switch {
	case v.Version == "":
		return core.Errorf(core.Invalid, "can't be blank").InField("version")
	case err != nil || len(v.Version) > 60 || strings.Count(plain, ".") != 2 || p.String() != v.Version:
		return core.Errorf(core.Invalid, "must be an exact version such as 1.11.4").InField("version")
	case len(v.Reason) > 1024 || strings.ToValidUTF8(v.Reason, "") != v.Reason || strings.ContainsRune(v.Reason, 0):
		return core.Errorf(core.Invalid, "must be text of at most 1024 bytes").InField("deprecated-reason")
	case len(v.Archs) > 10:
		return core.Errorf(core.Invalid, "names more than 10 platforms").InField("archs")
	}
	if !v.Deprecated {
		v.Reason = ""
	}
	seen := map[string]bool{}
	for i, a := range v.Archs {
		u, err := url.Parse(a.URL)
		sum, herr := hex.DecodeString(a.SHA)
		switch {
		case err != nil || len(a.URL) > 2048 || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
			return core.Errorf(core.Invalid, "must be an http or https URL").InField("url")
		case herr != nil || len(sum) != 32:
			return core.Errorf(core.Invalid, "must be a SHA-256 in 64 hexadecimal digits").InField("sha")
		case a.OS != "linux" || !slices.Contains([]string{"amd64", "arm64", "s390x"}, a.Arch):
			return core.Errorf(core.Invalid, "must be builds for linux on amd64, arm64 or s390x").InField("archs")
		case seen[a.Arch]:
			return core.Errorf(core.Invalid, "names %s twice", a.Arch).InField("archs")
		}
		seen[a.Arch] = true
		v.Archs[i].SHA = strings.ToLower(a.SHA)
	}
	return nil
}

func (v Version) archsJSON() string {
	if len(v.Archs) == 0 {
		return "[]"
	}
	b, _ := json.Marshal(v.Archs)
	return string(b)
}

// VersionFilter narrows a list of versions.
type VersionFilter struct{ Exact, Part string }

// Versions lists the versions, newest first.
func (s *Service) Versions(ctx context.Context, f VersionFilter, p jsonapi.Page) (vs []Version, total int64, err error) {
	if err := authz.SiteAdmin(ctx); err != nil {
		return nil, 0, err
	}
	if err := s.learnInstalled(ctx); err != nil {
		return nil, 0, err
	}
	const where = ` WHERE ($1 = '' OR v.version = $1) AND v.version LIKE $2 ESCAPE '\'`
	args := []any{f.Exact, "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(f.Part) + "%"}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		// A few hundred rows; they are put in order by what they mean.
		if vs, err = db.All(ctx, tx, scanVersion, versionSelect+where+` ORDER BY v.version`, args...); err != nil {
			return err
		}
		total = int64(len(vs))
		at := map[core.ID]*version.Version{}
		for _, v := range vs {
			at[v.ID], _ = version.NewSemver(v.Version)
		}
		slices.SortStableFunc(vs, func(a, b Version) int { return at[b.ID].Compare(at[a.ID]) })
		from := min(p.Offset(), len(vs))
		vs = vs[from:min(from+p.Size, len(vs))]
		return nil
	})
	return vs, total, err
}

// Version returns one.
func (s *Service) Version(ctx context.Context, id core.ID) (v Version, err error) {
	if err := authz.SiteAdmin(ctx); err != nil {
		return v, err
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		v, err = db.One(ctx, tx, scanVersion, versionSelect+` WHERE v.id = $1`, id)
		return err
	})
	return v, err
}

// AddVersion makes a version known. Unlike the vendor's it names its builds.
func (s *Service) AddVersion(ctx context.Context, v Version) (Version, error) {
	if err := authz.SiteAdmin(ctx); err != nil {
		return v, err
	}
	if err := v.validate(); err != nil {
		return v, err
	}
	if len(v.Archs) == 0 {
		return v, core.Errorf(core.Invalid, "url and sha, or archs, can't be blank").InField("url")
	}
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		v.ID, v.CreatedAt = core.NewID("tool"), tx.Now()
		if err := insertVersion(ctx, tx, v); err != nil {
			return err
		}
		return audit.Add(ctx, tx, "", "terraform-version", v.ID, "create", map[string]any{"version": v.Version})
	})
	return v, err
}

func insertVersion(ctx context.Context, tx *db.Tx, v Version) error {
	_, err := tx.Exec(ctx, `INSERT INTO engine_version (id, version, official, enabled, beta, deprecated, reason, archs, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		v.ID, v.Version, v.Official, v.Enabled, v.Beta, v.Deprecated, v.Reason, v.archsJSON(), v.CreatedAt)
	return taken(err)
}

func taken(err error) error {
	if core.KindOf(err) == core.Conflict {
		return core.Errorf(core.Invalid, "Version has already been taken").InField("version")
	}
	return err
}

// UpdateVersion changes a version. Of the vendor's the name stays.
func (s *Service) UpdateVersion(ctx context.Context, id core.ID, change func(*Version)) (v Version, err error) {
	if err := authz.SiteAdmin(ctx); err != nil {
		return v, err
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if v, err = db.One(ctx, tx, scanVersion, versionSelect+` WHERE v.id = $1`, id); err != nil {
			return err
		}
		before := v
		change(&v)
		if err := v.validate(); err != nil {
			return err
		}
		if v.Version != before.Version && before.Usage > 0 {
			return core.Errorf(core.Invalid, "cannot be changed while %d workspaces use it", before.Usage).InField("version")
		}
		if v.Version != before.Version && before.Official {
			return core.Errorf(core.Invalid, "of an official release cannot be changed").InField("version")
		}
		_, err := tx.Exec(ctx, `UPDATE engine_version SET version = $2, official = $3, enabled = $4, beta = $5, deprecated = $6, reason = $7, archs = $8 WHERE id = $1`,
			id, v.Version, v.Official, v.Enabled, v.Beta, v.Deprecated, v.Reason, v.archsJSON())
		if err != nil {
			return taken(err)
		}
		return audit.Add(ctx, tx, "", "terraform-version", id, "update", map[string]any{"version": v.Version, "enabled": v.Enabled})
	})
	return v, err
}

// DeleteVersion forgets a version that no workspace uses. The vendor's are
// disabled instead.
func (s *Service) DeleteVersion(ctx context.Context, id core.ID) error {
	if err := authz.SiteAdmin(ctx); err != nil {
		return err
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		v, err := db.One(ctx, tx, scanVersion, versionSelect+` WHERE v.id = $1`, id)
		switch {
		case err != nil:
			return err
		case v.Official:
			return core.Errorf(core.Invalid, "an official version cannot be deleted; disable it instead")
		case v.Usage > 0:
			return core.Errorf(core.Invalid, "%d workspaces use this version", v.Usage)
		}
		if _, err := tx.Exec(ctx, `DELETE FROM engine_version WHERE id = $1`, id); err != nil {
			return err
		}
		return audit.Add(ctx, tx, "", "terraform-version", id, "destroy", map[string]any{"version": v.Version})
	})
}

// releases is how many patch releases the vendor's minor releases have had, as
// far as this program knows. Later ones are added by hand, or when they are
// installed.
var releases = map[string]int{"1.0": 12, "1.1": 10, "1.2": 10, "1.3": 11, "1.4": 8, "1.5": 8, "1.6": 7, "1.7": 6, "1.8": 6, "1.9": 9, "1.10": 6, "1.11": 5, "1.12": 3}

// Seed makes the vendor's releases known.
func (s *Service) Seed(ctx context.Context) error {
	var vs []Version
	for minor, n := range releases {
		for patch := range n {
			vs = append(vs, Version{Version: fmt.Sprintf("%s.%d", minor, patch), Official: true})
		}
	}
	return s.learn(ctx, vs)
}

// learnInstalled makes known what is installed here.
func (s *Service) learnInstalled(ctx context.Context) error {
	var vs []Version
	for _, e := range s.Installed(ctx) {
		if p, err := version.NewSemver(e.Version); e.Product == "terraform" && err == nil {
			vs = append(vs, Version{Version: e.Version, Official: p.Prerelease() == "" && p.Metadata() == ""})
		}
	}
	return s.learn(ctx, vs)
}

// learn adds those versions that are not known yet, if there are any.
func (s *Service) learn(ctx context.Context, vs []Version) error {
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		known, err := db.All(ctx, tx, func(r db.Row) (v string, err error) { return v, r.Scan(&v) }, `SELECT version FROM engine_version`)
		vs = slices.DeleteFunc(vs, func(v Version) bool { return slices.Contains(known, v.Version) })
		return err
	})
	if err != nil || len(vs) == 0 {
		return err
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, v := range vs {
			// Another node may be quicker.
			_, err := tx.Exec(ctx, `INSERT INTO engine_version (id, version, official, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (version) DO NOTHING`,
				core.NewID("tool"), v.Version, v.Official, tx.Now())
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Sources tells the catalog of engines what differs from the vendor's
// releases: versions that are disabled, and those with builds of their own for
// this architecture.
func (s *Service) Sources(ctx context.Context, arch string) (out map[string]executor.Source, err error) {
	out = map[string]executor.Source{}
	vs, err := db.Ask(ctx, s.DB, scanVersion, versionSelect+` WHERE v.enabled = false OR v.archs <> '[]'`)
	for _, v := range vs {
		a := v.on(arch)
		out[v.Version] = executor.Source{URL: a.URL, SHA256: a.SHA, Disabled: !v.Enabled, Elsewhere: len(v.Archs) > 0 && a.URL == ""}
	}
	return out, err
}
