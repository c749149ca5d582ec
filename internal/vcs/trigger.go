package vcs

import (
	"path"
	"regexp"
	"strings"
	"sync"

	"interlock/internal/workspace"
)

// skipWords in the message of a commit keep it from queueing runs.
var skipWords = []string{"[ci skip]", "[skip ci]", "[atlas skip]"}

// skips returns the word in a commit's message that keeps it from queueing runs.
func skips(message string) string {
	m := strings.ToLower(message)
	for _, w := range skipWords {
		if strings.Contains(m, w) {
			return w
		}
	}
	return ""
}

// concerns says whether changed files are a workspace's business, and why.
// known is false when nobody could tell which files changed.
func concerns(w workspace.Workspace, changed []string, known bool) (yes bool, why string) {
	switch {
	case !w.FileTriggers:
		return true, "every push counts: file triggers are off"
	case !known:
		return true, "which files changed could not be told, so all count"
	}
	if len(w.TriggerPatterns) > 0 {
		for _, p := range w.TriggerPatterns {
			for _, f := range changed {
				if glob(p).MatchString(f) {
					return true, f + " matches " + p
				}
			}
		}
		return false, "no changed file matches the trigger patterns"
	}
	dirs := append([]string{}, w.TriggerPrefixes...)
	if dir, err := workspace.CleanDir(w.WorkingDirectory); err == nil {
		if dir == "" {
			return true, "the whole repository is its working directory"
		}
		dirs = append(dirs, dir)
	}
	for _, d := range dirs {
		d = strings.Trim(path.Clean("/"+d), "/")
		for _, f := range changed {
			if d == "" || f == d || strings.HasPrefix(f, d+"/") {
				return true, f + " is in " + d
			}
		}
	}
	return false, "no changed file is in its working directory or under its trigger prefixes"
}

var globs sync.Map // pattern -> *regexp.Regexp

// glob compiles a pattern of paths: ** is any number of directories, * and ?
// stay within one. A slash at the beginning changes nothing.
func glob(pattern string) *regexp.Regexp {
	if re, ok := globs.Load(pattern); ok {
		return re.(*regexp.Regexp)
	}
	p := strings.TrimPrefix(pattern, "/")
	var b strings.Builder
	b.WriteString("^")
	for i := 0; i < len(p); i++ {
		switch {
		case strings.HasPrefix(p[i:], "**/"):
			b.WriteString("(?:.*/)?")
			i += 2
		case strings.HasPrefix(p[i:], "**"):
			b.WriteString(".*")
			i++
		case p[i] == '*':
			b.WriteString("[^/]*")
		case p[i] == '?':
			b.WriteString("[^/]")
		default:
			b.WriteString(regexp.QuoteMeta(p[i : i+1]))
		}
	}
	re, err := regexp.Compile("(?s)" + b.String() + "$")
	if err != nil {
		re = regexp.MustCompile(`^[^\s\S]`) // matches nothing
	}
	globs.Store(pattern, re)
	return re
}
