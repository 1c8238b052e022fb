-- Roles, plans, tenants, people and their sessions.
--
-- Nobody logs in as polyplane_definer: it owns the functions that work across tenants. The three
-- service roles own nothing, so row-level security binds them.

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'polyplane_definer', 'polyplane_gateway', 'polyplane_data', 'polyplane_serving'
    ] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        END IF;
    END LOOP;
    EXECUTE format('GRANT polyplane_definer TO %I', current_user);
END
$$;

GRANT USAGE, CREATE ON SCHEMA public TO polyplane_definer;
GRANT USAGE ON SCHEMA public TO polyplane_gateway, polyplane_data, polyplane_serving;

CREATE FUNCTION current_tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('app.tenant_id', true), '')::uuid;

CREATE FUNCTION current_account() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('app.user_id', true), '')::uuid;

CREATE TABLE plans (
    name text PRIMARY KEY,
    title text NOT NULL,
    monthly_price_usd numeric(20, 10) NOT NULL,
    messages_per_month bigint,          -- NULL is unlimited, here and below
    tokens_per_month bigint,
    documents bigint,
    storage_bytes bigint,
    requests_per_minute integer NOT NULL,
    chat_requests_per_minute integer NOT NULL,
    position integer NOT NULL
);

INSERT INTO plans VALUES
    ('free', 'Free', 0, 1000, 2000000, 2000, 2147483648, 600, 120, 1),
    ('pro', 'Pro', 29, 20000, 50000000, 50000, 107374182400, 3000, 600, 2),
    ('enterprise', 'Enterprise', 499, NULL, NULL, NULL, NULL, 12000, 3000, 3);

CREATE TABLE prices (
    model text PRIMARY KEY,             -- '*' prices every model without a row of its own
    prompt_token_usd numeric(20, 10) NOT NULL CHECK (prompt_token_usd >= 0),
    completion_token_usd numeric(20, 10) NOT NULL CHECK (completion_token_usd >= 0)
);

INSERT INTO prices VALUES
    ('*', 0.0000001000, 0.0000004000),
    ('extractive', 0.0000000100, 0.0000000400),
    ('Qwen/Qwen3-0.6B', 0.0000000300, 0.0000000900),
    ('Qwen/Qwen3-1.7B', 0.0000000500, 0.0000001500);

CREATE TABLE tenants (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    plan text NOT NULL DEFAULT 'free' REFERENCES plans,
    corpus_version bigint NOT NULL DEFAULT 0,
    documents_used bigint NOT NULL DEFAULT 0 CHECK (documents_used >= 0),
    storage_bytes_used bigint NOT NULL DEFAULT 0 CHECK (storage_bytes_used >= 0),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE users (
    id uuid PRIMARY KEY,
    email text NOT NULL,
    email_key text NOT NULL UNIQUE,     -- case-folded
    password_hash text NOT NULL,
    display_name text NOT NULL,
    version integer NOT NULL DEFAULT 1, -- claim "sv": raised to end every token of the user
    disabled_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE memberships (
    tenant_id uuid NOT NULL REFERENCES tenants,
    user_id uuid NOT NULL REFERENCES users,
    role text NOT NULL CHECK (role IN ('viewer', 'member', 'admin', 'owner')),
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, tenant_id)
);
CREATE INDEX ON memberships (tenant_id);

CREATE TABLE sessions (                 -- one per login: the refresh family
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    user_id uuid NOT NULL REFERENCES users,
    user_agent text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    end_reason text
);
CREATE INDEX ON sessions (user_id) WHERE ended_at IS NULL;

CREATE TABLE refresh_tokens (
    token_hash bytea PRIMARY KEY,       -- SHA-256 of the opaque token
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    user_id uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);
CREATE INDEX ON refresh_tokens (session_id);

ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON tenants USING (id = current_tenant());
CREATE POLICY own_memberships ON tenants FOR SELECT TO polyplane_gateway USING (
    id IN (SELECT m.tenant_id FROM memberships m WHERE m.user_id = current_account())
);
CREATE POLICY across_tenants ON tenants TO polyplane_definer USING (true);

ALTER TABLE memberships ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON memberships USING (
    tenant_id = current_tenant() OR user_id = current_account()
);
CREATE POLICY across_tenants ON memberships TO polyplane_definer USING (true);

ALTER TABLE sessions ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON sessions USING (
    tenant_id = current_tenant() OR user_id = current_account()
);

GRANT SELECT ON plans, prices TO polyplane_gateway, polyplane_definer;
GRANT SELECT, INSERT ON users, tenants, memberships, sessions, refresh_tokens TO polyplane_gateway;
GRANT UPDATE (name, plan, corpus_version, documents_used, storage_bytes_used)
    ON tenants TO polyplane_gateway;
GRANT UPDATE (password_hash, display_name, version, disabled_at) ON users TO polyplane_gateway;
GRANT UPDATE (role, last_used_at), DELETE ON memberships TO polyplane_gateway;
GRANT UPDATE (last_used_at, ended_at, end_reason) ON sessions TO polyplane_gateway;
GRANT UPDATE (used_at), DELETE ON refresh_tokens TO polyplane_gateway;
GRANT SELECT, UPDATE ON tenants TO polyplane_definer;
GRANT SELECT ON memberships TO polyplane_definer;
