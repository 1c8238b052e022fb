-- Watched sources, whose files become documents, and what the checks of the whole index count.

CREATE TABLE sources (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    owner_id uuid NOT NULL REFERENCES users,        -- of its documents; a member
    kind text NOT NULL CHECK (kind IN ('folder', 's3')),
    location text NOT NULL,             -- an absolute path, or s3://bucket/prefix
    tags text[] NOT NULL DEFAULT '{}',  -- of its documents
    delete_missing boolean NOT NULL DEFAULT false,  -- whether what vanishes there is deleted here
    enabled boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_scan_at timestamptz,
    last_scan jsonb,                    -- {"files", "added", "changed", ...} of the last scan
    last_error text,                    -- why the last scan could not look; NULL: it could
    UNIQUE (tenant_id, location)
);

CREATE TABLE source_files (             -- a key is a document's identity
    source_id uuid NOT NULL REFERENCES sources ON DELETE CASCADE,
    key text NOT NULL,
    tenant_id uuid NOT NULL REFERENCES tenants,
    mark text NOT NULL,                 -- changes with the content: an ETag, or size and time
    document_id uuid REFERENCES documents,
    version_id uuid,                    -- the newest made of this key; NULL: none was
    skipped text,                       -- why the content of this mark is in no version
    retry_at timestamptz,               -- when what was skipped is tried again, unchanged
    missing_since timestamptz,
    PRIMARY KEY (source_id, key)
);
CREATE INDEX ON source_files (document_id);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['sources', 'source_files'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY own_tenant ON %I USING (tenant_id = current_tenant())', name);
        EXECUTE format('CREATE POLICY across_tenants ON %I TO polyplane_definer USING (true)', name);
    END LOOP;
    -- both go with their tenant, before the documents that they name
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION erasable_tables() RETURNS text[] LANGUAGE sql IMMUTABLE '
        'RETURN %L::text[]', ARRAY['source_files', 'sources'] || erasable_tables());
END
$$;

GRANT SELECT ON sources TO polyplane_gateway, polyplane_data;
GRANT UPDATE (last_scan_at, last_scan, last_error) ON sources TO polyplane_data;
GRANT SELECT, INSERT, UPDATE, DELETE ON source_files TO polyplane_data;
GRANT SELECT, INSERT, DELETE ON uploads TO polyplane_data;
GRANT SELECT, UPDATE, DELETE ON sources TO polyplane_definer;
GRANT SELECT, INSERT, UPDATE, DELETE ON source_files TO polyplane_definer;
GRANT INSERT ON documents, document_versions, jobs, job_items, deletions TO polyplane_definer;

-- What is watched, what waited longest first.
CREATE FUNCTION watched_sources() RETURNS TABLE (
    id uuid, tenant_id uuid, kind text, location text, delete_missing boolean, has_owner boolean
)
LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT s.id, s.tenant_id, s.kind, s.location, s.delete_missing, EXISTS (
        SELECT FROM memberships m WHERE m.tenant_id = s.tenant_id AND m.user_id = s.owner_id
          AND m.role <> 'viewer')
    FROM sources s JOIN tenants t ON t.id = s.tenant_id AND t.deleted_at IS NULL
    WHERE s.enabled ORDER BY s.last_scan_at NULLS FIRST, s.id;
END;

-- Count documents and bytes against the tenant's plan, as every upload does: an exceeded limit is
-- no reason to refuse what adds nothing to it. NULL: it fits; otherwise the quota that does not.
CREATE FUNCTION take_document_quota(p_tenant uuid, p_documents bigint, p_bytes bigint) RETURNS text
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    t tenants%ROWTYPE;
    p plans%ROWTYPE;
