package cli_test

import "testing"

// The backend that came before the cloud block, which is still everywhere.
func TestADayWithTheRemoteBackend(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *session) {
		s.remote(t, `name = "old"`, app)
		s.ok(t, words("init"), "Successfully configured the backend")
		s.ok(t, words("plan"), "terraform_data.first will be created", "Plan: 2 to add")
		r := s.typed(t, "no\n", "apply")
		r.has(t, "Do you want to perform these actions", "Apply discarded")
		r = s.typed(t, "yes\n", "apply")
		r.has(t, "terraform_data.first: Creation complete", "Apply complete! Resources: 2 added", `greeting = "hello"`)
		r.hasNot(t, "canary-of-the-session", `"@level"`)
		s.ok(t, words("output -json"), `"hello"`)
		s.write(t, "x.auto.tfvars", `greeting = "hej"`)
		s.ok(t, words("apply -auto-approve"), `greeting = "hej"`)
		s.ok(t, words("plan -refresh-only"))
		s.write(t, "x.auto.tfvars", `greeting = "moi"`)
		s.ok(t, words("plan -target=terraform_data.first"), "1 to change")
		s.ok(t, words("apply -auto-approve -replace=terraform_data.second"), "terraform_data.second")
		s.fails(t, words("plan -out=p"), "Saving a generated plan is currently not supported")
		s.ok(t, words("destroy -auto-approve"), "Resources: 0 added, 0 changed, 2 destroyed.")
		s.write(t, "main.tf", "nonsense")
		s.fails(t, words("plan"))
	})
}

func TestStateByHandWithTheRemoteBackend(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *session) {
		s.remote(t, `name = "hand"`, two)
		s.ok(t, words("init"))
		s.ok(t, words("apply -auto-approve"))
		stateSurgery(t, s, "hand")
	})
}

// A prefix makes one configuration many workspaces.
func TestPrefix(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *session) {
		s.me.Workspace(t, s.org, "shop-dev", nil)
		s.me.Workspace(t, s.org, "other", nil)
		s.remote(t, `prefix = "shop-"`, two)
		s.ok(t, words("init"))
		s.ok(t, words("workspace list"), "dev")
		s.ok(t, words("workspace new prod"), "prod")
		s.ok(t, words("apply -auto-approve"), "2 added")
		s.ok(t, words("destroy -auto-approve"), "2 destroyed")
		s.ok(t, words("workspace select dev"))
		s.ok(t, words("workspace delete prod"), "Deleted workspace")
		if a := s.me.Get(t, "/api/v2/organizations/"+s.org+"/workspaces/shop-prod"); a.Status != 404 {
			t.Errorf("shop-prod is still there: %d", a.Status)
		}
	})
}
