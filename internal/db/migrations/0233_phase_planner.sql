-- Who planned what a queued apply is to apply, and so has the run's area: it may
-- take the apply before anybody else does.
ALTER TABLE phase ADD COLUMN planner text NOT NULL DEFAULT '';
