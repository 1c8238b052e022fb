-- Claims that share the work between tenants, and the publication of many versions at once.

CREATE TABLE ingestion_usage (          -- what each tenant was given lately
    tenant_id uuid PRIMARY KEY REFERENCES tenants,
    used_s double precision NOT NULL,   -- estimated seconds of work as of used_at; halves every minute
    used_at timestamptz NOT NULL
);
ALTER TABLE ingestion_usage ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON ingestion_usage USING (tenant_id = current_tenant());
CREATE POLICY across_tenants ON ingestion_usage TO polyplane_definer USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON ingestion_usage TO polyplane_definer;
DO $$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION erasable_tables() RETURNS text[] LANGUAGE sql IMMUTABLE '
        'RETURN %L::text[]', ARRAY['ingestion_usage'] || erasable_tables());
END
$$;

CREATE INDEX waiting_versions ON document_versions (tenant_id, created_at, id)
    WHERE status IN ('received', 'parsing', 'embedding');
CREATE INDEX tried_versions ON document_versions (attempts)
    WHERE status IN ('received', 'parsing', 'embedding') AND attempts > 0;

-- Roughly how long one core takes over a file, by the share of text in such files.
CREATE FUNCTION estimated_seconds(p_media_type text, p_bytes bigint) RETURNS double precision
LANGUAGE sql IMMUTABLE
RETURN 0.05 + p_bytes / 30000.0 * CASE
    WHEN p_media_type IN ('text/plain', 'text/markdown', 'text/csv', 'application/json') THEN 1.0
    WHEN p_media_type IN ('text/html', 'message/rfc822') THEN 0.7
    WHEN p_media_type = 'application/pdf' THEN 0.1
    ELSE 0.2
END;

-- What a tenant was given lately, as it counts now (decay usage scheduling).
CREATE FUNCTION decayed_usage(p_used_s double precision, p_used_at timestamptz)
RETURNS double precision LANGUAGE sql STABLE
RETURN coalesce(p_used_s * power(0.5, extract(epoch FROM now() - p_used_at) / 60), 0);

DROP FUNCTION claim_documents(text, bigint, integer, interval, integer);

