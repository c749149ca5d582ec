-- summary says what a state holds (resources by kind, names of outputs), so
-- that showing a version reads no object; '' for versions older than this.
-- backing is '', 'soft_deleted' or 'deleted'.
ALTER TABLE state_version ADD COLUMN summary text NOT NULL DEFAULT '';
ALTER TABLE state_version ADD COLUMN backing text NOT NULL DEFAULT '';
CREATE INDEX state_version_status ON state_version (workspace_id, status, seq);
CREATE INDEX state_version_run ON state_version (run_id);
