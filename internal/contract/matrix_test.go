package contract

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"interlock/internal/db/dbtest"
	"interlock/internal/web"
)

// matrixRow says what a route needs. Words in braces, in the path as in the
// body, are filled with ids of the world.
type matrixRow struct {
	route   string
	right   string // of matrixRights; "open", or "capability" for paths that carry one
	options string // word=other: which of the world's things a word of the path is; fresh=, only=, skip=, query=
	body    any    // valid, so that nothing but the caller is in the way; nil, a url.Values or a document
}

func (r matrixRow) option(name string) string {
	for f := range strings.FieldsSeq(r.options) {
		if k, v, _ := strings.Cut(f, "="); k == name {
			return v
		}
	}
	return ""
}

func (r matrixRow) skips(a *actor) bool {
	return slices.Contains(strings.Split(r.option("skip"), ","), a.name)
}

// matrixRows is the whole table.
func matrixRows() []matrixRow {
	return slices.Concat(matrixAccountRows, matrixWorkspaceRows, matrixRunRows, matrixOtherRows, matrixRegistryRows, matrixPageRows, matrixOrgPageRows)
}

// matrixUnknown are those whom v2 answers 401.
var matrixUnknown = []string{"AN", "EX", "RV", "AG"}

// refusal is the status that the actor must get; 0 if it is allowed.
func refusal(r matrixRow, a *actor, door web.Door) int {
	if r.right == "open" {
		return 0
	}
	if door == web.DoorPage && a.session == "" {
		if r.option("anon") == "401" {
			return http.StatusUnauthorized // for a script: it follows no redirect
		}
		return http.StatusSeeOther
	}
	if door != web.DoorPage && slices.Contains(matrixUnknown, a.name) {
		return http.StatusUnauthorized
	}
	if matrixRights[r.right][a.name] {
		return 0
	}
	if see, _, _ := strings.Cut(r.right, "."); door != web.DoorV2 && (matrixRights[see+".see"][a.name]) {
		return http.StatusForbidden // seen, but not theirs to do
	}
	return http.StatusNotFound
}

// grid walks the table with actors, and counts.
type grid struct {
	*matrixWorld
	checks, wrong atomic.Int64
}

func (g *grid) differ(format string, args ...any) {
	if g.wrong.Add(1) < 3000 {
		g.t.Errorf(format, args...)
	}
}

// each runs f for all actors at the same time, a few at once.
func each(actors []*actor, f func(*actor)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 6)
	for _, a := range actors {
		slots <- struct{}{}
		wg.Go(func() { f(a); <-slots })
	}
	wg.Wait()
}

func brief(a answer) string { return fmt.Sprintf("%d %.300s", a.status, strings.TrimSpace(a.body)) }

// refused asks as those who may not, about an object, another organization's
// and none at all: all answers are the same.
func (g *grid) refused(r matrixRow, door web.Door, a *actor) {
	want := refusal(r, a, door)
	if want == 0 || r.skips(a) {
		return
	}
	own, err := g.ask(r, a, door, g.acme)
	if err != nil {
		g.differ("%s as %s: %v", r.route, a.name, err)
		return
	}
	g.checks.Add(1)
	if own.status != want && !(door == web.DoorPage && want == http.StatusForbidden && own.status == http.StatusNotFound) {
		g.differ("%s as %s (needs %s): %s, want %d", r.route, a.name, r.right, brief(own), want)
		return
	}
	if to := own.header.Get("Location"); want == http.StatusSeeOther && !strings.HasPrefix(to, "/signin") {
		g.differ("%s as %s leads to %s", r.route, a.name, to)
	}
	if path, _ := r.words(); want == http.StatusNotFound || want == http.StatusUnauthorized {
		g.same(r, door, a, own, g.leads(path))
	}
}

