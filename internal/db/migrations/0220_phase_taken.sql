-- Who works a claim off when that is not the worker that made it: '' the worker
-- itself; '-' whoever comes with the token of the claim; else who has come.
ALTER TABLE phase ADD COLUMN taken_by text NOT NULL DEFAULT '';
