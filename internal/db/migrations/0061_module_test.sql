-- Tests of the registry's modules: the configuration that is tested, one test
-- of it, its log, and the variables that every test of a module is given.
CREATE TABLE module_test_config (
  id         text PRIMARY KEY,
  module_id  text NOT NULL REFERENCES registry_module (id) ON DELETE CASCADE,
  object     text NOT NULL DEFAULT '',
  created_at timestamp NOT NULL
);
CREATE INDEX module_test_config_module ON module_test_config (module_id);

-- options is a sealed JSON document: what the person asked for. node and epoch
-- are of the worker that has it, until its lease is over.
CREATE TABLE module_test (
  id             text PRIMARY KEY,
  org_id         text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  module_id      text NOT NULL REFERENCES registry_module (id) ON DELETE CASCADE,
  config_id      text NOT NULL REFERENCES module_test_config (id) ON DELETE CASCADE,
  status         text NOT NULL,
  outcome        text NOT NULL DEFAULT 'pending',
  passed         bigint NOT NULL DEFAULT 0,
  failed         bigint NOT NULL DEFAULT 0,
  errored        bigint NOT NULL DEFAULT 0,
  skipped        bigint NOT NULL DEFAULT 0,
  reason         text NOT NULL DEFAULT '',
  options        bytea NOT NULL,
  log_size       bigint NOT NULL DEFAULT 0,
  node           text NOT NULL DEFAULT '',
  epoch          bigint NOT NULL DEFAULT 0,
  lease_until    timestamp,
  cancel         text NOT NULL DEFAULT '',
  created_at     timestamp NOT NULL,
  started_at     timestamp,
  ended_at       timestamp,
  force_at       timestamp
);
CREATE INDEX module_test_module ON module_test (module_id, created_at);
CREATE INDEX module_test_open ON module_test (created_at) WHERE status IN ('queued', 'running');

CREATE TABLE module_test_log (
  test_id text NOT NULL REFERENCES module_test (id) ON DELETE CASCADE,
  start   bigint NOT NULL,
  data    bytea NOT NULL,
  PRIMARY KEY (test_id, start)
);

CREATE TABLE module_test_variable (
  id          text PRIMARY KEY,
  module_id   text NOT NULL REFERENCES registry_module (id) ON DELETE CASCADE,
  key         text NOT NULL,
  category    text NOT NULL,
  value       bytea NOT NULL,
  hcl         boolean NOT NULL,
  sensitive   boolean NOT NULL,
  description text NOT NULL,
  version     text NOT NULL,
  created_at  timestamp NOT NULL,
  UNIQUE (module_id, category, key)
);
