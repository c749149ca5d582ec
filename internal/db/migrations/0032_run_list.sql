-- ordinal counts the runs of a workspace, those that only plan and the others
-- each for themselves: the newest one's is how many there are.
ALTER TABLE run ADD COLUMN ordinal bigint NOT NULL DEFAULT 0;
ALTER TABLE run ADD COLUMN policy_paths text NOT NULL DEFAULT '[]';
ALTER TABLE run ADD COLUMN invokes text NOT NULL DEFAULT '[]';
UPDATE run SET ordinal = x.n FROM (
  SELECT id, row_number() OVER (PARTITION BY workspace_id, plan_only ORDER BY number) AS n FROM run) x
WHERE x.id = run.id;
ALTER TABLE run_event ADD COLUMN comment_id text NOT NULL DEFAULT '';
CREATE INDEX run_kind ON run (workspace_id, plan_only, number);
CREATE INDEX run_status ON run (workspace_id, status, number);
CREATE INDEX run_creator ON run (workspace_id, created_by, number);
CREATE INDEX run_unended ON run (workspace_id, number) WHERE ended_at IS NULL;
CREATE INDEX run_of_org ON run (org_id, created_at);
CREATE INDEX run_of_org_status ON run (org_id, status, created_at);
