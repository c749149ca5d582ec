-- While the operator's key is rotated, each data key wrapped by the new one.
CREATE TABLE data_key_next (
  id      bigint PRIMARY KEY,
  wrapped bytea NOT NULL
);
