-- The agent pool whose agents alone may take a phase; '' is for this
-- installation's own workers.
ALTER TABLE phase ADD COLUMN pool_id text NOT NULL DEFAULT '';
CREATE INDEX phase_pool ON phase (pool_id, class, queued_at) WHERE status = 'queued';
