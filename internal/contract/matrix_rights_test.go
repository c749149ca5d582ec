package contract

import "strings"

// The rights that each actor has, from the matrix of the contract and not from
// the code: a mistake there is to be found here.

// workspaceGrid says who may do what with acme's workspace. TW is as W; PR and
// PW, the members of a project's teams, are as R and W, PM and PA as A; RW and
// RJ, who see all workspaces, are as R; TO is as OO; M are those who manage all
// workspaces, MW and MJ; V are those who see runs because of policies, MP, PO.
const workspaceGrid = `
right           R P W A C0 C1 C2 M OO OT RT V
ws.see          x x x x x  x  x  x x  x  x  x
ws.runs         x x x x x  x  x  x x  x  -  x
ws.plan         - x x x -  -  x  x x  -  -  -
ws.comment      - x x x -  -  -  x x  x  -  -
ws.apply        - - x x -  -  x  x x  -  -  -
ws.forceexecute - - x x -  -  -  x x  -  -  -
ws.forcecancel  - - - x -  -  -  x x  -  -  -
ws.planjson     - - - x -  -  -  x x  -  -  -
ws.mocks        - - x x -  -  -  x x  x  -  -
ws.vars         x x x x -  -  -  x x  x  -  -
ws.setvars      - - x x -  -  -  x x  x  -  -
ws.state        x x x x -  -  -  x x  x  x  -
ws.errored      x x x x -  -  -  x x  x  -  -
ws.outputs      x x x x -  x  -  x x  x  x  -
ws.writestate   - - x x -  -  -  x x  -  -  -
ws.deletestate  - - - - -  -  -  - x  x  -  -
ws.config       x x x x x  x  x  x x  x  -  x
ws.hidestate    - - - x -  -  -  x x  -  -  -
ws.lock         - - x x -  -  -  x x  x  -  -
ws.forceunlock  - - - x -  -  -  x x  x  -  -
ws.settings     - - - x -  -  -  x x  x  -  -
ws.delete       - - - - -  -  -  x x  x  -  -
ws.access       - - - x -  -  -  x x  x  -  -
ws.notify       - - - x -  -  -  x x  -  -  -
ws.triggers     - - - x -  -  -  x x  x  -  -
ws.sshkey       - - - x -  -  -  x x  -  -  -
ws.consumers    - - - - -  -  -  x x  x  -  -
`

var workspaceColumns = map[string]string{
	"TW": "W", "PR": "R", "PW": "W", "PM": "A", "PA": "A", "RW": "R", "RJ": "R", "TO": "OO", "MW": "M", "MJ": "M", "MP": "V", "PO": "V",
}

// everyMember is everybody who belongs to acme and may speak v2.
const everyMember = "M0 R P W A C0 C1 C2 PR PW PM PA MT MM MW RW MJ RJ MV MP PO MA MK MO MR OA ST BA OO TW TO OT"

// orgGrid says who may do what with acme and its projects.
var orgGrid = map[string]string{
	"org.people":    everyMember,
	"org.see":       everyMember + " RT", // a run's engine asks for the entitlements before it begins
	"org.update":    "OO",
	"org.seeall":    "OO OT TO MW MJ RW RJ MP PO",
	"org.delete":    "OO",
	"org.policy":    "OO", // retention
	"org.createws":  "OO OT TO MW MJ",
	"org.teams":     "OO OT TO MT",
	"org.owners":    "OO OT TO",
	"org.members":   "OO OT TO MM",
	"org.orgtokens": "OO OT TO",
	"org.sshread":   "OO TO MV MW MJ A PM PA", // who may set a key on some workspace
	"org.sshwrite":  "OO TO MV",
	"org.vcs":       "OO OT TO MV",
	"org.modules":   "OO OT TO MO",
	"org.providers": "OO OT TO MR",
	"org.pools":     "OO OT TO MA",
	"org.poolread":  "OO OT TO MA MW MJ A PM PA",
	"org.varsets":   "OO OT TO MW MJ",
	"org.projects":  "OO OT TO MJ",
	"org.tags":      "OO OT TO MW MJ",
	"prj.see":       "OO OT TO MW MJ RW RJ MP PO PR PW PM PA R P W A C0 C1 C2 TW",
	"prj.update":    "OO OT TO MJ PA",
	"prj.move":      "OO OT TO MJ MW PA",
	"prj.delete":    "OO OT TO MJ PA",
	"prj.seeaccess": "OO OT TO MJ PA",
	"prj.access":    "OO OT TO MJ PA",
	"prj.createws":  "OO OT TO MW MJ PM PA",
	"prj.notify":    "OO TO MJ PA",
	"prj.readvs":    "OO OT TO MW MJ RW RJ PR PW PM PA",
	"audit":         "OT AU",
	"org.trail":     "OO BA", // its page
	"admin":         "SA",
	"user":          "XO SA M0 R P W A C0 C1 C2 PR PW PM PA MT MM MW RW MJ RJ MV MP PO MA MK MO MR OA ST BA OO",
	"any":           everyMember + " XO SA RT",
	"anyAU":         everyMember + " XO SA RT AU",
	"nobody":        "",
}

// matrixRights is the grid, by right and actor.
var matrixRights = func() map[string]map[string]bool {
	all := map[string]map[string]bool{}
	for right, who := range orgGrid {
		all[right] = map[string]bool{}
		for _, a := range strings.Fields(who) {
			all[right][a] = true
		}
	}
	var head []string
	for line := range strings.Lines(strings.TrimSpace(workspaceGrid)) {
		f := strings.Fields(line)
		if head == nil {
			head = f
			continue
		}
		m := map[string]bool{}
		for i, x := range f[1:] {
			m[head[i+1]] = x == "x"
		}
		for a, like := range workspaceColumns {
			m[a] = m[like]
		}
		all[f[0]] = m
	}
	return all
}()
