-- What the current states hold, a row for each block of resources: written in
-- the transaction that makes a state current, so that it never disagrees.
CREATE TABLE inventory (
  workspace_id text NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
  place        bigint NOT NULL,
  org_id       text NOT NULL,
  address      text NOT NULL,
  mode         text NOT NULL,
  type         text NOT NULL,
  name         text NOT NULL,
  module       text NOT NULL,
  provider     text NOT NULL,
  instances    bigint NOT NULL,
  PRIMARY KEY (workspace_id, place)
);
CREATE INDEX inventory_type ON inventory (org_id, type, address, workspace_id, instances);
CREATE INDEX inventory_name ON inventory (org_id, name);
CREATE INDEX inventory_provider ON inventory (org_id, provider, workspace_id, instances);
CREATE INDEX inventory_module ON inventory (org_id, module, workspace_id, instances);
-- Of which state the rows of a workspace are.
CREATE TABLE inventory_head (
  workspace_id text PRIMARY KEY REFERENCES workspace (id) ON DELETE CASCADE,
  state_id     text NOT NULL
);
