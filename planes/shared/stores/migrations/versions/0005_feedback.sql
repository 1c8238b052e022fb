-- Conversations of programs, feedback on answers, and embeddings that are paid for.

-- A program that sends its whole conversation with every question keeps it itself: what is stored
-- here, for the log, the bill and feedback, stands in no person's list.
ALTER TABLE conversations ADD COLUMN is_listed boolean NOT NULL DEFAULT true;
GRANT UPDATE (is_listed) ON conversations TO polyplane_gateway;
CREATE INDEX ON conversations (tenant_id, user_id, is_listed, id DESC) WHERE deleted_at IS NULL;

-- Embeddings are usage as answers are: reserved, then settled at what they came to. They are no
-- messages.
ALTER TABLE ledger
    DROP CONSTRAINT known_kind,
    DROP CONSTRAINT answers_have_users,
    ADD CONSTRAINT known_kind CHECK (kind IN ('answer', 'embedding', 'subscription')),
    ADD CONSTRAINT usage_has_users CHECK (kind = 'subscription' OR user_id IS NOT NULL);
INSERT INTO prices VALUES ('sentence-transformers/all-MiniLM-L6-v2', 0.0000000100, 0)
ON CONFLICT DO NOTHING;

CREATE TABLE embedding_reservations (   -- requests under way; the id is the request's
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    user_id uuid NOT NULL REFERENCES users,
    period date NOT NULL,
    model text NOT NULL,
    tokens bigint NOT NULL,
    cost_usd numeric(20, 10) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX ON embedding_reservations (expires_at);
CREATE INDEX ON embedding_reservations (tenant_id);
GRANT SELECT ON embedding_reservations TO polyplane_gateway;
GRANT SELECT, INSERT, UPDATE, DELETE ON embedding_reservations TO polyplane_definer;

-- Reserve the most tokens that a request may come to. 'reserved', or why not: 'tokens' (the quota is
-- used up) or 'absent' (the tenant was just deleted).
CREATE FUNCTION reserve_embedding(
    p_tenant uuid, p_user uuid, p_request uuid, p_model text, p_tokens bigint, p_lifetime interval
) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_period date := current_period();
    v_cost numeric := cost_of(p_model, p_tokens, 0);
    v_limit bigint;
BEGIN
    PERFORM lock_quota(p_tenant, v_period);
    SELECT p.tokens_per_month INTO v_limit FROM tenants t JOIN plans p ON p.name = t.plan
    WHERE t.id = p_tenant AND t.deleted_at IS NULL;
    IF NOT FOUND THEN
        RETURN 'absent';
    END IF;
    UPDATE quota_periods q
    SET tokens_reserved = q.tokens_reserved + p_tokens,
        cost_usd_reserved = q.cost_usd_reserved + v_cost
    WHERE q.tenant_id = p_tenant AND q.period = v_period
      AND (v_limit IS NULL OR q.tokens_used + q.tokens_reserved + p_tokens <= v_limit);
    IF NOT FOUND THEN
        RETURN 'tokens';
    END IF;
    INSERT INTO embedding_reservations
        (id, tenant_id, user_id, period, model, tokens, cost_usd, expires_at)
    VALUES (p_request, p_tenant, p_user, v_period, p_model, p_tokens, v_cost, now() + p_lifetime);
    RETURN 'reserved';
END
$$;

-- Give a reservation back. False: there is none.
CREATE FUNCTION release_embedding(p_tenant uuid, p_request uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v embedding_reservations%ROWTYPE;
BEGIN
    DELETE FROM embedding_reservations r
    WHERE r.id = p_request AND r.tenant_id = p_tenant RETURNING * INTO v;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE quota_periods q
    SET tokens_reserved = q.tokens_reserved - v.tokens,
        cost_usd_reserved = q.cost_usd_reserved - v.cost_usd
    WHERE q.tenant_id = v.tenant_id AND q.period = v.period;
    RETURN true;
END
$$;

-- Turn a reservation into its ledger row, and return the cost. NULL: the sweeper was faster.
CREATE FUNCTION settle_embedding(p_tenant uuid, p_request uuid, p_ledger uuid, p_tokens bigint)
RETURNS numeric LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v embedding_reservations%ROWTYPE;
    v_cost numeric(20, 10);
BEGIN
    SELECT * INTO v FROM embedding_reservations r
    WHERE r.id = p_request AND r.tenant_id = p_tenant FOR UPDATE;
    IF NOT FOUND OR NOT release_embedding(p_tenant, p_request) THEN
        RETURN NULL;
    END IF;
    v_cost := cost_of(v.model, p_tokens, 0);
    INSERT INTO ledger (id, tenant_id, user_id, request_id, kind, period, model, mode,
        prompt_tokens, completion_tokens, cost_usd, created_at)
    VALUES (p_ledger, v.tenant_id, v.user_id, v.id, 'embedding', v.period, v.model, 'embedding',
        p_tokens, 0, v_cost, v.created_at);
    UPDATE quota_periods q
    SET tokens_used = q.tokens_used + p_tokens, cost_usd_used = q.cost_usd_used + v_cost
    WHERE q.tenant_id = v.tenant_id AND q.period = v.period;
    RETURN v_cost;
END
$$;

-- Give back the reservations of requests that nobody carries on: nobody got their vectors.
CREATE FUNCTION sweep_embeddings(p_requests integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v embedding_reservations%ROWTYPE;
    v_count integer := 0;
BEGIN
    FOR v IN SELECT * FROM embedding_reservations r WHERE r.expires_at <= now()
             ORDER BY r.expires_at LIMIT p_requests FOR UPDATE SKIP LOCKED LOOP
        PERFORM release_embedding(v.tenant_id, v.id);
        v_count := v_count + 1;
    END LOOP;
    RETURN v_count;
END
$$;

-- As before, with embeddings.
CREATE OR REPLACE VIEW rebuilt_quotas AS
SELECT tenant_id, period,
       sum(messages_used)::bigint AS messages_used,
       sum(messages_reserved)::bigint AS messages_reserved,
       sum(tokens_used)::bigint AS tokens_used, sum(tokens_reserved)::bigint AS tokens_reserved,
       sum(cost_usd_used) AS cost_usd_used, sum(cost_usd_reserved) AS cost_usd_reserved
FROM (
    SELECT l.tenant_id, l.period, (l.kind = 'answer')::integer AS messages_used,
           0 AS messages_reserved, l.prompt_tokens + l.completion_tokens AS tokens_used,
           0 AS tokens_reserved, l.cost_usd AS cost_usd_used, 0 AS cost_usd_reserved
    FROM ledger l WHERE l.kind IN ('answer', 'embedding')
    UNION ALL
    SELECT r.tenant_id, r.period, 0, 1, 0, r.tokens, 0, r.cost_usd FROM reservations r
    UNION ALL
    SELECT r.tenant_id, r.period, 0, 0, 0, r.tokens, 0, r.cost_usd FROM embedding_reservations r
) AS entries
GROUP BY tenant_id, period;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['embedding_reservations'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY own_tenant ON %I USING (tenant_id = current_tenant())', name);
        EXECUTE format('CREATE POLICY across_tenants ON %I TO polyplane_definer USING (true)', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY[
        'reserve_embedding', 'release_embedding', 'settle_embedding', 'sweep_embeddings'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %I OWNER TO polyplane_definer', name);
        EXECUTE format('REVOKE ALL ON FUNCTION %I FROM PUBLIC', name);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %I TO polyplane_gateway', name);
    END LOOP;
END
$$;

-- Where each answer stands, so that its id alone finds it: the chat log knows it by its conversation.
CREATE TABLE answers (
    message_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    conversation_id uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
    seq integer NOT NULL
);
CREATE INDEX ON answers (conversation_id);
CREATE INDEX ON answers (tenant_id);

CREATE TABLE feedback (                 -- what people say of answers; it goes with the conversation
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    user_id uuid NOT NULL REFERENCES users,
    message_id uuid NOT NULL REFERENCES answers ON DELETE CASCADE,
    rating text NOT NULL CHECK (rating IN ('up', 'down')),
    comment text,
    correction text,
    model text NOT NULL,                -- that wrote the answer
    citations jsonb NOT NULL,           -- the answer's, without quotes
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    reviewed_at timestamptz,            -- NULL: nobody has looked since it was changed
    is_accepted boolean,                -- for the evaluation set
    relevant_documents uuid[],          -- that answer the question, as the reviewer says
    UNIQUE (tenant_id, user_id, message_id)
);
CREATE INDEX ON feedback (message_id);
CREATE INDEX ON feedback (tenant_id, id DESC);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['answers', 'feedback'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY own_tenant ON %I USING (tenant_id = current_tenant())', name);
        EXECUTE format('CREATE POLICY across_tenants ON %I TO polyplane_definer USING (true)', name);
    END LOOP;
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION erasable_tables() RETURNS text[] LANGUAGE sql IMMUTABLE '
        'RETURN %L::text[]', ARRAY['feedback', 'answers'] || erasable_tables());
END
$$;
GRANT SELECT ON answers TO polyplane_gateway;
GRANT SELECT, INSERT, UPDATE ON feedback TO polyplane_gateway;
GRANT SELECT, INSERT, DELETE ON answers TO polyplane_definer;
GRANT SELECT, UPDATE, DELETE ON feedback TO polyplane_definer;

INSERT INTO answers (message_id, tenant_id, conversation_id, seq)
SELECT m.id, m.tenant_id, m.conversation_id, m.seq
FROM (
    SELECT l.id, l.tenant_id, l.conversation_id, l.seq, l.payload FROM chat_messages l
    UNION ALL
    SELECT o.id, o.tenant_id, o.conversation_id, o.seq, o.payload FROM outbox o
) AS m
JOIN conversations c ON c.id = m.conversation_id AND c.tenant_id = m.tenant_id
WHERE m.payload ->> 'role' = 'assistant'
ON CONFLICT DO NOTHING;

-- Every answer passes through the outbox in the transaction that settles it, whoever settles.
CREATE FUNCTION note_answer() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO answers (message_id, tenant_id, conversation_id, seq)
    VALUES (NEW.id, NEW.tenant_id, NEW.conversation_id, NEW.seq) ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
ALTER FUNCTION note_answer() OWNER TO polyplane_definer;
REVOKE ALL ON FUNCTION note_answer() FROM PUBLIC;
CREATE TRIGGER note_answer AFTER INSERT ON outbox
    FOR EACH ROW WHEN (NEW.payload ->> 'role' = 'assistant') EXECUTE FUNCTION note_answer();

-- Feedback of all tenants, for the operator's review: p_accepted false lists what nobody has looked
-- at. Conversations that were deleted take theirs along at once.
CREATE FUNCTION feedback_for_review(p_accepted boolean, p_after uuid, p_limit integer)
RETURNS TABLE (
    id uuid, tenant_id uuid, user_id uuid, conversation_id uuid, message_id uuid, seq integer,
    rating text, comment text, correction text, model text, citations jsonb,
    relevant_documents uuid[], updated_at timestamptz
)
LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT f.id, f.tenant_id, f.user_id, a.conversation_id, f.message_id, a.seq, f.rating,
           f.comment, f.correction, f.model, f.citations, f.relevant_documents, f.updated_at
    FROM feedback f
    JOIN answers a ON a.message_id = f.message_id
    JOIN conversations c ON c.id = a.conversation_id AND c.deleted_at IS NULL
    JOIN tenants t ON t.id = f.tenant_id AND t.deleted_at IS NULL
    WHERE CASE WHEN p_accepted THEN f.is_accepted ELSE f.reviewed_at IS NULL END
      AND f.id > p_after
    ORDER BY f.id LIMIT p_limit;
END;

-- What a reviewer decides. NULL: there is no such feedback, or it has changed since it was read.
CREATE FUNCTION review_feedback(
    p_id uuid, p_accepted boolean, p_relevant uuid[], p_updated_at timestamptz
) RETURNS uuid LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
BEGIN ATOMIC
    UPDATE feedback f
    SET reviewed_at = now(), is_accepted = p_accepted, relevant_documents = p_relevant
    WHERE f.id = p_id AND (p_updated_at IS NULL OR f.updated_at = p_updated_at)
    RETURNING f.tenant_id;
END;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['feedback_for_review', 'review_feedback'] LOOP
        EXECUTE format('ALTER FUNCTION %I OWNER TO polyplane_definer', name);
        EXECUTE format('REVOKE ALL ON FUNCTION %I FROM PUBLIC', name);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %I TO polyplane_gateway', name);
    END LOOP;
END
$$;

-- Delete conversations of programs that have been idle for long, except those that somebody gave
-- feedback on; maintenance removes the messages. Returns how many.
CREATE INDEX idle_unlisted_conversations ON conversations (updated_at)
    WHERE NOT is_listed AND deleted_at IS NULL;
CREATE FUNCTION expire_unlisted(p_age interval, p_conversations integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_count integer;
BEGIN
    UPDATE conversations SET deleted_at = now(), title = ''
    WHERE id IN (
        SELECT c.id FROM conversations c
        WHERE NOT c.is_listed AND c.deleted_at IS NULL AND c.updated_at < now() - p_age
          AND NOT EXISTS (SELECT FROM answers a JOIN feedback f ON f.message_id = a.message_id
                          WHERE a.conversation_id = c.id)
        ORDER BY c.updated_at LIMIT p_conversations FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END
$$;
ALTER FUNCTION expire_unlisted(interval, integer) OWNER TO polyplane_definer;
REVOKE ALL ON FUNCTION expire_unlisted(interval, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION expire_unlisted(interval, integer) TO polyplane_gateway;
