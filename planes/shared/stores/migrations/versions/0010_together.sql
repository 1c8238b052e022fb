-- Requests that wait at the same time go together: one statement, one round trip, one commit.
-- Each is an object of the argument's array and has a number, by which its rows are known.

-- Reserve answers, as reserve_answer does each of them, in the order of their tenants, so that two
-- groups take the locks of quotas in the same order. A conversation that a person goes on with is
-- listed. p_lock_ms: the longest wait for a lock, after which none of them is reserved; NULL: as
-- long as a statement may take.
CREATE FUNCTION reserve_answers(p_asked jsonb, p_lock_ms integer, p_lifetime interval)
RETURNS TABLE (
    number integer, status text, question_seq integer, scope_document_ids uuid[], answer_mode text,
    hidden_versions uuid[], live_generation integer, corpus_version bigint, summary text,
    summary_seq integer
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v record;
BEGIN
    IF p_lock_ms IS NOT NULL THEN
        PERFORM set_config('lock_timeout', p_lock_ms::text, true);
    END IF;
    FOR v IN
        SELECT * FROM jsonb_to_recordset(p_asked) AS a (
            number integer, tenant_id uuid, user_id uuid, answer_id uuid, conversation_id uuid,
            title text, mode text, document_ids uuid[], question_id uuid, question text,
            message_id uuid, model text, max_prompt_tokens integer, max_tokens integer,
            is_listed boolean)
        ORDER BY a.tenant_id, a.number
    LOOP
        SELECT v.number, r.*, corpus_version_of(v.tenant_id)
        INTO number, status, question_seq, scope_document_ids, answer_mode, hidden_versions,
             live_generation, corpus_version
        FROM reserve_answer(v.tenant_id, v.user_id, v.answer_id, v.conversation_id, v.title, v.mode,
            v.document_ids, v.question_id, v.question, v.message_id, v.model, v.max_prompt_tokens,
            v.max_tokens, p_lifetime) r;
        IF status = 'reserved' THEN
            IF v.is_listed OR v.title IS NOT NULL THEN
                UPDATE conversations c SET is_listed = v.is_listed
                WHERE c.id = v.conversation_id AND c.is_listed <> v.is_listed;
            END IF;
            SELECT c.summary, c.summary_seq INTO summary, summary_seq
            FROM conversations c WHERE c.id = v.conversation_id;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

-- Settle answers, as settle_answer does each of them; p_lock_ms as above.
CREATE FUNCTION settle_answers(p_settled jsonb, p_lock_ms integer)
RETURNS TABLE (number integer, cost_usd numeric)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v record;
BEGIN
    IF p_lock_ms IS NOT NULL THEN
        PERFORM set_config('lock_timeout', p_lock_ms::text, true);
    END IF;
    FOR v IN
        SELECT * FROM jsonb_to_recordset(p_settled) AS s (
            number integer, tenant_id uuid, answer_id uuid, ledger_id uuid, model text,
            prompt_tokens integer, completion_tokens integer, payload jsonb)
        ORDER BY s.tenant_id, s.number
    LOOP
        number := v.number;
        cost_usd := settle_answer(v.tenant_id, v.answer_id, v.ledger_id, v.model, v.prompt_tokens,
            v.completion_tokens, v.payload);
        RETURN NEXT;
    END LOOP;
END
$$;

-- Messages of conversations that are still on their way to the chat log.
CREATE FUNCTION pending_messages(p_wanted jsonb)
RETURNS TABLE (number integer, id uuid, seq integer, payload jsonb)
LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT w.number, m.id, m.seq, m.payload
    FROM jsonb_to_recordset(p_wanted) AS w (
        number integer, tenant_id uuid, conversation_id uuid, after_seq integer)
    CROSS JOIN LATERAL (    -- OFFSET 0: by the conversation, however many are asked for
        SELECT o.id, o.seq, o.payload FROM outbox o
        WHERE o.conversation_id = w.conversation_id AND o.tenant_id = w.tenant_id
          AND o.seq > w.after_seq
        OFFSET 0
    ) m;
END;

-- Pages of conversations in the chat log of embedded mode; of several messages with the same
-- number the newest.
CREATE FUNCTION logged_messages(p_wanted jsonb)
RETURNS TABLE (number integer, id uuid, seq integer, payload jsonb)
LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT w.number, m.id, m.seq, m.payload
    FROM jsonb_to_recordset(p_wanted) AS w (
        number integer, tenant_id uuid, conversation_id uuid, bucket integer, after_seq integer,
        most integer)
    CROSS JOIN LATERAL (
        SELECT DISTINCT ON (c.bucket, c.seq) c.id, c.seq, c.payload FROM chat_messages c
        WHERE c.tenant_id = w.tenant_id AND c.conversation_id = w.conversation_id
          AND c.bucket >= w.bucket AND c.seq > w.after_seq
        ORDER BY c.bucket, c.seq, c.id DESC LIMIT w.most
    ) m
    ORDER BY w.number, m.seq;
END;

GRANT SELECT ON chat_messages TO polyplane_definer;
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'reserve_answers', 'settle_answers', 'pending_messages', 'logged_messages'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %I OWNER TO polyplane_definer', name);
        EXECUTE format('REVOKE ALL ON FUNCTION %I FROM PUBLIC', name);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %I TO polyplane_gateway', name);
    END LOOP;
END
$$;
