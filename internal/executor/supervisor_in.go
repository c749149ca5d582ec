//go:build seal

package executor

import _ "embed"

// supervisor is cmd/seal, built just before.
//
//go:embed seal.bin
var supervisor []byte
