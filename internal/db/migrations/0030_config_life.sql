-- What becomes of a configuration after its upload. Times of its statuses
-- beyond uploaded are in one column each; object is '' once the bytes are gone.
ALTER TABLE config_version ADD COLUMN errored_at timestamp;
ALTER TABLE config_version ADD COLUMN archived_at timestamp;
ALTER TABLE config_version ADD COLUMN soft_deleted_at timestamp;
ALTER TABLE config_version ADD COLUMN restored_at timestamp;
ALTER TABLE config_version ADD COLUMN deleted_at timestamp;
-- Which runs use a configuration: asked before its bytes may go.
CREATE INDEX run_config ON run (config_id);
