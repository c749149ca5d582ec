//go:build race

package contract

// raced tells that the race detector slows this program several times: the
// matrix then asks for some of the actors, the contract is asked on PostgreSQL
// alone, and make test asks for all of it on SQLite without.
const raced = true
