-- Providers of SAML beside those of OpenID Connect; what an organization's
-- provider may decide is about that organization alone.
ALTER TABLE identity_provider ADD COLUMN kind text NOT NULL DEFAULT 'oidc';
ALTER TABLE identity_provider ADD COLUMN saml text NOT NULL DEFAULT '';
ALTER TABLE identity_provider ADD COLUMN org_id text REFERENCES organization (id) ON DELETE CASCADE;

-- Assertions that were taken: each counts once, until it is too old for any.
-- What it said waits, sealed, for the browser that asked.
CREATE TABLE saml_answer (
  provider_id text NOT NULL REFERENCES identity_provider (id) ON DELETE CASCADE,
  hash        text NOT NULL,
  handle      text NOT NULL,
  said        bytea NOT NULL,
  created_at  timestamp NOT NULL,
  until       timestamp NOT NULL,
  PRIMARY KEY (provider_id, hash)
);
CREATE INDEX saml_answer_until ON saml_answer (until);
CREATE INDEX saml_answer_handle ON saml_answer (handle) WHERE handle <> '';
