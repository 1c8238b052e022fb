-- Plans with features and limits, their history, subscriptions and payments.

ALTER TABLE plans
    ADD COLUMN features text[] NOT NULL DEFAULT '{}',
    ADD COLUMN included_usage_usd numeric(20, 10)   -- NULL: the price includes all usage
        CHECK (included_usage_usd >= 0),
    ADD COLUMN upload_requests_per_minute integer NOT NULL DEFAULT 60,
    ADD COLUMN search_requests_per_minute integer NOT NULL DEFAULT 120,
    ADD CONSTRAINT limits_per_minute CHECK (    -- microseconds between requests are whole numbers
        requests_per_minute BETWEEN 1 AND 1000000
        AND chat_requests_per_minute BETWEEN 1 AND 1000000
        AND upload_requests_per_minute BETWEEN 1 AND 1000000
        AND search_requests_per_minute BETWEEN 1 AND 1000000
    );
UPDATE plans SET features = ARRAY[
    'open-chat', 'api-keys', 'invitations', 'oidc', 'webhooks', 'export', 'audit-log'
];
UPDATE plans SET upload_requests_per_minute = 600, search_requests_per_minute = 600
WHERE name = 'pro';
UPDATE plans SET upload_requests_per_minute = 3000, search_requests_per_minute = 3000
WHERE name = 'enterprise';

