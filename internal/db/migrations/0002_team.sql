-- A secret team is seen by its members and by those who manage teams.
ALTER TABLE team ADD COLUMN visibility text NOT NULL DEFAULT 'secret';
