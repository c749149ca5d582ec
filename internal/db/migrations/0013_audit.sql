-- What was done to an organization's things, by whom. Rows are only added;
-- they outlive what they are about.
CREATE TABLE audit_event (
  id            text PRIMARY KEY,
  org_id        text NOT NULL,
  at            timestamp NOT NULL,
  actor_kind    text NOT NULL,
  actor_id      text NOT NULL,
  actor_name    text NOT NULL,
  token_id      text NOT NULL DEFAULT '',
  request_id    text NOT NULL DEFAULT '',
  resource_type text NOT NULL,
  resource_id   text NOT NULL,
  action        text NOT NULL,
  meta          text NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_event_recent ON audit_event (org_id, at, id);
