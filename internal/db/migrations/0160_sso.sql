-- Providers of identities (OpenID Connect), who came from them, and the
-- memberships that their groups gave.
CREATE TABLE identity_provider (
  id            text PRIMARY KEY,
  name          text NOT NULL,
  name_key      text NOT NULL UNIQUE,
  issuer        text NOT NULL,
  client_id     text NOT NULL,
  client_secret bytea NOT NULL,
  scopes        text NOT NULL,
  name_claim    text NOT NULL,
  groups_claim  text NOT NULL,
  create_users  boolean NOT NULL,
  map_teams     boolean NOT NULL,
  enabled       boolean NOT NULL,
  created_at    timestamp NOT NULL,
  updated_at    timestamp NOT NULL
);
CREATE TABLE user_identity (
  provider_id text NOT NULL REFERENCES identity_provider (id) ON DELETE CASCADE,
  subject     text NOT NULL,
  user_id     text NOT NULL REFERENCES app_user (id) ON DELETE CASCADE,
  email       text NOT NULL DEFAULT '',
  created_at  timestamp NOT NULL,
  used_at     timestamp NOT NULL,
  PRIMARY KEY (provider_id, subject)
);
CREATE INDEX user_identity_user ON user_identity (user_id);
CREATE TABLE sso_team_member (
  provider_id text NOT NULL REFERENCES identity_provider (id) ON DELETE CASCADE,
  user_id     text NOT NULL REFERENCES app_user (id) ON DELETE CASCADE,
  team_id     text NOT NULL REFERENCES team (id) ON DELETE CASCADE,
  PRIMARY KEY (provider_id, user_id, team_id)
);
CREATE INDEX team_sso ON team (sso_id) WHERE sso_id <> '';
