-- A change of a state that somebody staged: what the engine was asked to do to
-- which version, and what that does to addresses. It holds no values.
CREATE TABLE state_operation (
  id           text PRIMARY KEY,
  workspace_id text NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
  base_id      text NOT NULL,
  base_serial  bigint NOT NULL,
  operations   text NOT NULL,
  changes      text NOT NULL,
  md5          text NOT NULL,
  status       text NOT NULL DEFAULT 'previewed',
  reason       text NOT NULL DEFAULT '',
  undo_reason  text NOT NULL DEFAULT '',
  result_id    text NOT NULL DEFAULT '',
  undo_id      text NOT NULL DEFAULT '',
  created_by   text NOT NULL,
  created_name text NOT NULL,
  created_at   timestamp NOT NULL,
  decided_name text NOT NULL DEFAULT '',
  decided_at   timestamp
);
CREATE INDEX state_operation_workspace ON state_operation (workspace_id, created_at);
