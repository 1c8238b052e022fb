-- Chunks may stand in another store than this database. What the registry knows of them stays here;
-- what compares the registry with the chunks does so outside, version by version, through the port.
--
-- create_generation, switch_generation, drop_generation, index_counts, complete_version with six
-- arguments, and what the functions for progress and missing versions do exactly, look into chunk
-- tables. They stay for the code of the version before, until the next revision.

-- The chunk tables that there are, for what must act on all of them.
CREATE OR REPLACE FUNCTION chunk_tables() RETURNS text[]
LANGUAGE sql STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT coalesce(array_agg(c.relname::text ORDER BY c.relname), '{}') FROM pg_class c
    WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
      AND c.relname ~ '^chunks_g[0-9]+$';
END;

-- For the owner of the schema alone: an empty chunk table with its indexes, policies and grants.
CREATE FUNCTION create_chunk_table(p_generation integer, p_dimension integer) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    v_table text := format('chunks_g%s', p_generation);
BEGIN
    EXECUTE format($ddl$
        CREATE TABLE %1$I (
            id uuid PRIMARY KEY,
            tenant_id uuid NOT NULL,
            document_id uuid NOT NULL,
            version_id uuid NOT NULL,
            ordinal integer NOT NULL,
            char_start integer NOT NULL,
            char_end integer NOT NULL,
            page integer,
            heading text NOT NULL,
            body text NOT NULL,
            language text NOT NULL,
            terms tsvector NOT NULL,
            embedding vector(%2$s) NOT NULL
        );
        CREATE INDEX ON %1$I (tenant_id, document_id);
        CREATE INDEX ON %1$I (version_id);
        CREATE INDEX ON %1$I USING gin (terms);
        ALTER TABLE %1$I ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own_tenant ON %1$I USING (tenant_id = current_tenant());
        CREATE POLICY across_tenants ON %1$I TO polyplane_definer USING (true);
        GRANT SELECT, INSERT, UPDATE, DELETE ON %1$I TO polyplane_data;
        GRANT SELECT ON %1$I TO polyplane_serving;
        GRANT SELECT, DELETE ON %1$I TO polyplane_definer;
        $ddl$, v_table, p_dimension);
END
$$;

-- The tenants that have chunks in a generation's table.
CREATE FUNCTION chunk_tenants(p_generation integer) RETURNS SETOF uuid
LANGUAGE plpgsql SECURITY DEFINER STABLE SET search_path = public, pg_temp AS $$
BEGIN
    RETURN QUERY EXECUTE format('SELECT DISTINCT c.tenant_id FROM %I c',
                                format('chunks_g%s', p_generation));
END
$$;

-- The tenants that have versions whose chunks stand in the index, or will.
CREATE FUNCTION registered_tenants() RETURNS SETOF uuid
LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT DISTINCT v.tenant_id FROM document_versions v WHERE v.visibility IN ('live', 'hidden');
END;

-- Searchable versions in the order of their ids from p_after on, each with how many chunks its
-- terms were counted in for a generation; null where they were not.
CREATE FUNCTION searchable_versions(p_generation integer, p_after uuid, p_versions integer)
RETURNS TABLE (
    id uuid, tenant_id uuid, document_id uuid, media_type text, size_bytes bigint, sha256 bytea,
    language text, published_at timestamptz, chunks bigint
) LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT v.id, v.tenant_id, v.document_id, v.media_type, v.size_bytes, v.sha256, v.language,
           v.published_at, w.chunks
    FROM document_versions v JOIN documents d ON d.id = v.document_id
    LEFT JOIN version_terms w
        ON w.version_id = v.id AND w.generation = p_generation AND w.counted
    WHERE v.visibility = 'live' AND d.deleted_at IS NULL AND v.id > p_after
    ORDER BY v.id LIMIT p_versions;
END;

-- Count a version's words in a generation that is not live, now that all its chunks are there: as
-- many as the store shows. False: it is no longer the published one that the builder read, or the
-- generation changed its state.
CREATE FUNCTION complete_version(
    p_version uuid, p_published_at timestamptz, p_generation integer, p_language text,
    p_terms text[], p_term_chunks bigint[], p_chunks bigint
) RETURNS boolean LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    v_tenant uuid;
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
    PERFORM uncount_version(p_version, ARRAY[p_generation]);
    INSERT INTO version_terms
        (version_id, tenant_id, generation, language, chunks, terms, term_chunks, counted)
    VALUES (p_version, v_tenant, p_generation, p_language, p_chunks, p_terms, p_term_chunks, true);
    INSERT INTO term_frequencies AS f (tenant_id, generation, term, chunks)
    SELECT v_tenant, p_generation, u.term, u.chunks
    FROM unnest(p_terms, p_term_chunks) AS u (term, chunks) ORDER BY u.term
    ON CONFLICT (tenant_id, generation, term) DO UPDATE SET chunks = f.chunks + excluded.chunks;
    INSERT INTO corpus_languages AS l (tenant_id, generation, language, chunks)
    VALUES (v_tenant, p_generation, p_language, p_chunks)
    ON CONFLICT (tenant_id, generation, language) DO UPDATE SET chunks = l.chunks + excluded.chunks;
    RETURN true;
END
$$;

-- For the owner of the schema alone, as are the four below: take the lock under which generations
-- change, for the rest of the transaction, and refuse what cannot become the live one.
CREATE FUNCTION begin_switch(p_generation integer, p_unevaluated boolean) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    g generations%ROWTYPE;
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
END
$$;

-- Make a generation the searched one, in the transaction of begin_switch, once nothing is missing.
CREATE FUNCTION complete_switch(p_generation integer) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE document_versions v SET generation = p_generation, chunk_count = w.chunks
    FROM version_terms w
    WHERE w.version_id = v.id AND w.generation = p_generation AND w.counted AND v.visibility = 'live'
      AND v.status NOT IN ('parsing', 'embedding');  -- these have chunks of the old one in hand
    UPDATE generations SET state = 'retired', retired_at = now() WHERE state = 'live';
    UPDATE generations SET state = 'live', live_at = now(), retired_at = NULL, build_wanted = false
    WHERE number = p_generation;
    UPDATE tenants SET corpus_version = corpus_version + 1;  -- what was cached came from the other
END
$$;

-- Take the same lock and return the number of the next generation.
CREATE FUNCTION next_generation() RETURNS integer
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(generations_lock());
    RETURN (SELECT max(number) + 1 FROM generations);
END
$$;

-- Take the same lock and forget a generation that is not live. Its number is never used again.
CREATE FUNCTION forget_generation(p_generation integer) RETURNS void
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
END
$$;

ALTER FUNCTION chunk_tenants OWNER TO polyplane_definer;
ALTER FUNCTION registered_tenants OWNER TO polyplane_definer;
ALTER FUNCTION searchable_versions OWNER TO polyplane_definer;
REVOKE ALL ON FUNCTION create_chunk_table, begin_switch, complete_switch, next_generation,
    forget_generation, chunk_tenants, registered_tenants, searchable_versions,
    complete_version(uuid, timestamptz, integer, text, text[], bigint[], bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION chunk_tenants, registered_tenants, searchable_versions,
    complete_version(uuid, timestamptz, integer, text, text[], bigint[], bigint) TO polyplane_data;
