-- Streams that go on after a broken connection: where an answer stands, and how it is stopped.

-- Of answers billed before this revision the place is not known.
ALTER TABLE ledger ADD COLUMN conversation_id uuid, ADD COLUMN message_id uuid, ADD COLUMN seq integer;

-- stopped_at: its client wants no more; whoever writes the answer ends it at the next checkpoint.
-- regenerates: it answers a question that stands already, so undoing it takes nothing back.
ALTER TABLE reservations
    ADD COLUMN stopped_at timestamptz,
    ADD COLUMN regenerates boolean NOT NULL DEFAULT false;

-- As before; the ledger also says where the answer stands.
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
        prompt_tokens, completion_tokens, cost_usd, created_at, conversation_id, message_id, seq)
    VALUES (p_ledger, v.tenant_id, v.user_id, v.id, 'answer', v.period, p_model, v.mode,
        p_prompt, p_completion, v_cost, v.created_at, v.conversation_id, v.message_id, v.seq);
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

-- As before, but an answer that was stopped is kept alive no more: its writer settles it now.
CREATE OR REPLACE FUNCTION checkpoint_answer(
    p_tenant uuid, p_answer uuid, p_model text, p_prompt integer, p_completion integer,
    p_content text, p_lifetime interval
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE reservations r
    SET model = p_model, prompt_tokens = p_prompt, completion_tokens = p_completion,
        content = p_content, expires_at = now() + p_lifetime
    WHERE r.id = p_answer AND r.tenant_id = p_tenant AND r.stopped_at IS NULL;
    RETURN FOUND;
END
$$;

-- Ask whoever writes an answer to end it; the sweeper does so after p_lifetime where nobody writes.
-- False: the user has no such answer under way.
CREATE FUNCTION stop_answer(p_tenant uuid, p_user uuid, p_answer uuid, p_lifetime interval)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE reservations r
    SET stopped_at = coalesce(r.stopped_at, now()),
        expires_at = least(r.expires_at, now() + p_lifetime)
    WHERE r.id = p_answer AND r.tenant_id = p_tenant AND r.user_id = p_user;
    RETURN FOUND;
END
$$;

-- As before, but a question that stood already stays.
CREATE OR REPLACE FUNCTION release_answer(p_tenant uuid, p_answer uuid, p_undo boolean)
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
    IF v.regenerates THEN
        RETURN true;
    END IF;
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

-- Make an answer that was just reserved the newest one to the question before p_seq, in the same
-- transaction: the question that reserve_answer has stored is taken back. False: that question is
-- not the conversation's last one any more, and the transaction must be rolled back.
CREATE FUNCTION regenerate_answer(p_tenant uuid, p_answer uuid, p_seq integer)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v reservations%ROWTYPE;
BEGIN
    SELECT * INTO v FROM reservations r WHERE r.id = p_answer AND r.tenant_id = p_tenant;
    -- v.seq is two more than what the conversation counted: its answer, or a question without one
    IF NOT FOUND OR v.creates_conversation OR v.seq - 2 NOT IN (p_seq, p_seq - 1) THEN
        RETURN false;
    END IF;
    DELETE FROM outbox o WHERE o.held_by = v.id;
    UPDATE reservations r SET seq = p_seq, regenerates = true WHERE r.id = v.id;
    UPDATE conversations c SET message_count = v.seq - 2 WHERE c.id = v.conversation_id;
    RETURN true;
END
$$;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['stop_answer', 'regenerate_answer'] LOOP
        EXECUTE format('ALTER FUNCTION %I OWNER TO polyplane_definer', name);
        EXECUTE format('REVOKE ALL ON FUNCTION %I FROM PUBLIC', name);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %I TO polyplane_gateway', name);
    END LOOP;
END
$$;
