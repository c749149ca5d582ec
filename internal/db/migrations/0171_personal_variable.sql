-- The variables of a person are found by the person.
CREATE INDEX variable_of_user ON variable (user_id) WHERE user_id <> '';
