CREATE TABLE agent_pool (
  id         text PRIMARY KEY,
  org_id     text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  name       text NOT NULL,
  name_key   text NOT NULL,
  org_scoped boolean NOT NULL DEFAULT true,
  created_at timestamp NOT NULL,
  UNIQUE (org_id, name_key)
);

-- Who a pool that is not open to the whole organization serves. kind is
-- 'allowed-workspaces', 'allowed-projects' or 'excluded-workspaces'; a row of
-- a workspace or project that is gone means nothing.
CREATE TABLE agent_pool_scope (
  pool_id   text NOT NULL REFERENCES agent_pool (id) ON DELETE CASCADE,
  kind      text NOT NULL CHECK (kind IN ('allowed-workspaces', 'allowed-projects', 'excluded-workspaces')),
  target_id text NOT NULL,
  PRIMARY KEY (pool_id, kind, target_id)
);
CREATE INDEX agent_pool_scope_target ON agent_pool_scope (target_id, kind);
