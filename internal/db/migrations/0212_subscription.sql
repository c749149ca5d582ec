-- What people want to hear of by mail, themselves. Without a workspace: all
-- those of the organization that they may read.
CREATE TABLE subscription (
  id           text PRIMARY KEY,
  user_id      text NOT NULL REFERENCES app_user (id) ON DELETE CASCADE,
  org_id       text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  workspace_id text REFERENCES workspace (id) ON DELETE CASCADE,
  triggers     text NOT NULL,
  cadence      text NOT NULL CHECK (cadence IN ('immediate', 'hourly', 'daily')),
  created_at   timestamp NOT NULL,
  updated_at   timestamp NOT NULL
);
CREATE UNIQUE INDEX subscription_workspace ON subscription (workspace_id, user_id) WHERE workspace_id IS NOT NULL;
CREATE UNIQUE INDEX subscription_org ON subscription (org_id, user_id) WHERE workspace_id IS NULL;
CREATE INDEX subscription_user ON subscription (user_id);

-- One letter to one person: pending until it was sent or given up.
CREATE TABLE letter (
  id         text PRIMARY KEY,
  user_id    text NOT NULL REFERENCES app_user (id) ON DELETE CASCADE,
  cadence    text NOT NULL,
  status     text NOT NULL CHECK (status IN ('pending', 'sent', 'failed')),
  subject    text NOT NULL DEFAULT '',
  events     bigint NOT NULL DEFAULT 0,
  attempts   bigint NOT NULL DEFAULT 0,
  answer     text NOT NULL DEFAULT '',
  created_at timestamp NOT NULL,
  sent_at    timestamp
);
CREATE INDEX letter_log ON letter (user_id, created_at);
CREATE INDEX letter_pending ON letter (created_at) WHERE status = 'pending';

-- What happened, until the letter that tells it is sent. letter_id is empty
-- while a digest gathers.
CREATE TABLE subscription_event (
  id           text PRIMARY KEY,
  user_id      text NOT NULL REFERENCES app_user (id) ON DELETE CASCADE,
  workspace_id text NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
  cadence      text NOT NULL,
  run_id       text NOT NULL,
  event        text NOT NULL,
  words        text NOT NULL,
  detail       text NOT NULL,
  path         text NOT NULL,
  letter_id    text NOT NULL DEFAULT '',
  created_at   timestamp NOT NULL
);
CREATE INDEX subscription_event_letter ON subscription_event (letter_id, cadence, created_at);