CREATE TABLE plan_terms (               -- append-only: what a plan promised when, for old invoices
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    plan text NOT NULL,
    title text NOT NULL,
    monthly_price_usd numeric(20, 10) NOT NULL,
    included_usage_usd numeric(20, 10),
    valid_from timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO plan_terms (plan, title, monthly_price_usd, included_usage_usd, valid_from)
SELECT name, title, monthly_price_usd, included_usage_usd, to_timestamp(0) FROM plans ORDER BY position;

CREATE FUNCTION note_plan_terms() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT'
       OR (NEW.name, NEW.title, NEW.monthly_price_usd, NEW.included_usage_usd)
          IS DISTINCT FROM (OLD.name, OLD.title, OLD.monthly_price_usd, OLD.included_usage_usd) THEN
        INSERT INTO plan_terms (plan, title, monthly_price_usd, included_usage_usd)
        VALUES (NEW.name, NEW.title, NEW.monthly_price_usd, NEW.included_usage_usd);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER note_terms AFTER INSERT OR UPDATE ON plans
    FOR EACH ROW EXECUTE FUNCTION note_plan_terms();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON plan_terms
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
GRANT SELECT ON plan_terms TO polyplane_gateway, polyplane_definer;

-- A subscription is charged to the tenant by the terms of that moment, an answer to the user who
-- asked.
ALTER TABLE ledger
    ALTER COLUMN user_id DROP NOT NULL,
    ADD COLUMN terms_id bigint REFERENCES plan_terms,
    ADD CONSTRAINT known_kind CHECK (kind IN ('answer', 'subscription')),
    ADD CONSTRAINT answers_have_users CHECK (kind <> 'answer' OR user_id IS NOT NULL),
    ADD CONSTRAINT charges_have_terms CHECK (kind <> 'subscription' OR terms_id IS NOT NULL);
CREATE INDEX ON ledger (tenant_id, period);
REVOKE UPDATE, DELETE, TRUNCATE ON ledger FROM polyplane_gateway, polyplane_definer;

CREATE TABLE plan_changes (             -- append-only; the plan of any moment is read from here
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    from_plan text NOT NULL REFERENCES plans,
    to_plan text NOT NULL REFERENCES plans,
    period date NOT NULL,               -- the month in which it took effect
    actor_kind text NOT NULL CHECK (actor_kind IN ('user', 'operator', 'payment-provider')),
    actor_id uuid,
    changed_at timestamptz NOT NULL
);
CREATE INDEX ON plan_changes (tenant_id, changed_at);

CREATE TABLE subscriptions (            -- what a payment provider charges for; the id is its own
    id text PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    customer_id text NOT NULL,
    plan text NOT NULL REFERENCES plans,
    price_id text,                      -- the provider's, of the plan; NULL until it was told
    is_active boolean NOT NULL,
    ended boolean NOT NULL DEFAULT false,
    told_at timestamptz NOT NULL        -- when the provider made the newest event that counted
);
CREATE INDEX ON subscriptions (tenant_id);

CREATE TABLE payment_events (           -- each acts once; the id is the provider's
    id text PRIMARY KEY,
    tenant_id uuid REFERENCES tenants,  -- NULL: it is about nobody that we know
    kind text NOT NULL,
    effect text NOT NULL,               -- 'applied', 'stale', 'unknown-tenant' or 'ignored'
    created_at timestamptz NOT NULL,    -- by the provider's clock
    received_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON payment_events (tenant_id);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['plan_changes', 'subscriptions'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY own_tenant ON %I USING (tenant_id = current_tenant())', name);
        EXECUTE format('CREATE POLICY across_tenants ON %I TO polyplane_definer USING (true)', name);
    END LOOP;
END
$$;
ALTER TABLE payment_events ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON payment_events
    USING (tenant_id IS NOT DISTINCT FROM current_tenant());
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON plan_changes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

REVOKE UPDATE (plan) ON tenants FROM polyplane_gateway;     -- change_plan is the only way
GRANT SELECT ON plan_changes TO polyplane_gateway, polyplane_definer;
GRANT INSERT ON plan_changes TO polyplane_definer;
GRANT SELECT, INSERT ON subscriptions, payment_events TO polyplane_gateway;
GRANT UPDATE (plan, price_id, is_active, ended, told_at) ON subscriptions TO polyplane_gateway;
GRANT SELECT ON subscriptions TO polyplane_definer;

-- The row that reservations, settlements and plan changes of a tenant's month queue at.
CREATE FUNCTION lock_quota(p_tenant uuid, p_period date) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO quota_periods (tenant_id, period) VALUES (p_tenant, p_period) ON CONFLICT DO NOTHING;
    PERFORM FROM quota_periods q WHERE q.tenant_id = p_tenant AND q.period = p_period FOR UPDATE;
END
$$;

-- Charge a month of a plan, once however often it is called, less what the tenant was already
-- charged for the month; returns what was added. The caller holds the month's quota row.
CREATE FUNCTION charge_plan(p_tenant uuid, p_period date, p_plan text) RETURNS numeric
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    v_due numeric(20, 10);
    v_terms bigint;
    v_request uuid := md5(concat_ws('|', 'subscription', p_tenant, p_period, p_plan))::uuid;
BEGIN
    SELECT x.id, x.monthly_price_usd - coalesce((
        SELECT sum(l.cost_usd) FROM ledger l
        WHERE l.tenant_id = p_tenant AND l.period = p_period AND l.kind = 'subscription'), 0)
    INTO v_terms, v_due FROM plan_terms x WHERE x.plan = p_plan ORDER BY x.id DESC LIMIT 1;
    IF v_due > 0 THEN
        INSERT INTO ledger (id, tenant_id, user_id, request_id, kind, period, model, mode,
            prompt_tokens, completion_tokens, cost_usd, terms_id)
        VALUES (gen_random_uuid(), p_tenant, NULL, v_request, 'subscription', p_period, p_plan,
            'plan', 0, 0, v_due, v_terms)
        ON CONFLICT (request_id, kind) DO NOTHING;
        IF FOUND THEN
            RETURN v_due;
        END IF;
    END IF;
    RETURN 0;
END
$$;

-- Charge this month of paid plans that were not charged yet, of up to p_tenants tenants, whose
-- questions wait meanwhile; returns how many were charged. 0: none is left.
CREATE FUNCTION charge_subscriptions(p_tenants integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_period date := current_period();
    v_tenant uuid;
    v_plan text;
    v_count integer := 0;
BEGIN
    FOR v_tenant IN
        SELECT t.id FROM tenants t JOIN plans p ON p.name = t.plan
        WHERE t.deleted_at IS NULL AND p.monthly_price_usd > coalesce((
            SELECT sum(l.cost_usd) FROM ledger l WHERE l.tenant_id = t.id AND l.period = v_period
              AND l.kind = 'subscription'), 0)
          AND NOT EXISTS (    -- one whose price was raised since is charged it next month
            SELECT FROM ledger l WHERE l.tenant_id = t.id AND l.period = v_period
              AND l.kind = 'subscription' AND l.model = t.plan)
        ORDER BY t.id LIMIT p_tenants
    LOOP
        PERFORM lock_quota(v_tenant, v_period);
        SELECT t.plan INTO v_plan FROM tenants t WHERE t.id = v_tenant;
        IF charge_plan(v_tenant, v_period, v_plan) > 0 THEN
            v_count := v_count + 1;
        END IF;
    END LOOP;
    RETURN v_count;
END
$$;

-- Move a tenant to another plan, with its history and its charge. Every reservation is either before
-- it or after it, because both hold the month's quota row. Returns the plan before and what was
-- charged; no row: no such tenant. The same plan again changes nothing.
CREATE FUNCTION change_plan(
    p_tenant uuid, p_plan text, p_change uuid, p_actor_kind text, p_actor uuid
) RETURNS TABLE (from_plan text, charged_usd numeric)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_period date := current_period();
    v_from text;
    v_charged numeric := 0;
BEGIN
    IF NOT EXISTS (SELECT FROM tenants t WHERE t.id = p_tenant) THEN
        RETURN;
    END IF;
    PERFORM lock_quota(p_tenant, v_period);
    SELECT t.plan INTO v_from FROM tenants t
    WHERE t.id = p_tenant AND t.deleted_at IS NULL FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF v_from <> p_plan THEN
        v_charged := charge_plan(p_tenant, v_period, v_from);   -- it was active in this month
        UPDATE tenants t SET plan = p_plan WHERE t.id = p_tenant;
        INSERT INTO plan_changes
            (id, tenant_id, from_plan, to_plan, period, actor_kind, actor_id, changed_at)
        VALUES (p_change, p_tenant, v_from, p_plan, v_period, p_actor_kind, p_actor,
            clock_timestamp());
        v_charged := v_charged + charge_plan(p_tenant, v_period, p_plan);
    END IF;
    RETURN QUERY SELECT v_from, v_charged;
END
$$;

-- As before, but the plan is read under the lock of the quota: a plan change that was committed
-- before the question is counted decides it. One more status, 'open-chat': the plan, whose name
-- stands in answer_mode, has no open chat.
CREATE OR REPLACE FUNCTION reserve_answer(
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

    PERFORM lock_quota(p_tenant, v_period);
    SELECT p.* INTO v_plan FROM tenants t JOIN plans p ON p.name = t.plan
    WHERE t.id = p_tenant AND t.deleted_at IS NULL;
    IF NOT FOUND THEN   -- let in just before its tenant was deleted: nothing may be left of it
        RETURN QUERY SELECT 'absent', NULL::integer, NULL::uuid[], NULL, NULL::uuid[], NULL::integer;
        RETURN;
    END IF;
    IF coalesce(p_mode, v_conversation.mode) = 'open' AND 'open-chat' <> ALL (v_plan.features) THEN
        RETURN QUERY SELECT 'open-chat', NULL::integer, NULL::uuid[], v_plan.name, NULL::uuid[],
            NULL::integer;
        RETURN;
    END IF;
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

-- As before, but the ledger dates an answer by its question, so that its day and its month agree,
-- also for those that midnight overtakes.
CREATE OR REPLACE FUNCTION settle_answer(
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
        prompt_tokens, completion_tokens, cost_usd, created_at)
    VALUES (p_ledger, v.tenant_id, v.user_id, v.id, 'answer', v.period, p_model, v.mode,
        p_prompt, p_completion, v_cost, v.created_at);
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

-- What the quota rows should say, from the ledger and the open reservations.
CREATE VIEW rebuilt_quotas AS
SELECT tenant_id, period,
       sum(messages_used)::bigint AS messages_used,
       sum(messages_reserved)::bigint AS messages_reserved,
       sum(tokens_used)::bigint AS tokens_used, sum(tokens_reserved)::bigint AS tokens_reserved,
       sum(cost_usd_used) AS cost_usd_used, sum(cost_usd_reserved) AS cost_usd_reserved
FROM (
    SELECT l.tenant_id, l.period, 1 AS messages_used, 0 AS messages_reserved,
           l.prompt_tokens + l.completion_tokens AS tokens_used, 0 AS tokens_reserved,
           l.cost_usd AS cost_usd_used, 0 AS cost_usd_reserved
    FROM ledger l WHERE l.kind = 'answer'
    UNION ALL
    SELECT r.tenant_id, r.period, 0, 1, 0, r.tokens, 0, r.cost_usd FROM reservations r
) AS entries
GROUP BY tenant_id, period;

-- Quota rows that differ from what the ledger says; of all tenants, in one snapshot.
CREATE FUNCTION ledger_differences() RETURNS TABLE (
    tenant_id uuid, period date, quantity text, kept numeric, rebuilt numeric
) LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT coalesce(q.tenant_id, b.tenant_id), coalesce(q.period, b.period), v.quantity,
           coalesce(v.kept, 0), coalesce(v.rebuilt, 0)
    FROM quota_periods q
    FULL JOIN rebuilt_quotas b ON b.tenant_id = q.tenant_id AND b.period = q.period
    CROSS JOIN LATERAL (VALUES
        ('messages_used', q.messages_used::numeric, b.messages_used::numeric),
        ('messages_reserved', q.messages_reserved, b.messages_reserved),
        ('tokens_used', q.tokens_used, b.tokens_used),
        ('tokens_reserved', q.tokens_reserved, b.tokens_reserved),
        ('cost_usd_used', q.cost_usd_used, b.cost_usd_used),
        ('cost_usd_reserved', q.cost_usd_reserved, b.cost_usd_reserved)
    ) AS v (quantity, kept, rebuilt)
    WHERE coalesce(v.kept, 0) <> coalesce(v.rebuilt, 0)
    ORDER BY 1, 2, 3;
END;

-- Write a tenant's quota row of one month anew from the ledger and the open reservations.
CREATE FUNCTION rebuild_quota(p_tenant uuid, p_period date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM lock_quota(p_tenant, p_period);
    UPDATE quota_periods q
    SET (messages_used, messages_reserved, tokens_used, tokens_reserved, cost_usd_used,
         cost_usd_reserved) = (
        SELECT coalesce(sum(b.messages_used), 0), coalesce(sum(b.messages_reserved), 0),
               coalesce(sum(b.tokens_used), 0), coalesce(sum(b.tokens_reserved), 0),
               coalesce(sum(b.cost_usd_used), 0), coalesce(sum(b.cost_usd_reserved), 0)
        FROM rebuilt_quotas b WHERE b.tenant_id = p_tenant AND b.period = p_period)
    WHERE q.tenant_id = p_tenant AND q.period = p_period;
END
$$;

-- Whose subscription of the payment provider it is.
CREATE FUNCTION tenant_of_subscription(p_subscription text) RETURNS uuid
LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT s.tenant_id FROM subscriptions s WHERE s.id = p_subscription;
END;

ALTER VIEW rebuilt_quotas OWNER TO polyplane_definer;
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['lock_quota', 'charge_plan'] LOOP
        EXECUTE format('ALTER FUNCTION %I OWNER TO polyplane_definer', name);
        EXECUTE format('REVOKE ALL ON FUNCTION %I FROM PUBLIC', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY[
        'charge_subscriptions', 'change_plan', 'ledger_differences', 'rebuild_quota',
        'tenant_of_subscription'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %I OWNER TO polyplane_definer', name);
        EXECUTE format('REVOKE ALL ON FUNCTION %I FROM PUBLIC', name);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %I TO polyplane_gateway', name);
    END LOOP;
END
$$;