// same asks about another organization's object and about none: the answers
// are that of the refused request about one's own, or at least each other's.
func (g *grid) same(r matrixRow, door web.Door, a *actor, own answer, words []string) {
	if len(words) == 0 {
		return
	}
	none, err := g.ask(r, a, door, g.nowhere(words...))
	if err != nil {
		g.differ("%s as %s: %v", r.route, a.name, err)
		return
	}
	g.checks.Add(1)
	if own.status == 0 {
		own = none
		if none.status != http.StatusNotFound && r.right != "open" {
			g.differ("%s as %s about nothing: %s", r.route, a.name, brief(none))
		}
	}
	if none.status != own.status || none.body != own.body {
		g.differ("%s as %s: an object that is not theirs: %s; one that does not exist: %s", r.route, a.name, brief(own), brief(none))
	}
	if a.name == "XO" || slices.Contains(matrixUnknown, a.name) {
		return
	}
	for i := range words {
		if i > 0 && words[len(words)-1] == "name" {
			break // a name may well be in both
		}
		// All of the path, and then only the last of it.
		at := words
		if i > 0 {
			at = words[len(words)-1:]
			if own, err = g.ask(r, a, door, g.nowhere(at...)); err != nil {
				g.differ("%s as %s: %v", r.route, a.name, err)
				return
			}
		}
		other, err := g.ask(r, a, door, g.elsewhere(at...))
		if err != nil {
			g.differ("%s as %s: %v", r.route, a.name, err)
			return
		}
		g.checks.Add(1)
		if other.status != own.status || other.body != own.body {
			g.differ("%s as %s about %v of another organization: %s, not %s", r.route, a.name, at, brief(other), brief(own))
		}
		if i == 1 {
			break
		}
	}
}

// allowed asks as those who may, each about an object that may be used up, and
// about those that are not theirs.
func (g *grid) allowed(r matrixRow, door web.Door, a *actor) {
	if refusal(r, a, door) != 0 || r.skips(a) || r.right == "open" && slices.Contains(matrixUnknown[1:], a.name) {
		return
	}
	if path, _ := r.words(); !slices.Contains([]string{"open", "any", "anyAU", "user", "admin", "audit"}, r.right) {
		g.same(r, door, a, answer{}, g.leads(path))
	}
	if only := r.option("only"); only != "" && only != a.name {
		return
	}
	id, err := g.fresh(r.option("fresh"), a)
	if err != nil {
		g.differ("%s as %s: %v", r.route, a.name, err)
		return
	}
	got, err := g.ask(r, a, door, id)
	if err != nil {
		g.differ("%s as %s: %v", r.route, a.name, err)
		return
	}
	g.checks.Add(1)
	if got.status >= 500 || slices.Contains([]int{401, 403, 404}, got.status) || strings.HasPrefix(got.header.Get("Location"), "/signin") && !strings.Contains(r.route, "/sign") {
		g.differ("%s as %s (has %s): %s", r.route, a.name, r.right, brief(got))
	}
}

// related replaces each id in the body, one after the other, by one of another
// organization: that is refused like one that does not exist.
func (g *grid) related(r matrixRow, door web.Door, a *actor) {
	path, all := r.words()
	if refusal(r, a, door) != 0 || r.skips(a) || r.option("bodies") == "free" {
		return
	}
	for _, word := range g.leads(all[len(path):]) {
		if word == "name" || strings.HasPrefix(word, "self") || slices.Contains(path, word) {
			continue
		}
		id, err := g.fresh(r.option("fresh"), a)
		if err != nil {
			g.differ("%s as %s: %v", r.route, a.name, err)
			return
		}
		try := func(f func(...string) things) (v string, got answer) {
			v = f(word)[word]
			with := maps.Clone(id)
			with[word] = v
			if got, err = g.ask(r, a, door, with); err != nil {
				g.differ("%s as %s: %v", r.route, a.name, err)
			}
			got.body = strings.ReplaceAll(got.body, v, "ID")
			return v, got
		}
		g.checks.Add(2)
		_, none := try(g.nowhere)
		v, other := try(g.elsewhere)
		if other.status >= 500 || other.status < 400 && !strings.HasPrefix(r.route, "DELETE ") || other.status != none.status || other.body != none.body {
			g.differ("%s as %s with %s %s of another organization: %s; with one that does not exist: %s", r.route, a.name, word, v, brief(other), brief(none))
		}
	}
}

