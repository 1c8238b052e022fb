-- Generations of the index stand in several stores, and may be copies of each other.

ALTER TABLE generations
    ADD COLUMN store text,              -- postgres, mongo or qdrant; null until it is migrated too
    ADD COLUMN copy_of integer REFERENCES generations,  -- the first that holds the same chunks
    ADD COLUMN verified jsonb;          -- what was compared with what it was copied from, and when

-- Whose chunks stand here stays here. The others are in the store that the settings name, if
-- anywhere: `polyplane migrate` notes which one it is.
DO $$
DECLARE
    v_number integer;
    v_is_here boolean;
BEGIN
    FOR v_number IN SELECT g.number FROM generations g WHERE g.state <> 'dropped' LOOP
        IF to_regclass(format('chunks_g%s', v_number)) IS NOT NULL THEN
            EXECUTE format('SELECT EXISTS (SELECT FROM %I)', format('chunks_g%s', v_number))
            INTO v_is_here;
            UPDATE generations SET store = 'postgres' WHERE number = v_number AND v_is_here;
        END IF;
    END LOOP;
END
$$;

-- For the owner of the schema alone, as are the two below: make a generation known, in the store in
-- which it was made. The caller holds keepers_lock().
CREATE FUNCTION keepers_lock() RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN hashtextextended('polyplane:generation-keepers', 0);

-- Versions whose chunks in a generation are not what they should be: have the builder look again.
CREATE FUNCTION doubt_versions(p_tenant uuid, p_versions uuid[], p_generation integer) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM FROM document_versions v WHERE v.tenant_id = p_tenant AND v.id = ANY (p_versions)
    ORDER BY v.id FOR UPDATE;
    PERFORM FROM tenants t WHERE t.id = p_tenant FOR UPDATE;  -- in the order of publish_versions
    PERFORM uncount_version(v.id, ARRAY[p_generation]) FROM document_versions v
    WHERE v.tenant_id = p_tenant AND v.id = ANY (p_versions) ORDER BY v.id;
END
$$;

REVOKE ALL ON FUNCTION doubt_versions FROM PUBLIC;
