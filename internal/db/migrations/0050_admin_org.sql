-- What a site administrator decides of an organization. workspace_limit -1 is
-- the site's own limit, 0 none; a time limit of 0 seconds is the site's own.
ALTER TABLE organization ADD COLUMN disabled boolean NOT NULL DEFAULT false;
ALTER TABLE organization ADD COLUMN beta_tools boolean NOT NULL DEFAULT false;
ALTER TABLE organization ADD COLUMN workspace_limit bigint NOT NULL DEFAULT -1;
ALTER TABLE organization ADD COLUMN plan_limit bigint NOT NULL DEFAULT 0;
ALTER TABLE organization ADD COLUMN apply_limit bigint NOT NULL DEFAULT 0;
ALTER TABLE organization ADD COLUMN shares_modules boolean NOT NULL DEFAULT false;
ALTER TABLE organization ADD COLUMN shares_providers boolean NOT NULL DEFAULT false;

-- Who else may use the modules of an organization.
CREATE TABLE module_consumer (
  org_id      text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  consumer_id text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  PRIMARY KEY (org_id, consumer_id)
);
CREATE INDEX module_consumer_consumer ON module_consumer (consumer_id);

-- The lists of a site administrator go over all organizations.
CREATE INDEX run_created ON run (created_at);
CREATE INDEX run_status_created ON run (status, created_at);
CREATE INDEX workspace_by_name ON workspace (name_key, id);
CREATE INDEX org_invite_user ON org_invite (user_id);
