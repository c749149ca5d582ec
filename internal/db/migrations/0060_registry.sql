-- The private registry. A row with registry 'public' is an entry of the
-- organization's catalogue that points to the public one: it has no versions
-- here. A private one is under the organization's name, so it keeps none.
CREATE TABLE registry_module (
  id            text PRIMARY KEY,
  org_id        text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  registry      text NOT NULL CHECK (registry IN ('private', 'public')),
  namespace     text NOT NULL DEFAULT '',
  namespace_key text NOT NULL DEFAULT '',
  name          text NOT NULL,
  name_key      text NOT NULL,
  provider      text NOT NULL,
  created_at    timestamp NOT NULL,
  updated_at    timestamp NOT NULL,
  UNIQUE (org_id, name_key, provider, registry, namespace_key)
);

-- status is as the API names it; object is '' until an archive has passed.
-- used is set when the archive is first handed out: from then on it never
-- changes. details is a JSON document of what the module takes and gives.
CREATE TABLE registry_module_version (
  id         text PRIMARY KEY,
  module_id  text NOT NULL REFERENCES registry_module (id) ON DELETE CASCADE,
  version    text NOT NULL,
  status     text NOT NULL,
  error      text NOT NULL DEFAULT '',
  commit_sha text NOT NULL DEFAULT '',
  object     text NOT NULL DEFAULT '',
  size       bigint NOT NULL DEFAULT 0,
  used       boolean NOT NULL DEFAULT false,
  details    text NOT NULL DEFAULT '',
  created_at timestamp NOT NULL,
  updated_at timestamp NOT NULL,
  UNIQUE (module_id, version)
);

CREATE TABLE registry_provider (
  id            text PRIMARY KEY,
  org_id        text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  registry      text NOT NULL CHECK (registry IN ('private', 'public')),
  namespace     text NOT NULL DEFAULT '',
  namespace_key text NOT NULL DEFAULT '',
  name          text NOT NULL,
  name_key      text NOT NULL,
  created_at    timestamp NOT NULL,
  updated_at    timestamp NOT NULL,
  UNIQUE (org_id, name_key, registry, namespace_key)
);

-- sums and signature are the files SHA256SUMS and SHA256SUMS.sig as uploaded;
-- verified says that the one signs the other with a key of the organization.
CREATE TABLE registry_provider_version (
  id          text PRIMARY KEY,
  provider_id text NOT NULL REFERENCES registry_provider (id) ON DELETE CASCADE,
  version     text NOT NULL,
  key_id      text NOT NULL,
  protocols   text NOT NULL,
  sums        text NOT NULL DEFAULT '',
  signature   text NOT NULL DEFAULT '',
  verified    boolean NOT NULL DEFAULT false,
  created_at  timestamp NOT NULL,
  updated_at  timestamp NOT NULL,
  UNIQUE (provider_id, version)
);
CREATE INDEX registry_provider_version_key ON registry_provider_version (key_id);

-- offered: the binary is here, and the version's verified sums list it.
CREATE TABLE registry_provider_platform (
  id         text PRIMARY KEY,
  version_id text NOT NULL REFERENCES registry_provider_version (id) ON DELETE CASCADE,
  os         text NOT NULL,
  arch       text NOT NULL,
  filename   text NOT NULL,
  shasum     text NOT NULL,
  object     text NOT NULL DEFAULT '',
  size       bigint NOT NULL DEFAULT 0,
  offered    boolean NOT NULL DEFAULT false,
  UNIQUE (version_id, os, arch)
);

CREATE TABLE gpg_key (
  id         text PRIMARY KEY,
  org_id     text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  key_id     text NOT NULL,
  armor      text NOT NULL,
  created_at timestamp NOT NULL,
  updated_at timestamp NOT NULL,
  UNIQUE (org_id, key_id)
);

-- owner_id is a module or a provider.
CREATE TABLE registry_tag (
  owner_id text NOT NULL,
  key      text NOT NULL,
  value    text NOT NULL,
  PRIMARY KEY (owner_id, key)
);
