-- The private part is sealed and never read out, except into a run.
CREATE TABLE ssh_key (
  id         text PRIMARY KEY,
  org_id     text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  name       text NOT NULL,
  value      bytea NOT NULL,
  created_at timestamp NOT NULL
);
CREATE INDEX ssh_key_org ON ssh_key (org_id, name);

-- A run that is applied in source_id queues one in workspace_id, on behalf of
-- whoever made the trigger.
CREATE TABLE run_trigger (
  id           text PRIMARY KEY,
  workspace_id text NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
  source_id    text NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
  created_by   text NOT NULL,
  created_at   timestamp NOT NULL,
  UNIQUE (workspace_id, source_id)
);
CREATE INDEX run_trigger_source ON run_trigger (source_id);

-- What an applied run still has to queue; written in the transaction that ends
-- it and taken away in the one that queues.
CREATE TABLE run_trigger_due (
  run_id     text NOT NULL,
  trigger_id text NOT NULL REFERENCES run_trigger (id) ON DELETE CASCADE,
  PRIMARY KEY (run_id, trigger_id)
);
