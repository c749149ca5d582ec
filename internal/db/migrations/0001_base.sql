-- Keys that encrypt everything else, each wrapped by the operator's key.
CREATE TABLE data_key (
  id         bigint PRIMARY KEY,
  wrapped    bytea NOT NULL,
  created_at timestamp NOT NULL
);

CREATE TABLE setting (
  name  text PRIMARY KEY,
  value text NOT NULL
);

-- Users and organizations share one namespace: every user owns a personal
-- organization of the same name, so organization.name_key is the namespace.
CREATE TABLE organization (
  id           text PRIMARY KEY,
  name         text NOT NULL,
  name_key     text NOT NULL UNIQUE,
  email        text NOT NULL DEFAULT '',
  personal     boolean NOT NULL DEFAULT false,
  created_at   timestamp NOT NULL,
  updated_at   timestamp NOT NULL
);

CREATE TABLE app_user (
  id            text PRIMARY KEY,
  username      text NOT NULL,
  username_key  text NOT NULL UNIQUE,
  email         text NOT NULL DEFAULT '',
  password_hash text NOT NULL DEFAULT '',
  site_admin    boolean NOT NULL DEFAULT false,
  service       boolean NOT NULL DEFAULT false,
  suspended     boolean NOT NULL DEFAULT false,
  created_at    timestamp NOT NULL,
  updated_at    timestamp NOT NULL
);

CREATE TABLE team (
  id         text PRIMARY KEY,
  org_id     text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  name       text NOT NULL,
  name_key   text NOT NULL,
  owners     boolean NOT NULL DEFAULT false,
  created_at timestamp NOT NULL,
  UNIQUE (org_id, name_key)
);

CREATE TABLE org_member (
  org_id     text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  user_id    text NOT NULL REFERENCES app_user (id) ON DELETE CASCADE,
  id         text NOT NULL UNIQUE,
  created_at timestamp NOT NULL,
  PRIMARY KEY (org_id, user_id)
);
CREATE INDEX org_member_user ON org_member (user_id);

CREATE TABLE team_member (
  team_id text NOT NULL REFERENCES team (id) ON DELETE CASCADE,
  user_id text NOT NULL REFERENCES app_user (id) ON DELETE CASCADE,
  PRIMARY KEY (team_id, user_id)
);
CREATE INDEX team_member_user ON team_member (user_id);

-- hash is HMAC-SHA-256 of the token under a key of the installation.
CREATE TABLE api_token (
  id           text PRIMARY KEY,
  hash         text NOT NULL UNIQUE,
  kind         text NOT NULL CHECK (kind IN ('user', 'team', 'organization', 'run')),
  owner_id     text NOT NULL,
  description  text NOT NULL DEFAULT '',
  created_by   text NOT NULL DEFAULT '',
  created_at   timestamp NOT NULL,
  last_used_at timestamp,
  expires_at   timestamp
);
CREATE INDEX api_token_owner ON api_token (owner_id);

CREATE TABLE session (
  hash       text PRIMARY KEY,
  user_id    text NOT NULL REFERENCES app_user (id) ON DELETE CASCADE,
  created_at timestamp NOT NULL,
  seen_at    timestamp NOT NULL,
  expires_at timestamp NOT NULL,
  agent      text NOT NULL DEFAULT ''
);
CREATE INDEX session_by_user ON session (user_id);

CREATE TABLE project (
  id          text PRIMARY KEY,
  org_id      text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  name        text NOT NULL,
  name_key    text NOT NULL,
  description text NOT NULL DEFAULT '',
  is_default  boolean NOT NULL DEFAULT false,
  created_at  timestamp NOT NULL,
  UNIQUE (org_id, name_key)
);

-- lock_kind is '', 'user', 'team', 'run' or 'system'; lock_id says which.
-- state_id is the head of the state history; '' when there is none or when it
-- was hidden.
CREATE TABLE workspace (
  id                  text PRIMARY KEY,
  org_id              text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  project_id          text NOT NULL REFERENCES project (id),
  name                text NOT NULL,
  name_key            text NOT NULL,
  description         text NOT NULL DEFAULT '',
  engine              text NOT NULL DEFAULT 'terraform',
  engine_version      text NOT NULL DEFAULT 'latest',
  working_directory   text NOT NULL DEFAULT '',
  execution_mode      text NOT NULL DEFAULT 'remote',
  auto_apply          boolean NOT NULL DEFAULT false,
  allow_destroy_plan  boolean NOT NULL DEFAULT true,
  structured_output   boolean NOT NULL DEFAULT true,
  source              text NOT NULL DEFAULT 'tfe-api',
  lock_kind           text NOT NULL DEFAULT '',
  lock_id             text NOT NULL DEFAULT '',
  lock_name           text NOT NULL DEFAULT '',
  lock_reason         text NOT NULL DEFAULT '',
  locked_at           timestamp,
  state_id            text NOT NULL DEFAULT '',
  config_id           text NOT NULL DEFAULT '',
  run_id              text NOT NULL DEFAULT '',
  last_run_id         text NOT NULL DEFAULT '',
  next_run            bigint NOT NULL DEFAULT 1,
  next_config         bigint NOT NULL DEFAULT 1,
  created_at          timestamp NOT NULL,
  updated_at          timestamp NOT NULL,
  UNIQUE (org_id, name_key)
);
CREATE INDEX workspace_project ON workspace (project_id);

