package executor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// gitSSH is the variable by which git learns how to call ssh.
const gitSSH = "GIT_SSH_COMMAND"

// offersSSH reports whether the engine is to fetch modules with SSHKey. Whoever
// sets git's own variable knows better.
func (s *Spec) offersSSH() bool {
	_, own := s.Env[gitSSH]
	return s.SSHKey != "" && !own
}

func (s *Spec) sshDir() string { return s.Area.path("ssh") }

// lendKey puts the SSH key where only the next call of the engine sees it, and
// returns what takes it away again: it is there while modules are fetched, before
// any program of the configuration begins.
func lendKey(s *Spec) (takeAway func() error, err error) {
	dir := s.sshDir()
	takeAway = func() error {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove ssh key: %w", err)
		}
		return nil
	}
	// One of a server that died may still be there.
	if err := takeAway(); err != nil || !s.offersSSH() {
		return takeAway, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return takeAway, fmt.Errorf("lend ssh key: %w", err)
	}
	// ssh reads no key with the line ends of other systems, or without the last.
	key := strings.TrimSpace(strings.ReplaceAll(s.SSHKey, "\r\n", "\n")) + "\n"
	if err := os.WriteFile(filepath.Join(dir, "key"), []byte(key), 0o600); err != nil {
		return takeAway, fmt.Errorf("lend ssh key: %w", err)
	}
	return takeAway, nil
}

// sshCommand is a line for git's shell: ssh with the lent key and no other, and
// no settings of this machine. A host is trusted the first time.
func (s *Spec) sshCommand() string {
	option := func(name, path string) string {
		// ssh splits at blanks and knows signs after %.
		return shellQuoted(name + `="` + strings.ReplaceAll(path, "%", "%%") + `"`)
	}
	return strings.Join([]string{"ssh", "-F", "none", "-o", option("IdentityFile", filepath.Join(s.sshDir(), "key")),
		"-o", option("UserKnownHostsFile", filepath.Join(s.sshDir(), "known_hosts")), "-o", "GlobalKnownHostsFile=/dev/null",
		"-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "StrictHostKeyChecking=accept-new", "-o", "BatchMode=yes"}, " ")
}

func shellQuoted(v string) string { return "'" + strings.ReplaceAll(v, "'", `'\''`) + "'" }