// cover compares the table of the routes with the data.
func (g *grid) cover(rows []matrixRow) map[string]web.Door {
	doors := map[string]web.Door{}
	for _, r := range g.s.App.Routes() {
		doors[r.Pattern] = r.Door
	}
	seen := map[string]bool{}
	for _, r := range rows {
		if _, ok := doors[r.route]; !ok {
			g.t.Errorf("%s has a row and is no route", r.route)
		}
		if matrixRights[r.right] == nil && r.right != "open" && r.right != "capability" {
			g.t.Errorf("%s needs %q, which is no right", r.route, r.right)
		}
		seen[r.route] = true
	}
	for _, r := range g.s.App.Routes() {
		if !seen[r.Pattern] {
			g.t.Errorf("%s (%s) is a route without a row: say in matrix_*_data_test.go who may call it", r.Pattern, r.Door)
		}
	}
	return doors
}

// Every route × every actor of the matrix: those who have the right get past
// the door, the others learn nothing and change nothing. On PostgreSQL one
// actor of each kind asks.
func TestMatrix(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		g := &grid{matrixWorld: newMatrixWorld(t, dsn)}
		rows := matrixRows()
		doors := g.cover(rows)
		asking := g.actors
		if raced || g.s.App.DB().Kind() != "sqlite" {
			asking = slices.DeleteFunc(slices.Clone(asking), func(a *actor) bool {
				return !slices.Contains([]string{"AN", "XO", "M0", "R", "A", "OO", "OT", "TW", "RT"}, a.name)
			})
		}
		g.refuse(rows, doors, asking)
		g.allow(rows, doors, asking)
		t.Logf("%d routes × %d actors = %d checks, %d differences", len(doors), len(asking), g.checks.Load(), g.wrong.Load())
	})
}

// refuse makes all requests that must be refused, and sees that nothing has
// changed in the database.
func (g *grid) refuse(rows []matrixRow, doors map[string]web.Door, actors []*actor) {
	before := g.print()
	for _, r := range rows {
		if r.right == "capability" {
			g.capability(r, actors)
			continue
		}
		each(actors, func(a *actor) { g.refused(r, doors[r.route], a) })
	}
	for table, rows := range g.print() {
		if rows != before[table] {
			g.differ("refused requests changed %s:\n%.2000s\n---\n%.2000s", table, before[table], rows)
		}
	}
}

// allow makes those that are allowed, and then those whose bodies name what
// belongs to others.
func (g *grid) allow(rows []matrixRow, doors map[string]web.Door, actors []*actor) {
	for _, r := range rows {
		if r.right != "capability" {
			each(actors, func(a *actor) { g.allowed(r, doors[r.route], a) })
		}
	}
	some := slices.DeleteFunc(slices.Clone(actors), func(a *actor) bool { return a.name != "OO" && a.name != "SA" })
	for _, r := range rows {
		if r.right != "capability" {
			each(some, func(a *actor) { g.related(r, doors[r.route], a) })
		}
	}
}

// capability asks with a made-up one: nobody gets anything, and all the same.
func (g *grid) capability(r matrixRow, actors []*actor) {
	var mu sync.Mutex
	var first answer
	each(actors, func(a *actor) {
		got, err := g.ask(r, a, web.DoorRaw, g.acme)
		if err != nil {
			g.differ("%s as %s: %v", r.route, a.name, err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		g.checks.Add(1)
		if first.status == 0 {
			first = got
		}
		if got.status < 400 || got.status >= 500 || got.status != first.status || got.body != first.body {
			g.differ("%s as %s: %s, another caller got %s", r.route, a.name, brief(got), brief(first))
		}
	})
}
