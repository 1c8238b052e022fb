-- Batches note up to a thousand intents at once; the sweeper looks for those that have expired.

CREATE INDEX expired_intents ON uploads (expires_at);
