-- Since when somebody sets up the webhook of a repository: two looks at it at
-- the same time must not set up two.
ALTER TABLE vcs_repository ADD COLUMN hook_claimed_at timestamp;
