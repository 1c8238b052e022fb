-- Conversations, the outbox, the chat log of embedded mode, quotas, reservations and the ledger.

CREATE TABLE conversations (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    user_id uuid NOT NULL REFERENCES users,
    title text NOT NULL,
    mode text NOT NULL CHECK (mode IN ('rag', 'open')),
    document_ids uuid[],
    message_count integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);
CREATE INDEX ON conversations (tenant_id, user_id, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX deleted_conversations ON conversations (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE quota_periods (
    tenant_id uuid NOT NULL REFERENCES tenants,
    period date NOT NULL,               -- first day of a UTC calendar month
    messages_used bigint NOT NULL DEFAULT 0,
    messages_reserved bigint NOT NULL DEFAULT 0 CHECK (messages_reserved >= 0),
    tokens_used bigint NOT NULL DEFAULT 0,
    tokens_reserved bigint NOT NULL DEFAULT 0 CHECK (tokens_reserved >= 0),
    cost_usd_used numeric(20, 10) NOT NULL DEFAULT 0,
    cost_usd_reserved numeric(20, 10) NOT NULL DEFAULT 0 CHECK (cost_usd_reserved >= 0),
    PRIMARY KEY (tenant_id, period)
);

CREATE TABLE reservations (             -- answers under way; the id is the answer's
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    user_id uuid NOT NULL REFERENCES users,
    conversation_id uuid NOT NULL UNIQUE REFERENCES conversations,
    creates_conversation boolean NOT NULL,
    message_id uuid NOT NULL,           -- of the answer
    seq integer NOT NULL,               -- of the answer
    period date NOT NULL,
    model text NOT NULL,
    mode text NOT NULL,
    tokens bigint NOT NULL,
    cost_usd numeric(20, 10) NOT NULL,
    prompt_tokens integer NOT NULL DEFAULT 0,       -- checkpoint
    completion_tokens integer NOT NULL DEFAULT 0,   -- checkpoint
    content text NOT NULL DEFAULT '',               -- checkpoint
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX ON reservations (expires_at);

CREATE TABLE ledger (                   -- append-only; balances and invoices are rebuilt from it
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    user_id uuid NOT NULL REFERENCES users,
    request_id uuid NOT NULL,
    kind text NOT NULL,
    period date NOT NULL,
    model text NOT NULL,
    mode text NOT NULL,
    prompt_tokens bigint NOT NULL CHECK (prompt_tokens >= 0),
    completion_tokens bigint NOT NULL CHECK (completion_tokens >= 0),
    cost_usd numeric(20, 10) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (request_id, kind)
);
CREATE INDEX ON ledger (tenant_id, created_at);

CREATE TABLE outbox (                   -- messages on their way to the chat log
    id uuid PRIMARY KEY,                -- of the message
    tenant_id uuid NOT NULL REFERENCES tenants,
    conversation_id uuid NOT NULL,
    seq integer NOT NULL,
    payload jsonb NOT NULL,
    held_by uuid,                       -- an open reservation that may still undo the message
    leased_until timestamptz NOT NULL DEFAULT '-infinity',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON outbox (conversation_id);
CREATE INDEX ON outbox (leased_until) WHERE held_by IS NULL;

CREATE TABLE chat_messages (            -- the chat log, where no CQL server is configured
    tenant_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    bucket integer NOT NULL,            -- seq / 10,000
    seq integer NOT NULL,
    id uuid NOT NULL,
    payload jsonb NOT NULL,
    PRIMARY KEY (tenant_id, conversation_id, bucket, seq, id)
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'conversations', 'quota_periods', 'reservations', 'ledger', 'outbox', 'chat_messages'
    ] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY own_tenant ON %I USING (tenant_id = current_tenant())', name);
        EXECUTE format('CREATE POLICY across_tenants ON %I TO polyplane_definer USING (true)', name);
    END LOOP;
END
$$;

GRANT SELECT, INSERT, DELETE ON conversations TO polyplane_gateway;
GRANT UPDATE (title, mode, document_ids, updated_at, deleted_at) ON conversations TO polyplane_gateway;
GRANT SELECT ON quota_periods, reservations, ledger, outbox TO polyplane_gateway;
GRANT SELECT, INSERT, DELETE ON chat_messages TO polyplane_gateway;
GRANT SELECT, INSERT, UPDATE, DELETE ON conversations, quota_periods, reservations, outbox
    TO polyplane_definer;
GRANT SELECT, INSERT ON ledger TO polyplane_definer;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE FUNCTION current_period() RETURNS date LANGUAGE sql STABLE
RETURN date_trunc('month', now() AT TIME ZONE 'UTC')::date;

CREATE FUNCTION cost_of(p_model text, p_prompt bigint, p_completion bigint) RETURNS numeric
LANGUAGE sql STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT p.prompt_token_usd * p_prompt + p.completion_token_usd * p_completion
    FROM prices p WHERE p.model IN (p_model, '*') ORDER BY p.model = '*' LIMIT 1;
END;

-- Reserve the worst case of one answer, store the question, and return what a search may not show.
-- status: 'reserved', or why not: 'absent' (no such conversation), 'busy' (an answer is under way),
-- 'messages' or 'tokens' (the quota that is used up).
CREATE FUNCTION reserve_answer(
    p_tenant uuid, p_user uuid, p_answer uuid, p_conversation uuid, p_title text, p_mode text,
    p_document_ids uuid[], p_question uuid, p_content text, p_reply uuid, p_model text,
    p_prompt_tokens integer, p_completion_tokens integer, p_lifetime interval
) RETURNS TABLE (
    status text, question_seq integer, scope_document_ids uuid[], answer_mode text,
    hidden_versions uuid[], live_generation integer
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_period date := current_period();
    v_plan plans%ROWTYPE;
    v_cost numeric := cost_of(p_model, p_prompt_tokens, p_completion_tokens);
    v_tokens bigint := p_prompt_tokens + p_completion_tokens;
    v_conversation conversations%ROWTYPE;
    v_messages bigint;
BEGIN
    -- p_title is NULL for a conversation that exists already; p_mode may be NULL there
    IF p_title IS NULL THEN
        SELECT * INTO v_conversation FROM conversations c
        WHERE c.id = p_conversation AND c.tenant_id = p_tenant AND c.user_id = p_user
          AND c.deleted_at IS NULL FOR UPDATE;
        IF NOT FOUND THEN
            RETURN QUERY SELECT 'absent', NULL::integer, NULL::uuid[], NULL, NULL::uuid[], NULL::integer;
            RETURN;
        END IF;
        IF EXISTS (SELECT FROM reservations r WHERE r.conversation_id = p_conversation) THEN
            RETURN QUERY SELECT 'busy', NULL::integer, NULL::uuid[], NULL, NULL::uuid[], NULL::integer;
            RETURN;
        END IF;
    END IF;

    SELECT p.* INTO v_plan FROM tenants t JOIN plans p ON p.name = t.plan WHERE t.id = p_tenant;
    INSERT INTO quota_periods (tenant_id, period) VALUES (p_tenant, v_period) ON CONFLICT DO NOTHING;
    UPDATE quota_periods q
    SET messages_reserved = q.messages_reserved + 1, tokens_reserved = q.tokens_reserved + v_tokens,
        cost_usd_reserved = q.cost_usd_reserved + v_cost
    WHERE q.tenant_id = p_tenant AND q.period = v_period
      AND (v_plan.messages_per_month IS NULL
           OR q.messages_used + q.messages_reserved < v_plan.messages_per_month)
      AND (v_plan.tokens_per_month IS NULL
           OR q.tokens_used + q.tokens_reserved + v_tokens <= v_plan.tokens_per_month);
    IF NOT FOUND THEN
        SELECT q.messages_used + q.messages_reserved INTO v_messages FROM quota_periods q
        WHERE q.tenant_id = p_tenant AND q.period = v_period;
        RETURN QUERY SELECT
            CASE WHEN v_messages >= v_plan.messages_per_month THEN 'messages' ELSE 'tokens' END,
            NULL::integer, NULL::uuid[], NULL, NULL::uuid[], NULL::integer;
        RETURN;
    END IF;

    IF p_title IS NULL THEN
        UPDATE conversations c SET message_count = c.message_count + 1, updated_at = now()
        WHERE c.id = p_conversation RETURNING c.* INTO v_conversation;
    ELSE
        INSERT INTO conversations (id, tenant_id, user_id, title, mode, document_ids, message_count)
        VALUES (p_conversation, p_tenant, p_user, p_title, p_mode, p_document_ids, 1)
        RETURNING * INTO v_conversation;
    END IF;
    INSERT INTO reservations (id, tenant_id, user_id, conversation_id, creates_conversation,
        message_id, seq, period, model, mode, tokens, cost_usd, expires_at)
    VALUES (p_answer, p_tenant, p_user, p_conversation, p_title IS NOT NULL, p_reply,
        v_conversation.message_count + 1, v_period, p_model,
        coalesce(p_mode, v_conversation.mode), v_tokens, v_cost,
        now() + p_lifetime);
    INSERT INTO outbox (id, tenant_id, conversation_id, seq, payload, held_by)
    VALUES (p_question, p_tenant, p_conversation, v_conversation.message_count,
        jsonb_build_object('role', 'user', 'content', p_content, 'created_at', now()),
        p_answer);
    RETURN QUERY SELECT 'reserved', v_conversation.message_count,
        coalesce(p_document_ids, v_conversation.document_ids),
        coalesce(p_mode, v_conversation.mode),
        ARRAY(SELECT v.id FROM document_versions v
              WHERE v.tenant_id = p_tenant AND v.visibility = 'hidden'),
        (SELECT g.number FROM generations g WHERE g.state = 'live');
END
$$;

-- Note how far an answer has come, and keep its reservation alive. False: it was swept.
CREATE FUNCTION checkpoint_answer(
    p_tenant uuid, p_answer uuid, p_prompt integer, p_completion integer, p_content text,
    p_lifetime interval
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE reservations r
    SET prompt_tokens = p_prompt, completion_tokens = p_completion, content = p_content,
        expires_at = now() + p_lifetime
    WHERE r.id = p_answer AND r.tenant_id = p_tenant;
    RETURN FOUND;
END
$$;

-- Turn a reservation into its ledger row and its stored answer, and return the cost. Repeating it
-- changes nothing and returns the same. NULL: the sweeper was faster.
CREATE FUNCTION settle_answer(
    p_tenant uuid, p_answer uuid, p_ledger uuid, p_model text, p_prompt integer,
    p_completion integer, p_payload jsonb
) RETURNS numeric LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v reservations%ROWTYPE;
    v_cost numeric(20, 10) := cost_of(p_model, p_prompt, p_completion);
BEGIN
    DELETE FROM reservations r WHERE r.id = p_answer AND r.tenant_id = p_tenant RETURNING * INTO v;
    IF NOT FOUND THEN
        RETURN (SELECT l.cost_usd FROM ledger l
                WHERE l.request_id = p_answer AND l.kind = 'answer' AND l.id = p_ledger);
    END IF;
    INSERT INTO ledger (id, tenant_id, user_id, request_id, kind, period, model, mode,
        prompt_tokens, completion_tokens, cost_usd)
    VALUES (p_ledger, v.tenant_id, v.user_id, v.id, 'answer', v.period, p_model, v.mode,
        p_prompt, p_completion, v_cost);
    UPDATE quota_periods q
    SET messages_reserved = q.messages_reserved - 1, messages_used = q.messages_used + 1,
        tokens_reserved = q.tokens_reserved - v.tokens,
        tokens_used = q.tokens_used + p_prompt + p_completion,
        cost_usd_reserved = q.cost_usd_reserved - v.cost_usd,
        cost_usd_used = q.cost_usd_used + v_cost
    WHERE q.tenant_id = v.tenant_id AND q.period = v.period;
    UPDATE outbox o SET held_by = NULL WHERE o.held_by = v.id;
    INSERT INTO outbox (id, tenant_id, conversation_id, seq, payload)
    VALUES (v.message_id, v.tenant_id, v.conversation_id, v.seq,
        p_payload || jsonb_build_object(
            'role', 'assistant', 'mode', v.mode, 'model', p_model,
            'usage', jsonb_build_object(
                'prompt_tokens', p_prompt, 'completion_tokens', p_completion,
                'total_tokens', p_prompt + p_completion, 'cost_usd', v_cost::text)));
    UPDATE conversations c SET message_count = v.seq, updated_at = now()
    WHERE c.id = v.conversation_id;
    RETURN v_cost;
END
$$;

-- Give a reservation back. p_undo takes the question back too, as if it had never been asked.
CREATE FUNCTION release_answer(p_tenant uuid, p_answer uuid, p_undo boolean)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v reservations%ROWTYPE;
BEGIN
    DELETE FROM reservations r WHERE r.id = p_answer AND r.tenant_id = p_tenant RETURNING * INTO v;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE quota_periods q
    SET messages_reserved = q.messages_reserved - 1, tokens_reserved = q.tokens_reserved - v.tokens,
        cost_usd_reserved = q.cost_usd_reserved - v.cost_usd
    WHERE q.tenant_id = v.tenant_id AND q.period = v.period;
    IF NOT p_undo THEN
        UPDATE outbox o SET held_by = NULL WHERE o.held_by = v.id;
    ELSE
        DELETE FROM outbox o WHERE o.held_by = v.id;
        IF v.creates_conversation THEN
            DELETE FROM conversations c WHERE c.id = v.conversation_id;
        ELSE
            UPDATE conversations c SET message_count = v.seq - 2 WHERE c.id = v.conversation_id;
        END IF;
    END IF;
    RETURN true;
END
$$;

-- End the reservations of answers that nobody carries on: bill what a checkpoint says was produced
-- and keep its text; where there is none, give the reservation back and keep the question.
CREATE FUNCTION sweep_reservations(p_answers integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v reservations%ROWTYPE;
    v_count integer := 0;
BEGIN
    FOR v IN SELECT * FROM reservations r WHERE r.expires_at <= now()
             ORDER BY r.expires_at LIMIT p_answers FOR UPDATE SKIP LOCKED LOOP
        IF v.completion_tokens > 0 THEN
            PERFORM settle_answer(v.tenant_id, v.id, gen_random_uuid(), v.model, v.prompt_tokens,
                v.completion_tokens, jsonb_build_object(
                    'content', v.content, 'citations', '[]'::jsonb, 'grounded', false,
                    'finish_reason', 'cancelled', 'created_at', now()));
        ELSE
            PERFORM release_answer(v.tenant_id, v.id, false);
        END IF;
        v_count := v_count + 1;
    END LOOP;
    RETURN v_count;
END
$$;

-- Lease messages that are due for the chat log; a lease that runs out makes them due again.
CREATE FUNCTION claim_outbox(p_messages integer, p_lease interval)
RETURNS SETOF outbox LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
BEGIN ATOMIC
    UPDATE outbox SET leased_until = now() + p_lease
    WHERE id IN (SELECT o.id FROM outbox o WHERE o.held_by IS NULL AND o.leased_until <= now()
                 ORDER BY o.leased_until LIMIT p_messages FOR UPDATE SKIP LOCKED)
    RETURNING *;
END;

-- Forget messages that the chat log has acknowledged.
CREATE FUNCTION acknowledge_outbox(p_messages uuid[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
BEGIN ATOMIC
    DELETE FROM outbox WHERE id = ANY (p_messages);
END;

-- Deleted conversations that nothing writes to any more: their messages can be removed for good.
CREATE FUNCTION purgeable_conversations(p_conversations integer)
RETURNS TABLE (tenant_id uuid, conversation_id uuid)
LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT c.tenant_id, c.id FROM conversations c
    WHERE c.deleted_at IS NOT NULL
      AND NOT EXISTS (SELECT FROM reservations r WHERE r.conversation_id = c.id)
      AND NOT EXISTS (SELECT FROM outbox o WHERE o.conversation_id = c.id)
    LIMIT p_conversations;
END;

-- Which versions a tenant's search must not show, and which generation is live.
CREATE FUNCTION search_scope(p_tenant uuid)
RETURNS TABLE (hidden_versions uuid[], live_generation integer)
LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT ARRAY(SELECT v.id FROM document_versions v
                 WHERE v.tenant_id = p_tenant AND v.visibility = 'hidden'),
           (SELECT g.number FROM generations g WHERE g.state = 'live');
END;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'reserve_answer', 'checkpoint_answer', 'settle_answer', 'release_answer',
        'sweep_reservations', 'claim_outbox', 'acknowledge_outbox', 'purgeable_conversations',
        'search_scope'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %I OWNER TO polyplane_definer', name);
        EXECUTE format('REVOKE ALL ON FUNCTION %I FROM PUBLIC', name);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %I TO polyplane_gateway', name);
    END LOOP;
END
$$;