BEGIN
    SELECT * INTO t FROM tenants WHERE id = p_tenant AND deleted_at IS NULL FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'tenant';
    END IF;
    SELECT * INTO p FROM plans WHERE name = t.plan;  -- after the lock, which a change may have held
    IF p.documents IS NOT NULL
       AND t.documents_used + p_documents > greatest(p.documents, t.documents_used) THEN
        RETURN 'documents';
    ELSIF p.storage_bytes IS NOT NULL
          AND t.storage_bytes_used + p_bytes > greatest(p.storage_bytes, t.storage_bytes_used) THEN
        RETURN 'storage_bytes';
    END IF;
    UPDATE tenants SET documents_used = documents_used + p_documents,
           storage_bytes_used = storage_bytes_used + p_bytes
    WHERE id = p_tenant;
    RETURN NULL;
END
$$;

-- Make a stored file of one of the present tenant's sources a document, or the next version of the
-- key's, with a job; all at once. The file stands under an upload's intent, which is closed. Returns
-- added, changed, renamed, retried or unchanged; or, with nothing done, duplicate, documents,
-- storage_bytes, late (the intent expired, or the document was deleted) or gone (source or owner).
-- Locks documents before versions before tenants, as uploads do. A unique violation is a duplicate.
CREATE FUNCTION register_source_file(
    p_source uuid, p_key text, p_mark text, p_name text, p_media_type text, p_size_bytes bigint,
    p_sha256 bytea, p_document uuid, p_version uuid, p_job uuid
) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    s sources%ROWTYPE;
    f source_files%ROWTYPE;
    d documents%ROWTYPE;
    v_newest document_versions%ROWTYPE;
    v_outcome text;
    v_refusal text;
BEGIN
    SELECT * INTO s FROM sources
    WHERE id = p_source AND tenant_id = current_tenant() AND enabled FOR UPDATE;
    IF NOT FOUND OR NOT EXISTS (
        SELECT FROM memberships m WHERE m.tenant_id = s.tenant_id AND m.user_id = s.owner_id
          AND m.role <> 'viewer'
    ) THEN
        RETURN 'gone';
    END IF;
    SELECT * INTO f FROM source_files WHERE source_id = s.id AND key = p_key;
    SELECT * INTO d FROM documents WHERE id = p_document FOR UPDATE;
    IF d.id IS NULL THEN
        SELECT * INTO d FROM documents
        WHERE tenant_id = s.tenant_id AND sha256 = p_sha256 AND deleted_at IS NULL FOR UPDATE;
        IF d.id IS NULL THEN
            v_outcome := 'added';
        ELSE
            DELETE FROM source_files o WHERE o.source_id = s.id AND o.document_id = d.id
              AND o.missing_since IS NOT NULL;
            IF NOT FOUND THEN
                RETURN 'duplicate';
            END IF;
            v_outcome := 'renamed';
            UPDATE documents SET name = p_name, updated_at = now() WHERE id = d.id;
            UPDATE tenants SET corpus_version = corpus_version + 1 WHERE id = s.tenant_id;
        END IF;
    ELSIF d.deleted_at IS NOT NULL OR f.document_id IS DISTINCT FROM d.id THEN
        RETURN 'late';
    ELSIF d.sha256 <> p_sha256 THEN
        v_outcome := 'changed';
    ELSE
        SELECT * INTO v_newest FROM document_versions WHERE id = d.newest_version_id FOR UPDATE;
        v_outcome := CASE WHEN v_newest.status IN ('failed', 'cancelled') THEN 'retried'
                          ELSE 'unchanged' END;
    END IF;

    IF v_outcome IN ('added', 'changed') THEN
        v_refusal := take_document_quota(
            s.tenant_id, CASE v_outcome WHEN 'added' THEN 1 ELSE 0 END, p_size_bytes);
        IF v_refusal IS NOT NULL THEN
            RETURN CASE v_refusal WHEN 'tenant' THEN 'gone' ELSE v_refusal END;
        END IF;
        DELETE FROM uploads WHERE version_id = p_version AND tenant_id = s.tenant_id;
        IF NOT FOUND THEN
            RAISE SQLSTATE 'PP001';  -- undoes what was counted
        END IF;
        IF v_outcome = 'added' THEN
            INSERT INTO documents (id, tenant_id, owner_id, name, tags, sha256, newest_version_id)
            VALUES (p_document, s.tenant_id, s.owner_id, p_name, s.tags, p_sha256, p_version);
        ELSE
            UPDATE documents SET newest_version_id = p_version, sha256 = p_sha256, updated_at = now()
            WHERE id = p_document;
        END IF;
        INSERT INTO document_versions
            (id, tenant_id, document_id, number, sha256, size_bytes, media_type)
        SELECT p_version, s.tenant_id, p_document, coalesce(max(v.number), 0) + 1, p_sha256,
               p_size_bytes, p_media_type
        FROM document_versions v WHERE v.document_id = p_document;
        d.id := p_document;
        d.newest_version_id := p_version;
    ELSIF v_outcome = 'retried' THEN
        UPDATE document_versions SET status = 'received', percent = 0, error = NULL, attempts = 0,
               next_attempt_at = now(), updated_at = now()
        WHERE id = d.newest_version_id;
    END IF;
    IF v_outcome IN ('added', 'changed', 'retried') THEN
        INSERT INTO jobs (id, tenant_id, created_by) VALUES (p_job, s.tenant_id, s.owner_id);
        INSERT INTO job_items (job_id, tenant_id, document_id, version_id)
        VALUES (p_job, s.tenant_id, d.id, d.newest_version_id);
    END IF;
    INSERT INTO source_files (source_id, key, tenant_id, mark, document_id, version_id)
    VALUES (s.id, p_key, s.tenant_id, p_mark, d.id, d.newest_version_id)
    ON CONFLICT (source_id, key) DO UPDATE
    SET mark = excluded.mark, document_id = excluded.document_id, version_id = excluded.version_id,
        skipped = NULL, retry_at = NULL, missing_since = NULL;
    RETURN v_outcome;
