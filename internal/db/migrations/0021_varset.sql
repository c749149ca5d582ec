-- A set of variables that many workspaces share. project_id is the project it
-- belongs to, '' for the organization. A global set applies to everything in
-- its organization or project; another to the targets it names.
CREATE TABLE varset (
  id          text PRIMARY KEY,
  org_id      text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  project_id  text NOT NULL DEFAULT '',
  name        text NOT NULL,
  name_key    text NOT NULL,
  description text NOT NULL DEFAULT '',
  global      boolean NOT NULL DEFAULT false,
  priority    boolean NOT NULL DEFAULT false,
  created_at  timestamp NOT NULL,
  updated_at  timestamp NOT NULL,
  UNIQUE (org_id, name_key)
);

-- kind is 'workspace' or 'project'.
CREATE TABLE varset_target (
  varset_id text NOT NULL REFERENCES varset (id) ON DELETE CASCADE,
  target_id text NOT NULL,
  kind      text NOT NULL,
  PRIMARY KEY (varset_id, target_id)
);
CREATE INDEX varset_target_of ON varset_target (target_id);

CREATE TABLE varset_variable (
  id          text PRIMARY KEY,
  varset_id   text NOT NULL REFERENCES varset (id) ON DELETE CASCADE,
  key         text NOT NULL,
  category    text NOT NULL CHECK (category IN ('terraform', 'env')),
  value       bytea NOT NULL,
  hcl         boolean NOT NULL DEFAULT false,
  sensitive   boolean NOT NULL DEFAULT false,
  description text NOT NULL DEFAULT '',
  version     text NOT NULL,
  created_at  timestamp NOT NULL,
  UNIQUE (varset_id, category, key)
);
