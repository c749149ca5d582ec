-- What a new workspace of an organization runs, if it asks for nothing else.
CREATE TABLE engine_default (
  org_id     text PRIMARY KEY REFERENCES organization (id) ON DELETE CASCADE,
  engine     text NOT NULL,
  version    text NOT NULL,
  updated_at timestamp NOT NULL
);
CREATE INDEX run_upgrade_trial ON run (workspace_id, number) WHERE trigger_reason = 'upgrade-trial';
