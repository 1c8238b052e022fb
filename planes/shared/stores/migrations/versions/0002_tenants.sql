-- Invitations, exports under way, the deletion of tenants and accounts, and what they leave.

ALTER TABLE tenants ADD COLUMN deleted_at timestamptz;  -- nobody enters it any more
ALTER TABLE users ADD COLUMN deleted_at timestamptz;    -- the row stays, without a name or address

CREATE TABLE invitations (              -- open ones; accepting or withdrawing deletes the row
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    email text NOT NULL,
    email_key text NOT NULL,            -- case-folded
    role text NOT NULL CHECK (role IN ('viewer', 'member', 'admin', 'owner')),
    token_hash bytea NOT NULL UNIQUE,   -- SHA-256 of the token
    invited_by uuid NOT NULL REFERENCES users,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    UNIQUE (tenant_id, email_key)
);
CREATE INDEX ON invitations (tenant_id, id DESC);

CREATE TABLE exports (                  -- under way: one of each tenant, and one of each person in it
    tenant_id uuid NOT NULL REFERENCES tenants,
    subject_id uuid NOT NULL,           -- the tenant or the person whose data it holds
    holder uuid NOT NULL,
    lease_until timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, subject_id)
);

CREATE TABLE tenant_deletions (         -- a receipt: what was removed where
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL UNIQUE REFERENCES tenants,
    requested_by uuid NOT NULL REFERENCES users,
    receipt_hash bytea NOT NULL UNIQUE, -- SHA-256 of what shows the receipt
    removed_rows jsonb NOT NULL DEFAULT '{}',   -- by table of this database
    chunks bigint NOT NULL DEFAULT 0,
    files bigint NOT NULL DEFAULT 0,
    cache_entries bigint NOT NULL DEFAULT 0,
    chat_messages bigint NOT NULL DEFAULT 0,
    redis_keys bigint NOT NULL DEFAULT 0,
    requested_at timestamptz NOT NULL DEFAULT now(),
    -- requests that were let in a moment before are over when the work begins
    lease_until timestamptz NOT NULL DEFAULT now() + interval '2 seconds',
    completed_at timestamptz
);
CREATE INDEX open_tenant_deletions ON tenant_deletions (requested_at) WHERE completed_at IS NULL;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['invitations', 'exports', 'tenant_deletions'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY own_tenant ON %I USING (tenant_id = current_tenant())', name);
        EXECUTE format('CREATE POLICY across_tenants ON %I TO polyplane_definer USING (true)', name);
    END LOOP;
END
$$;
CREATE POLICY across_tenants ON sessions TO polyplane_definer USING (true);

GRANT SELECT, INSERT, UPDATE, DELETE ON invitations, exports TO polyplane_gateway;
GRANT SELECT, INSERT ON tenant_deletions TO polyplane_gateway;
GRANT UPDATE (removed_rows, chunks, files, cache_entries, chat_messages, redis_keys, lease_until,
    completed_at) ON tenant_deletions TO polyplane_gateway;
GRANT UPDATE (deleted_at) ON tenants TO polyplane_gateway;
GRANT UPDATE (email, email_key, deleted_at) ON users TO polyplane_gateway;
GRANT DELETE ON sessions TO polyplane_gateway;

GRANT SELECT ON invitations TO polyplane_definer;
GRANT SELECT, UPDATE ON tenant_deletions TO polyplane_definer;
GRANT SELECT, DELETE ON job_items, jobs, deletions, version_terms, document_versions, documents,
    corpus_languages, term_frequencies, chunks_g1, outbox, chat_messages, conversations, uploads,
    invitations, exports, sessions, memberships TO polyplane_definer;

-- In which tenant an invitation stands. Its token's hash is all that the invited person has.
CREATE FUNCTION tenant_of_invitation(p_token_hash bytea) RETURNS uuid
LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT i.tenant_id FROM invitations i WHERE i.token_hash = p_token_hash;
END;

-- Take the present account's conversations out of every tenant; maintenance removes the messages.
CREATE FUNCTION tombstone_own_conversations() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
BEGIN ATOMIC
    UPDATE conversations SET deleted_at = now(), title = ''
    WHERE user_id = current_account() AND deleted_at IS NULL;
END;

-- The receipt of a deleted tenant, for whoever can show it: no member's token lives any more.
CREATE FUNCTION tenant_receipt(p_receipt_hash bytea) RETURNS SETOF tenant_deletions
LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT d.* FROM tenant_deletions d WHERE d.receipt_hash = p_receipt_hash;
END;

-- Lease the removal of one deleted tenant; a lease that runs out is given again.
CREATE FUNCTION claim_tenant_deletion(p_lease interval) RETURNS SETOF tenant_deletions
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
BEGIN ATOMIC
    UPDATE tenant_deletions SET lease_until = now() + p_lease
    WHERE id IN (SELECT d.id FROM tenant_deletions d
                 WHERE d.completed_at IS NULL AND d.lease_until <= now()
                 ORDER BY d.lease_until LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING *;
END;

-- The tables whose rows go with their tenant, those that others refer to last.
CREATE FUNCTION erasable_tables() RETURNS text[] LANGUAGE sql IMMUTABLE
RETURN ARRAY[
    'job_items', 'jobs', 'deletions', 'version_terms', 'document_versions', 'documents',
    'corpus_languages', 'term_frequencies', 'chunks_g1', 'outbox', 'chat_messages',
    'conversations', 'uploads', 'invitations', 'exports', 'idempotent_requests', 'sessions',
    'memberships'
];

-- Delete up to p_rows rows of a deleted tenant and note them in its receipt. 0: none is left.
CREATE FUNCTION erase_tenant(p_tenant uuid, p_rows integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_table text;
    v_rows bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM tenants t WHERE t.id = p_tenant AND t.deleted_at IS NOT NULL) THEN
        RAISE EXCEPTION 'tenant % is not deleted', p_tenant;
    END IF;
    FOREACH v_table IN ARRAY erasable_tables() LOOP
        EXECUTE format(
            'DELETE FROM %1$I WHERE tenant_id = $1 AND ctid = ANY (ARRAY('
            'SELECT ctid FROM %1$I WHERE tenant_id = $1 LIMIT $2))', v_table
        ) USING p_tenant, p_rows;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        IF v_rows > 0 THEN
            UPDATE tenant_deletions d
            SET removed_rows = d.removed_rows || jsonb_build_object(
                v_table, coalesce((d.removed_rows ->> v_table)::bigint, 0) + v_rows)
            WHERE d.tenant_id = p_tenant;
            RETURN v_rows;
        END IF;
    END LOOP;
    RETURN 0;
END
$$;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'tenant_of_invitation', 'tombstone_own_conversations', 'tenant_receipt',
        'claim_tenant_deletion', 'erase_tenant'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %I OWNER TO polyplane_definer', name);
        EXECUTE format('REVOKE ALL ON FUNCTION %I FROM PUBLIC', name);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %I TO polyplane_gateway', name);
    END LOOP;
END
$$;
