package azuredevops

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"interlock/internal/core"
)

// Where the permissions of repositories are kept, and the one to contribute.
const (
	repositories = "2e9eb7ed-3c0a-47d4-87c1-0ffdd275fd87"
	contribute   = 1 << 2
)

// The groups of a person are asked about in parts, and not without end.
const (
	groupsAtOnce = 20
	maxGroups    = 400
)

// MayWrite adds up what a person and all groups that they are in, directly or by
// others, are allowed on the repository, its project and above, and takes away
// what any of them is denied. Azure DevOps lets an allowance nearby overrule a
// denial from far away; this does not, and refuses whoever is denied once.
func (f client) MayWrite(ctx context.Context, repo, person string) (bool, error) {
	p, err := f.at(repo)
	if err != nil || !isGUID(person) {
		return false, err
	}
	r, err := p.repository(ctx)
	if err != nil {
		return false, err
	}
	var who list[struct {
		ID         string   `json:"id"`
		Descriptor string   `json:"descriptor"`
		MemberOf   []string `json:"memberOf"`
	}]
	people := p.api
	people.Base = peopleOf(people.Base)
	if err := people.Call(ctx, http.MethodGet, "/_apis/identities", query("identityIds", person, "queryMembership", "expanded"), nil, &who); err != nil {
		return false, err
	}
	if len(who.Value) != 1 || !strings.EqualFold(who.Value[0].ID, person) || who.Value[0].Descriptor == "" {
		return false, nil
	}
	all := append([]string{who.Value[0].Descriptor}, who.Value[0].MemberOf...)
	if len(all) > maxGroups {
		return false, core.Errorf(core.Invalid, "somebody who is in more than %d groups cannot be looked up", maxGroups)
	}
	var allow, deny int64
	for _, token := range []string{"repoV2/" + r.Project.ID + "/" + r.ID, "repoV2/" + r.Project.ID, "repoV2"} {
		inherits := true
		for at := 0; at < len(all); at += groupsAtOnce {
			a, d, i, err := p.bits(ctx, token, all[at:min(at+groupsAtOnce, len(all))])
			if err != nil {
				return false, err
			}
			allow, deny, inherits = allow|a, deny|d, inherits && i
		}
		if !inherits {
			break
		}
	}
	return allow&contribute != 0 && deny&contribute == 0, nil
}

// bits are what some are allowed and denied at one place, and whether that takes
// after the place above.
func (p place) bits(ctx context.Context, token string, descriptors []string) (allow, deny int64, inherits bool, err error) {
	type bits struct {
		Allow int64 `json:"allow"`
		Deny  int64 `json:"deny"`
	}
	var in list[struct {
		Inherit bool            `json:"inheritPermissions"`
		Token   string          `json:"token"`
		Entries map[string]bits `json:"acesDictionary"`
	}]
	err = p.get(ctx, "/_apis/accesscontrollists/"+repositories, query("token", token, "descriptors", strings.Join(descriptors, ",")), &in)
	inherits = true
	for _, l := range in.Value {
		if !strings.EqualFold(strings.Trim(l.Token, "/"), token) {
			continue
		}
		inherits = inherits && l.Inherit
		for _, d := range descriptors {
			e := l.Entries[d]
			allow, deny = allow|e.Allow, deny|e.Deny
		}
	}
	return allow, deny, inherits, err
}

// peopleOf is where identities are asked for: the service has a host for them, a
// server has not.
func peopleOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return base
	}
	host := strings.ToLower(u.Host)
	if org, ok := strings.CutSuffix(host, ".visualstudio.com"); ok {
		u.Host = org + ".vssps.visualstudio.com"
	} else if host == "dev.azure.com" {
		u.Host = "vssps.dev.azure.com"
	}
	return u.String()
}

func isGUID(s string) bool {
	return len(s) == 36 && strings.Trim(s, "0123456789abcdefABCDEF-") == ""
}
