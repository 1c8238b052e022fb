"""Balances and ledgers of the servers beside the product, in schemas of their own.

`bare` does all that waits in one statement over `unnest`; `plain` has a transaction a request. Both
pay with tokens, so that the books can be checked to the last one.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text

from services.embedded.schema import owner_connection

START_TOKENS = 10**15

_SCHEMA = """
CREATE SCHEMA bare;
CREATE TABLE bare.balances (tenant_id uuid PRIMARY KEY, tokens bigint NOT NULL);
CREATE TABLE bare.reservations (
    id uuid PRIMARY KEY, tenant_id uuid NOT NULL, user_id uuid NOT NULL,
    conversation_id uuid NOT NULL, tokens bigint NOT NULL, question text NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE TABLE bare.ledger (
    request_id uuid PRIMARY KEY, tenant_id uuid NOT NULL, user_id uuid NOT NULL,
    model text NOT NULL, prompt_tokens bigint NOT NULL, completion_tokens bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE bare.outbox (
    id uuid PRIMARY KEY, tenant_id uuid NOT NULL, conversation_id uuid NOT NULL,
    payload jsonb NOT NULL
);
CREATE SCHEMA plain;
CREATE TABLE plain.balances (tenant_id uuid PRIMARY KEY, tokens bigint NOT NULL);
CREATE TABLE plain.ledger (
    request_id uuid PRIMARY KEY, tenant_id uuid NOT NULL, user_id uuid NOT NULL,
    tokens bigint NOT NULL, created_at timestamptz NOT NULL DEFAULT now()
);
"""

# Groups take the locks of balances in one order, so that none waits for another in a circle.
RESERVE = """
WITH asked AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::bigint[], $6::text[])
        AS a (id, tenant_id, user_id, conversation_id, tokens, question)
), wanted AS (
    SELECT tenant_id, sum(tokens)::bigint AS tokens FROM asked GROUP BY tenant_id
), locked AS MATERIALIZED (
    SELECT b.tenant_id, w.tokens FROM bare.balances b JOIN wanted w USING (tenant_id)
    ORDER BY b.tenant_id FOR UPDATE OF b
), paid AS (
    UPDATE bare.balances b SET tokens = b.tokens - l.tokens FROM locked l
    WHERE b.tenant_id = l.tenant_id AND b.tokens >= l.tokens RETURNING b.tenant_id
)
INSERT INTO bare.reservations
    (id, tenant_id, user_id, conversation_id, tokens, question, expires_at)
SELECT a.id, a.tenant_id, a.user_id, a.conversation_id, a.tokens, a.question,
       now() + interval '60 seconds'
FROM asked a JOIN paid USING (tenant_id)
RETURNING id
"""
"""Takes the worst case of all that wait; returns whose balance covers it."""

SETTLE = """
WITH settled AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::jsonb[])
        AS s (id, model, prompt_tokens, completion_tokens, payload)
), freed AS (
    DELETE FROM bare.reservations r USING settled s WHERE r.id = s.id
    RETURNING r.tenant_id, r.user_id, r.conversation_id, r.tokens, s.*
), entered AS (
    INSERT INTO bare.ledger
        (request_id, tenant_id, user_id, model, prompt_tokens, completion_tokens)
    SELECT id, tenant_id, user_id, model, prompt_tokens, completion_tokens FROM freed
    ON CONFLICT (request_id) DO NOTHING
), sent AS (
    INSERT INTO bare.outbox (id, tenant_id, conversation_id, payload)
    SELECT id, tenant_id, conversation_id, payload FROM freed
), due AS (
    SELECT tenant_id, sum(tokens - prompt_tokens - completion_tokens)::bigint AS tokens
    FROM freed GROUP BY tenant_id
), locked AS MATERIALIZED (
    SELECT b.tenant_id, d.tokens FROM bare.balances b JOIN due d USING (tenant_id)
    ORDER BY b.tenant_id FOR UPDATE OF b
)
UPDATE bare.balances b SET tokens = b.tokens + l.tokens FROM locked l
WHERE b.tenant_id = l.tenant_id
"""
"""Turns reservations into ledger rows and stored answers, and gives back what was not used."""

DEBIT = (
    "UPDATE plain.balances SET tokens = tokens - $2 WHERE tenant_id = $1 AND tokens >= $2",
    "INSERT INTO plain.ledger (request_id, tenant_id, user_id, tokens) VALUES ($1, $2, $3, $4)",
)
"""The statements of one transaction: the conditional debit, and its row."""

_DIFFERENCES = """
SELECT b.tenant_id FROM bare.balances b LEFT JOIN (
    SELECT tenant_id, sum(prompt_tokens + completion_tokens) AS used FROM bare.ledger GROUP BY 1
) l USING (tenant_id) LEFT JOIN (
    SELECT tenant_id, sum(tokens) AS held FROM bare.reservations GROUP BY 1
) r USING (tenant_id)
WHERE b.tokens + coalesce(l.used, 0) + coalesce(r.held, 0) <> :start
UNION ALL
SELECT b.tenant_id FROM plain.balances b LEFT JOIN (
    SELECT tenant_id, sum(tokens) AS used FROM plain.ledger GROUP BY 1
) l USING (tenant_id)
WHERE b.tokens + coalesce(l.used, 0) <> :start
UNION ALL
SELECT l.tenant_id FROM bare.ledger l LEFT JOIN bare.outbox o ON o.id = l.request_id
WHERE o.id IS NULL
"""


class BooksWrong(Exception):
    """Balances and ledgers differ: what was measured has not done the work."""


def open_books(owner_url: str, tenants: Sequence[UUID]) -> None:
    """Make the schemas, with a balance for each tenant."""
    with owner_connection(owner_url) as connection:
        connection.execute(text(_SCHEMA))
        for schema in ("bare", "plain"):
            connection.execute(
                text(
                    f"INSERT INTO {schema}.balances SELECT unnest(CAST(:tenants AS uuid[])), :start"
                ),
                {"tenants": list(map(str, tenants)), "start": START_TOKENS},
            )


def check_books(owner_url: str) -> None:
    """Compare what is missing from each balance with its ledger, and the product's quotas with its.

    Raises:
        BooksWrong: They differ.
    """
    with owner_connection(owner_url) as connection:
        found = connection.execute(text(_DIFFERENCES), {"start": START_TOKENS}).scalars().all()
        own = connection.execute(text("SELECT * FROM ledger_differences()")).all()
    if found:
        raise BooksWrong(f"balance and ledger differ for {len(found)} tenants: {found[0]}")
    if own:
        raise BooksWrong(f"quota and ledger differ in {len(own)} figures: {own[0]}")
