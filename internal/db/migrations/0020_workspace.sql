-- The rest of a workspace's settings. own_mode and own_pool say that the
-- workspace (or project) has its own instead of inheriting.
ALTER TABLE workspace ADD COLUMN own_mode boolean NOT NULL DEFAULT true;
ALTER TABLE workspace ADD COLUMN agent_pool_id text NOT NULL DEFAULT '';
ALTER TABLE workspace ADD COLUMN auto_apply_trigger boolean NOT NULL DEFAULT false;
ALTER TABLE workspace ADD COLUMN assessments boolean NOT NULL DEFAULT false;
ALTER TABLE workspace ADD COLUMN file_triggers boolean NOT NULL DEFAULT true;
ALTER TABLE workspace ADD COLUMN trigger_prefixes text NOT NULL DEFAULT '[]';
ALTER TABLE workspace ADD COLUMN trigger_patterns text NOT NULL DEFAULT '[]';
ALTER TABLE workspace ADD COLUMN queue_all_runs boolean NOT NULL DEFAULT false;
ALTER TABLE workspace ADD COLUMN speculative boolean NOT NULL DEFAULT true;
ALTER TABLE workspace ADD COLUMN share_all boolean NOT NULL DEFAULT false;
ALTER TABLE workspace ADD COLUMN share_project boolean NOT NULL DEFAULT false;
ALTER TABLE workspace ADD COLUMN source_name text NOT NULL DEFAULT '';
ALTER TABLE workspace ADD COLUMN source_url text NOT NULL DEFAULT '';
ALTER TABLE workspace ADD COLUMN auto_destroy_at timestamp;
ALTER TABLE workspace ADD COLUMN auto_destroy_after text NOT NULL DEFAULT '';
ALTER TABLE workspace ADD COLUMN inherits_auto_destroy boolean NOT NULL DEFAULT true;
ALTER TABLE workspace ADD COLUMN ssh_key_id text NOT NULL DEFAULT '';
ALTER TABLE workspace ADD COLUMN retention_id text NOT NULL DEFAULT '';
ALTER TABLE workspace ADD COLUMN retention_days bigint NOT NULL DEFAULT 0;
-- Counted at the end of each run, so that a list needs no look at history.
ALTER TABLE workspace ADD COLUMN runs_count bigint NOT NULL DEFAULT 0;
ALTER TABLE workspace ADD COLUMN run_failures bigint NOT NULL DEFAULT 0;
ALTER TABLE workspace ADD COLUMN policy_failures bigint NOT NULL DEFAULT 0;
ALTER TABLE workspace ADD COLUMN plan_ms bigint NOT NULL DEFAULT 0;
ALTER TABLE workspace ADD COLUMN plans bigint NOT NULL DEFAULT 0;
ALTER TABLE workspace ADD COLUMN apply_ms bigint NOT NULL DEFAULT 0;
ALTER TABLE workspace ADD COLUMN applies bigint NOT NULL DEFAULT 0;
ALTER TABLE workspace ADD COLUMN changed_at timestamp;
CREATE INDEX workspace_ssh_key ON workspace (ssh_key_id);

ALTER TABLE project ADD COLUMN own_mode boolean NOT NULL DEFAULT false;
ALTER TABLE project ADD COLUMN execution_mode text NOT NULL DEFAULT '';
ALTER TABLE project ADD COLUMN agent_pool_id text NOT NULL DEFAULT '';
ALTER TABLE project ADD COLUMN auto_destroy_after text NOT NULL DEFAULT '';

-- A tag is a word that workspaces of an organization carry. A binding puts a
-- key, and perhaps a value, on a workspace or a project; the keys on
-- workspaces are the organization's tags.
CREATE TABLE tag (
  id         text PRIMARY KEY,
  org_id     text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  name       text NOT NULL,
  created_at timestamp NOT NULL,
  UNIQUE (org_id, name)
);

-- owner_id is a workspace or a project; tag_id is '' on a project.
CREATE TABLE tag_binding (
  owner_id text NOT NULL,
  key      text NOT NULL,
  value    text NOT NULL DEFAULT '',
  id       text NOT NULL UNIQUE,
  org_id   text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  tag_id   text NOT NULL DEFAULT '',
  place    bigint NOT NULL,
  PRIMARY KEY (owner_id, key)
);
CREATE INDEX tag_binding_key ON tag_binding (org_id, key);
CREATE INDEX tag_binding_tag ON tag_binding (tag_id);

CREATE TABLE reserved_tag_key (
  id                text PRIMARY KEY,
  org_id            text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  key               text NOT NULL,
  disable_overrides boolean NOT NULL DEFAULT false,
  created_at        timestamp NOT NULL,
  updated_at        timestamp NOT NULL,
  UNIQUE (org_id, key)
);

-- Whose runs may read the state of a workspace that is not open to all.
CREATE TABLE remote_state_consumer (
  workspace_id text NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
  consumer_id  text NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
  PRIMARY KEY (workspace_id, consumer_id)
);
CREATE INDEX remote_state_consumer_of ON remote_state_consumer (consumer_id);