EXCEPTION WHEN SQLSTATE 'PP001' THEN
    RETURN 'late';
END
$$;

-- Delete the document of a key that has been missing for p_since, where the source says so, as a
-- person's deletion does: out of search at once, its removal queued with a receipt, and audited.
CREATE FUNCTION tombstone_source_file(
    p_source uuid, p_key text, p_since interval, p_receipt uuid, p_event uuid
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    s sources%ROWTYPE;
    f source_files%ROWTYPE;
BEGIN
    SELECT * INTO s FROM sources
    WHERE id = p_source AND tenant_id = current_tenant() AND delete_missing FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM source_files WHERE source_id = s.id AND key = p_key
      AND missing_since <= now() - p_since RETURNING * INTO f;
    UPDATE documents SET deleted_at = now(), name = '', tags = '{}', metadata = '{}'
    WHERE id = f.document_id AND deleted_at IS NULL;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE document_versions SET updated_at = now(),
           visibility = CASE visibility WHEN 'live' THEN 'hidden' ELSE visibility END,
           status = CASE WHEN status IN ('ready', 'failed') THEN status ELSE 'cancelled' END
    WHERE document_id = f.document_id;
    INSERT INTO deletions (id, tenant_id, document_id, requested_by)
    VALUES (p_receipt, s.tenant_id, f.document_id, s.owner_id);
    UPDATE tenants SET corpus_version = corpus_version + 1, documents_used = documents_used - 1,
           storage_bytes_used = storage_bytes_used - (
               SELECT sum(size_bytes) FROM document_versions WHERE document_id = f.document_id)
    WHERE id = s.tenant_id;
    INSERT INTO audit_log (id, tenant_id, actor_kind, action, subject, details)
    VALUES (p_event, s.tenant_id, 'system', 'document.deleted', 'document:' || f.document_id,
            jsonb_build_object('receipt', p_receipt, 'source', s.id));
    RETURN true;
END
$$;

-- Of each tenant, in the live generation: searchable versions, their chunks by the registry and by
-- the index, versions where these differ, chunks without a version that may have some, and chunks
-- whose place in their version another one has too. Versions that are in work are left out.
CREATE FUNCTION index_counts() RETURNS TABLE (
    tenant_id uuid, versions bigint, registry_chunks bigint, index_chunks bigint,
    differing bigint, orphans bigint, repeated bigint
)
LANGUAGE plpgsql SECURITY DEFINER STABLE SET search_path = public, pg_temp AS $$
BEGIN
    RETURN QUERY EXECUTE format($query$
        WITH found AS (
            SELECT c.tenant_id, c.version_id, count(*) AS chunks, count(DISTINCT c.ordinal) AS places
            FROM %I c GROUP BY 1, 2
        ), known AS (
            SELECT v.id, v.tenant_id, v.chunk_count, v.visibility,
                   v.visibility = 'live' AND v.status = 'ready' AS is_settled
            FROM document_versions v WHERE v.visibility IN ('live', 'hidden')
        ), joined AS (
            SELECT coalesce(k.tenant_id, f.tenant_id) AS tenant_id, k.id, k.chunk_count,
                   coalesce(k.is_settled, false) AS is_settled, coalesce(f.chunks, 0) AS chunks,
                   coalesce(f.places, 0) AS places
            FROM known k
            FULL JOIN found f ON f.version_id = k.id AND f.tenant_id = k.tenant_id
        )
        SELECT j.tenant_id, count(*) FILTER (WHERE j.is_settled),
               coalesce(sum(j.chunk_count) FILTER (WHERE j.is_settled), 0)::bigint,
               coalesce(sum(j.chunks) FILTER (WHERE j.is_settled), 0)::bigint,
               count(*) FILTER (WHERE j.is_settled AND j.chunks <> j.chunk_count),
               coalesce(sum(j.chunks) FILTER (WHERE j.id IS NULL), 0)::bigint,
               coalesce(sum(j.chunks - j.places), 0)::bigint
        FROM joined j GROUP BY 1 ORDER BY 1
        $query$, (SELECT format('chunks_g%s', g.number) FROM generations g WHERE g.state = 'live'));
END
$$;

-- Searchable versions at random, over all tenants, whose chunks are looked at closely.
CREATE FUNCTION sampled_versions(p_versions integer)
RETURNS TABLE (tenant_id uuid, document_id uuid, id uuid)
LANGUAGE sql SECURITY DEFINER VOLATILE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT v.tenant_id, v.document_id, v.id FROM document_versions v
    WHERE v.visibility = 'live' AND v.status = 'ready' ORDER BY random() LIMIT p_versions;
END;

-- How many versions published from p_from until p_until have each language, and each length: the
-- power of two below the number of characters.
CREATE FUNCTION published_distribution(p_from timestamptz, p_until timestamptz)
RETURNS TABLE (feature text, bucket text, versions bigint)
LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT f.feature, f.bucket, count(*) FROM document_versions v
    CROSS JOIN LATERAL (VALUES
        ('language', coalesce(v.language, '')),
        ('length', floor(log(2.0, greatest(v.text_chars, 1)))::integer::text)
    ) AS f (feature, bucket)
    WHERE v.published_at >= p_from AND v.published_at < p_until GROUP BY 1, 2;
END;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'watched_sources', 'register_source_file', 'tombstone_source_file', 'index_counts',
        'sampled_versions', 'published_distribution'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %I OWNER TO polyplane_definer', name);
        EXECUTE format('REVOKE ALL ON FUNCTION %I FROM PUBLIC', name);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %I TO polyplane_data', name);
    END LOOP;
    REVOKE ALL ON FUNCTION take_document_quota FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION take_document_quota TO polyplane_definer;
END
$$;
