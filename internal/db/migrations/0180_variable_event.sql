-- Who changed which variable of a workspace, and when; never its value.
CREATE TABLE variable_event (
  id           text PRIMARY KEY,
  workspace_id text NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
  variable_id  text NOT NULL,
  key          text NOT NULL,
  category     text NOT NULL,
  action       text NOT NULL,
  what         text NOT NULL DEFAULT '',
  actor        text NOT NULL,
  actor_name   text NOT NULL,
  at           timestamp NOT NULL
);
CREATE INDEX variable_event_workspace ON variable_event (workspace_id, at);
