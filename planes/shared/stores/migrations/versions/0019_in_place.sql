-- A changed row stays in its page, and out of the indexes, where the page has room for it.
ALTER TABLE conversations SET (fillfactor = 85);

-- As in 0005_feedback.sql, by the index of 0018: what was changed long ago began long ago.
CREATE OR REPLACE FUNCTION expire_unlisted(p_age interval, p_conversations integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_count integer;
BEGIN
    UPDATE conversations SET deleted_at = now(), title = ''
    WHERE id IN (
        SELECT c.id FROM conversations c
        WHERE NOT c.is_listed AND c.deleted_at IS NULL
          AND c.created_at < now() - p_age AND c.updated_at < now() - p_age
          AND NOT EXISTS (SELECT FROM answers a JOIN feedback f ON f.message_id = a.message_id
                          WHERE a.conversation_id = c.id)
        ORDER BY c.created_at LIMIT p_conversations FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END
$$;

-- As in 0013_order.sql; but the question is found by the answer that holds it, by the index of 0018.
-- By its conversation the way went past all messages that were moved since the last vacuum.
CREATE OR REPLACE FUNCTION settle_answers(p_settled jsonb, p_lock_ms integer)
RETURNS TABLE (number integer, cost_usd numeric)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_found integer;
BEGIN
    IF p_lock_ms IS NOT NULL THEN
        PERFORM set_config('lock_timeout', p_lock_ms::text, true);
    END IF;
    PERFORM FROM jsonb_to_recordset(p_settled) AS s (tenant_id uuid, answer_id uuid)
    JOIN reservations r ON r.id = s.answer_id AND r.tenant_id = s.tenant_id
    ORDER BY r.id FOR UPDATE OF r;
    PERFORM FROM (
        SELECT r.conversation_id
        FROM jsonb_to_recordset(p_settled) AS s (tenant_id uuid, answer_id uuid)
        JOIN reservations r ON r.id = s.answer_id AND r.tenant_id = s.tenant_id
        ORDER BY r.conversation_id
    ) AS o
    JOIN conversations c ON c.id = o.conversation_id FOR UPDATE OF c;
    RETURN QUERY
    WITH settled AS MATERIALIZED (
        SELECT s.*, (s.prompt_tokens * r.prompt_token_usd
                     + s.completion_tokens * r.completion_token_usd)::numeric(20, 10) AS cost
        FROM jsonb_to_recordset(p_settled) AS s (
            number integer, tenant_id uuid, answer_id uuid, ledger_id uuid, model text,
            prompt_tokens integer, completion_tokens integer, payload jsonb, summary text,
            summary_seq integer)
        LEFT JOIN LATERAL (     -- as cost_of
            SELECT p.prompt_token_usd, p.completion_token_usd FROM prices p
            WHERE p.model IN (s.model, '*') ORDER BY p.model = '*' LIMIT 1
        ) AS r ON true
    ), billed AS (
        DELETE FROM reservations r USING settled s
        WHERE r.id = s.answer_id AND r.tenant_id = s.tenant_id
        RETURNING r.*, s.number, s.ledger_id, s.model AS answered_by, s.prompt_tokens AS prompt,
                  s.completion_tokens AS completion, s.payload, s.cost, s.summary,
                  coalesce(s.summary_seq, 0) AS summary_seq
    ), closed AS (
        UPDATE conversations c
        SET message_count = b.seq, updated_at = now(), last_answer = b.message_id,
            summary = CASE WHEN c.summary_seq < b.summary_seq AND c.deleted_at IS NULL
                      THEN b.summary ELSE c.summary END,
            summary_seq = greatest(c.summary_seq, b.summary_seq)
        FROM billed b WHERE c.id = b.conversation_id
    ), freed AS (
        UPDATE outbox o SET held_by = NULL
        FROM billed b WHERE o.held_by = b.id
    ), counted AS (
        UPDATE quota_periods q
        SET messages_reserved = q.messages_reserved - s.messages,
            messages_used = q.messages_used + s.messages,
            tokens_reserved = q.tokens_reserved - s.reserved, tokens_used = q.tokens_used + s.used,
            cost_usd_reserved = q.cost_usd_reserved - s.cost_reserved,
            cost_usd_used = q.cost_usd_used + s.cost
        FROM (
            SELECT b.tenant_id, b.period, count(*) AS messages, sum(b.tokens) AS reserved,
                   sum(b.prompt::bigint + b.completion) AS used, sum(b.cost_usd) AS cost_reserved,
                   sum(b.cost) AS cost
            FROM billed b GROUP BY b.tenant_id, b.period ORDER BY b.tenant_id, b.period
        ) AS s
        WHERE q.tenant_id = s.tenant_id AND q.period = s.period
    ), entered AS (
        INSERT INTO ledger (id, tenant_id, user_id, request_id, kind, period, model, mode,
            prompt_tokens, completion_tokens, cost_usd, created_at, conversation_id, message_id, seq)
        SELECT b.ledger_id, b.tenant_id, b.user_id, b.id, 'answer', b.period, b.answered_by, b.mode,
               b.prompt, b.completion, b.cost, b.created_at, b.conversation_id, b.message_id, b.seq
        FROM billed b
    ), stored AS (
        INSERT INTO outbox (id, tenant_id, conversation_id, seq, payload)
        SELECT b.message_id, b.tenant_id, b.conversation_id, b.seq,
               b.payload || jsonb_build_object(
                   'role', 'assistant', 'mode', b.mode, 'model', b.answered_by,
                   'usage', jsonb_build_object(
                       'prompt_tokens', b.prompt, 'completion_tokens', b.completion,
                       'total_tokens', b.prompt + b.completion, 'cost_usd', b.cost::text))
        FROM billed b
    )
    SELECT b.number, b.cost FROM billed b;

    GET DIAGNOSTICS v_found = ROW_COUNT;
    IF v_found < jsonb_array_length(p_settled) THEN     -- some were settled before: the same again
        RETURN QUERY
        SELECT s.number, l.cost_usd FROM jsonb_to_recordset(p_settled) AS s (
            number integer, answer_id uuid, ledger_id uuid)
        LEFT JOIN ledger l
            ON l.request_id = s.answer_id AND l.kind = 'answer' AND l.id = s.ledger_id;
    END IF;
END
$$;
