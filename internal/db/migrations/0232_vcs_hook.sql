-- Until when the webhook of a repository is claimed by who sets it up: two looks
-- at it at the same time must not set up two.
ALTER TABLE vcs_repository ADD COLUMN hook_until timestamp;
