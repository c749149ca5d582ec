-- How many workspaces an organization has, kept with each creation and
-- deletion: a list says its total without counting.
CREATE TABLE workspace_count (
  org_id text PRIMARY KEY REFERENCES organization (id) ON DELETE CASCADE,
  n      bigint NOT NULL
);
INSERT INTO workspace_count (org_id, n) SELECT org_id, count(*) FROM workspace GROUP BY org_id;
