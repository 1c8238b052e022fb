-- Verified addresses, one-time tokens, identities of OpenID providers, and mail that waits.

ALTER TABLE users ALTER COLUMN password_hash DROP NOT NULL; -- NULL: signs in by a provider alone
ALTER TABLE users ADD COLUMN email_verified_at timestamptz;
GRANT UPDATE (email_verified_at) ON users TO polyplane_gateway;

CREATE TABLE user_tokens (              -- proofs that are good for one act
    token_hash bytea PRIMARY KEY,       -- SHA-256 of the token
    kind text NOT NULL CHECK (kind IN ('verify-email', 'reset-password', 'sign-in')),
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    enters uuid,                        -- of a sign-in: the tenant asked for; NULL: the last used
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);
CREATE INDEX ON user_tokens (user_id);
CREATE INDEX ON user_tokens (expires_at);

CREATE TABLE user_identities (          -- who a person is at an OpenID provider
    issuer text NOT NULL,
    subject text NOT NULL,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX ON user_identities (user_id);

-- Mail to be sent, as what it is about: the text with its secret is made when it is sent.
CREATE TABLE mail_outbox (
    id uuid PRIMARY KEY,
    kind text NOT NULL,
    address text NOT NULL,
    details jsonb NOT NULL DEFAULT '{}',
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON mail_outbox (due_at);

GRANT SELECT, INSERT, DELETE ON user_tokens, user_identities, mail_outbox TO polyplane_gateway;
GRANT UPDATE (used_at) ON user_tokens TO polyplane_gateway;
GRANT UPDATE (last_used_at) ON user_identities TO polyplane_gateway;
GRANT UPDATE (attempts, due_at) ON mail_outbox TO polyplane_gateway;
