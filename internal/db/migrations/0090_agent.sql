-- An agent that has joined a pool. left_at is set when it ended on purpose.
CREATE TABLE agent (
  id           text PRIMARY KEY,
  pool_id      text NOT NULL REFERENCES agent_pool (id) ON DELETE CASCADE,
  name         text NOT NULL,
  address      text NOT NULL DEFAULT '',
  version      text NOT NULL DEFAULT '',
  created_at   timestamp NOT NULL,
  last_ping_at timestamp NOT NULL,
  left_at      timestamp
);
CREATE INDEX agent_pool_agents ON agent (pool_id, last_ping_at);
CREATE INDEX agent_ping ON agent (last_ping_at);
