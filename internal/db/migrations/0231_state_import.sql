-- The run that imports, of an operation that is one: how that ended is how the
-- operation did.
ALTER TABLE state_operation ADD COLUMN run_id text NOT NULL DEFAULT '';
