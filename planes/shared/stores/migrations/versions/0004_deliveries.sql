-- What became of each document of a job, and what clients are told of it: signed webhooks.

-- A job keeps how its documents ended, whatever happens to them afterwards.
ALTER TABLE job_items
    ADD COLUMN outcome text             -- NULL: not ended yet
        CHECK (outcome IN ('ready', 'failed', 'cancelled')),
    ADD COLUMN error jsonb;             -- {"code", "detail", "retryable"}
ALTER TABLE jobs
    ADD COLUMN open_items integer NOT NULL DEFAULT 0,   -- items without an outcome
    ADD COLUMN finished_at timestamptz;
CREATE INDEX open_job_items ON job_items (version_id) WHERE outcome IS NULL;
CREATE INDEX half_cancelled_jobs ON jobs (id) WHERE cancelled_at IS NOT NULL AND open_items > 0;

UPDATE job_items i SET outcome = v.status, error = v.error FROM document_versions v
WHERE v.id = i.version_id AND v.status IN ('ready', 'failed', 'cancelled');
UPDATE jobs j SET open_items = (
    SELECT count(*) FROM job_items i WHERE i.job_id = j.id AND i.outcome IS NULL);
UPDATE jobs j SET finished_at = coalesce(j.cancelled_at, j.created_at) WHERE j.open_items = 0;

CREATE TABLE webhooks (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    created_by uuid NOT NULL REFERENCES users,
    url text NOT NULL,
    events text[] NOT NULL,
    sealed_secret bytea NOT NULL,       -- AES-GCM: nonce and ciphertext; the gateway has the key
    created_at timestamptz NOT NULL DEFAULT now(),
    failures integer NOT NULL DEFAULT 0,            -- attempts that failed since one succeeded
    failing_since timestamptz,
    retry_at timestamptz NOT NULL DEFAULT now(),    -- nothing is sent to it before
    paused_at timestamptz,              -- nothing new is kept for it, until a test reaches it
    last_attempt_at timestamptz,
    last_status integer,                -- of HTTP; NULL: no answer
    last_error text
);
CREATE INDEX ON webhooks (tenant_id, id DESC);

CREATE TABLE webhook_deliveries (       -- one event for one webhook; the id is the receiver's too
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    webhook_id uuid NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    event text NOT NULL,
    body text NOT NULL,                 -- JSON, signed and sent as it stands here
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'given-up')),
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz
);
CREATE INDEX waiting_deliveries ON webhook_deliveries (webhook_id, due_at) WHERE state = 'waiting';
CREATE INDEX ON webhook_deliveries (created_at);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['webhooks', 'webhook_deliveries'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY own_tenant ON %I USING (tenant_id = current_tenant())', name);
        EXECUTE format('CREATE POLICY across_tenants ON %I TO polyplane_definer USING (true)', name);
    END LOOP;
    -- both go with their tenant, before what they refer to
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION erasable_tables() RETURNS text[] LANGUAGE sql IMMUTABLE '
        'RETURN %L::text[]', ARRAY['webhook_deliveries', 'webhooks'] || erasable_tables());
END
$$;

GRANT SELECT, INSERT, DELETE ON webhooks TO polyplane_gateway;
GRANT UPDATE (failures, failing_since, retry_at, paused_at, last_attempt_at, last_status, last_error)
    ON webhooks TO polyplane_gateway;
GRANT SELECT, INSERT ON webhook_deliveries TO polyplane_gateway;
GRANT UPDATE (state, due_at, lease_until, ended_at) ON webhook_deliveries TO polyplane_gateway;
GRANT SELECT, UPDATE, DELETE ON webhooks TO polyplane_definer;
GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_deliveries TO polyplane_definer;
GRANT SELECT, UPDATE ON jobs, job_items TO polyplane_definer;
GRANT SELECT ON deletions TO polyplane_definer;

-- Keep an event for each of a tenant's webhooks that wants it, in the transaction that causes it.
CREATE FUNCTION post_webhooks(p_tenant uuid, p_event text, p_data jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
BEGIN ATOMIC
    WITH wanting AS (
        SELECT h.id FROM webhooks h
        WHERE h.tenant_id = p_tenant AND h.paused_at IS NULL AND p_event = ANY (h.events)
          AND EXISTS (SELECT FROM tenants t WHERE t.id = p_tenant AND t.deleted_at IS NULL)
        FOR KEY SHARE OF h
    )
    INSERT INTO webhook_deliveries (id, tenant_id, webhook_id, event, body)
    SELECT gen_random_uuid(), p_tenant, w.id, p_event, jsonb_build_object(
        'type', p_event, 'data', p_data,
        'timestamp', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))::text
    FROM wanting w;
