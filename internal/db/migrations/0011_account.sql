-- Tokens of more kinds; a CHECK cannot be changed, so the table is made anew.
-- described: one of several tokens of a team, told apart by description.
-- created_kind is what created_by is: 'users', 'teams' or 'organizations'.
CREATE TABLE api_token_next (
  id           text PRIMARY KEY,
  hash         text NOT NULL UNIQUE,
  kind         text NOT NULL CHECK (kind IN ('user', 'team', 'organization', 'audit', 'agent', 'run')),
  owner_id     text NOT NULL,
  description  text NOT NULL DEFAULT '',
  described    boolean NOT NULL DEFAULT false,
  created_by   text NOT NULL DEFAULT '',
  created_kind text NOT NULL DEFAULT 'users',
  created_at   timestamp NOT NULL,
  last_used_at timestamp,
  expires_at   timestamp
);
INSERT INTO api_token_next (id, hash, kind, owner_id, description, created_by, created_at, last_used_at, expires_at)
  SELECT id, hash, kind, owner_id, description, created_by, created_at, last_used_at, expires_at FROM api_token;
DROP TABLE api_token;
ALTER TABLE api_token_next RENAME TO api_token;
CREATE INDEX api_token_owner ON api_token (owner_id, kind);
CREATE UNIQUE INDEX api_token_described ON api_token (kind, owner_id, description) WHERE described;
CREATE UNIQUE INDEX api_token_single ON api_token (kind, owner_id) WHERE described = false AND kind IN ('team', 'organization', 'audit', 'run');

ALTER TABLE team ADD COLUMN sso_id text NOT NULL DEFAULT '';
ALTER TABLE team ADD COLUMN member_tokens boolean NOT NULL DEFAULT true;

-- An invited person has no account here yet; user_id is the id the account
-- will have. The invitation becomes a membership when the account is made.
CREATE TABLE org_invite (
  id         text PRIMARY KEY,
  org_id     text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  user_id    text NOT NULL,
  email      text NOT NULL,
  email_key  text NOT NULL,
  created_at timestamp NOT NULL,
  UNIQUE (org_id, email_key)
);
CREATE INDEX org_invite_email ON org_invite (email_key);
CREATE TABLE org_invite_team (
  invite_id text NOT NULL REFERENCES org_invite (id) ON DELETE CASCADE,
  team_id   text NOT NULL REFERENCES team (id) ON DELETE CASCADE,
  PRIMARY KEY (invite_id, team_id)
);
CREATE INDEX org_invite_team_team ON org_invite_team (team_id);

-- Members and the invited under one roof, for reading.
CREATE VIEW membership AS
  SELECT m.id AS id, m.org_id AS org_id, 'active' AS status, u.email AS email, u.id AS user_id, u.username AS username, u.username_key AS name_key
    FROM org_member m JOIN app_user u ON u.id = m.user_id
  UNION ALL
  SELECT i.id, i.org_id, 'invited', i.email, i.user_id, '', i.email_key FROM org_invite i;
CREATE VIEW membership_team AS
  SELECT m.id AS membership_id, t.id AS team_id
    FROM team_member x JOIN team t ON t.id = x.team_id JOIN org_member m ON m.user_id = x.user_id AND m.org_id = t.org_id
  UNION ALL
  SELECT invite_id, team_id FROM org_invite_team;

-- Settings of an organization. 0 minutes: the installation's own limit.
ALTER TABLE organization ADD COLUMN session_timeout bigint NOT NULL DEFAULT 0;
ALTER TABLE organization ADD COLUMN session_remember bigint NOT NULL DEFAULT 0;
ALTER TABLE organization ADD COLUMN cost_estimation boolean NOT NULL DEFAULT false;
ALTER TABLE organization ADD COLUMN assessments_enforced boolean NOT NULL DEFAULT false;
ALTER TABLE organization ADD COLUMN send_passing boolean NOT NULL DEFAULT false;
ALTER TABLE organization ADD COLUMN aggregated_status boolean NOT NULL DEFAULT true;
ALTER TABLE organization ADD COLUMN speculative_management boolean NOT NULL DEFAULT true;
ALTER TABLE organization ADD COLUMN owners_saml_role text NOT NULL DEFAULT '';
ALTER TABLE organization ADD COLUMN default_mode text NOT NULL DEFAULT 'remote';
ALTER TABLE organization ADD COLUMN default_pool_id text NOT NULL DEFAULT '';
ALTER TABLE organization ADD COLUMN user_tokens boolean NOT NULL DEFAULT true;
ALTER TABLE organization ADD COLUMN retention_id text NOT NULL DEFAULT '';
ALTER TABLE organization ADD COLUMN retention_days bigint NOT NULL DEFAULT 0;
