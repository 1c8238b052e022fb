-- What the messages of a conversation up to summary_seq were about, for a language model that answers
-- the next ones.
ALTER TABLE conversations
    ADD COLUMN summary text NOT NULL DEFAULT '' CHECK (length(summary) <= 8000),
    ADD COLUMN summary_seq integer NOT NULL DEFAULT 0;
GRANT UPDATE (summary, summary_seq) ON conversations TO polyplane_gateway;

-- As before; the summary goes at once, like the title.
CREATE OR REPLACE FUNCTION tombstone_own_conversations() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
BEGIN ATOMIC
    UPDATE conversations SET deleted_at = now(), title = '', summary = ''
    WHERE user_id = current_account() AND deleted_at IS NULL;
END;
