-- Codes of `terraform login`. A used one is kept for a day, so that a second
-- use is noticed and the token it gave is revoked.
CREATE TABLE login_code (
  hash         text PRIMARY KEY,
  user_id      text NOT NULL REFERENCES app_user (id) ON DELETE CASCADE,
  redirect_uri text NOT NULL,
  challenge    text NOT NULL,
  expires_at   timestamp NOT NULL,
  used         boolean NOT NULL DEFAULT false,
  token_id     text NOT NULL DEFAULT ''
);
CREATE INDEX login_code_expiry ON login_code (expires_at);
