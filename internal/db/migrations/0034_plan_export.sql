-- A plan packed up for somebody to take away: mock data for policies. object is
-- '' until it is made and after it is gone.
CREATE TABLE plan_export (
  id          text PRIMARY KEY,
  plan_id     text NOT NULL REFERENCES phase (id) ON DELETE CASCADE,
  data_type   text NOT NULL,
  status      text NOT NULL CHECK (status IN ('queued', 'finished', 'errored', 'expired')),
  error       text NOT NULL DEFAULT '',
  object      text NOT NULL DEFAULT '',
  size        bigint NOT NULL DEFAULT 0,
  created_by  text NOT NULL DEFAULT '',
  created_at  timestamp NOT NULL,
  ended_at    timestamp,
  expired_at  timestamp
);
CREATE INDEX plan_export_plan ON plan_export (plan_id, created_at);
CREATE INDEX plan_export_open ON plan_export (status, created_at) WHERE status IN ('queued', 'finished');
