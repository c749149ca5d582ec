-- claim_nonce is what the agent that claimed a phase calls its request: asked
-- again under the same name, it gets the same phase again. acked tells that the
-- agent has the answer; it begins only then.
ALTER TABLE phase ADD COLUMN claim_nonce text NOT NULL DEFAULT '';
ALTER TABLE phase ADD COLUMN acked boolean NOT NULL DEFAULT true;
CREATE UNIQUE INDEX phase_claim_nonce ON phase (claim_nonce) WHERE claim_nonce <> '' AND status = 'running';
