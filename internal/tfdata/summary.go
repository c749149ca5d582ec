package tfdata

import "interlock/internal/core"

// Summary is a plan boiled down for a page. Values marked sensitive are in no
// part of it.
type Summary struct {
	Counts  Counts
	Changes []Change // by danger: delete, replace, forget, update, create, import, move, read
	Drift   []Change // what changed outside of the engine, in the same order
	Outputs []OutputChange
}

// Counts counts as the engine's own last line does: a replacement is counted
// in Add and in Destroy, and once more in Replace. Import and Move count
// whatever else happens to the resource.
type Counts struct {
	Add, Change, Destroy                int
	Replace, Import, Move, Forget, Read int
	NoOp                                int // left out of Changes
}

// The kinds of a Change.
const (
	KindCreate  = "create"
	KindUpdate  = "update"
	KindDelete  = "delete"
	KindReplace = "replace"
	KindRead    = "read"
	KindImport  = "import" // import and nothing else
	KindMove    = "move"   // another address and nothing else
	KindForget  = "forget"
	KindNoOp    = "no-op"
)

// Change is what happens to one resource instance or deposed object.
type Change struct {
	Address         string
	Module          string // "" for the root module
	Mode            string // "managed" or "data"
	Type            string
	Name            string
	Provider        string
	Actions         []string // as in the plan
	Kind            string
	Reason          string // the engine's action_reason, such as replace_because_tainted
	Replace         bool
	ReplacePaths    []string // attributes that force the replacement
	PreviousAddress string   // set if moved
	Deposed         string   // key of the deposed object, if it is one
	Importing       bool
	ImportID        string
	Attributes      []Attr
	Omitted         int // attribute differences beyond the limit of 200
}

// Attr is a difference in one leaf of a resource's attributes.
type Attr struct {
	Path      string // such as triggers_replace["x"][0]
	Before    string // JSON, cut at 2 kB; empty if there was none or it is sensitive
	After     string // likewise; empty also if Unknown
	Sensitive bool
	Unknown   bool   // known after apply
	Kind      string // "add", "remove" or "change"
}

// OutputChange is what happens to an output value of the root module.
type OutputChange struct {
	Name       string
	Kind       string // create, update or delete
	Attributes []Attr // Path begins with the output's name
	Omitted    int
}

// Summarize boils down a plan.
func Summarize(show []byte) (Summary, error) {
	return Summary{}, core.Errorf(core.Invalid, "not yet")
}
