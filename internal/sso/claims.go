package sso

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"interlock/internal/core"
)

// claims is what a provider says of somebody.
type claims struct {
	subject string
	name    string // proposed
	email   string // proven
	groups  []string
	told    bool  // whether groups were told at all
	admin   *bool // whether they are a site administrator, if that was told
}

// The most that is read of what a provider says.
const (
	maxSubject = 300
	maxGroups  = 2000
)

// redeem exchanges a code and checks what comes for it: signature, issuer,
// audience, times and nonce (OpenID Connect Core 1.0, 3.1.3.7).
func (s *Service) redeem(ctx context.Context, p Provider, t trip, code string) (who claims, err error) {
	o, err := s.discover(ctx, p)
	if err != nil {
		return who, err
	}
	ctx, cancel := context.WithTimeout(s.with(ctx), 2*answersIn)
	defer cancel()
	token, err := s.config(p, o).Exchange(ctx, code, oauth2.VerifierOption(t.Verifier))
	if err != nil {
		return who, core.Wrap(err, core.Forbidden, fmt.Sprintf("%s did not accept the sign-in; try again", p.Name))
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := o.Verifier(&oidc.Config{ClientID: p.ClientID}).Verify(ctx, raw)
	if err != nil {
		return who, core.Wrap(err, core.Forbidden, fmt.Sprintf("what %s says cannot be believed: its ID token is not valid for this server", p.Name))
	}
	if id.Nonce != t.Nonce {
		return who, core.Errorf(core.Forbidden, "what %s says cannot be believed: its ID token was made for another sign-in", p.Name)
	}
	if id.IssuedAt.After(time.Now().Add(5 * time.Minute)) {
		return who, core.Errorf(core.Forbidden, "what %s says cannot be believed: its ID token is from the future; compare the clocks", p.Name)
	}
	if id.Subject == "" || len(id.Subject) > maxSubject {
		return who, core.Errorf(core.Forbidden, "%s does not say who you are (sub)", p.Name)
	}
	said := map[string]json.RawMessage{}
	if err := id.Claims(&said); err != nil {
		return who, core.Wrap(err, core.Forbidden, fmt.Sprintf("what %s says cannot be read", p.Name))
	}
	if wants(p, said) && o.UserInfoEndpoint() != "" {
		more, err := o.UserInfo(ctx, oauth2.StaticTokenSource(token))
		if err == nil && more.Subject == id.Subject {
			told := map[string]json.RawMessage{}
			if more.Claims(&told) == nil {
				for k, v := range told {
					if _, ok := said[k]; !ok {
						said[k] = v
					}
				}
			}
		}
	}
	return read(p, id.Subject, said), nil
}

// wants reports whether the ID token leaves out something that is asked for.
func wants(p Provider, said map[string]json.RawMessage) bool {
	for _, c := range []string{"email", p.NameClaim, p.GroupsClaim} {
		if _, ok := said[c]; !ok && c != "" {
			return true
		}
	}
	return false
}

func text(b json.RawMessage) (v string) {
	_ = json.Unmarshal(b, &v)
	return strings.TrimSpace(v)
}

func read(p Provider, subject string, said map[string]json.RawMessage) claims {
	who := claims{subject: subject, name: text(said[p.NameClaim])}
	// Some providers write the word as text.
	if v := string(said["email_verified"]); v == "true" || v == `"true"` {
		if e := text(said["email"]); addressLike(e) {
			who.email = e
		}
	}
	if who.name == "" {
		who.name = who.email
	}
	if b, ok := said[p.GroupsClaim]; ok && p.GroupsClaim != "" {
		who.told = true
		if json.Unmarshal(b, &who.groups) != nil {
			who.groups = strings.Fields(strings.ReplaceAll(text(b), ",", " "))
		}
		who.groups = who.groups[:min(len(who.groups), maxGroups)]
	}
	return who
}