-- Claim unfinished versions for one worker. The tenant that was given least lately comes first, its
-- oldest document first; what a claim gives counts at once, so that equals take turns by work.
--
-- A claim holds p_seconds of work of tenants that have no more than that waiting, so that they do not
-- wait for the others; or, where a tenant with more comes first, p_backlog_s of such tenants. A
-- document of more than p_seconds is claimed alone, in its turn. p_between: p_seconds of work to be
-- done in the midst of the worker's other work, of tenants that were given less than those it holds.
--
-- A version whose lease ran out is claimed again; after p_attempts it fails. From its third attempt on
-- a version is a suspect and the only one of its worker, because it may be what ends the runs: it
-- shall not cost the others their attempts.
CREATE FUNCTION claim_documents(
    p_worker text, p_seconds double precision, p_backlog_s double precision, p_documents integer,
    p_lease interval, p_attempts integer, p_between boolean
) RETURNS SETOF document_versions LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
DECLARE
    v_most_attempts integer;            -- of the versions that the worker holds; null: it holds none
    v_least_used double precision;      -- of the tenants whose versions it holds
    v_ids uuid[];
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('polyplane:claims', 0));
    UPDATE document_versions v
    SET status = 'failed', lease_owner = NULL, lease_until = NULL, updated_at = now(),
        error = jsonb_build_object(
            'code', 'interrupted', 'retryable', true,
            'detail', format('Processing was interrupted %s times. Upload the file again, or ask '
                             'the operator to look at the logs.', p_attempts))
    WHERE v.status IN ('received', 'parsing', 'embedding') AND v.attempts >= p_attempts
      AND v.attempts > 0 AND coalesce(v.lease_until, '-infinity') <= now();

    IF p_between THEN
        SELECT max(v.attempts), min(decayed_usage(u.used_s, u.used_at))
        INTO v_most_attempts, v_least_used
        FROM document_versions v LEFT JOIN ingestion_usage u USING (tenant_id)
        WHERE v.status IN ('parsing', 'embedding') AND v.attempts > 0 AND v.lease_owner = p_worker;
        IF v_most_attempts > 2 OR v_most_attempts IS NULL THEN
            RETURN;
        END IF;
    END IF;

    WITH RECURSIVE tenants_in_turn AS ( -- one step in the index for each tenant, not for each row
        (SELECT v.tenant_id FROM document_versions v
         WHERE v.status IN ('received', 'parsing', 'embedding') ORDER BY v.tenant_id LIMIT 1)
        UNION ALL
        SELECT (SELECT v.tenant_id FROM document_versions v
                WHERE v.status IN ('received', 'parsing', 'embedding') AND v.tenant_id > t.tenant_id
                ORDER BY v.tenant_id LIMIT 1)
        FROM tenants_in_turn t WHERE t.tenant_id IS NOT NULL
    ), shares AS (
        SELECT t.tenant_id, decayed_usage(u.used_s, u.used_at) AS used_s
        FROM tenants_in_turn t LEFT JOIN ingestion_usage u USING (tenant_id)
        WHERE t.tenant_id IS NOT NULL
          AND (NOT p_between OR decayed_usage(u.used_s, u.used_at) < v_least_used)
        ORDER BY 2 LIMIT p_documents
    ), waiting AS (
        SELECT w.*, s.used_s,
               sum(w.cost_s) OVER tenant_rows - w.cost_s AS before_s,
               sum(w.cost_s) OVER (PARTITION BY w.tenant_id) > p_seconds AS is_backlog
        FROM shares s CROSS JOIN LATERAL (
            SELECT v.id, v.tenant_id, v.created_at, v.attempts >= 2 AS is_suspect,
                   estimated_seconds(v.media_type, v.size_bytes) AS cost_s
            FROM document_versions v JOIN documents d ON d.id = v.document_id
            WHERE v.tenant_id = s.tenant_id AND v.status IN ('received', 'parsing', 'embedding')
              AND v.next_attempt_at <= now() AND coalesce(v.lease_until, '-infinity') <= now()
              AND d.deleted_at IS NULL AND NOT (p_between AND v.attempts >= 2)
            ORDER BY v.created_at, v.id LIMIT p_documents
        ) w
        WINDOW tenant_rows AS (PARTITION BY w.tenant_id ORDER BY w.created_at, w.id)
    ), ordered AS (
        SELECT w.*, w.is_suspect OR w.cost_s > p_seconds AS is_alone,
               row_number() OVER (
                   ORDER BY w.used_s + w.before_s, w.is_backlog, w.created_at, w.id) AS place
        FROM waiting w WHERE NOT (p_between AND w.cost_s > p_seconds)
    ), joined AS (
        SELECT o.id, o.place, sum(o.cost_s) OVER (ORDER BY o.place) AS until_s,
               CASE WHEN o.is_backlog AND NOT p_between THEN p_backlog_s ELSE p_seconds END AS most_s
        FROM ordered o, ordered leader
        WHERE leader.place = 1 AND (o.place = 1 OR NOT leader.is_alone AND NOT o.is_alone
                                    AND o.is_backlog = leader.is_backlog)
    )
    SELECT array_agg(c.id) INTO v_ids FROM (
        SELECT j.id FROM joined j WHERE j.place = 1 OR j.until_s <= j.most_s
        ORDER BY j.place LIMIT p_documents
    ) c;

    WITH locked AS (
        SELECT v.id FROM document_versions v
        WHERE v.id = ANY (v_ids) AND coalesce(v.lease_until, '-infinity') <= now()
          AND v.status IN ('received', 'parsing', 'embedding')
        FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE document_versions v
        SET status = 'parsing', percent = 0, attempts = v.attempts + 1, lease_owner = p_worker,
            lease_until = now() + p_lease, updated_at = now()
        WHERE v.id = ANY (ARRAY(SELECT l.id FROM locked l))
        RETURNING v.id, v.tenant_id, estimated_seconds(v.media_type, v.size_bytes) AS cost_s
    ), given AS (
        INSERT INTO ingestion_usage AS u (tenant_id, used_s, used_at)
        SELECT c.tenant_id, sum(c.cost_s), now() FROM claimed c GROUP BY 1
        ON CONFLICT (tenant_id) DO UPDATE
        SET used_s = decayed_usage(u.used_s, u.used_at) + excluded.used_s, used_at = now()
    )
    SELECT array_agg(c.id) INTO v_ids FROM claimed c;
    RETURN QUERY SELECT v.* FROM document_versions v WHERE v.id = ANY (v_ids);
END
$$;

