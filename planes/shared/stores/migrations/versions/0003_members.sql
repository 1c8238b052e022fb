-- A version of each membership, beside the user's: what ends rights in one tenant leaves the other
-- tenants alone. And what the operator's lists show.

-- Whoever leaves and comes back must not get a number again that an old token says: one sequence
-- for all memberships.
CREATE SEQUENCE membership_versions AS bigint;
GRANT USAGE ON SEQUENCE membership_versions TO polyplane_gateway;

ALTER TABLE memberships ADD COLUMN version bigint NOT NULL DEFAULT 0; -- tokens of before stay valid
ALTER TABLE memberships ALTER COLUMN version SET DEFAULT nextval('membership_versions');
GRANT UPDATE (version) ON memberships TO polyplane_gateway;

DROP FUNCTION api_key_standing(bytea);
DROP FUNCTION session_standings(uuid[]);

-- As before, with both versions.
CREATE FUNCTION api_key_standing(p_hash bytea)
RETURNS TABLE (
    id uuid, tenant_id uuid, user_id uuid, role text, user_version integer,
    membership_version bigint, scopes text[], expires_at timestamptz, requests_per_minute integer,
    chat_requests_per_minute integer, upload_requests_per_minute integer,
    search_requests_per_minute integer
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_column
BEGIN
    UPDATE api_keys k SET last_used_at = now()
    WHERE k.key_hash = p_hash AND k.ended_at IS NULL
      AND (k.expires_at IS NULL OR k.expires_at > now())
      AND (k.last_used_at IS NULL OR k.last_used_at < now() - interval '50 seconds');
    RETURN QUERY
    SELECT k.id, k.tenant_id, k.user_id, m.role, u.version, m.version, k.scopes, k.expires_at,
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

CREATE FUNCTION session_standings(p_ids uuid[])
RETURNS TABLE (id uuid, user_version integer, membership_version bigint, role text)
LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT s.id, u.version, m.version, m.role
    FROM sessions s
    JOIN users u ON u.id = s.user_id
    JOIN memberships m ON m.user_id = s.user_id AND m.tenant_id = s.tenant_id
    WHERE s.id = ANY (p_ids) AND s.ended_at IS NULL AND u.disabled_at IS NULL
    UNION ALL
    SELECT k.id, u.version, m.version, m.role
    FROM api_keys k
    JOIN users u ON u.id = k.user_id
    JOIN memberships m ON m.user_id = k.user_id AND m.tenant_id = k.tenant_id
    WHERE k.id = ANY (p_ids) AND k.ended_at IS NULL AND u.disabled_at IS NULL
      AND (k.expires_at IS NULL OR k.expires_at > now());
END;

-- Living tenants in the order in which they came, those after p_after; NULL: from the first on.
CREATE FUNCTION tenants_after(p_after uuid, p_limit integer)
RETURNS TABLE (id uuid, name text, plan text, members bigint, created_at timestamptz)
LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT t.id, t.name, t.plan,
           (SELECT count(*) FROM memberships m WHERE m.tenant_id = t.id), t.created_at
    FROM tenants t
    WHERE t.deleted_at IS NULL AND (p_after IS NULL OR t.id > p_after)
    ORDER BY t.id LIMIT p_limit;
END;

-- To which tenants each of these users belongs.
CREATE FUNCTION tenants_of(p_users uuid[])
RETURNS TABLE (user_id uuid, tenant_ids uuid[])
LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT m.user_id, array_agg(m.tenant_id ORDER BY m.tenant_id)
    FROM memberships m WHERE m.user_id = ANY (p_users) GROUP BY m.user_id;
END;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'api_key_standing', 'session_standings', 'tenants_after', 'tenants_of'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %I OWNER TO polyplane_definer', name);
        EXECUTE format('REVOKE ALL ON FUNCTION %I FROM PUBLIC', name);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %I TO polyplane_gateway', name);
    END LOOP;
END
$$;
