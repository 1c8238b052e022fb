-- Requests that a client may repeat, and what they were answered.

-- A request is one of three:
--   in flight   `completed_at` and `answer_id` are NULL: an attempt holds it until `locked_until`
--   completed   `completed_at` is set: status and body stand here
--   an answer   `answer_id` is set: under way, settled or given back, as reservations and ledger say
CREATE TABLE idempotent_requests (
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    key text NOT NULL,
    fingerprint bytea NOT NULL,         -- SHA-256 of method, path and content
    attempt uuid NOT NULL,              -- who holds the request: only this attempt may have its effect
    locked_until timestamptz NOT NULL,
    completed_at timestamptz,
    response_status integer,
    response_body text,
    answer_id uuid,
    conversation_id uuid,               -- of the answer
    message_id uuid,                    -- of the answer
    seq integer,                        -- of the answer
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, user_id, key)
);
CREATE INDEX ON idempotent_requests (user_id);
CREATE INDEX ON idempotent_requests (created_at);

ALTER TABLE idempotent_requests ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON idempotent_requests USING (tenant_id = current_tenant());
CREATE POLICY across_tenants ON idempotent_requests TO polyplane_definer USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON idempotent_requests TO polyplane_gateway;
GRANT SELECT, UPDATE, DELETE ON idempotent_requests TO polyplane_definer;

-- Forget requests that are older than a client may repeat them; returns how many.
CREATE FUNCTION forget_idempotent_requests(p_lifetime interval, p_requests integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_count integer;
BEGIN
    DELETE FROM idempotent_requests r
    WHERE (r.tenant_id, r.user_id, r.key) IN (
        SELECT o.tenant_id, o.user_id, o.key FROM idempotent_requests o
        WHERE o.created_at <= now() - p_lifetime
        ORDER BY o.created_at LIMIT p_requests FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END
$$;

-- Billing at the edges: a checkpoint names the model that answers, so that the sweeper bills an
-- answer whose gateway died at that model's price, not at the price of the model reserved for.
DROP FUNCTION checkpoint_answer(uuid, uuid, integer, integer, text, interval);
CREATE FUNCTION checkpoint_answer(
    p_tenant uuid, p_answer uuid, p_model text, p_prompt integer, p_completion integer,
    p_content text, p_lifetime interval
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE reservations r
    SET model = p_model, prompt_tokens = p_prompt, completion_tokens = p_completion,
        content = p_content, expires_at = now() + p_lifetime
    WHERE r.id = p_answer AND r.tenant_id = p_tenant;
    RETURN FOUND;
END
$$;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['forget_idempotent_requests', 'checkpoint_answer'] LOOP
        EXECUTE format('ALTER FUNCTION %I OWNER TO polyplane_definer', name);
        EXECUTE format('REVOKE ALL ON FUNCTION %I FROM PUBLIC', name);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %I TO polyplane_gateway', name);
    END LOOP;
END
$$;
