//go:build !seal

package executor

// supervisor is empty where only this program was built, which then supervises
// engines itself, some milliseconds slower.
var supervisor []byte
