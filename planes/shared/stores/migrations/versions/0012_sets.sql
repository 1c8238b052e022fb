-- Groups of answers are booked by a few statements, whatever their number, where nothing is in the
-- way of any of them; else one after the other, as before. A message that a reservation holds is
-- looked for in its conversation: by its holder alone the whole outbox had to be read.

-- The newest answer, by which a reader knows whether what it has of a conversation is all. NULL: of
-- before this revision, or there is none.
ALTER TABLE conversations ADD COLUMN last_answer uuid;

-- Reserve all of a group, or none: then there is no row, and each has to be looked at. By indexes:
-- a plan that was made while the tables were small would read them whole, also when they no longer
-- are.
CREATE FUNCTION reserve_together(p_asked jsonb, p_lifetime interval)
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

    -- each tenant's plan has room for all that it asks; read under the locks of the quotas
    PERFORM FROM (
        SELECT DISTINCT a.tenant_id FROM jsonb_to_recordset(p_asked) AS a (tenant_id uuid)
        ORDER BY a.tenant_id
    ) AS t
    JOIN quota_periods q ON q.tenant_id = t.tenant_id AND q.period = v_period
    FOR UPDATE OF q;
    SELECT bool_and(coalesce(
        d.deleted_at IS NULL
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

-- As reserve_answers, together where that is possible; and the conversation's newest answer.
CREATE FUNCTION reserve_group(p_asked jsonb, p_lock_ms integer, p_lifetime interval)
RETURNS TABLE (
    number integer, status text, question_seq integer, scope_document_ids uuid[], answer_mode text,
    hidden_versions uuid[], live_generation integer, corpus_version bigint, summary text,
    summary_seq integer, last_answer uuid
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v record;
BEGIN
    IF p_lock_ms IS NOT NULL THEN
        PERFORM set_config('lock_timeout', p_lock_ms::text, true);
    END IF;
    RETURN QUERY SELECT * FROM reserve_together(p_asked, p_lifetime);
    IF FOUND THEN
        RETURN;
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
            SELECT c.summary, c.summary_seq, c.last_answer INTO summary, summary_seq, last_answer
            FROM conversations c WHERE c.id = v.conversation_id;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

-- As before, for any number: a second settlement of an answer finds its row of the ledger. Nothing
-- here refuses some and takes others, so that there is no other way beside. An answer may bring a
-- summary of the messages up to summary_seq; one that tells more stays.
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
    PERFORM FROM (      -- conversations before quotas, both in order, as reservations take them
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
        FROM billed b WHERE o.conversation_id = b.conversation_id AND o.held_by = b.id
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

-- As before; what it holds is looked for in its conversation, which is taken before the quota.
CREATE OR REPLACE FUNCTION release_answer(p_tenant uuid, p_answer uuid, p_undo boolean)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v reservations%ROWTYPE;
BEGIN
    DELETE FROM reservations r WHERE r.id = p_answer AND r.tenant_id = p_tenant RETURNING * INTO v;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM FROM conversations c WHERE c.id = v.conversation_id FOR UPDATE;    -- before the quota
    UPDATE quota_periods q
    SET messages_reserved = q.messages_reserved - 1, tokens_reserved = q.tokens_reserved - v.tokens,
        cost_usd_reserved = q.cost_usd_reserved - v.cost_usd
    WHERE q.tenant_id = v.tenant_id AND q.period = v.period;
    IF v.regenerates THEN
        RETURN true;
    END IF;
    IF NOT p_undo THEN
        UPDATE outbox o SET held_by = NULL WHERE o.conversation_id = v.conversation_id AND o.held_by = v.id;
    ELSE
        DELETE FROM outbox o WHERE o.conversation_id = v.conversation_id AND o.held_by = v.id;
        IF v.creates_conversation THEN
            DELETE FROM conversations c WHERE c.id = v.conversation_id;
        ELSE
            UPDATE conversations c SET message_count = v.seq - 2 WHERE c.id = v.conversation_id;
        END IF;
    END IF;
    RETURN true;
END
$$;

-- As before, likewise.
CREATE OR REPLACE FUNCTION regenerate_answer(p_tenant uuid, p_answer uuid, p_seq integer)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v reservations%ROWTYPE;
BEGIN
    SELECT * INTO v FROM reservations r WHERE r.id = p_answer AND r.tenant_id = p_tenant;
    -- v.seq is two more than what the conversation counted: its answer, or a question without one
    IF NOT FOUND OR v.creates_conversation OR v.seq - 2 NOT IN (p_seq, p_seq - 1) THEN
        RETURN false;
    END IF;
    DELETE FROM outbox o WHERE o.conversation_id = v.conversation_id AND o.held_by = v.id;
    UPDATE reservations r SET seq = p_seq, regenerates = true WHERE r.id = v.id;
    UPDATE conversations c SET message_count = v.seq - 2 WHERE c.id = v.conversation_id;
    RETURN true;
END
$$;

-- As before, by the same way as groups.
CREATE OR REPLACE FUNCTION settle_answer(
    p_tenant uuid, p_answer uuid, p_ledger uuid, p_model text, p_prompt integer,
    p_completion integer, p_payload jsonb
) RETURNS numeric LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT s.cost_usd FROM settle_answers(jsonb_build_array(jsonb_build_object(
        'number', 0, 'tenant_id', p_tenant, 'answer_id', p_answer, 'ledger_id', p_ledger,
        'model', p_model, 'prompt_tokens', p_prompt, 'completion_tokens', p_completion,
        'payload', p_payload)), NULL) AS s;
END;

-- Move due messages to the chat log where that is in this database, and nowhere else; a repeat
-- changes nothing. Returns how many; NULL: the log is elsewhere too. The row that says where it is
-- cannot change meanwhile.
CREATE FUNCTION drain_outbox(p_messages integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_count integer;
BEGIN
    PERFORM FROM chat_log_place p WHERE p.live = 'postgres' AND p.also IS NULL FOR SHARE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    WITH moved AS (
        DELETE FROM outbox o USING (
            SELECT d.id FROM outbox d WHERE d.held_by IS NULL AND d.leased_until <= now()
            ORDER BY d.leased_until LIMIT p_messages FOR UPDATE SKIP LOCKED
        ) AS due
        WHERE o.id = due.id RETURNING o.*
    ), logged AS (
        INSERT INTO chat_messages (tenant_id, conversation_id, bucket, seq, id, payload)
        SELECT m.tenant_id, m.conversation_id, m.seq / 10000, m.seq, m.id, m.payload FROM moved m
        ON CONFLICT DO NOTHING
    )
    SELECT count(*) INTO v_count FROM moved;
    RETURN v_count;
END
$$;

GRANT INSERT ON chat_messages TO polyplane_definer;
GRANT SELECT, UPDATE ON chat_log_place TO polyplane_definer;
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'reserve_together', 'reserve_group', 'drain_outbox'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %I OWNER TO polyplane_definer', name);
        EXECUTE format('REVOKE ALL ON FUNCTION %I FROM PUBLIC', name);
    END LOOP;
END
$$;
GRANT EXECUTE ON FUNCTION reserve_group, drain_outbox TO polyplane_gateway;
