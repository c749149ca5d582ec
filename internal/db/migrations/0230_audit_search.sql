-- The history of one thing, and of one person, whatever else has happened: the
-- page of the trail asks for both. The whole of it goes by audit_event_recent.
CREATE INDEX audit_event_thing ON audit_event (org_id, resource_id, at, id);
CREATE INDEX audit_event_actor ON audit_event (org_id, lower(actor_name), at, id);
