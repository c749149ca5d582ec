-- Each organization's trail is a chain, and so is the site's own (org_id '').
-- A row that is in no chain yet has seq 0.
ALTER TABLE audit_event ADD COLUMN seq bigint NOT NULL DEFAULT 0;
ALTER TABLE audit_event ADD COLUMN prev text NOT NULL DEFAULT '';
ALTER TABLE audit_event ADD COLUMN hash text NOT NULL DEFAULT '';
CREATE UNIQUE INDEX audit_event_seq ON audit_event (org_id, seq) WHERE seq > 0;
CREATE INDEX audit_event_loose ON audit_event (at, id) WHERE seq = 0;

-- Where a chain ends, signed with every row that is added.
CREATE TABLE audit_head (
  org_id    text PRIMARY KEY,
  seq       bigint NOT NULL,
  hash      text NOT NULL,
  at        timestamp NOT NULL,
  key_id    bigint NOT NULL,
  signature text NOT NULL
);

-- Heads of the past that are kept.
CREATE TABLE audit_checkpoint (
  org_id    text NOT NULL,
  seq       bigint NOT NULL,
  hash      text NOT NULL,
  at        timestamp NOT NULL,
  key_id    bigint NOT NULL,
  signature text NOT NULL,
  PRIMARY KEY (org_id, seq)
);

-- The keys that sign (Ed25519). Rows from before the chains, and those of
-- servers without chains during an upgrade, are taken in until adopt_until.
CREATE TABLE audit_key (
  id          bigint PRIMARY KEY,
  public      text NOT NULL,
  sealed      bytea NOT NULL,
  created_at  timestamp NOT NULL,
  adopt_until timestamp NOT NULL
);
