// Package tfdata reads the JSON documents that Terraform and OpenTofu write:
// raw states, plans as `show -json` prints them, and provider schemas. It
// tells what a state holds, takes the secrets out of a plan, and boils a plan
// down for a page.
//
// All input is foreign. Nothing here panics on it, and work grows with the
// size of the document. A document that cannot be used is refused with
// core.Invalid and a sentence that quotes none of its values.
package tfdata
