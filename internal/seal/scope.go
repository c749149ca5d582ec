package seal

import (
	"fmt"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// ScopedVar tells the supervisor that it was started by a thread with Scope.
const ScopedVar = "INTERLOCK_SCOPED"

// Scope keeps this thread, and all that it will start, from the sockets of
// others that have a name but no file, and from signalling others: no namespace
// that a run shares with the machine does that. The thread must be locked and be
// given up after. The supervisor is within it whole, its run in the same, so that
// it may still open what is the run's. False where the kernel is older than
// Linux 6.12.
func Scope() (bool, error) {
	if abi, err := ll.LandlockGetABIVersion(); err != nil || abi < 6 {
		return false, nil
	}
	fd, err := ll.LandlockCreateRuleset(&ll.RulesetAttr{Scoped: ll.ScopeAbstractUnixSocket | ll.ScopeSignal}, 0)
	if err != nil {
		return false, fmt.Errorf("restrict sockets: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return false, fmt.Errorf("restrict sockets: %w", err)
	}
	if err := ll.LandlockRestrictSelf(fd, 0); err != nil {
		return false, fmt.Errorf("restrict sockets: %w", err)
	}
	return true, nil
}
