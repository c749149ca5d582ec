-- A view is a list as somebody left it: the query of a page under a name, for
-- one person, or for everybody of the organization (user_id '').
CREATE TABLE saved_view (
  id         text PRIMARY KEY,
  org_id     text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  user_id    text NOT NULL DEFAULT '',
  page       text NOT NULL,
  name       text NOT NULL,
  name_key   text NOT NULL,
  query      text NOT NULL,
  created_by text NOT NULL DEFAULT '',
  created_at timestamp NOT NULL,
  UNIQUE (org_id, user_id, page, name_key)
);
