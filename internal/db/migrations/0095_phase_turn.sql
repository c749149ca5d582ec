-- Whose turn it is among the queued phases of one pool and class: organizations
-- take turns, each with its own phases in the order of their queueing.
ALTER TABLE phase ADD COLUMN org_id text NOT NULL DEFAULT '';
ALTER TABLE phase ADD COLUMN turn bigint NOT NULL DEFAULT 0;
UPDATE phase SET org_id = (SELECT r.org_id FROM run r WHERE r.id = phase.run_id) WHERE status = 'queued';
CREATE INDEX phase_turn ON phase (pool_id, class, turn, queued_at) WHERE status = 'queued';
CREATE INDEX phase_org_turn ON phase (org_id, pool_id, class, turn) WHERE status = 'queued';
DROP INDEX phase_pool;
