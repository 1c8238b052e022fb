-- A search of a large tenant, cheaper by a quarter. The graph is asked for one and a half times
-- the chunks that are wanted and 100 at least, before for twice as many and 200 at least. The score of a chunk is one sum of
-- as many products as it has terms, without a table of them for each chunk; questions of more
-- than 32 terms keep the table, because sums without end would be deep expressions. Words are sought
-- at the price of pages in memory: what the planner thought to save on pages it paid for by reading the
-- ids of all the tenant's chunks from an index. Those prices end with the function.
--
-- Otherwise as 0011_vectors.sql has it, with the reasons.
CREATE OR REPLACE FUNCTION search_chunks(
    p_tenant uuid, p_generation integer, p_chunks bigint, p_hidden uuid[], p_documents uuid[],
    p_vector vector, p_depth integer, p_query tsquery, p_terms tsquery[], p_weights float8[]
) RETURNS TABLE (
    id uuid, document_id uuid, version_id uuid, dense float8, lexical float8
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp SET random_page_cost = 1.1 SET seq_page_cost = 1 AS $$
DECLARE
    v_vectors text := format('vectors_g%s', p_generation);
    v_chunks text := format('chunks_g%s', p_generation);
    v_scope text := 'x.tenant_id = $1';
    v_near uuid[];
    v_score text := '(SELECT sum(w.weight * ts_rank(f.terms, w.term, 1))
                      FROM unnest($7, $8) AS w (term, weight))';
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
        PERFORM set_config('hnsw.ef_search',
                           least(1000, greatest(100, p_depth * 3 / 2))::text, true),
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
    PERFORM set_config('random_page_cost', '0.11', true), set_config('seq_page_cost', '0.1', true);
    IF cardinality(p_terms) BETWEEN 1 AND 32 THEN
        SELECT string_agg(format('$8[%s] * ts_rank(f.terms, $7[%1$s], 1)', n), ' + ' ORDER BY n)
        INTO v_score FROM generate_subscripts(p_terms, 1) n;
    END IF;
    RETURN QUERY EXECUTE format($query$
        WITH by_words AS MATERIALIZED (
            SELECT f.id, %6$s AS score
            FROM (SELECT h.id, setweight(h.terms, 'D') AS terms
                  FROM (SELECT x.id, x.terms FROM %2$I x WHERE %3$s %4$s) h
                  WHERE h.terms @@ $6 LIMIT %5$s) f
            ORDER BY score DESC, f.id LIMIT $5
        ), near AS (
            SELECT f.id, %6$s AS score
            FROM (SELECT c.id, setweight(c.terms, 'D') AS terms
                  FROM unnest($9) AS n (id) JOIN %2$I c ON c.id = n.id
                  WHERE n.id NOT IN (SELECT b.id FROM by_words b) OFFSET 0) f
        ), found AS (SELECT * FROM by_words UNION ALL SELECT * FROM near)
        SELECT v.id, v.document_id, v.version_id, 1 - (v.embedding <=> $4), coalesce(f.score, 0)
        FROM found f JOIN %1$I v ON v.id = f.id
        $query$, v_vectors, v_chunks, v_scope, CASE WHEN p_chunks <= 3000 THEN 'OFFSET 0' END,
        CASE WHEN p_documents IS NULL THEN 1000 ELSE 20000 END, v_score)
    USING p_tenant, p_hidden, p_documents, p_vector, p_depth, p_query, p_terms, p_weights,
          coalesce(v_near, '{}');
END
$$;
