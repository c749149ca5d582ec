-- Who set the automatic destruction: its runs speak for them.
ALTER TABLE workspace ADD COLUMN auto_destroy_by text NOT NULL DEFAULT '';
ALTER TABLE project ADD COLUMN auto_destroy_by text NOT NULL DEFAULT '';
CREATE INDEX workspace_auto_destroy ON workspace (auto_destroy_at) WHERE auto_destroy_at IS NOT NULL;
