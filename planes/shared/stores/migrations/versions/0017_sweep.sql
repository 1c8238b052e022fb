-- As in 0001_chat.sql and 0005_feedback.sql; but a reservation that cannot be ended, because its
-- tenant's books do not allow it, no longer stops those of everybody that come after it. It is tried again
-- ten minutes later and counted as looked after, its amount stays reserved, and a warning says whose it is.
-- What passes by itself (a deadlock, a lock's or a statement's deadline) fails as before and is tried
-- again at once.
CREATE OR REPLACE FUNCTION sweep_reservations(p_answers integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v reservations%ROWTYPE;
    v_count integer := 0;
BEGIN
    FOR v IN SELECT * FROM reservations r WHERE r.expires_at <= now()
             ORDER BY r.expires_at LIMIT p_answers FOR UPDATE SKIP LOCKED LOOP
        BEGIN
            IF v.completion_tokens > 0 THEN
                PERFORM settle_answer(v.tenant_id, v.id, gen_random_uuid(), v.model,
                    v.prompt_tokens, v.completion_tokens, jsonb_build_object(
                        'content', v.content, 'citations', '[]'::jsonb, 'grounded', false,
                        'finish_reason', 'cancelled', 'created_at', now()));
            ELSE
                PERFORM release_answer(v.tenant_id, v.id, false);
            END IF;
        EXCEPTION WHEN integrity_constraint_violation OR data_exception OR raise_exception THEN
            UPDATE reservations r SET expires_at = now() + interval '10 minutes'
            WHERE r.tenant_id = v.tenant_id AND r.id = v.id;
            RAISE WARNING 'reservation % of tenant % cannot be ended (polyplane admin check-ledger): %',
                v.id, v.tenant_id, SQLERRM;
        END;
        v_count := v_count + 1;
    END LOOP;
    RETURN v_count;
END
$$;

CREATE OR REPLACE FUNCTION sweep_embeddings(p_requests integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v embedding_reservations%ROWTYPE;
    v_count integer := 0;
BEGIN
    FOR v IN SELECT * FROM embedding_reservations r WHERE r.expires_at <= now()
             ORDER BY r.expires_at LIMIT p_requests FOR UPDATE SKIP LOCKED LOOP
        BEGIN
            PERFORM release_embedding(v.tenant_id, v.id);
        EXCEPTION WHEN integrity_constraint_violation OR data_exception OR raise_exception THEN
            UPDATE embedding_reservations r SET expires_at = now() + interval '10 minutes'
            WHERE r.tenant_id = v.tenant_id AND r.id = v.id;
            RAISE WARNING 'reservation % of tenant % cannot be ended (polyplane admin check-ledger): %',
                v.id, v.tenant_id, SQLERRM;
        END;
        v_count := v_count + 1;
    END LOOP;
    RETURN v_count;
END
$$;
