//go:build race

package contract_test

// raced tells that the race detector slows this program several times: the
// matrix then asks for some of the actors, and make test asks for all of them
// once more without.
const raced = true
