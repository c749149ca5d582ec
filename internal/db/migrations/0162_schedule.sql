-- When a workspace is planned by itself.
CREATE TABLE schedule (
  workspace_id text PRIMARY KEY REFERENCES workspace (id) ON DELETE CASCADE,
  every_min    bigint NOT NULL DEFAULT 0,
  cron         text NOT NULL DEFAULT '',
  plan_only    boolean NOT NULL DEFAULT false,
  created_by   text NOT NULL,
  next_at      timestamp,
  last_at      timestamp,
  last_run_id  text NOT NULL DEFAULT '',
  note         text NOT NULL DEFAULT '',
  created_at   timestamp NOT NULL,
  updated_at   timestamp NOT NULL
);
CREATE INDEX schedule_due ON schedule (next_at);
