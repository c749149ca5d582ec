-- A new version of a module queues a run where the module is linked: in 2017 an
-- artifact did. due holds the version that still has to queue one.
CREATE TABLE module_link (
  id           text PRIMARY KEY,
  workspace_id text NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
  module_id    text NOT NULL REFERENCES registry_module (id) ON DELETE CASCADE,
  created_by   text NOT NULL,
  created_at   timestamp NOT NULL,
  due          text NOT NULL DEFAULT '',
  UNIQUE (workspace_id, module_id)
);
CREATE INDEX module_link_of ON module_link (module_id);
CREATE INDEX module_link_due ON module_link (created_at) WHERE due <> '';