END;

-- Jobs learn how their documents ended in the very statement that ends them. Whoever locks several
-- takes documents first, then versions, then jobs, each in the order of their ids, then the tenant.
CREATE FUNCTION note_ended_versions() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_ended uuid[] := ARRAY(    -- no join: its plan, kept from one row, would be slow for thousands
        SELECT n.id FROM now_rows n WHERE n.status IN ('ready', 'failed', 'cancelled') EXCEPT
        SELECT o.id FROM old_rows o WHERE o.status IN ('ready', 'failed', 'cancelled'));
BEGIN
    IF cardinality(v_ended) = 0 THEN
        RETURN NULL;
    END IF;
    PERFORM FROM jobs j WHERE j.id IN (
        SELECT i.job_id FROM job_items i
        WHERE i.version_id = ANY (v_ended) AND i.outcome IS NULL
    ) ORDER BY j.id FOR NO KEY UPDATE;
    WITH items AS (
        UPDATE job_items i SET outcome = v.status, error = v.error
        FROM document_versions v
        WHERE v.id = ANY (v_ended) AND i.version_id = v.id AND i.outcome IS NULL
        RETURNING i.job_id
    ), ended AS (SELECT job_id, count(*) AS items FROM items GROUP BY job_id)
    UPDATE jobs j SET open_items = j.open_items - e.items,
           finished_at = CASE WHEN j.open_items = e.items THEN now() END
    FROM ended e WHERE j.id = e.job_id;
    PERFORM post_webhooks(v.tenant_id, 'document.' || v.status, jsonb_build_object(
        'document_id', v.document_id, 'name', d.name, 'status', v.status, 'version', v.number,
        'sha256', encode(v.sha256, 'hex'), 'size_bytes', v.size_bytes,
        'page_count', v.page_count, 'chunk_count', v.chunk_count, 'error', v.error))
    FROM document_versions v JOIN documents d ON d.id = v.document_id
    WHERE v.id = ANY (v_ended) AND v.status IN ('ready', 'failed');
    RETURN NULL;
END
$$;
CREATE TRIGGER note_ended AFTER UPDATE ON document_versions
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS now_rows
    FOR EACH STATEMENT EXECUTE FUNCTION note_ended_versions();

-- A version that has ended already is no work of a new job. The lock makes one of two wait: the
-- statement that ends the version and the one that adds it to a job.
CREATE FUNCTION adopt_outcome() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    SELECT v.status, v.error INTO NEW.outcome, NEW.error FROM document_versions v
    WHERE v.id = NEW.version_id FOR SHARE;
    IF NEW.outcome IN ('received', 'parsing', 'embedding') THEN
        NEW.outcome := NULL;
        NEW.error := NULL;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER adopt_outcome BEFORE INSERT ON job_items
    FOR EACH ROW EXECUTE FUNCTION adopt_outcome();

CREATE FUNCTION count_open_items() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE jobs j SET open_items = j.open_items + a.items, finished_at = NULL
    FROM (SELECT n.job_id, count(*) AS items FROM now_rows n WHERE n.outcome IS NULL
          GROUP BY n.job_id) a
    WHERE j.id = a.job_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER count_open AFTER INSERT ON job_items REFERENCING NEW TABLE AS now_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_open_items();

-- A job of nothing but ended versions ends with the transaction that makes it.
CREATE FUNCTION finish_job_without_work() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE jobs j SET finished_at = now()
    WHERE j.id = NEW.id AND j.open_items = 0 AND j.finished_at IS NULL
      AND EXISTS (SELECT FROM job_items i WHERE i.job_id = j.id);
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER finish_without_work AFTER INSERT ON jobs
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION finish_job_without_work();

