-- While a backup reads stores beside this database, nothing is removed from them. What was deleted
-- before is out of search and out of the backup; what is deleted meanwhile waits for the backup's end.

CREATE TABLE removal_holds (            -- each lapses by itself, should its holder die
    id uuid PRIMARY KEY,
    until timestamptz NOT NULL
);
GRANT SELECT ON removal_holds TO polyplane_definer;

CREATE FUNCTION removal_is_held() RETURNS boolean
LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT EXISTS (SELECT FROM removal_holds WHERE until > now());
END;
ALTER FUNCTION removal_is_held OWNER TO polyplane_definer;
REVOKE ALL ON FUNCTION removal_is_held FROM PUBLIC;

-- As before; what cannot be claimed now does not count.
CREATE OR REPLACE FUNCTION waiting_work() RETURNS TABLE (documents bigint, removals bigint)
LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT
        (SELECT count(*) FROM document_versions v JOIN documents d ON d.id = v.document_id
         WHERE v.status IN ('received', 'parsing', 'embedding') AND v.next_attempt_at <= now()
           AND coalesce(v.lease_until, '-infinity') <= now() AND d.deleted_at IS NULL),
        CASE WHEN removal_is_held() THEN 0 ELSE
            (SELECT count(*) FROM deletions
             WHERE completed_at IS NULL AND coalesce(lease_until, '-infinity') <= now())
            + (SELECT count(*) FROM document_versions v JOIN documents d ON d.id = v.document_id
               WHERE v.visibility = 'hidden' AND d.deleted_at IS NULL
                 AND (v.id IS DISTINCT FROM d.newest_version_id
                      OR v.status IN ('failed', 'cancelled'))
                 AND coalesce(v.lease_until, '-infinity') <= now())
        END;
END;

-- As before; nothing is claimed while a hold stands.
CREATE OR REPLACE FUNCTION claim_deletions(p_worker text, p_documents integer, p_lease interval)
RETURNS SETOF deletions LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
BEGIN ATOMIC
    UPDATE deletions SET lease_owner = p_worker, lease_until = now() + p_lease
    WHERE id IN (
        SELECT d.id FROM deletions d
        WHERE d.completed_at IS NULL AND coalesce(d.lease_until, '-infinity') <= now()
          AND NOT removal_is_held()
        ORDER BY d.requested_at LIMIT p_documents FOR UPDATE SKIP LOCKED
    )
    RETURNING *;
END;

CREATE OR REPLACE FUNCTION claim_stale_versions(
    p_worker text, p_versions integer, p_lease interval
) RETURNS SETOF document_versions LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
BEGIN ATOMIC
    UPDATE document_versions SET lease_owner = p_worker, lease_until = now() + p_lease
    WHERE id IN (
        SELECT v.id FROM document_versions v JOIN documents d ON d.id = v.document_id
        WHERE v.visibility = 'hidden' AND d.deleted_at IS NULL AND NOT removal_is_held()
          AND (v.id IS DISTINCT FROM d.newest_version_id OR v.status IN ('failed', 'cancelled'))
          AND coalesce(v.lease_until, '-infinity') <= now()
        LIMIT p_versions FOR UPDATE OF v SKIP LOCKED
    )
    RETURNING *;
END;

CREATE OR REPLACE FUNCTION purgeable_conversations(p_conversations integer)
RETURNS TABLE (tenant_id uuid, conversation_id uuid)
LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT c.tenant_id, c.id FROM conversations c
    WHERE c.deleted_at IS NOT NULL AND NOT removal_is_held()
      AND NOT EXISTS (SELECT FROM reservations r WHERE r.conversation_id = c.id)
      AND NOT EXISTS (SELECT FROM outbox o WHERE o.conversation_id = c.id)
    LIMIT p_conversations;
END;

CREATE OR REPLACE FUNCTION claim_tenant_deletion(p_lease interval) RETURNS SETOF tenant_deletions
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
BEGIN ATOMIC
    UPDATE tenant_deletions SET lease_until = now() + p_lease
    WHERE id IN (SELECT d.id FROM tenant_deletions d
                 WHERE d.completed_at IS NULL AND d.lease_until <= now() AND NOT removal_is_held()
                 ORDER BY d.lease_until LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING *;
END;

-- The generation that a backup reads may be retired meanwhile, but stays.
CREATE FUNCTION keep_generations() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    RAISE 'A backup is being made: drop generation % when that has ended.', NEW.number;
END
$$;
CREATE TRIGGER keep_generations BEFORE UPDATE OF state ON generations
    FOR EACH ROW WHEN (NEW.state = 'dropped' AND removal_is_held())
    EXECUTE FUNCTION keep_generations();
REVOKE ALL ON FUNCTION keep_generations FROM PUBLIC;
