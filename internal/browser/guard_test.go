package browser_test

import (
	"testing"

	"interlock/internal/servertest"
)

// Rules are made on the pages, a run waits for them under the eyes of its
// reader, and goes on there without a reload once they are met.
func TestGuardsOnThePages(t *testing.T) {
	b := openBrowser(t)
	s, ann := start(t)
	bob := s.User(t, "bob")
	ann.Org(t, "acme")
	ws := ann.Workspace(t, "acme", "shop", nil)
	s.Access(t, "acme", "shop", bob, "write")
	p, q := b.page(t, s.URL), b.page(t, s.URL)
	p.signIn("ann", servertest.Password)
	p.visit("/app/acme/shop/guard")
	p.fill("[name=required-approvals]", "1")
	p.fill("[name=approval-teams]", "nobody")
	p.press("Save")
	p.says("no team of this organization")
	if got := p.eval("document.querySelector('[name=approval-teams]').value"); got != "nobody" {
		t.Errorf("the field holds %v", got)
	}
	p.fill("[name=approval-teams]", "of-bob")
	p.choose("[name=second-factor]", "apply")
	p.choose("[name=second-factor-check]", "hand")
	p.press("Save")
	p.says("1 by members of of-bob")
	p.fill("[name=cron]", "0 17 * * 5")
	p.fill("[name=minutes]", "60")
	p.eval("document.querySelector('form[action$=windows] [name=reason]').value = 'Friday evening'")
	p.press("Add the window")
	p.says("Friday evening")
	p.shot("guard")
	p.fits("/app/acme/shop/guard")
	p.press("Remove")
	p.until("no window", "!document.body.innerText.includes('Friday evening')")

	ann.Upload(t, ws, quickstart(t), map[string]any{"auto-queue-runs": false})
	r := ann.WaitRun(t, ann.Queue(t, ws, nil).ID, "planned")
	on := "/app/acme/shop/runs/" + r.ID
	p.visit(on)
	p.says("has 0 of 1 approvals")
	p.shot("run-needs-approval")
	p.fits(on)
	q.signIn("bob", servertest.Password)
	q.visit(on)
	q.fill("[name=comment][maxlength]", "as agreed")
	q.press("Approve this plan")
	q.says("as agreed")
	p.says("as agreed") // without a reload
	p.says("Confirm and apply")
	p.fill("[name=code]", "123456")
	p.shot("run-needs-code")
	p.press("Confirm and apply")
	p.says("Applied")

	// Where plans need a code too, the form that queues one takes it: what is no
	// code is refused and the form keeps the rest, a run without one waits.
	p.visit("/app/acme/shop")
	if p.eval("document.querySelector('form[action$=runs] [name=code]')") != nil {
		t.Error("a code is asked for that nobody demands")
	}
	p.visit("/app/acme/shop/guard")
	p.choose("[name=second-factor]", "plan-and-apply")
	p.press("Save")
	p.says("1 by members of of-bob")
	p.visit("/app/acme/shop")
	p.fill("[name=message]", "with a code")
	p.fill("form[action$=runs] [name=code]", "12 34")
	p.press("Queue plan")
	p.says("must be six to eight digits")
	p.shot("queue-needs-code")
	p.fits("/app/acme/shop")
	if got := p.eval("document.querySelector('[name=message]').value + '/' + document.querySelector('[name=code]').value"); got != "with a code/" {
		t.Errorf("the form holds %v", got)
	}
	p.fill("form[action$=runs] [name=code]", "424242")
	p.press("Queue plan")
	p.says("nothing to change")
	p.visit("/app/acme/shop")
	p.fill("[name=message]", "without a code")
	p.press("Queue plan")
	p.says("A code of six to eight digits is needed before this is planned")
	p.fill("#act-code", "535353")
	p.press("Plan with this code")
	p.says("Code given")
	p.says("nothing to change")

	// Everybody sees that the glass is broken.
	p.visit("/app/acme/shop/guard")
	p.fill("form[action$=break-glass] [name=reason]", "the shop is on fire")
	p.press("Suspend approvals and freeze windows")
	p.says("Break-glass is on")
	p.shot("break-glass")
	p.fits("/app/acme/shop/guard")
	q.visit("/app/acme/shop/variables")
	q.says("Break-glass is on")
	p.press("End it now")
	p.until("the end", "!document.body.innerText.includes('Break-glass is on')")
	p.visit("/app/organizations/acme/guard")
	p.says("every workspace of the organization")
	p.shot("guard-organization")
	p.fits("/app/organizations/acme/guard")
	p.innocent()
	q.innocent()
}
