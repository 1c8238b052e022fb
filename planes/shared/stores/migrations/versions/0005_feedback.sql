-- Conversations of programs, feedback on answers, and embeddings that are paid for.

-- A program that sends its whole conversation with every question keeps it itself: what is stored
-- here, for the log, the bill and feedback, stands in no person's list.
ALTER TABLE conversations ADD COLUMN is_listed boolean NOT NULL DEFAULT true;
GRANT UPDATE (is_listed) ON conversations TO polyplane_gateway;
CREATE INDEX ON conversations (tenant_id, user_id, is_listed, id DESC) WHERE deleted_at IS NULL;
