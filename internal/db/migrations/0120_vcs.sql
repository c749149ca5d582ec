-- The repository of a workspace: which connection, which repository there, and
-- the rest as JSON.
ALTER TABLE workspace ADD COLUMN vcs_token_id text NOT NULL DEFAULT '';
ALTER TABLE workspace ADD COLUMN vcs_identifier text NOT NULL DEFAULT '';
ALTER TABLE workspace ADD COLUMN vcs_options text NOT NULL DEFAULT '';
CREATE INDEX workspace_vcs ON workspace (vcs_token_id, vcs_identifier) WHERE vcs_token_id <> '';

-- Where a configuration came from, as JSON; empty for uploads.
ALTER TABLE config_version ADD COLUMN ingress text NOT NULL DEFAULT '';

-- A connection of an organization to a forge or a git server. secret, token and
-- ssh_key are sealed.
CREATE TABLE oauth_client (
  id             text PRIMARY KEY,
  org_id         text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  name           text NOT NULL DEFAULT '',
  provider       text NOT NULL,
  http_url       text NOT NULL,
  api_url        text NOT NULL,
  key            text NOT NULL DEFAULT '',
  secret         bytea,
  rsa_public_key text NOT NULL DEFAULT '',
  org_scoped     boolean NOT NULL DEFAULT true,
  created_at     timestamp NOT NULL
);
CREATE INDEX oauth_client_org ON oauth_client (org_id, created_at);
CREATE TABLE oauth_client_project (
  client_id  text NOT NULL REFERENCES oauth_client (id) ON DELETE CASCADE,
  project_id text NOT NULL REFERENCES project (id) ON DELETE CASCADE,
  PRIMARY KEY (client_id, project_id)
);
CREATE INDEX oauth_client_project_project ON oauth_client_project (project_id);
CREATE TABLE oauth_token (
  id          text PRIMARY KEY,
  client_id   text NOT NULL REFERENCES oauth_client (id) ON DELETE CASCADE,
  username    text NOT NULL DEFAULT '',
  token       bytea,
  ssh_key     bytea,
  known_hosts text NOT NULL DEFAULT '',
  created_at  timestamp NOT NULL
);
CREATE INDEX oauth_token_client ON oauth_token (client_id, created_at);

-- A repository that workspaces are connected to. refs is what was seen last, as
-- JSON; version counts its changes, so that of two looks only one tells.
-- next_at is when it is looked at next, and so the claim of who looks.
CREATE TABLE vcs_repository (
  id             text PRIMARY KEY,
  org_id         text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  token_id       text NOT NULL REFERENCES oauth_token (id) ON DELETE CASCADE,
  identifier     text NOT NULL,
  default_branch text NOT NULL DEFAULT '',
  refs           text NOT NULL DEFAULT '',
  version        bigint NOT NULL DEFAULT 0,
  next_at        timestamp NOT NULL,
  polled_at      timestamp,
  fault          text NOT NULL DEFAULT '',
  hook_path      text NOT NULL UNIQUE,
  hook_secret    bytea NOT NULL,
  hook_id        text NOT NULL DEFAULT '',
  hook_fault     text NOT NULL DEFAULT '',
  created_at     timestamp NOT NULL,
  UNIQUE (token_id, identifier)
);
CREATE INDEX vcs_repository_next ON vcs_repository (next_at);
CREATE INDEX vcs_repository_org ON vcs_repository (org_id, identifier);

-- Something that happened in a repository, to be worked off once. next_at is
-- the claim of who works.
CREATE TABLE vcs_event (
  id            text PRIMARY KEY,
  repository_id text NOT NULL REFERENCES vcs_repository (id) ON DELETE CASCADE,
  kind          text NOT NULL CHECK (kind IN ('push', 'tag', 'pull', 'connect', 'apply')),
  ref           text NOT NULL DEFAULT '',
  before_sha    text NOT NULL DEFAULT '',
  sha           text NOT NULL DEFAULT '',
  pull          bigint NOT NULL DEFAULT 0,
  workspace_id  text NOT NULL DEFAULT '',
  sender        text NOT NULL DEFAULT '',
  title         text NOT NULL DEFAULT '',
  status        text NOT NULL CHECK (status IN ('pending', 'done', 'failed')),
  attempts      bigint NOT NULL DEFAULT 0,
  note          text NOT NULL DEFAULT '',
  next_at       timestamp NOT NULL,
  created_at    timestamp NOT NULL,
  ended_at      timestamp
);
CREATE INDEX vcs_event_next ON vcs_event (next_at) WHERE status = 'pending';
CREATE INDEX vcs_event_log ON vcs_event (repository_id, created_at);

-- What an event meant for a workspace, decided once. A run of it is reported to
-- the forge until settled; report_at is the claim of who reports.
CREATE TABLE vcs_outcome (
  event_id     text NOT NULL REFERENCES vcs_event (id) ON DELETE CASCADE,
  workspace_id text NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
  verdict      text NOT NULL,
  reason       text NOT NULL DEFAULT '',
  run_id       text NOT NULL DEFAULT '',
  config_id    text NOT NULL DEFAULT '',
  repository_id text NOT NULL,
  sha          text NOT NULL DEFAULT '',
  pull         bigint NOT NULL DEFAULT 0,
  told         text NOT NULL DEFAULT '',
  attempts     bigint NOT NULL DEFAULT 0,
  settled      boolean NOT NULL DEFAULT true,
  report_at    timestamp NOT NULL,
  created_at   timestamp NOT NULL,
  PRIMARY KEY (event_id, workspace_id)
);
CREATE INDEX vcs_outcome_workspace ON vcs_outcome (workspace_id, created_at);
CREATE INDEX vcs_outcome_pull ON vcs_outcome (repository_id, pull, created_at) WHERE pull > 0;
CREATE INDEX vcs_outcome_report ON vcs_outcome (report_at) WHERE settled = false;
CREATE INDEX vcs_outcome_run ON vcs_outcome (run_id) WHERE run_id <> '';

-- A pull request as it was seen last. comment_id is our comment on it.
CREATE TABLE vcs_pull (
  repository_id text NOT NULL REFERENCES vcs_repository (id) ON DELETE CASCADE,
  number        bigint NOT NULL,
  head_sha      text NOT NULL,
  head          text NOT NULL DEFAULT '',
  base          text NOT NULL DEFAULT '',
  title         text NOT NULL DEFAULT '',
  author        text NOT NULL DEFAULT '',
  open          boolean NOT NULL DEFAULT true,
  fork          boolean NOT NULL DEFAULT false,
  comment_id    text NOT NULL DEFAULT '',
  comment_hash  text NOT NULL DEFAULT '',
  note          text NOT NULL DEFAULT '',
  due           boolean NOT NULL DEFAULT false,
  report_at     timestamp NOT NULL,
  PRIMARY KEY (repository_id, number)
);
CREATE INDEX vcs_pull_due ON vcs_pull (report_at) WHERE due;

-- What was delivered already: a delivery, or a comment with a command.
CREATE TABLE vcs_delivery (
  repository_id text NOT NULL REFERENCES vcs_repository (id) ON DELETE CASCADE,
  delivery      text NOT NULL,
  at            timestamp NOT NULL,
  PRIMARY KEY (repository_id, delivery)
);
CREATE INDEX vcs_delivery_at ON vcs_delivery (at);
