-- API keys: hashed, scoped, ended like sessions; and how sessions and keys stand, for open streams.

CREATE TABLE api_keys (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    user_id uuid NOT NULL REFERENCES users,
    name text NOT NULL,
    prefix text NOT NULL,               -- what lists show of the key
    key_hash bytea NOT NULL UNIQUE,     -- SHA-256 of the whole key
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,           -- to the minute
    expires_at timestamptz,
    ended_at timestamptz,
    -- a key acts as its maker in one tenant: who leaves the tenant takes it along
    FOREIGN KEY (user_id, tenant_id) REFERENCES memberships ON DELETE CASCADE
);
CREATE INDEX ON api_keys (user_id, tenant_id, id DESC) WHERE ended_at IS NULL;

ALTER TABLE api_keys ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON api_keys USING (
    tenant_id = current_tenant() OR user_id = current_account()
);
CREATE POLICY across_tenants ON api_keys TO polyplane_definer USING (true);
CREATE POLICY standing ON sessions FOR SELECT TO polyplane_definer USING (true);
GRANT SELECT, INSERT, UPDATE (ended_at) ON api_keys TO polyplane_gateway;
GRANT SELECT, UPDATE (last_used_at, ended_at) ON api_keys TO polyplane_definer;
GRANT SELECT ON users, sessions, memberships, tenants TO polyplane_definer;

-- How the key with a hash stands: no row where it is unknown, ended, expired or its maker disabled.
-- Notes the use, at most about once a minute.
CREATE FUNCTION api_key_standing(p_hash bytea)
RETURNS TABLE (
    id uuid, tenant_id uuid, user_id uuid, role text, version integer, scopes text[],
    expires_at timestamptz, requests_per_minute integer, chat_requests_per_minute integer,
    upload_requests_per_minute integer, search_requests_per_minute integer
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_column
BEGIN
    UPDATE api_keys k SET last_used_at = now()
    WHERE k.key_hash = p_hash AND k.ended_at IS NULL
      AND (k.expires_at IS NULL OR k.expires_at > now())
      AND (k.last_used_at IS NULL OR k.last_used_at < now() - interval '50 seconds');
    RETURN QUERY
    SELECT k.id, k.tenant_id, k.user_id, m.role, u.version, k.scopes, k.expires_at,
           p.requests_per_minute, p.chat_requests_per_minute, p.upload_requests_per_minute,
           p.search_requests_per_minute
    FROM api_keys k
    JOIN users u ON u.id = k.user_id
    JOIN memberships m ON m.user_id = k.user_id AND m.tenant_id = k.tenant_id
    JOIN tenants t ON t.id = k.tenant_id
    JOIN plans p ON p.name = t.plan
    WHERE k.key_hash = p_hash AND k.ended_at IS NULL AND u.disabled_at IS NULL
      AND (k.expires_at IS NULL OR k.expires_at > now());
END
$$;

-- Which of these sessions and API keys are alive, whosever they are.
CREATE FUNCTION session_standings(p_ids uuid[])
RETURNS TABLE (id uuid, version integer, role text)
LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT s.id, u.version, m.role
    FROM sessions s
    JOIN users u ON u.id = s.user_id
    JOIN memberships m ON m.user_id = s.user_id AND m.tenant_id = s.tenant_id
    WHERE s.id = ANY (p_ids) AND s.ended_at IS NULL AND u.disabled_at IS NULL
    UNION ALL
    SELECT k.id, u.version, m.role
    FROM api_keys k
    JOIN users u ON u.id = k.user_id
    JOIN memberships m ON m.user_id = k.user_id AND m.tenant_id = k.tenant_id
    WHERE k.id = ANY (p_ids) AND k.ended_at IS NULL AND u.disabled_at IS NULL
      AND (k.expires_at IS NULL OR k.expires_at > now());
END;

-- Everybody's sessions and API keys in a tenant, by user: what Redis may hold of its plan.
CREATE FUNCTION tenant_sessions(p_tenant uuid)
RETURNS TABLE (user_id uuid, ids uuid[])
LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT known.user_id, array_agg(known.id)
    FROM (
        SELECT s.user_id, s.id FROM sessions s
        WHERE s.tenant_id = p_tenant AND s.ended_at IS NULL
        UNION ALL
        SELECT k.user_id, k.id FROM api_keys k
        WHERE k.tenant_id = p_tenant AND k.ended_at IS NULL
    ) known
    GROUP BY known.user_id;
END;

-- Whoever is disabled loses the keys for good; enabling again does not bring them back.
CREATE FUNCTION end_keys_of_disabled() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE api_keys SET ended_at = now() WHERE user_id = NEW.id AND ended_at IS NULL;
    RETURN NULL;
END
$$;
CREATE TRIGGER end_keys AFTER UPDATE OF disabled_at ON users FOR EACH ROW
    WHEN (OLD.disabled_at IS NULL AND NEW.disabled_at IS NOT NULL)
    EXECUTE FUNCTION end_keys_of_disabled();

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['api_key_standing', 'session_standings', 'tenant_sessions'] LOOP
        EXECUTE format('ALTER FUNCTION %I OWNER TO polyplane_definer', name);
        EXECUTE format('REVOKE ALL ON FUNCTION %I FROM PUBLIC', name);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %I TO polyplane_gateway', name);
    END LOOP;
    ALTER FUNCTION end_keys_of_disabled() OWNER TO polyplane_definer;
    REVOKE ALL ON FUNCTION end_keys_of_disabled() FROM PUBLIC;
END
$$;
