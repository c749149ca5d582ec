-- Who wants to hear of runs. Exactly one of workspace, project and team is set.
-- token is sealed; users and emails are JSON lists.
CREATE TABLE notification (
  id           text PRIMARY KEY,
  org_id       text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  workspace_id text REFERENCES workspace (id) ON DELETE CASCADE,
  project_id   text REFERENCES project (id) ON DELETE CASCADE,
  team_id      text REFERENCES team (id) ON DELETE CASCADE,
  name         text NOT NULL,
  destination  text NOT NULL,
  enabled      boolean NOT NULL DEFAULT false,
  url          text NOT NULL DEFAULT '',
  token        bytea,
  triggers     text NOT NULL DEFAULT '[]',
  emails       text NOT NULL DEFAULT '[]',
  users        text NOT NULL DEFAULT '[]',
  created_at   timestamp NOT NULL,
  updated_at   timestamp NOT NULL
);
CREATE INDEX notification_workspace ON notification (workspace_id, created_at);
CREATE INDEX notification_project ON notification (project_id, created_at);
CREATE INDEX notification_team ON notification (team_id, created_at);

-- One message to one destination: written in the transaction of what it tells,
-- pending until it was sent or given up. body is the message as it is sent.
CREATE TABLE delivery (
  id              text PRIMARY KEY,
  notification_id text NOT NULL REFERENCES notification (id) ON DELETE CASCADE,
  run_id          text NOT NULL DEFAULT '',
  event           text NOT NULL,
  status          text NOT NULL CHECK (status IN ('pending', 'sent', 'failed')),
  body            text NOT NULL,
  url             text NOT NULL DEFAULT '',
  attempts        bigint NOT NULL DEFAULT 0,
  code            bigint NOT NULL DEFAULT 0,
  answer          text NOT NULL DEFAULT '',
  headers         text NOT NULL DEFAULT '{}',
  created_at      timestamp NOT NULL,
  sent_at         timestamp
);
CREATE INDEX delivery_log ON delivery (notification_id, created_at);
CREATE INDEX delivery_pending ON delivery (created_at) WHERE status = 'pending';