CREATE TABLE team_access (
  id           text PRIMARY KEY,
  team_id      text NOT NULL REFERENCES team (id) ON DELETE CASCADE,
  workspace_id text NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
  access       text NOT NULL,
  UNIQUE (team_id, workspace_id)
);
CREATE INDEX team_access_workspace ON team_access (workspace_id);

-- Every value is sealed, sensitive or not. Owner: a workspace; or a person in
-- an organization; or a person on a workspace.
CREATE TABLE variable (
  id           text PRIMARY KEY,
  org_id       text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  workspace_id text NOT NULL DEFAULT '',
  user_id      text NOT NULL DEFAULT '',
  key          text NOT NULL,
  category     text NOT NULL CHECK (category IN ('terraform', 'env')),
  value        bytea NOT NULL,
  hcl          boolean NOT NULL DEFAULT false,
  sensitive    boolean NOT NULL DEFAULT false,
  description  text NOT NULL DEFAULT '',
  version      text NOT NULL,
  created_at   timestamp NOT NULL,
  UNIQUE (workspace_id, user_id, org_id, category, key)
);

CREATE TABLE config_version (
  id              text PRIMARY KEY,
  workspace_id    text NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
  number          bigint NOT NULL,
  status          text NOT NULL,
  source          text NOT NULL,
  auto_queue_runs boolean NOT NULL,
  speculative     boolean NOT NULL DEFAULT false,
  provisional     boolean NOT NULL DEFAULT false,
  error           text NOT NULL DEFAULT '',
  error_message   text NOT NULL DEFAULT '',
  metadata        text NOT NULL DEFAULT '{}',
  progress_hash   text NOT NULL DEFAULT '',
  progress_total  bigint NOT NULL DEFAULT 0,
  object          text NOT NULL DEFAULT '',
  size            bigint NOT NULL DEFAULT 0,
  digest          text NOT NULL DEFAULT '',
  created_by      text NOT NULL DEFAULT '',
  created_at      timestamp NOT NULL,
  uploaded_at     timestamp,
  UNIQUE (workspace_id, number)
);
CREATE INDEX config_version_progress ON config_version (progress_hash);

-- tainted_by says why an upload is not the head: 'late' states of a run whose
-- lease was over wait in quarantine.
CREATE TABLE state_version (
  id             text PRIMARY KEY,
  workspace_id   text NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
  seq            bigint NOT NULL,
  serial         bigint NOT NULL,
  lineage        text NOT NULL,
  md5            text NOT NULL,
  status         text NOT NULL CHECK (status IN ('pending', 'finalized', 'quarantined', 'discarded')),
  object         text NOT NULL DEFAULT '',
  json_object    text NOT NULL DEFAULT '',
  size           bigint NOT NULL DEFAULT 0,
  engine_version text NOT NULL DEFAULT '',
  resources      bigint NOT NULL DEFAULT 0,
  run_id         text NOT NULL DEFAULT '',
  created_by     text NOT NULL DEFAULT '',
  rollback_of    text NOT NULL DEFAULT '',
  created_at     timestamp NOT NULL,
  UNIQUE (workspace_id, seq)
);

