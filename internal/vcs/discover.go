package vcs

import (
	"context"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-config-inspect/tfconfig"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/vcs/git"
	"interlock/internal/workspace"
)

// A Root is a directory of a repository in which an engine may run.
type Root struct {
	Dir       string   // empty for the root of the repository
	Name      string   // a name for its workspace
	Workspace string   // that has it already, if one does
	Uses      []string // directories of modules of the repository that it calls
}

// maxRoots bounds what is found in a repository.
const maxRoots = 500

// Discover looks for the directories of a repository that could be workspaces:
// those with configuration that no other configuration there calls as a module.
func (s *Service) Discover(ctx context.Context, client core.ID, repository, branch string) (roots []Root, err error) {
	repository = strings.Trim(strings.TrimSpace(repository), "/")
	var o opened
	taken := map[string]string{}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		c, err := s.client(ctx, tx, client)
		if err != nil {
			return err
		}
		if repository == "" || len(repository) > 1024 {
			return core.Errorf(core.Invalid, "can't be blank").InField("repository")
		}
		if len(c.Tokens) == 0 {
			return core.Errorf(core.Invalid, "cannot be read: the connection has no token").InField("repository")
		}
		if o, err = s.open(ctx, tx, c.Tokens[0].ID); err != nil {
			return err
		}
		ws, err := workspace.OfRepo(ctx, tx, o.tokenID, repository)
		for _, w := range ws {
			if dir, err := workspace.CleanDir(w.WorkingDirectory); err == nil {
				taken[dir] = w.Name
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	blame := func(err error) error {
		return core.Wrap(err, core.Invalid, "cannot be read: "+core.Message(err)).InField("repository")
	}
	if err := o.ready(ctx, repository); err != nil {
		return nil, blame(err)
	}
	refs, err := s.Git.Refs(ctx, &o.remote)
	if err != nil {
		return nil, blame(err)
	}
	if branch == "" {
		branch = refs.Default
	}
	sha := refs.Branches[branch]
	if sha == "" {
		return nil, core.Errorf(core.Invalid, "is not a branch of the repository").InField("branch")
	}
	t, err := s.Git.Fetch(ctx, &o.remote, git.Want{Ref: "refs/heads/" + branch, SHA: sha})
	if err != nil {
		return nil, blame(err)
	}
	defer t.Close()
	roots, err = rootsOf(t.Dir)
	_, last, _ := strings.Cut(repository, "/")
	last = strings.TrimSuffix(path.Base("/"+last), ".git")
	for i, r := range roots {
		roots[i].Workspace, roots[i].Name = taken[r.Dir], nameOf(r.Dir, last)
	}
	return roots, err
}

// nameOf makes the name of a workspace of a directory.
func nameOf(dir, repository string) string {
	if dir == "" {
		dir = repository
	}
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' {
			return r
		}
		return '-'
	}, dir)
	return clip(strings.Trim(name, "-."), 80)
}

// rootsOf finds the directories below dir that no other one calls as a module.
func rootsOf(dir string) ([]Root, error) {
	found, called := map[string]*Root{}, map[string]bool{}
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			if b := e.Name(); name != dir && (strings.HasPrefix(b, ".") || b == "node_modules" || b == "vendor") {
				return filepath.SkipDir
			}
			return nil
		}
		if !e.Type().IsRegular() || !strings.HasSuffix(name, ".tf") && !strings.HasSuffix(name, ".tf.json") && !strings.HasSuffix(name, ".tofu") {
			return nil
		}
		rel, err := filepath.Rel(dir, filepath.Dir(name))
		if err != nil {
			return err
		}
		if rel = filepath.ToSlash(rel); rel == "." {
			rel = ""
		}
		if found[rel] == nil && len(found) < 4*maxRoots {
			found[rel] = &Root{Dir: rel}
			m, _ := tfconfig.LoadModule(filepath.Dir(name))
			for _, call := range m.ModuleCalls {
				if strings.HasPrefix(call.Source, "./") || strings.HasPrefix(call.Source, "../") {
					to := strings.Trim(path.Join("/"+rel, call.Source), "/")
					called[to] = true
					found[rel].Uses = append(found[rel].Uses, to)
				}
			}
			slices.Sort(found[rel].Uses)
			found[rel].Uses = slices.Compact(found[rel].Uses)
		}
		return nil
	})
	var out []Root
	for rel, r := range found {
		if !called[rel] && rel != "modules" && !strings.HasPrefix(rel, "modules/") && len(out) < maxRoots {
			out = append(out, *r)
		}
	}
	slices.SortFunc(out, func(a, b Root) int { return strings.Compare(a.Dir, b.Dir) })
	return out, err
}
