// Package examples holds the configurations that the documentation shows and
// the pages offer, inside the binary.
package examples

import _ "embed"

//go:embed quickstart/main.tf
var quickstart string

// Quickstart is the main.tf of the quickstart: it needs no provider, no account
// and no network.
func Quickstart() string { return quickstart }
