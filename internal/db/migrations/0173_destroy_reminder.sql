-- Which reminders of an automatic destruction were sent: one for each time that
-- was set and each distance to it.
CREATE TABLE destroy_reminder (
  workspace_id text NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
  destroy_at   timestamp NOT NULL,
  hours        bigint NOT NULL,
  PRIMARY KEY (workspace_id, destroy_at, hours)
);
