-- What the directory of an organization tells of its people and groups (SCIM).
CREATE TABLE scim_token (
  id           text PRIMARY KEY,
  org_id       text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  hash         text NOT NULL UNIQUE,
  description  text NOT NULL,
  created_by   text NOT NULL,
  created_at   timestamp NOT NULL,
  last_used_at timestamp,
  expires_at   timestamp NOT NULL
);
CREATE INDEX scim_token_org ON scim_token (org_id);
-- owned: the directory made the account, so it may suspend it. Of others it
-- decides only whether they belong to the organization. gone: it let go of them.
CREATE TABLE scim_user (
  org_id        text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  user_id       text NOT NULL REFERENCES app_user (id) ON DELETE CASCADE,
  user_name     text NOT NULL,
  user_name_key text NOT NULL,
  external_id   text NOT NULL,
  email         text NOT NULL,
  doc           text NOT NULL,
  owned         boolean NOT NULL,
  active        boolean NOT NULL,
  gone          boolean NOT NULL,
  created_at    timestamp NOT NULL,
  updated_at    timestamp NOT NULL,
  PRIMARY KEY (org_id, user_id),
  UNIQUE (org_id, user_name_key)
);
CREATE TABLE scim_group (
  team_id     text PRIMARY KEY REFERENCES team (id) ON DELETE CASCADE,
  org_id      text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  external_id text NOT NULL,
  created_at  timestamp NOT NULL,
  updated_at  timestamp NOT NULL
);
CREATE INDEX scim_group_org ON scim_group (org_id);
