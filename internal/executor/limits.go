package executor

import "interlock/internal/seal"

// Limits bounds what one phase may take. 0 means no limit.
type Limits = seal.Limits

// LimitError says which limit ended a phase.
type LimitError struct{ Text string }

func (e LimitError) Error() string { return e.Text }

// KilledError says that an engine ended without an exit status: something
// outside killed it, or it could not be started.
type KilledError struct{ Text string }

func (e KilledError) Error() string { return e.Text }
