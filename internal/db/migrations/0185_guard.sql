-- What stands between a plan and its apply besides a confirmation.
CREATE TABLE guard (
  owner_id     text PRIMARY KEY, -- the workspace or the organization
  org_id       text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  workspace_id text REFERENCES workspace (id) ON DELETE CASCADE, -- none for an organization's
  approvals    bigint NOT NULL DEFAULT 0,
  teams        text NOT NULL DEFAULT '[]', -- ids of those whose members count, none for everybody
  windows      text NOT NULL DEFAULT '[]',
  code         text NOT NULL DEFAULT 'never',
  code_check   text NOT NULL DEFAULT 'verify',
  updated_at   timestamp NOT NULL
);
CREATE TABLE guard_approval (
  run_id      text NOT NULL REFERENCES run (id) ON DELETE CASCADE,
  user_id     text NOT NULL,
  user_name   text NOT NULL,
  plan_digest text NOT NULL, -- the plan that was approved; of another one it says nothing
  comment     text NOT NULL DEFAULT '',
  created_at  timestamp NOT NULL,
  PRIMARY KEY (run_id, user_id)
);
CREATE TABLE break_glass (
  id           text PRIMARY KEY,
  workspace_id text NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
  user_id      text NOT NULL,
  user_name    text NOT NULL,
  reason       text NOT NULL,
  begun_at     timestamp NOT NULL,
  ends_at      timestamp NOT NULL,
  ended_at     timestamp -- NULL while it is on, or until the sweep has seen that it is over
);
CREATE UNIQUE INDEX break_glass_on ON break_glass (workspace_id) WHERE ended_at IS NULL;

ALTER TABLE workspace ADD COLUMN glass_until timestamp;
ALTER TABLE run ADD COLUMN held_at timestamp;
CREATE INDEX run_held ON run (id) WHERE held_at IS NOT NULL AND ended_at IS NULL;
ALTER TABLE phase ADD COLUMN code bytea;
