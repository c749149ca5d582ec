-- What a team may do on its organization: a list of words like
-- 'manage-workspaces,read-projects'. sees_all is what follows from them for
-- lists: the team sees every project and workspace.
ALTER TABLE team ADD COLUMN org_access text NOT NULL DEFAULT '';
ALTER TABLE team ADD COLUMN sees_all boolean NOT NULL DEFAULT false;

-- custom is the JSON of core.Custom when access is 'custom', else empty.
ALTER TABLE team_access ADD COLUMN custom text NOT NULL DEFAULT '';

-- custom is the JSON of core.ProjectCustom when access is 'custom', else empty.
CREATE TABLE team_project_access (
  id         text PRIMARY KEY,
  team_id    text NOT NULL REFERENCES team (id) ON DELETE CASCADE,
  project_id text NOT NULL REFERENCES project (id) ON DELETE CASCADE,
  access     text NOT NULL,
  custom     text NOT NULL DEFAULT '',
  created_at timestamp NOT NULL,
  UNIQUE (team_id, project_id)
);
CREATE INDEX team_project_access_project ON team_project_access (project_id);

-- Whether administrators of a workspace may delete it with its resources.
ALTER TABLE organization ADD COLUMN force_delete boolean NOT NULL DEFAULT false;
