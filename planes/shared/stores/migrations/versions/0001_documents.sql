-- The document registry, its jobs, deletions, and the chunk table of generation 1.

CREATE TABLE generations (
    number integer PRIMARY KEY,
    embedder text NOT NULL,
    dimension integer NOT NULL,
    chunker text NOT NULL,
    state text NOT NULL CHECK (state IN ('building', 'live', 'retired')),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX one_live_generation ON generations (state) WHERE state = 'live';
INSERT INTO generations (number, embedder, dimension, chunker, state)
VALUES (1, 'sentence-transformers/all-MiniLM-L6-v2', 384, 'semchunk-256', 'live');

CREATE TABLE documents (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    owner_id uuid NOT NULL REFERENCES users,
    name text NOT NULL,
    tags text[] NOT NULL DEFAULT '{}',
    metadata jsonb NOT NULL DEFAULT '{}',
    sha256 bytea NOT NULL,              -- of the newest version
    newest_version_id uuid NOT NULL,
    published_version_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);
CREATE UNIQUE INDEX one_document_per_content ON documents (tenant_id, sha256)
    WHERE deleted_at IS NULL;
CREATE INDEX ON documents (tenant_id, id DESC) WHERE deleted_at IS NULL;

CREATE TABLE document_versions (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    document_id uuid NOT NULL REFERENCES documents,
    number integer NOT NULL CHECK (number >= 1),
    sha256 bytea NOT NULL,
    size_bytes bigint NOT NULL,
    media_type text NOT NULL,
    status text NOT NULL DEFAULT 'received'
        CHECK (status IN ('received', 'parsing', 'embedding', 'ready', 'failed', 'cancelled')),
    percent integer NOT NULL DEFAULT 0 CHECK (percent BETWEEN 0 AND 100),
    error jsonb,                        -- {"code", "detail", "retryable"} when failed
    visibility text NOT NULL DEFAULT 'none'
        -- none: no chunks written; hidden: chunks may exist but no search may show them;
        -- live: searchable; gone: chunks removed
        CHECK (visibility IN ('none', 'hidden', 'live', 'gone')),
    generation integer REFERENCES generations,
    language text,
    page_count integer,
    chunk_count integer NOT NULL DEFAULT 0,
    text_chars integer,
    attempts integer NOT NULL DEFAULT 0,
    lease_owner text,
    lease_until timestamptz,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    trace_id text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz,
    UNIQUE (document_id, number)
);
CREATE INDEX unfinished_versions ON document_versions (next_attempt_at)
    WHERE status IN ('received', 'parsing', 'embedding');
CREATE INDEX hidden_versions ON document_versions (tenant_id) WHERE visibility = 'hidden';

CREATE TABLE uploads (                  -- intent of an upload, so that no file stays without a row
    version_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    document_id uuid NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE TABLE jobs (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    created_by uuid NOT NULL REFERENCES users,
    created_at timestamptz NOT NULL DEFAULT now(),
    cancelled_at timestamptz
);

CREATE TABLE job_items (
    job_id uuid NOT NULL REFERENCES jobs,
    tenant_id uuid NOT NULL REFERENCES tenants,
    document_id uuid NOT NULL REFERENCES documents,
    version_id uuid NOT NULL REFERENCES document_versions,
    PRIMARY KEY (job_id, version_id)
);
CREATE INDEX ON job_items (version_id);

CREATE TABLE deletions (                -- a receipt: what was removed where
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    document_id uuid NOT NULL UNIQUE REFERENCES documents,
    requested_by uuid NOT NULL REFERENCES users,
    chunks bigint NOT NULL DEFAULT 0,
    files bigint NOT NULL DEFAULT 0,
    cache_entries bigint NOT NULL DEFAULT 0,
    lease_owner text,
    lease_until timestamptz,
    requested_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz
);
CREATE INDEX open_deletions ON deletions (requested_at) WHERE completed_at IS NULL;

CREATE TABLE chunks_g1 (
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
    embedding vector(384) NOT NULL
);
CREATE INDEX ON chunks_g1 (tenant_id, document_id);
CREATE INDEX ON chunks_g1 (version_id);
CREATE INDEX ON chunks_g1 USING gin (terms);

CREATE TABLE corpus_languages (         -- live chunks, for inverse document frequencies
    tenant_id uuid NOT NULL,
    generation integer NOT NULL,
    language text NOT NULL,
    chunks bigint NOT NULL,
    PRIMARY KEY (tenant_id, generation, language)
);

CREATE TABLE term_frequencies (
    tenant_id uuid NOT NULL,
    generation integer NOT NULL,
    term text NOT NULL,
    chunks bigint NOT NULL,             -- live chunks that hold the term
    PRIMARY KEY (tenant_id, generation, term)
);

CREATE TABLE version_terms (            -- what a version adds to the two tables above
    version_id uuid PRIMARY KEY REFERENCES document_versions,
    tenant_id uuid NOT NULL,
    generation integer NOT NULL,
    language text NOT NULL,
    chunks bigint NOT NULL,
    terms text[] NOT NULL,
    term_chunks bigint[] NOT NULL,
    counted boolean NOT NULL DEFAULT false
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'documents', 'document_versions', 'uploads', 'jobs', 'job_items', 'deletions', 'chunks_g1',
        'corpus_languages', 'term_frequencies', 'version_terms'
    ] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY own_tenant ON %I USING (tenant_id = current_tenant())', name);
        EXECUTE format('CREATE POLICY across_tenants ON %I TO polyplane_definer USING (true)', name);
    END LOOP;
END
$$;

GRANT SELECT ON generations TO polyplane_gateway, polyplane_data, polyplane_serving, polyplane_definer;
GRANT SELECT, INSERT ON documents, document_versions, jobs, job_items, deletions TO polyplane_gateway;
GRANT SELECT, INSERT, DELETE ON uploads TO polyplane_gateway;
GRANT UPDATE (expires_at) ON uploads TO polyplane_gateway;
GRANT UPDATE (name, tags, metadata, sha256, newest_version_id, published_version_id, updated_at, deleted_at)
    ON documents TO polyplane_gateway;
GRANT UPDATE (status, percent, error, visibility, attempts, next_attempt_at, updated_at)
    ON document_versions TO polyplane_gateway;
GRANT UPDATE (cancelled_at) ON jobs TO polyplane_gateway;

GRANT SELECT ON documents, document_versions, jobs, job_items, deletions, tenants TO polyplane_data;
GRANT UPDATE (published_version_id, updated_at) ON documents TO polyplane_data;
GRANT UPDATE (status, percent, error, visibility, generation, language, page_count, chunk_count,
    text_chars, attempts, lease_owner, lease_until, next_attempt_at, updated_at, published_at)
    ON document_versions TO polyplane_data;
GRANT UPDATE (chunks, files, cache_entries, lease_owner, lease_until, completed_at)
    ON deletions TO polyplane_data;
GRANT UPDATE (corpus_version) ON tenants TO polyplane_data;
GRANT SELECT, INSERT, UPDATE, DELETE ON chunks_g1, corpus_languages, term_frequencies, version_terms
    TO polyplane_data;

GRANT SELECT ON chunks_g1, corpus_languages, term_frequencies, documents, document_versions
    TO polyplane_serving;

GRANT SELECT, UPDATE, DELETE ON documents, document_versions, uploads, deletions TO polyplane_definer;

-- Claim unfinished versions for one worker, round robin over tenants, at most p_bytes of files (one
-- document at least). A version whose lease ran out is claimed again; after p_attempts it fails.
-- From its third attempt on a version is a suspect and the only one of its worker, because it may be
-- what ends the runs: it shall not cost the others their attempts.
CREATE FUNCTION claim_documents(
    p_worker text, p_bytes bigint, p_documents integer, p_lease interval, p_attempts integer
) RETURNS SETOF document_versions LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
DECLARE
    most_attempts integer;              -- of the versions that the worker holds; null: it holds none
BEGIN
    UPDATE document_versions v
    SET status = 'failed', lease_owner = NULL, lease_until = NULL, updated_at = now(),
        error = jsonb_build_object(
            'code', 'interrupted', 'retryable', true,
            'detail', format('Processing was interrupted %s times. Upload the file again, or ask '
                             'the operator to look at the logs.', p_attempts))
    WHERE v.status IN ('received', 'parsing', 'embedding') AND v.attempts >= p_attempts
      AND coalesce(v.lease_until, '-infinity') <= now();

    SELECT max(v.attempts) INTO most_attempts FROM document_versions v
    WHERE v.lease_owner = p_worker AND v.status IN ('received', 'parsing', 'embedding');
    IF most_attempts > 2 THEN
        RETURN;
    END IF;

    RETURN QUERY
    WITH waiting AS (
        SELECT v.id, v.size_bytes, v.created_at, v.attempts >= 2 AS suspect,
               row_number() OVER (PARTITION BY v.tenant_id ORDER BY v.created_at, v.id) AS turn
        FROM document_versions v
        JOIN documents d ON d.id = v.document_id
        WHERE v.status IN ('received', 'parsing', 'embedding') AND v.next_attempt_at <= now()
          AND coalesce(v.lease_until, '-infinity') <= now() AND d.deleted_at IS NULL
          AND (most_attempts IS NULL OR v.attempts < 2)
    ), ordered AS (
        SELECT w.id, w.suspect, w.turn, w.created_at,
               first_value(w.suspect) OVER (ORDER BY w.turn, w.created_at, w.id) AS suspect_first,
               row_number() OVER (ORDER BY w.turn, w.created_at, w.id) AS place,
               sum(w.size_bytes) OVER (
                   PARTITION BY w.suspect ORDER BY w.turn, w.created_at, w.id
               ) - w.size_bytes AS before
        FROM waiting w
    ), chosen AS (
        SELECT o.id FROM ordered o
        WHERE CASE WHEN o.suspect_first THEN o.place = 1 ELSE o.before < p_bytes AND NOT o.suspect END
        ORDER BY o.turn, o.created_at, o.id LIMIT p_documents
    ), locked AS (
        SELECT v.id FROM document_versions v WHERE v.id IN (SELECT c.id FROM chosen c)
          AND coalesce(v.lease_until, '-infinity') <= now()
          AND v.status IN ('received', 'parsing', 'embedding')
        FOR UPDATE SKIP LOCKED
    )
    UPDATE document_versions v
    SET status = 'parsing', percent = 0, attempts = v.attempts + 1, lease_owner = p_worker,
        lease_until = now() + p_lease, updated_at = now()
    FROM locked WHERE v.id = locked.id
    RETURNING v.*;
END
$$;

-- Make a version the searchable one of its document, in one step with the word counts. False: the
-- document was deleted, the version cancelled, or the worker lost its lease; nothing changed then.
CREATE FUNCTION publish_version(p_version uuid, p_worker text) RETURNS boolean
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    v document_versions%ROWTYPE;
    d documents%ROWTYPE;
BEGIN
    SELECT d2.* INTO d FROM documents d2 JOIN document_versions v2 ON v2.document_id = d2.id
    WHERE v2.id = p_version FOR UPDATE OF d2;
    SELECT * INTO v FROM document_versions v2 WHERE v2.id = p_version FOR UPDATE;
    IF d.deleted_at IS NOT NULL OR v.lease_owner IS DISTINCT FROM p_worker
       OR v.status NOT IN ('parsing', 'embedding') THEN
        RETURN false;
    END IF;
    UPDATE document_versions v2 SET visibility = 'hidden', updated_at = now()
    WHERE v2.document_id = d.id AND v2.visibility = 'live' AND v2.id <> p_version;
    UPDATE document_versions v2
    SET visibility = 'live', status = 'ready', percent = 100, error = NULL, published_at = now(),
        updated_at = now(), lease_owner = NULL, lease_until = NULL
    WHERE v2.id = p_version;
    UPDATE documents d2 SET published_version_id = p_version, updated_at = now() WHERE d2.id = d.id;
    UPDATE tenants t SET corpus_version = t.corpus_version + 1 WHERE t.id = d.tenant_id;
    INSERT INTO term_frequencies AS f (tenant_id, generation, term, chunks)
    SELECT w.tenant_id, w.generation, u.term, u.chunks
    FROM version_terms w, unnest(w.terms, w.term_chunks) AS u (term, chunks)
    WHERE w.version_id = p_version AND NOT w.counted ORDER BY u.term
    ON CONFLICT (tenant_id, generation, term) DO UPDATE SET chunks = f.chunks + excluded.chunks;
    INSERT INTO corpus_languages AS l (tenant_id, generation, language, chunks)
    SELECT w.tenant_id, w.generation, w.language, w.chunks
    FROM version_terms w WHERE w.version_id = p_version AND NOT w.counted
    ON CONFLICT (tenant_id, generation, language) DO UPDATE SET chunks = l.chunks + excluded.chunks;
    UPDATE version_terms w SET counted = true WHERE w.version_id = p_version;
    RETURN true;
END
$$;

-- Forget a version whose chunks are gone from the store: its word counts and its visibility.
CREATE FUNCTION retire_version(p_version uuid) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM FROM document_versions v JOIN documents d ON d.id = v.document_id
    WHERE v.id = p_version AND v.visibility <> 'live'
      AND (d.deleted_at IS NOT NULL OR v.id <> d.newest_version_id
           OR v.status IN ('failed', 'cancelled'))
    FOR UPDATE OF v;
    IF NOT FOUND THEN
        RETURN;  -- it is wanted again: the next run writes its chunks anew
    END IF;
    PERFORM FROM tenants t JOIN document_versions v ON v.tenant_id = t.id
    WHERE v.id = p_version FOR UPDATE OF t;  -- as publishing does, so that neither waits in a circle
    UPDATE term_frequencies f SET chunks = f.chunks - u.chunks
    FROM (SELECT w.tenant_id, w.generation, x.term, x.chunks
          FROM version_terms w, unnest(w.terms, w.term_chunks) AS x (term, chunks)
          WHERE w.version_id = p_version AND w.counted ORDER BY x.term) u
    WHERE f.tenant_id = u.tenant_id AND f.generation = u.generation AND f.term = u.term;
    DELETE FROM term_frequencies f USING version_terms w
    WHERE w.version_id = p_version AND f.tenant_id = w.tenant_id AND f.generation = w.generation
      AND f.term = ANY (w.terms) AND f.chunks <= 0;
    UPDATE corpus_languages l SET chunks = l.chunks - w.chunks FROM version_terms w
    WHERE w.version_id = p_version AND w.counted AND l.tenant_id = w.tenant_id
      AND l.generation = w.generation AND l.language = w.language;
    DELETE FROM version_terms w WHERE w.version_id = p_version;
    UPDATE document_versions v
    SET visibility = 'gone', updated_at = now(), lease_owner = NULL, lease_until = NULL
    WHERE v.id = p_version;
END
$$;

-- How much waits to be claimed, for the sensor that starts runs.
CREATE FUNCTION waiting_work() RETURNS TABLE (documents bigint, removals bigint)
LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT
        (SELECT count(*) FROM document_versions v JOIN documents d ON d.id = v.document_id
         WHERE v.status IN ('received', 'parsing', 'embedding') AND v.next_attempt_at <= now()
           AND coalesce(v.lease_until, '-infinity') <= now() AND d.deleted_at IS NULL),
        (SELECT count(*) FROM deletions
         WHERE completed_at IS NULL AND coalesce(lease_until, '-infinity') <= now())
        + (SELECT count(*) FROM document_versions v JOIN documents d ON d.id = v.document_id
           WHERE v.visibility = 'hidden' AND d.deleted_at IS NULL
             AND (v.id IS DISTINCT FROM d.newest_version_id OR v.status IN ('failed', 'cancelled'))
             AND coalesce(v.lease_until, '-infinity') <= now());
END;

-- Claim tombstoned documents whose chunks and files are still to be removed.
CREATE FUNCTION claim_deletions(p_worker text, p_documents integer, p_lease interval)
RETURNS SETOF deletions LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
BEGIN ATOMIC
    UPDATE deletions SET lease_owner = p_worker, lease_until = now() + p_lease
    WHERE id IN (
        SELECT d.id FROM deletions d
        WHERE d.completed_at IS NULL AND coalesce(d.lease_until, '-infinity') <= now()
        ORDER BY d.requested_at LIMIT p_documents FOR UPDATE SKIP LOCKED
    )
    RETURNING *;
END;

-- Claim superseded or abandoned versions of living documents, whose chunks are to be removed. Under
-- the lease nobody else processes them, should their bytes be uploaded again meanwhile.
CREATE FUNCTION claim_stale_versions(p_worker text, p_versions integer, p_lease interval)
RETURNS SETOF document_versions LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
BEGIN ATOMIC
    UPDATE document_versions SET lease_owner = p_worker, lease_until = now() + p_lease
    WHERE id IN (
        SELECT v.id FROM document_versions v JOIN documents d ON d.id = v.document_id
        WHERE v.visibility = 'hidden' AND d.deleted_at IS NULL
          AND (v.id IS DISTINCT FROM d.newest_version_id OR v.status IN ('failed', 'cancelled'))
          AND coalesce(v.lease_until, '-infinity') <= now()
        LIMIT p_versions FOR UPDATE OF v SKIP LOCKED
    )
    RETURNING *;
END;

-- Upload intents that ended without a document; the caller removes the file, then the intent.
CREATE FUNCTION expired_uploads(p_uploads integer)
RETURNS SETOF uploads LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT u.* FROM uploads u WHERE u.expires_at <= now() LIMIT p_uploads;
END;

ALTER FUNCTION claim_documents OWNER TO polyplane_definer;
ALTER FUNCTION waiting_work OWNER TO polyplane_definer;
ALTER FUNCTION claim_deletions OWNER TO polyplane_definer;
ALTER FUNCTION claim_stale_versions OWNER TO polyplane_definer;
ALTER FUNCTION expired_uploads OWNER TO polyplane_definer;
REVOKE ALL ON FUNCTION claim_documents, waiting_work, claim_deletions, claim_stale_versions, expired_uploads
    FROM PUBLIC;
REVOKE ALL ON FUNCTION publish_version, retire_version FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_documents, waiting_work, claim_deletions, claim_stale_versions,
    publish_version, retire_version TO polyplane_data;
GRANT EXECUTE ON FUNCTION expired_uploads TO polyplane_gateway;
