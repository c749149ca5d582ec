-- Second factors: time-based codes, codes for when the device is lost, the
-- step of a sign-in between password and code, and who demands it.
CREATE TABLE user_totp (
  user_id      text PRIMARY KEY REFERENCES app_user (id) ON DELETE CASCADE,
  secret       bytea NOT NULL,
  confirmed_at timestamp,
  last_step    bigint NOT NULL DEFAULT 0,
  created_at   timestamp NOT NULL
);
CREATE TABLE recovery_code (
  user_id text NOT NULL REFERENCES app_user (id) ON DELETE CASCADE,
  hash    text NOT NULL,
  PRIMARY KEY (user_id, hash)
);
CREATE TABLE login_step (
  hash       text PRIMARY KEY,
  user_id    text NOT NULL REFERENCES app_user (id) ON DELETE CASCADE,
  next       text NOT NULL,
  tries      bigint NOT NULL DEFAULT 0,
  expires_at timestamp NOT NULL
);
CREATE INDEX login_step_expiry ON login_step (expires_at);
ALTER TABLE session ADD COLUMN proven boolean NOT NULL DEFAULT false;
ALTER TABLE organization ADD COLUMN two_factor boolean NOT NULL DEFAULT false;
