-- A tenant whose plan has no limits (enterprise), and that had asked nothing yet this month, has no row
-- of the month. A group that asked in conversations that exist went past that: its reservations and
-- usage were counted nowhere, and as soon as something else made the row, settling took from it what
-- had never been added, which the row refuses. Such a group now goes the way that makes the row.

-- As before, else.
CREATE OR REPLACE FUNCTION reserve_together(p_asked jsonb, p_lifetime interval)
RETURNS TABLE (
    number integer, status text, question_seq integer, scope_document_ids uuid[], answer_mode text,
    hidden_versions uuid[], live_generation integer, corpus_version bigint, summary text,
    summary_seq integer, last_answer uuid
) LANGUAGE plpgsql SET search_path = public, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_period date := current_period();
    v_count integer := jsonb_array_length(p_asked);
    v_free integer;
    v_fits boolean;
BEGIN
    -- each in a conversation of its own, which exists and waits for no answer: held from here on
    SELECT count(*) INTO v_free FROM (
        SELECT FROM jsonb_to_recordset(p_asked) AS a (
            tenant_id uuid, user_id uuid, conversation_id uuid, title text)
        JOIN conversations c ON c.id = a.conversation_id
        WHERE a.title IS NULL AND c.tenant_id = a.tenant_id AND c.user_id = a.user_id
          AND c.deleted_at IS NULL
        ORDER BY c.id FOR UPDATE OF c
    ) AS held;
    IF v_free <> v_count OR (
        SELECT count(DISTINCT a.conversation_id) <> v_count OR bool_or(EXISTS (
            SELECT FROM reservations r WHERE r.conversation_id = a.conversation_id))
        FROM jsonb_to_recordset(p_asked) AS a (conversation_id uuid)
    ) THEN
        RETURN;
    END IF;

    -- each tenant has a row of this month, and its plan room for all that it asks; read under the
    -- locks of the quotas
    PERFORM FROM (
        SELECT DISTINCT a.tenant_id FROM jsonb_to_recordset(p_asked) AS a (tenant_id uuid)
        ORDER BY a.tenant_id
    ) AS t
    JOIN quota_periods q ON q.tenant_id = t.tenant_id AND q.period = v_period
    FOR UPDATE OF q;
    SELECT bool_and(coalesce(
        q.tenant_id = t.tenant_id AND d.deleted_at IS NULL
        AND (NOT t.asks_open OR 'open-chat' = ANY (p.features))
        AND (p.messages_per_month IS NULL
             OR q.messages_used + q.messages_reserved + t.messages <= p.messages_per_month)
        AND (p.tokens_per_month IS NULL
             OR q.tokens_used + q.tokens_reserved + t.tokens <= p.tokens_per_month), false))
    INTO v_fits
    FROM (
        SELECT a.tenant_id, count(*) AS messages,
               sum(a.max_prompt_tokens::bigint + a.max_tokens) AS tokens,
               bool_or(coalesce(a.mode, c.mode) = 'open') AS asks_open
        FROM jsonb_to_recordset(p_asked) AS a (
            tenant_id uuid, conversation_id uuid, mode text, max_prompt_tokens integer,
            max_tokens integer)
        JOIN conversations c ON c.id = a.conversation_id
        GROUP BY a.tenant_id
    ) AS t
    LEFT JOIN quota_periods q ON q.tenant_id = t.tenant_id AND q.period = v_period
    LEFT JOIN tenants d ON d.id = t.tenant_id
    LEFT JOIN plans p ON p.name = d.plan;
    IF NOT v_fits THEN
        RETURN;
    END IF;

    RETURN QUERY
    WITH asked AS MATERIALIZED (
        SELECT a.*, a.max_prompt_tokens::bigint + a.max_tokens AS tokens,
               a.max_prompt_tokens * r.prompt_token_usd
               + a.max_tokens * r.completion_token_usd AS cost_usd
        FROM jsonb_to_recordset(p_asked) AS a (
            number integer, tenant_id uuid, user_id uuid, answer_id uuid, conversation_id uuid,
            mode text, document_ids uuid[], question_id uuid, question text, message_id uuid,
            model text, max_prompt_tokens integer, max_tokens integer, is_listed boolean)
        LEFT JOIN LATERAL (     -- as cost_of
            SELECT p.prompt_token_usd, p.completion_token_usd FROM prices p
            WHERE p.model IN (a.model, '*') ORDER BY p.model = '*' LIMIT 1
        ) AS r ON true
    ), tenant_scopes AS MATERIALIZED (
        SELECT t.id, t.corpus_version, ARRAY(
            SELECT v.id FROM document_versions v
            WHERE v.tenant_id = t.id AND v.visibility = 'hidden') AS hidden_versions
        FROM (SELECT DISTINCT a.tenant_id FROM asked a) AS theirs
        JOIN tenants t ON t.id = theirs.tenant_id
    ), opened AS (
        UPDATE conversations c
        SET message_count = c.message_count + 1, updated_at = now(),
            is_listed = c.is_listed OR a.is_listed
        FROM asked a WHERE c.id = a.conversation_id
        RETURNING a.*, c.message_count AS seq, coalesce(a.mode, c.mode) AS said_mode,
                  coalesce(a.document_ids, c.document_ids) AS scope, c.summary, c.summary_seq,
                  c.last_answer
    ), counted AS (
        UPDATE quota_periods q
        SET messages_reserved = q.messages_reserved + s.messages,
            tokens_reserved = q.tokens_reserved + s.tokens,
            cost_usd_reserved = q.cost_usd_reserved + s.cost_usd
        FROM (
            SELECT a.tenant_id, count(*) AS messages, sum(a.tokens) AS tokens,
                   sum(a.cost_usd::numeric(20, 10)) AS cost_usd
            FROM asked a GROUP BY a.tenant_id
        ) AS s
        WHERE q.tenant_id = s.tenant_id AND q.period = v_period
    ), reserved AS (
        INSERT INTO reservations (id, tenant_id, user_id, conversation_id, creates_conversation,
            message_id, seq, period, model, mode, tokens, cost_usd, expires_at)
        SELECT o.answer_id, o.tenant_id, o.user_id, o.conversation_id, false, o.message_id,
               o.seq + 1, v_period, o.model, o.said_mode, o.tokens, o.cost_usd, now() + p_lifetime
        FROM opened o
    ), stored AS (
        INSERT INTO outbox (id, tenant_id, conversation_id, seq, payload, held_by)
        SELECT o.question_id, o.tenant_id, o.conversation_id, o.seq,
               jsonb_build_object('role', 'user', 'content', o.question, 'created_at', now()),
               o.answer_id
        FROM opened o
    )
    SELECT o.number, 'reserved', o.seq, o.scope, o.said_mode, t.hidden_versions,
           (SELECT g.number FROM generations g WHERE g.state = 'live'), t.corpus_version,
           o.summary, o.summary_seq, o.last_answer
    FROM tenant_scopes t JOIN opened o ON o.tenant_id = t.id;
END
$$;