CREATE FUNCTION note_finished_job() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM post_webhooks(NEW.tenant_id, 'job.finished', jsonb_build_object(
        'job_id', NEW.id, 'status', CASE
            WHEN NEW.cancelled_at IS NOT NULL THEN 'cancelled' WHEN c.ready > 0 THEN 'succeeded'
            WHEN c.failed > 0 THEN 'failed' ELSE 'cancelled' END,
        'progress', jsonb_build_object('total', c.total, 'ready', c.ready, 'failed', c.failed,
                                       'cancelled', c.cancelled)))
    FROM (SELECT count(*) AS total, count(*) FILTER (WHERE i.outcome = 'ready') AS ready,
                 count(*) FILTER (WHERE i.outcome = 'failed') AS failed,
                 count(*) FILTER (WHERE i.outcome = 'cancelled') AS cancelled
          FROM job_items i WHERE i.job_id = NEW.id) c;
    RETURN NULL;
END
$$;
CREATE TRIGGER note_finished AFTER UPDATE OF finished_at ON jobs
    FOR EACH ROW WHEN (OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL)
    EXECUTE FUNCTION note_finished_job();

CREATE FUNCTION note_complete_deletion() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM post_webhooks(NEW.tenant_id, 'document.deleted', jsonb_build_object(
        'document_id', NEW.document_id, 'receipt_id', NEW.id, 'removed', jsonb_build_object(
            'chunks', NEW.chunks, 'files', NEW.files, 'cache_entries', NEW.cache_entries)));
    RETURN NULL;
END
$$;
CREATE TRIGGER note_complete AFTER UPDATE OF completed_at ON deletions
    FOR EACH ROW WHEN (OLD.completed_at IS NULL AND NEW.completed_at IS NOT NULL)
    EXECUTE FUNCTION note_complete_deletion();

-- Stop up to p_items unfinished documents of one of the present tenant's jobs. Versions that another
-- job still wants go on. Returns whether there are more; a job that has finished does not change. A
-- run that works on a version finds at its next step that it may neither write nor publish it.
CREATE FUNCTION cancel_job(p_job uuid, p_items integer) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_error jsonb := jsonb_build_object(
        'code', 'cancelled', 'retryable', true,
        'detail', 'The job was cancelled before the document was ready.');
    v_versions uuid[] := ARRAY(
        SELECT i.version_id FROM job_items i
        WHERE i.job_id = p_job AND i.tenant_id = current_tenant() AND i.outcome IS NULL
        ORDER BY i.version_id LIMIT p_items);
    v_items integer;
    v_left integer;
BEGIN
    PERFORM FROM document_versions v WHERE v.id = ANY (v_versions) ORDER BY v.id FOR UPDATE;
    UPDATE jobs j SET cancelled_at = coalesce(j.cancelled_at, now())
    WHERE j.id = p_job AND j.tenant_id = current_tenant() AND j.open_items > 0;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE document_versions v SET status = 'cancelled', error = v_error, updated_at = now()
    WHERE v.id = ANY (v_versions) AND v.status IN ('received', 'parsing', 'embedding')
      AND NOT EXISTS (
        SELECT FROM job_items x
        WHERE x.version_id = v.id AND x.outcome IS NULL AND x.job_id <> p_job);
    UPDATE job_items i SET outcome = 'cancelled', error = v_error
    WHERE i.job_id = p_job AND i.version_id = ANY (v_versions) AND i.outcome IS NULL;
    GET DIAGNOSTICS v_items = ROW_COUNT;
    UPDATE jobs j SET open_items = j.open_items - v_items,
           finished_at = CASE WHEN j.open_items = v_items THEN coalesce(j.finished_at, now()) END
    WHERE j.id = p_job RETURNING j.open_items INTO v_left;
    RETURN v_left > 0 AND cardinality(v_versions) = p_items;
END
$$;

-- Jobs whose cancellation was begun and not ended.
CREATE FUNCTION half_cancelled_jobs() RETURNS TABLE (tenant_id uuid, job_id uuid)
LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT j.tenant_id, j.id FROM jobs j
    WHERE j.cancelled_at IS NOT NULL AND j.open_items > 0 LIMIT 100;
END;

-- A number for each job that changes whenever what its client sees of it does.
CREATE FUNCTION job_stamps(p_jobs uuid[]) RETURNS TABLE (job_id uuid, stamp text)
LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT i.job_id, concat_ws(' ', count(*), sum(hashtextextended(concat_ws(' ', i.version_id,
        coalesce(i.outcome, v.status), v.percent, d.deleted_at IS NULL), 0)::numeric))
    FROM job_items i
    JOIN document_versions v ON v.id = i.version_id
    JOIN documents d ON d.id = i.document_id
    WHERE i.job_id = ANY (p_jobs) GROUP BY i.job_id;
