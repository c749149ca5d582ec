-- The versions of terraform that the site administrators know of. archs is the
-- JSON of where each platform's build comes from; without any it is the
-- vendor's own release, or one that is installed here already.
CREATE TABLE engine_version (
  id         text PRIMARY KEY,
  version    text NOT NULL UNIQUE,
  official   boolean NOT NULL DEFAULT false,
  enabled    boolean NOT NULL DEFAULT true,
  beta       boolean NOT NULL DEFAULT false,
  deprecated boolean NOT NULL DEFAULT false,
  reason     text NOT NULL DEFAULT '',
  archs      text NOT NULL DEFAULT '[]',
  created_at timestamp NOT NULL
);
CREATE INDEX workspace_engine ON workspace (engine, engine_version);