CREATE TABLE run (
  id                text PRIMARY KEY,
  workspace_id      text NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
  org_id            text NOT NULL,
  number            bigint NOT NULL,
  config_id         text NOT NULL,
  status            text NOT NULL,
  position          bigint NOT NULL,
  plan_only         boolean NOT NULL DEFAULT false,
  save_plan         boolean NOT NULL DEFAULT false,
  is_destroy        boolean NOT NULL DEFAULT false,
  refresh           boolean NOT NULL DEFAULT true,
  refresh_only      boolean NOT NULL DEFAULT false,
  auto_apply        boolean NOT NULL DEFAULT false,
  allow_empty_apply boolean NOT NULL DEFAULT false,
  allow_config_gen  boolean NOT NULL DEFAULT false,
  debugging         boolean NOT NULL DEFAULT false,
  structured        boolean NOT NULL DEFAULT false,
  targets           text NOT NULL DEFAULT '[]',
  replaces          text NOT NULL DEFAULT '[]',
  message           text NOT NULL DEFAULT '',
  source            text NOT NULL DEFAULT 'tfe-api',
  trigger_reason    text NOT NULL DEFAULT 'manual',
  engine            text NOT NULL,
  engine_version    text NOT NULL,
  working_directory text NOT NULL DEFAULT '',
  frozen            bytea NOT NULL,
  has_changes       boolean NOT NULL DEFAULT false,
  plan_state_id     text NOT NULL DEFAULT '',
  plan_serial       bigint NOT NULL DEFAULT -1,
  plan_lineage      text NOT NULL DEFAULT '',
  plan_object       text NOT NULL DEFAULT '',
  plan_digest       text NOT NULL DEFAULT '',
  plan_engine       text NOT NULL DEFAULT '',
  confirmed_by      text NOT NULL DEFAULT '',
  confirmed_name    text NOT NULL DEFAULT '',
  created_by        text NOT NULL DEFAULT '',
  created_name      text NOT NULL DEFAULT '',
  reason            text NOT NULL DEFAULT '',
  reason_text       text NOT NULL DEFAULT '',
  cancel_asked_at   timestamp,
  force_asked_at    timestamp,
  canceled_by       text NOT NULL DEFAULT '',
  created_at        timestamp NOT NULL,
  ended_at          timestamp,
  UNIQUE (workspace_id, number)
);
CREATE INDEX run_recent ON run (workspace_id, position);
CREATE INDEX run_open ON run (status, position) WHERE ended_at IS NULL;
-- At most one run holds a workspace past pending, whatever the code does.
CREATE UNIQUE INDEX run_current ON run (workspace_id)
  WHERE plan_only = false AND ended_at IS NULL
  AND (status IN ('confirmed', 'apply_queued', 'applying')
    OR (save_plan = false AND status IN ('plan_queued', 'planning', 'planned')));

-- A phase is the plan or the apply of a run: what a worker takes.
-- epoch counts claims and fences every write of a worker; started_at of an
-- apply is set once and never cleared.
CREATE TABLE phase (
  id           text PRIMARY KEY,
  run_id       text NOT NULL REFERENCES run (id) ON DELETE CASCADE,
  kind         text NOT NULL CHECK (kind IN ('plan', 'apply')),
  status       text NOT NULL,
  class        bigint NOT NULL,
  epoch        bigint NOT NULL DEFAULT 0,
  node         text NOT NULL DEFAULT '',
  lease_until  timestamp,
  queued_at    timestamp,
  started_at   timestamp,
  ended_at     timestamp,
  additions    bigint NOT NULL DEFAULT -1,
  changes      bigint NOT NULL DEFAULT -1,
  destructions bigint NOT NULL DEFAULT -1,
  imports      bigint NOT NULL DEFAULT -1,
  generated    boolean NOT NULL DEFAULT false,
  log_size     bigint NOT NULL DEFAULT 0,
  log_object   text NOT NULL DEFAULT '',
  json_object  text NOT NULL DEFAULT '',
  redacted_object text NOT NULL DEFAULT '',
  schema_object   text NOT NULL DEFAULT '',
  UNIQUE (run_id, kind)
);
CREATE INDEX phase_queue ON phase (status, class, queued_at) WHERE status IN ('queued', 'running');

CREATE TABLE log_chunk (
  phase_id text NOT NULL REFERENCES phase (id) ON DELETE CASCADE,
  start    bigint NOT NULL,
  data     bytea NOT NULL,
  PRIMARY KEY (phase_id, start)
);

-- The append-only history of every run; the current status is the last row's.
CREATE TABLE run_event (
  seq         bigint NOT NULL,
  run_id      text NOT NULL REFERENCES run (id) ON DELETE CASCADE,
  id          text NOT NULL UNIQUE,
  event       text NOT NULL,
  from_status text NOT NULL,
  to_status   text NOT NULL,
  actor       text NOT NULL DEFAULT '',
  actor_name  text NOT NULL DEFAULT '',
  reason      text NOT NULL DEFAULT '',
  at          timestamp NOT NULL,
  PRIMARY KEY (run_id, seq)
);

CREATE TABLE comment (
  id         text PRIMARY KEY,
  run_id     text NOT NULL REFERENCES run (id) ON DELETE CASCADE,
  user_id    text NOT NULL,
  user_name  text NOT NULL,
  body       text NOT NULL,
  created_at timestamp NOT NULL
);
CREATE INDEX comment_run ON comment (run_id, created_at);
