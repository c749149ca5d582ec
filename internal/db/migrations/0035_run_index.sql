-- Each of these serves one question that is asked often, at a cost that does
-- not grow with the history. SQLite uses a partial index only where a query
-- says its condition word for word.
CREATE INDEX phase_queued ON phase (class, queued_at) WHERE status = 'queued';
CREATE INDEX phase_running ON phase (node, lease_until) WHERE status = 'running';
CREATE INDEX phase_unarchived ON phase (ended_at) WHERE log_object = '' AND log_size > 0;
DROP INDEX run_of_org;
CREATE INDEX run_of_org ON run (org_id, created_at, id);
CREATE INDEX run_source ON run (workspace_id, source, number);
CREATE INDEX run_destroy ON run (workspace_id, number) WHERE is_destroy = true;
CREATE INDEX run_refresh_only ON run (workspace_id, number) WHERE refresh_only = true;
CREATE INDEX run_save_plan ON run (workspace_id, number) WHERE save_plan = true;
CREATE INDEX run_empty_apply ON run (workspace_id, number) WHERE allow_empty_apply = true;
CREATE INDEX run_unended_of_org ON run (org_id, created_at, id) WHERE ended_at IS NULL;
