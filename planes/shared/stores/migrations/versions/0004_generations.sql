-- Several index generations beside each other: built, compared, switched, switched back, dropped.
--
-- A version stands in a generation when its row of version_terms there is counted and holds as many
-- chunks as the generation's table. Ingestion writes to the live generation alone; the data plane's
-- builder adds to the others what they miss. What is published, switched or dropped at the same time
-- is ordered by one advisory lock: publishing shares it, the rest takes it alone.

ALTER TABLE generations
    DROP CONSTRAINT generations_state_check,
    ADD CHECK (state IN ('building', 'live', 'retired', 'dropped')),
    ADD COLUMN build_wanted boolean NOT NULL DEFAULT false,  -- the builder adds what is missing
    ADD COLUMN build jsonb,             -- what the builder did last: {"indexed", "chunks", "failed"}
    ADD COLUMN evaluation jsonb,        -- how its answers compare with the live generation's
    ADD COLUMN live_at timestamptz,     -- since when, or last, it was searched
    ADD COLUMN retired_at timestamptz;
UPDATE generations SET live_at = created_at WHERE state = 'live';

ALTER TABLE version_terms DROP CONSTRAINT version_terms_pkey, ADD PRIMARY KEY (version_id, generation);
CREATE INDEX live_versions ON document_versions (id) WHERE visibility = 'live';

GRANT UPDATE (build_wanted, build) ON generations TO polyplane_data;
GRANT SELECT, UPDATE ON generations TO polyplane_definer;

CREATE FUNCTION generations_lock() RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN hashtextextended('polyplane:generations', 0);

-- Held by a session as long as it adds to a generation.
CREATE FUNCTION builder_lock(p_generation integer) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN hashtextextended('polyplane:builder', p_generation);

-- The chunk tables that there are, for what must act on all of them.
CREATE FUNCTION chunk_tables() RETURNS text[] LANGUAGE sql STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT coalesce(array_agg(format('chunks_g%s', g.number) ORDER BY g.number), '{}')
    FROM generations g WHERE g.state <> 'dropped';
END;

-- For the owner of the schema alone, as are switch_generation and drop_generation: a new generation
-- with a chunk table like the live one's, its indexes, policies and grants included.
CREATE FUNCTION create_generation(p_embedder text, p_dimension integer, p_chunker text)
RETURNS integer LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    v_number integer;
    v_table text;
    v_live text;
    v_grant record;
BEGIN
    PERFORM pg_advisory_xact_lock(generations_lock());
    SELECT max(number) + 1 INTO v_number FROM generations;
    SELECT format('chunks_g%s', number) INTO STRICT v_live FROM generations WHERE state = 'live';
    v_table := format('chunks_g%s', v_number);
    INSERT INTO generations (number, embedder, dimension, chunker, state)
    VALUES (v_number, p_embedder, p_dimension, p_chunker, 'building');
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', v_table, v_live);
    EXECUTE format('ALTER TABLE %I ALTER COLUMN embedding TYPE vector(%s)', v_table, p_dimension);
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', v_table);
    EXECUTE format('CREATE POLICY own_tenant ON %I USING (tenant_id = current_tenant())', v_table);
    EXECUTE format('CREATE POLICY across_tenants ON %I TO polyplane_definer USING (true)', v_table);
    FOR v_grant IN
        SELECT a.privilege_type, a.grantee::regrole::text AS grantee
        FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.oid = v_live::regclass AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('GRANT %s ON %I TO %s', v_grant.privilege_type, v_table, v_grant.grantee);
    END LOOP;
    RETURN v_number;
END
$$;

