package tfdata

import "interlock/internal/core"

// ForCLI builds the document that a CLI renders.
func ForCLI(redactedShow, schemas []byte) ([]byte, error) {
	return nil, core.Errorf(core.Invalid, "not yet")
}
