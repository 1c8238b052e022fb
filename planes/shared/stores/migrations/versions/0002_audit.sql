-- Who did what of weight in a tenant. Append-only; holds ids, never secrets or addresses of people.

CREATE TABLE audit_log (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    actor_kind text NOT NULL CHECK (actor_kind IN ('user', 'api-key', 'operator', 'system')),
    actor_id uuid,                      -- the user; NULL for operator and system
    api_key_id uuid,
    action text NOT NULL,
    subject text NOT NULL DEFAULT '',   -- what it was done to: "user:<id>", "plan:pro"
    details jsonb NOT NULL DEFAULT '{}',
    address text NOT NULL DEFAULT '',   -- where the request came from
    trace_id text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON audit_log (tenant_id, id DESC);

ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON audit_log USING (tenant_id = current_tenant());
CREATE POLICY across_tenants ON audit_log TO polyplane_definer USING (true);
GRANT SELECT, INSERT ON audit_log TO polyplane_gateway;
GRANT INSERT ON audit_log TO polyplane_definer;

CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
