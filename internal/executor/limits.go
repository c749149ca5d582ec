package executor

import "interlock/internal/seal"

// Limits bounds what one phase may take. 0 means no limit.
type Limits = seal.Limits

// LimitError says which limit ended a phase.
type LimitError struct{ Text string }

func (e LimitError) Error() string { return e.Text }
