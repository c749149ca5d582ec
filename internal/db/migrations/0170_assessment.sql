-- Assessments of workspaces: what had drifted, and what the check blocks said.
-- No values are kept here, only where they differ: values are in the plan.
CREATE TABLE assessment (
  id           text PRIMARY KEY,
  workspace_id text NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
  run_id       text NOT NULL UNIQUE,
  created_at   timestamp NOT NULL,
  ended_at     timestamp,
  error        text NOT NULL DEFAULT '',
  canceled     boolean NOT NULL DEFAULT false,
  external     bigint NOT NULL DEFAULT 0,
  noise        bigint NOT NULL DEFAULT 0,
  ahead        bigint NOT NULL DEFAULT 0,
  ignored      bigint NOT NULL DEFAULT 0,
  passed       bigint NOT NULL DEFAULT 0,
  failed       bigint NOT NULL DEFAULT 0,
  errored      bigint NOT NULL DEFAULT 0,
  unknown      bigint NOT NULL DEFAULT 0,
  resources    bigint NOT NULL DEFAULT 0
);
CREATE INDEX assessment_of ON assessment (workspace_id, created_at);
CREATE INDEX assessment_open ON assessment (created_at) WHERE ended_at IS NULL;

CREATE TABLE assessment_item (
  assessment_id text NOT NULL REFERENCES assessment (id) ON DELETE CASCADE,
  n             bigint NOT NULL,
  class         text NOT NULL,
  address       text NOT NULL,
  type          text NOT NULL DEFAULT '',
  action        text NOT NULL DEFAULT '',
  attributes    text NOT NULL DEFAULT '[]',
  PRIMARY KEY (assessment_id, n)
);

CREATE TABLE drift_ignore (
  id           text PRIMARY KEY,
  workspace_id text NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
  address      text NOT NULL,
  attribute    text NOT NULL DEFAULT '',
  reason       text NOT NULL,
  expires_at   timestamp,
  created_by   text NOT NULL DEFAULT '',
  created_name text NOT NULL DEFAULT '',
  created_at   timestamp NOT NULL
);
CREATE INDEX drift_ignore_of ON drift_ignore (workspace_id);

-- When a workspace is assessed again by itself.
CREATE TABLE assessment_due (
  workspace_id text PRIMARY KEY REFERENCES workspace (id) ON DELETE CASCADE,
  next_at      timestamp NOT NULL,
  every_min    bigint NOT NULL DEFAULT 0,
  note         text NOT NULL DEFAULT ''
);
CREATE INDEX workspace_assessed ON workspace (id) WHERE assessments = true;
