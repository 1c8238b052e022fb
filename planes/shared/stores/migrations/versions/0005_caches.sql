-- What the serving plane's caches are keyed by.

-- How often a tenant's searchable documents have changed. In a query it is as of the query's
-- beginning, whatever the other functions in it see: what is found may be newer, never older.
CREATE FUNCTION corpus_version_of(p_tenant uuid) RETURNS bigint
LANGUAGE sql SECURITY DEFINER STABLE SET search_path = public, pg_temp
BEGIN ATOMIC
    SELECT t.corpus_version FROM tenants t WHERE t.id = p_tenant;
END;

ALTER FUNCTION corpus_version_of OWNER TO polyplane_definer;
REVOKE ALL ON FUNCTION corpus_version_of FROM PUBLIC;
GRANT EXECUTE ON FUNCTION corpus_version_of TO polyplane_gateway;
