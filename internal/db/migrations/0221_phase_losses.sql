-- How often a worker of the phase was lost. Its epoch counts claims, and a claim
-- that is handed back by a server that stops is no loss.
ALTER TABLE phase ADD COLUMN losses bigint NOT NULL DEFAULT 0;
