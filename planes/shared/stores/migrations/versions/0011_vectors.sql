-- A search compares the question's vector with every vector of the tenant. They stand in narrow
-- tables of their own, vectors_g1 beside chunks_g1, within their rows: beside a text they were moved
-- out of the row, and each had to be fetched from there. Triggers keep them as the chunks are,
-- whoever writes those; nobody else writes them.
--
-- Tenants of vectors_to_graph() chunks or more have their vectors in a graph as well (HNSW, Malkov
-- and Yashunin 2016, https://arxiv.org/abs/1603.09320); it holds is_graphed vectors alone, so that
-- ingestion for small tenants does not pay for it.

DO $$
BEGIN
    IF (SELECT string_to_array(extversion, '.')::integer[] < '{0,8}' FROM pg_extension
        WHERE extname = 'vector') THEN
        RAISE 'pgvector is older than 0.8: install a newer one and run ALTER EXTENSION vector UPDATE.';
    END IF;
END
$$;

CREATE FUNCTION vectors_to_graph() RETURNS integer LANGUAGE sql IMMUTABLE RETURN 20000;

-- Keep a vector table as its chunk table is. Each write of a tenant that has become large brings 500
-- of its older vectors into the graph, until all are there.
CREATE FUNCTION copy_vectors() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    v_generation integer := substr(TG_TABLE_NAME, 9)::integer;
    v_table text := format('vectors_g%s', v_generation);
    v_tenant uuid;
    v_is_large boolean;
BEGIN
    IF TG_OP = 'DELETE' THEN
        EXECUTE format('DELETE FROM %I WHERE id IN (SELECT o.id FROM old_rows o)', v_table);
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        EXECUTE format($query$
            UPDATE %I v SET tenant_id = n.tenant_id, document_id = n.document_id,
                version_id = n.version_id, embedding = n.embedding
            FROM new_rows n WHERE v.id = n.id
            $query$, v_table);
        RETURN NULL;
    END IF;
    FOR v_tenant IN SELECT DISTINCT n.tenant_id FROM new_rows n LOOP
        SELECT coalesce(sum(l.chunks), 0) >= vectors_to_graph() INTO v_is_large
        FROM corpus_languages l WHERE l.tenant_id = v_tenant AND l.generation = v_generation;
        EXECUTE format($query$
            INSERT INTO %I (tenant_id, document_id, version_id, id, is_graphed, embedding)
            SELECT n.tenant_id, n.document_id, n.version_id, n.id, $2, n.embedding
            FROM new_rows n WHERE n.tenant_id = $1
            $query$, v_table) USING v_tenant, v_is_large;
        IF v_is_large THEN
            EXECUTE format($query$
                UPDATE %1$I SET is_graphed = true WHERE tenant_id = $1 AND id IN (
                    SELECT v.id FROM %1$I v WHERE v.tenant_id = $1 AND NOT v.is_graphed
                    LIMIT 500 FOR UPDATE SKIP LOCKED)
                $query$, v_table) USING v_tenant;
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;

-- For the owner of the schema alone: the vector table of a chunk table that there is, with what the
-- chunk table holds.
CREATE FUNCTION create_vector_table(p_generation integer, p_dimension integer) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    EXECUTE format($ddl$
        CREATE TABLE %2$I (
            tenant_id uuid NOT NULL,
            document_id uuid NOT NULL,
            version_id uuid NOT NULL,
            id uuid NOT NULL,
            is_graphed boolean NOT NULL,
            embedding vector(%3$s) STORAGE MAIN NOT NULL
        );
        CREATE TRIGGER copy_inserted AFTER INSERT ON %1$I
            REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION copy_vectors();
        CREATE TRIGGER copy_updated AFTER UPDATE ON %1$I
            REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION copy_vectors();
        CREATE TRIGGER copy_deleted AFTER DELETE ON %1$I
            REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION copy_vectors();
        INSERT INTO %2$I SELECT tenant_id, document_id, version_id, id, false, embedding FROM %1$I
            ORDER BY tenant_id;
        ALTER TABLE %2$I ADD PRIMARY KEY (id);
        CREATE INDEX ON %2$I (tenant_id, is_graphed);
        ALTER TABLE %2$I ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own_tenant ON %2$I USING (tenant_id = current_tenant());
        CREATE POLICY across_tenants ON %2$I TO polyplane_definer USING (true);
        GRANT SELECT, INSERT, UPDATE, DELETE ON %2$I TO polyplane_data;
        GRANT SELECT ON %2$I TO polyplane_serving;
        GRANT SELECT, DELETE ON %2$I TO polyplane_definer;
        ALTER TABLE %1$I ALTER terms SET STORAGE MAIN;  -- read of every chunk that a word finds
        $ddl$, format('chunks_g%s', p_generation), format('vectors_g%s', p_generation), p_dimension);
    IF p_dimension <= 4000 THEN     -- pgvector's limit for a graph of half vectors
        EXECUTE format($ddl$
            CREATE INDEX %1$I ON %2$I USING hnsw ((embedding::halfvec(%3$s)) halfvec_cosine_ops)
                WHERE is_graphed
            $ddl$, format('vectors_g%s_graph', p_generation), format('vectors_g%s', p_generation),
            p_dimension);
    END IF;
END
$$;

-- As in 0007, and a vector table beside it.
CREATE OR REPLACE FUNCTION create_chunk_table(p_generation integer, p_dimension integer)
RETURNS void LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
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
    PERFORM create_vector_table(p_generation, p_dimension);
END
$$;

DO $$
DECLARE
    v_generation integer;
    v_dimension integer;
BEGIN
    FOR v_generation, v_dimension IN
        SELECT substr(c.relname, 9)::integer, a.atttypmod
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'embedding'
        WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
          AND c.relname ~ '^chunks_g[0-9]+$'
    LOOP
        PERFORM create_vector_table(v_generation, v_dimension);
    END LOOP;
END
$$;

-- Whether the graph is the faster way to a tenant's p_chunks vectors. What it finds of others is
-- thrown away: to find one vector of the tenant it looks at (all in it) / (the tenant's) of them,
-- each as dear as 25 of a scan that finds 100.
CREATE FUNCTION is_graph_faster(p_generation integer, p_tenant uuid, p_chunks bigint)
RETURNS boolean LANGUAGE plpgsql STABLE SET search_path = public, pg_temp AS $$
DECLARE
    v_is_faster boolean;
BEGIN
    IF p_chunks < vectors_to_graph()
       OR to_regclass(format('vectors_g%s_graph', p_generation)) IS NULL THEN
        RETURN false;
    END IF;
    EXECUTE format($query$
        SELECT EXISTS (SELECT FROM %1$I v WHERE v.tenant_id = $1 AND v.is_graphed)
           AND NOT EXISTS (SELECT FROM %1$I v WHERE v.tenant_id = $1 AND NOT v.is_graphed)
           AND $2::float8 * $2 >= 2500 * (SELECT c.reltuples FROM pg_class c WHERE c.oid = $3::regclass)
        $query$, format('vectors_g%s', p_generation))
    INTO v_is_faster USING p_tenant, p_chunks, format('vectors_g%s_graph', p_generation);
    RETURN v_is_faster;
END
$$;

-- The best p_depth chunks of the caller's tenant by meaning and as many by words, each with both
-- scores. It runs as the definer, for whom no policy stands before the indexes of words and vectors;
-- so it names the tenant in every part, and knows no other than the caller's.
--
-- p_chunks: how many the tenant has. p_documents: those that may be found, NULL: all. p_query: the
-- terms of which a chunk holds one to be found by words; p_terms with p_weights make the score.
-- Where words find more than 1,000 chunks, which the caller avoids, some 1,000 are looked at.
-- All chunks of a small tenant are looked at, because the index of words knows all tenants' chunks.
-- setweight changes nothing, but what it returns was fetched and unpacked once.
CREATE FUNCTION search_chunks(
    p_tenant uuid, p_generation integer, p_chunks bigint, p_hidden uuid[], p_documents uuid[],
    p_vector vector, p_depth integer, p_query tsquery, p_terms tsquery[], p_weights float8[]
) RETURNS TABLE (
    id uuid, document_id uuid, version_id uuid, dense float8, lexical float8
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp SET random_page_cost = 1.1 AS $$
DECLARE
    v_vectors text := format('vectors_g%s', p_generation);
    v_chunks text := format('chunks_g%s', p_generation);
    v_scope text := 'x.tenant_id = $1';
    v_near uuid[];
BEGIN
    IF p_tenant IS DISTINCT FROM current_tenant() THEN
        RETURN;
    END IF;
    IF p_hidden <> '{}' THEN
        v_scope := v_scope || ' AND NOT x.version_id = ANY ($2)';
    END IF;
    IF p_documents IS NOT NULL THEN
        v_scope := v_scope || ' AND x.document_id = ANY ($3)';
    ELSIF is_graph_faster(p_generation, p_tenant, p_chunks) THEN
        PERFORM set_config('hnsw.ef_search', least(1000, greatest(200, 2 * p_depth))::text, true),
                set_config('hnsw.iterative_scan', 'relaxed_order', true);
        EXECUTE format($query$
            SELECT array_agg(f.id) FROM (
                SELECT x.id FROM %I x WHERE x.is_graphed AND %s
                ORDER BY (x.embedding::halfvec(%s)) <=> ($4::halfvec(%3$s)) LIMIT $5) f
            $query$, v_vectors, v_scope, vector_dims(p_vector))
        INTO v_near USING p_tenant, p_hidden, p_documents, p_vector, p_depth;
    END IF;
    IF coalesce(cardinality(v_near), 0) < p_depth THEN
        EXECUTE format($query$
            SELECT array_agg(f.id) FROM (
                SELECT x.id FROM %I x WHERE %s ORDER BY x.embedding <=> $4, x.id LIMIT $5) f
            $query$, v_vectors, v_scope)
        INTO v_near USING p_tenant, p_hidden, p_documents, p_vector, p_depth;
    END IF;
    RETURN QUERY EXECUTE format($query$
        WITH by_words AS MATERIALIZED (
            SELECT f.id, (SELECT sum(w.weight * ts_rank(f.terms, w.term, 1))
                          FROM unnest($7, $8) AS w (term, weight)) AS score
            FROM (SELECT h.id, setweight(h.terms, 'D') AS terms
                  FROM (SELECT x.id, x.terms FROM %2$I x WHERE %3$s %4$s) h
                  WHERE h.terms @@ $6 LIMIT %5$s) f
            ORDER BY score DESC, f.id LIMIT $5
        ), near AS (
            SELECT f.id, (SELECT sum(w.weight * ts_rank(f.terms, w.term, 1))
                          FROM unnest($7, $8) AS w (term, weight)) AS score
            FROM (SELECT c.id, setweight(c.terms, 'D') AS terms
                  FROM unnest($9) AS n (id) JOIN %2$I c ON c.id = n.id
                  WHERE n.id NOT IN (SELECT b.id FROM by_words b) OFFSET 0) f
        ), found AS (SELECT * FROM by_words UNION ALL SELECT * FROM near)
        SELECT v.id, v.document_id, v.version_id, 1 - (v.embedding <=> $4), coalesce(f.score, 0)
        FROM found f JOIN %1$I v ON v.id = f.id
        $query$, v_vectors, v_chunks, v_scope, CASE WHEN p_chunks <= 3000 THEN 'OFFSET 0' END,
        CASE WHEN p_documents IS NULL THEN 1000 ELSE 20000 END)
    USING p_tenant, p_hidden, p_documents, p_vector, p_depth, p_query, p_terms, p_weights,
          coalesce(v_near, '{}');
END
$$;

ALTER FUNCTION search_chunks OWNER TO polyplane_definer;
REVOKE ALL ON FUNCTION create_vector_table, search_chunks FROM PUBLIC;
GRANT EXECUTE ON FUNCTION search_chunks TO polyplane_serving, polyplane_data;

-- The vector tables go with the chunk tables, by their triggers; what stands in one of a chunk table
-- that is dropped goes here.
CREATE FUNCTION vector_tables() RETURNS text[]
LANGUAGE sql STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT coalesce(array_agg(c.relname::text ORDER BY c.relname), '{}') FROM pg_class c
    WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
      AND c.relname ~ '^vectors_g[0-9]+$';
END;

DO $$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION erasable_tables() RETURNS text[] LANGUAGE sql IMMUTABLE '
        'RETURN %L::text[]', ARRAY['vectors_g1'] || erasable_tables());
END
$$;

-- As in 0004, and from the vector tables.
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
        SELECT name FROM unnest(erasable_tables()) AS e (name)
        WHERE name NOT IN ('chunks_g1', 'vectors_g1')
        UNION ALL SELECT unnest(chunk_tables()) UNION ALL SELECT unnest(vector_tables())
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