-- How many searchable versions there are, and how many of them a generation lacks: without counted
-- terms there, or, where p_exact, with another number of chunks than the terms were counted in.
CREATE FUNCTION generation_progress(p_generation integer, p_exact boolean)
RETURNS TABLE (versions bigint, missing bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF NOT p_exact THEN
        RETURN QUERY
        SELECT count(*), count(*) FILTER (WHERE w.version_id IS NULL)
        FROM document_versions v JOIN documents d ON d.id = v.document_id
        LEFT JOIN version_terms w
            ON w.version_id = v.id AND w.generation = p_generation AND w.counted
        WHERE v.visibility = 'live' AND d.deleted_at IS NULL;
        RETURN;
    END IF;
    RETURN QUERY EXECUTE format($query$
        SELECT count(*), count(*) FILTER (WHERE w.chunks IS DISTINCT FROM s.chunks OR s.chunks IS NULL)
        FROM document_versions v JOIN documents d ON d.id = v.document_id
        LEFT JOIN version_terms w ON w.version_id = v.id AND w.generation = $1 AND w.counted
        LEFT JOIN (SELECT c.version_id, count(*) AS chunks FROM %I c GROUP BY 1) s
            ON s.version_id = v.id
        WHERE v.visibility = 'live' AND d.deleted_at IS NULL
        $query$, format('chunks_g%s', p_generation)) USING p_generation;
END
$$;

-- Searchable versions that a generation lacks, in the order of their ids from p_after on.
CREATE FUNCTION missing_versions(
    p_generation integer, p_after uuid, p_versions integer, p_exact boolean
) RETURNS SETOF document_versions
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF NOT p_exact THEN
        RETURN QUERY
        SELECT v.* FROM document_versions v JOIN documents d ON d.id = v.document_id
        WHERE v.visibility = 'live' AND d.deleted_at IS NULL AND v.id > p_after
          AND NOT EXISTS (SELECT FROM version_terms w WHERE w.version_id = v.id
                          AND w.generation = p_generation AND w.counted)
        ORDER BY v.id LIMIT p_versions;
        RETURN;
    END IF;
    RETURN QUERY EXECUTE format($query$
        SELECT v.* FROM document_versions v JOIN documents d ON d.id = v.document_id
        LEFT JOIN version_terms w ON w.version_id = v.id AND w.generation = $1 AND w.counted
        LEFT JOIN (SELECT c.version_id, count(*) AS chunks FROM %I c GROUP BY 1) s
            ON s.version_id = v.id
        WHERE v.visibility = 'live' AND d.deleted_at IS NULL AND v.id > $2
          AND (w.chunks IS DISTINCT FROM s.chunks OR s.chunks IS NULL)
        ORDER BY v.id LIMIT $3
        $query$, format('chunks_g%s', p_generation)) USING p_generation, p_after, p_versions;
END
$$;

-- Take a version's words out of the counts of some generations. The caller holds its tenant's row.
CREATE FUNCTION uncount_version(p_version uuid, p_generations integer[]) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE term_frequencies f SET chunks = f.chunks - u.chunks
    FROM (SELECT w.tenant_id, w.generation, x.term, x.chunks
          FROM version_terms w, unnest(w.terms, w.term_chunks) AS x (term, chunks)
          WHERE w.version_id = p_version AND w.generation = ANY (p_generations) AND w.counted
          ORDER BY x.term) u
    WHERE f.tenant_id = u.tenant_id AND f.generation = u.generation AND f.term = u.term;
    DELETE FROM term_frequencies f USING version_terms w
    WHERE w.version_id = p_version AND w.generation = ANY (p_generations) AND w.counted
      AND f.tenant_id = w.tenant_id AND f.generation = w.generation AND f.term = ANY (w.terms)
      AND f.chunks <= 0;
    UPDATE corpus_languages l SET chunks = l.chunks - w.chunks FROM version_terms w
    WHERE w.version_id = p_version AND w.generation = ANY (p_generations) AND w.counted
      AND l.tenant_id = w.tenant_id AND l.generation = w.generation AND l.language = w.language;
    DELETE FROM version_terms w WHERE w.version_id = p_version AND w.generation = ANY (p_generations);
END
$$;

-- Count a version's words in a generation that is not live, now that all its chunks are there. False:
-- it is no longer the published one that the builder read, or the generation changed its state.
CREATE FUNCTION complete_version(
    p_version uuid, p_published_at timestamptz, p_generation integer, p_language text,
    p_terms text[], p_term_chunks bigint[]
) RETURNS boolean LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    v_tenant uuid;
    v_chunks bigint;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(generations_lock());
    PERFORM FROM generations g WHERE g.number = p_generation AND g.state IN ('building', 'retired');
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT v.tenant_id INTO v_tenant FROM document_versions v
    WHERE v.id = p_version AND v.visibility = 'live' AND v.published_at = p_published_at FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM FROM tenants t WHERE t.id = v_tenant FOR UPDATE;  -- in the order of publish_versions
    EXECUTE format('SELECT count(*) FROM %I WHERE version_id = $1', format('chunks_g%s', p_generation))
    INTO v_chunks USING p_version;
    PERFORM uncount_version(p_version, ARRAY[p_generation]);
    INSERT INTO version_terms
        (version_id, tenant_id, generation, language, chunks, terms, term_chunks, counted)
    VALUES (p_version, v_tenant, p_generation, p_language, v_chunks, p_terms, p_term_chunks, true);
    INSERT INTO term_frequencies AS f (tenant_id, generation, term, chunks)
    SELECT v_tenant, p_generation, u.term, u.chunks
    FROM unnest(p_terms, p_term_chunks) AS u (term, chunks) ORDER BY u.term
    ON CONFLICT (tenant_id, generation, term) DO UPDATE SET chunks = f.chunks + excluded.chunks;
    INSERT INTO corpus_languages AS l (tenant_id, generation, language, chunks)
    VALUES (v_tenant, p_generation, p_language, v_chunks)
    ON CONFLICT (tenant_id, generation, language) DO UPDATE SET chunks = l.chunks + excluded.chunks;
    RETURN true;
END
$$;

-- Remove a version's chunks from every generation, and return how many there were.
CREATE FUNCTION remove_version_chunks(p_version uuid) RETURNS bigint
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    v_table text;
    v_rows bigint;
    v_removed bigint := 0;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(generations_lock());  -- no table is dropped meanwhile
    FOREACH v_table IN ARRAY chunk_tables() LOOP
        EXECUTE format('DELETE FROM %I WHERE version_id = $1', v_table) USING p_version;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        v_removed := v_removed + v_rows;
    END LOOP;
    RETURN v_removed;
END
$$;

-- How many chunks versions have, over all generations.
CREATE FUNCTION count_version_chunks(p_versions uuid[]) RETURNS bigint
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    v_table text;
    v_rows bigint;
    v_counted bigint := 0;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(generations_lock());
    FOREACH v_table IN ARRAY chunk_tables() LOOP
        EXECUTE format('SELECT count(*) FROM %I WHERE version_id = ANY ($1)', v_table)
        INTO v_rows USING p_versions;
        v_counted := v_counted + v_rows;
    END LOOP;
    RETURN v_counted;
END
$$;

-- Make a generation the searched one. Returns how many versions it lacks: above 0 nothing changed.
CREATE FUNCTION switch_generation(p_generation integer, p_unevaluated boolean) RETURNS bigint
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    g generations%ROWTYPE;
    v_missing bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(generations_lock());
    SELECT * INTO g FROM generations WHERE number = p_generation;
    IF g.state IS NULL OR g.state = 'dropped' THEN
        RAISE 'There is no generation %.', p_generation;
    ELSIF g.state = 'live' THEN
        RAISE 'Generation % is live already.', p_generation;
    ELSIF g.evaluation IS NULL AND g.live_at IS NULL AND NOT p_unevaluated THEN
        RAISE 'Generation % was never compared with the live one: evaluate it first.', p_generation;
    END IF;
    SELECT p.missing INTO v_missing FROM generation_progress(p_generation, true) p;
    IF v_missing > 0 THEN
        RETURN v_missing;
    END IF;
    UPDATE document_versions v SET generation = p_generation, chunk_count = w.chunks
    FROM version_terms w
    WHERE w.version_id = v.id AND w.generation = p_generation AND w.counted AND v.visibility = 'live'
      AND v.status NOT IN ('parsing', 'embedding');  -- these have chunks of the old one in hand
    UPDATE generations SET state = 'retired', retired_at = now() WHERE state = 'live';
    UPDATE generations SET state = 'live', live_at = now(), retired_at = NULL, build_wanted = false
    WHERE number = p_generation;
    UPDATE tenants SET corpus_version = corpus_version + 1;  -- what was cached came from the other
    RETURN 0;
END
$$;

-- Remove a generation that is not live. Its number is never used again.
CREATE FUNCTION drop_generation(p_generation integer) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    g generations%ROWTYPE;
BEGIN
    PERFORM pg_advisory_xact_lock(generations_lock());
    SELECT * INTO g FROM generations WHERE number = p_generation;
    IF g.state IS NULL OR g.state = 'dropped' THEN
        RAISE 'There is no generation %.', p_generation;
    ELSIF g.state = 'live' THEN
        RAISE 'Generation % is live: switch to another one first.', p_generation;
    ELSIF g.retired_at > now() - interval '1 minute' THEN
        RAISE 'Questions that came before the switch may still read generation %: try again in a '
              'minute.', p_generation;
    ELSIF NOT pg_try_advisory_xact_lock(builder_lock(p_generation)) THEN
        RAISE 'Generation % is being built: try again when that has ended.', p_generation;
    ELSIF EXISTS (SELECT FROM document_versions v WHERE v.generation = p_generation
                  AND v.status IN ('parsing', 'embedding')) THEN
        RAISE 'Documents are being written to generation %: try again in a minute.', p_generation;
    END IF;
    UPDATE generations SET state = 'dropped', build_wanted = false WHERE number = p_generation;
    DELETE FROM version_terms WHERE generation = p_generation;
    DELETE FROM term_frequencies WHERE generation = p_generation;
    DELETE FROM corpus_languages WHERE generation = p_generation;
    EXECUTE format('DROP TABLE %I', format('chunks_g%s', p_generation));
END
$$;

DROP FUNCTION publish_version(uuid, text);  -- publish_versions (0004_claims.sql) does it

-- As in 0002, and from the chunk table of every generation.
CREATE OR REPLACE FUNCTION erase_tenant(p_tenant uuid, p_rows integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_table text;
    v_rows bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM tenants t WHERE t.id = p_tenant AND t.deleted_at IS NOT NULL) THEN
        RAISE EXCEPTION 'tenant % is not deleted', p_tenant;
    END IF;
    PERFORM pg_advisory_xact_lock_shared(generations_lock());  -- no table is dropped meanwhile
    FOR v_table IN
        SELECT name FROM unnest(erasable_tables()) AS e (name) WHERE name <> 'chunks_g1'
        UNION ALL SELECT unnest(chunk_tables())
    LOOP
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

ALTER FUNCTION generation_progress OWNER TO polyplane_definer;
ALTER FUNCTION missing_versions OWNER TO polyplane_definer;
REVOKE ALL ON FUNCTION create_generation, switch_generation, drop_generation, generation_progress,
    missing_versions, uncount_version, complete_version, remove_version_chunks,
    count_version_chunks FROM PUBLIC;
GRANT EXECUTE ON FUNCTION generation_progress, missing_versions, uncount_version, complete_version,
    remove_version_chunks, count_version_chunks TO polyplane_data;