-- Make versions of one tenant the searchable ones of their documents, in one step with the word
-- counts; returns those that are. The others were deleted, cancelled or switched past, or the worker
-- lost its lease: nothing changed then. What a newer version has replaced is cancelled.
CREATE FUNCTION publish_versions(p_versions uuid[], p_worker text) RETURNS SETOF uuid
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    v_live integer;
    v_chosen uuid[];
    v_other record;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(generations_lock());
    SELECT g.number INTO STRICT v_live FROM generations g WHERE g.state = 'live';
    PERFORM FROM documents d WHERE d.id IN (
        SELECT v.document_id FROM document_versions v WHERE v.id = ANY (p_versions))
    ORDER BY d.id FOR UPDATE;
    PERFORM FROM document_versions v WHERE v.id = ANY (p_versions) ORDER BY v.id FOR UPDATE;
    SELECT array_agg(c.id) INTO v_chosen FROM (
        SELECT DISTINCT ON (v.document_id) v.id
        FROM document_versions v JOIN documents d ON d.id = v.document_id
        LEFT JOIN document_versions p ON p.id = d.published_version_id
        WHERE v.id = ANY (p_versions) AND d.deleted_at IS NULL AND v.lease_owner = p_worker
          AND v.status IN ('parsing', 'embedding') AND v.number >= coalesce(p.number, 0)
          AND (v.generation = v_live) IS NOT FALSE
          AND EXISTS (SELECT FROM version_terms w
                      WHERE w.version_id = v.id AND w.generation = v_live)
        ORDER BY v.document_id, v.number DESC) c;
    UPDATE document_versions v SET visibility = 'hidden', updated_at = now()
    FROM document_versions c
    WHERE c.id = ANY (v_chosen) AND v.document_id = c.document_id AND v.visibility = 'live'
      AND v.id <> c.id;
    UPDATE document_versions v
    SET visibility = 'live', status = 'ready', percent = 100, error = NULL, published_at = now(),
        updated_at = now(), lease_owner = NULL, lease_until = NULL
    WHERE v.id = ANY (v_chosen);
    UPDATE documents d SET published_version_id = v.id, updated_at = now()
    FROM document_versions v WHERE v.id = ANY (v_chosen) AND d.id = v.document_id;
    UPDATE document_versions v SET status = 'cancelled', lease_owner = NULL, lease_until = NULL,
           updated_at = now()
    FROM documents d, document_versions p
    WHERE v.id = ANY (p_versions) AND d.id = v.document_id AND p.id = d.published_version_id
      AND p.number > v.number AND v.lease_owner = p_worker AND v.status IN ('parsing', 'embedding');
    UPDATE tenants t SET corpus_version = t.corpus_version + 1
    WHERE t.id IN (SELECT v.tenant_id FROM document_versions v WHERE v.id = ANY (v_chosen));
    FOR v_other IN
        SELECT w.version_id, array_agg(w.generation) AS numbers FROM version_terms w
        WHERE w.version_id = ANY (v_chosen) AND w.generation <> v_live GROUP BY 1
    LOOP
        PERFORM uncount_version(v_other.version_id, v_other.numbers);
    END LOOP;
    INSERT INTO term_frequencies AS f (tenant_id, generation, term, chunks)
    SELECT w.tenant_id, w.generation, u.term, sum(u.chunks)
    FROM version_terms w, unnest(w.terms, w.term_chunks) AS u (term, chunks)
    WHERE w.version_id = ANY (v_chosen) AND NOT w.counted GROUP BY 1, 2, 3 ORDER BY 3
    ON CONFLICT (tenant_id, generation, term) DO UPDATE SET chunks = f.chunks + excluded.chunks;
    INSERT INTO corpus_languages AS l (tenant_id, generation, language, chunks)
    SELECT w.tenant_id, w.generation, w.language, sum(w.chunks)
    FROM version_terms w WHERE w.version_id = ANY (v_chosen) AND NOT w.counted
    GROUP BY 1, 2, 3 ORDER BY 3
    ON CONFLICT (tenant_id, generation, language) DO UPDATE SET chunks = l.chunks + excluded.chunks;
    UPDATE version_terms w SET counted = true WHERE w.version_id = ANY (v_chosen) AND NOT w.counted;
    RETURN QUERY SELECT unnest(v_chosen);
END
$$;

ALTER FUNCTION claim_documents OWNER TO polyplane_definer;
REVOKE ALL ON FUNCTION claim_documents, publish_versions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_documents, publish_versions TO polyplane_data;