END;

-- Jobs with their documents, one row each, for those who watch them.
CREATE FUNCTION watched_jobs(p_jobs uuid[]) RETURNS TABLE (
    job_id uuid, created_at timestamptz, cancelled_at timestamptz, finished_at timestamptz,
    document_id uuid, name text, deleted_at timestamptz, status text, percent integer, error jsonb
)
LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT j.id, j.created_at, j.cancelled_at, j.finished_at, d.id, d.name, d.deleted_at,
           coalesce(i.outcome, v.status), CASE i.outcome WHEN 'ready' THEN 100 ELSE v.percent END,
           CASE WHEN i.outcome IS NULL THEN v.error ELSE i.error END
    FROM jobs j
    JOIN job_items i ON i.job_id = j.id
    JOIN documents d ON d.id = i.document_id
    JOIN document_versions v ON v.id = i.version_id
    WHERE j.id = ANY (p_jobs) ORDER BY j.id, d.id;
END;

-- Lease due deliveries, those of each tenant in turn. Of one webhook at most four are under way at a
-- time, and one while it fails, so that a server that does not answer holds up no other.
CREATE FUNCTION claim_deliveries(p_deliveries integer, p_lease interval)
RETURNS TABLE (
    id uuid, tenant_id uuid, webhook_id uuid, event text, body text, attempts integer,
    url text, sealed_secret bytea, failures integer
)
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
BEGIN ATOMIC
    WITH due AS (
        SELECT w.id, row_number() OVER (PARTITION BY h.tenant_id ORDER BY w.due_at, w.id) AS turn
        FROM webhooks h
        CROSS JOIN LATERAL (
            SELECT d.id, d.due_at FROM webhook_deliveries d
            WHERE d.webhook_id = h.id AND d.state = 'waiting' AND d.due_at <= now()
              AND coalesce(d.lease_until, '-infinity') <= now()
            ORDER BY d.due_at, d.id
            LIMIT greatest(0, CASE h.failures WHEN 0 THEN 4 ELSE 1 END - (
                SELECT count(*) FROM webhook_deliveries f
                WHERE f.webhook_id = h.id AND f.state = 'waiting' AND f.lease_until > now()))
        ) w
        WHERE h.retry_at <= now()
          AND EXISTS (SELECT FROM tenants t WHERE t.id = h.tenant_id AND t.deleted_at IS NULL)
    ), locked AS (
        SELECT d.id FROM webhook_deliveries d
        WHERE d.id IN (SELECT e.id FROM due e ORDER BY e.turn, e.id LIMIT p_deliveries)
          AND d.state = 'waiting' AND coalesce(d.lease_until, '-infinity') <= now()
        FOR UPDATE SKIP LOCKED
    )
    UPDATE webhook_deliveries d SET attempts = d.attempts + 1, lease_until = now() + p_lease
    FROM locked l, webhooks h WHERE d.id = l.id AND h.id = d.webhook_id
    RETURNING d.id, d.tenant_id, d.webhook_id, d.event, d.body, d.attempts, h.url,
              h.sealed_secret, h.failures;
END;

-- Give up what waited longer than p_wait, forget what ended longer ago than p_keep.
CREATE FUNCTION prune_deliveries(p_wait interval, p_keep interval) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_rows bigint;
BEGIN
    UPDATE webhook_deliveries d SET state = 'given-up', ended_at = now()
    WHERE d.state = 'waiting' AND d.created_at < now() - p_wait
      AND coalesce(d.lease_until, '-infinity') <= now();
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    DELETE FROM webhook_deliveries d WHERE d.created_at < now() - p_keep AND d.state <> 'waiting';
    RETURN v_rows;
END
$$;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'post_webhooks', 'note_ended_versions', 'adopt_outcome', 'count_open_items',
        'finish_job_without_work', 'note_finished_job', 'note_complete_deletion', 'cancel_job',
        'half_cancelled_jobs', 'job_stamps', 'watched_jobs', 'claim_deliveries', 'prune_deliveries'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %I OWNER TO polyplane_definer', name);
        EXECUTE format('REVOKE ALL ON FUNCTION %I FROM PUBLIC', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY[
        'cancel_job', 'half_cancelled_jobs', 'job_stamps', 'watched_jobs', 'claim_deliveries',
        'prune_deliveries'
    ] LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %I TO polyplane_gateway', name);
    END LOOP;
END
$$;
