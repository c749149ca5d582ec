package workspace

import (
	"context"
	"net/url"
	"path"
	"strings"

	"interlock/internal/core"
	"interlock/internal/db"
)

var (
	nameForm     = core.NewPattern(`^[A-Za-z0-9_.-]+$`)
	versionForm  = core.NewPattern(`^(latest|v?[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?|[~<>=!0-9][~<>=!, 0-9.A-Za-z+-]*)$`)
	durationForm = core.NewPattern(`^[0-9]{1,4}[dh]$`)
)

// Bounds of settings, in bytes and items.
const (
	maxName        = 90
	maxDescription = 4096
	maxTriggers    = 100
	maxTrigger     = 1024
)

// plain reports whether text can be stored: valid and without zero bytes.
func plain(text string) bool {
	return strings.ToValidUTF8(text, "") == text && !strings.ContainsRune(text, 0)
}

func validDuration(d string) error {
	if d != "" && !durationForm.MatchString(d) {
		return core.Errorf(core.Invalid, "has an incorrect format, we expect up to 4 numeric digits and 1 unit ('d' or 'h')").InField("auto-destroy-activity-duration")
	}
	return nil
}

func (w *Workspace) validate() error {
	w.EngineVersion = strings.TrimSpace(w.EngineVersion)
	engine := ValidEngine(w.Engine, w.EngineVersion)
	switch {
	case w.Name == "":
		return core.Errorf(core.Invalid, "can't be blank").InField("name")
	case len(w.Name) > maxName:
		return core.Errorf(core.Invalid, "is too long (maximum is %d characters)", maxName).InField("name")
	case !nameForm.MatchString(w.Name) || w.Name == "." || w.Name == "..":
		return core.Errorf(core.Invalid, "may hold only letters, digits, -, _ and .").InField("name")
	case engine != nil:
		return engine
	case len(w.Description) > maxDescription:
		return core.Errorf(core.Invalid, "is longer than %d bytes", maxDescription).InField("description")
	case !plain(w.Description):
		return core.Errorf(core.Invalid, "must be text without zero bytes").InField("description")
	case len(w.SourceName) > 255 || !plain(w.SourceName):
		return core.Errorf(core.Invalid, "must be text of at most 255 bytes").InField("source-name")
	case (w.SourceURL == "") != (w.SourceName == ""):
		return core.Errorf(core.Invalid, "must come with source-name, and it with source-url").InField("source-url")
	case w.ShareAll && w.ShareProject:
		return core.Errorf(core.Invalid, "Project remote state cannot be enabled when global remote state sharing is enabled").InField("project-remote-state")
	case len(w.TriggerPrefixes) > 0 && len(w.TriggerPatterns) > 0:
		return core.Errorf(core.Invalid, "cannot be set together with trigger-prefixes").InField("trigger-patterns")
	}
	if w.SourceURL != "" {
		u, err := url.Parse(w.SourceURL)
		if err != nil || len(w.SourceURL) > 2048 || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || !plain(w.SourceURL) {
			return core.Errorf(core.Invalid, "must be an http or https URL").InField("source-url")
		}
	}
	for field, list := range map[string][]string{"trigger-prefixes": w.TriggerPrefixes, "trigger-patterns": w.TriggerPatterns} {
		if len(list) > maxTriggers {
			return core.Errorf(core.Invalid, "has more than %d entries", maxTriggers).InField(field)
		}
		for _, t := range list {
			if t == "" || len(t) > maxTrigger || !plain(t) {
				return core.Errorf(core.Invalid, "must hold paths of at most %d bytes", maxTrigger).InField(field)
			}
		}
	}
	if err := w.validRepo(); err != nil {
		return err
	}
	if err := validDuration(w.AutoDestroyAfter); err != nil {
		return err
	}
	_, err := CleanDir(w.WorkingDirectory)
	return err
}

// validMode checks an execution mode and the agent pool that goes with it.
func (s *Service) validMode(ctx context.Context, tx *db.Tx, mode string, pool, org, project, workspace core.ID, field string) error {
	poolField := strings.Replace(field, "execution-mode", "agent-pool-id", 1)
	switch {
	case mode != "remote" && mode != "local" && (mode != "agent" || s.AgentPool == nil):
		return core.Errorf(core.Invalid, "must be remote or local").InField(field)
	case mode != "agent" && pool != "":
		return core.Errorf(core.Invalid, "must not be specified unless using 'agent' execution mode").InField(poolField)
	case mode == "agent" && pool == "":
		return core.Errorf(core.Invalid, "must be specified when using 'agent' execution mode").InField(poolField)
	case mode == "agent":
		return s.AgentPool(ctx, tx, org, project, workspace, pool)
	}
	return nil
}

// CleanDir brings a working directory into its one form: relative, without
// dots, empty for the root.
func CleanDir(dir string) (string, error) {
	if dir == "" {
		return "", nil
	}
	clean := path.Clean("/" + strings.TrimSpace(dir))[1:]
	for part := range strings.SplitSeq(dir, "/") {
		if part == ".." || strings.ContainsAny(part, "\\\x00\n") {
			return "", core.Errorf(core.Invalid, "must be a directory inside the configuration").InField("working-directory")
		}
	}
	if len(clean) > 1024 {
		return "", core.Errorf(core.Invalid, "is too long").InField("working-directory")
	}
	return clean, nil
}
