"""One row in every table that holds tenants' data, made from the catalog."""

import re
from uuid import UUID, uuid4

import asyncpg

# What stays, without names: money, and who did what.
RETAINED = {
    "audit_log",
    "ledger",
    "payment_events",
    "plan_changes",
    "quota_periods",
    "subscriptions",
    "tenant_deletions",
}

TENANT_TABLES = """
SELECT c.table_name FROM information_schema.columns c
JOIN information_schema.tables t USING (table_schema, table_name)
WHERE c.table_schema = 'public' AND c.column_name = 'tenant_id' AND t.table_type = 'BASE TABLE'
ORDER BY 1
"""
_COLUMNS = """
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped AND d.adnum IS NULL
  AND (a.attnotnull OR a.attname IN ('user_id', 'tenant_id'))
"""
_CHECKS = """
SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = $1::regclass AND contype = 'c'
"""
_OF_USER = {"user_id", "owner_id", "created_by", "requested_by", "invited_by"}
_VALUES = {
    "integer": "1",
    "bigint": "1",
    "double precision": "1",
    "boolean": "false",
    "date": "current_date",
    "timestamp with time zone": "now()",
    "jsonb": "'{}'",
    "tsvector": "''",
    "numeric(20,10)": "1",
}


async def tenant_tables(connection: asyncpg.Connection) -> list[str]:
    return [row["table_name"] for row in await connection.fetch(TENANT_TABLES)]


async def left_over(connection: asyncpg.Connection, tenant_id: str | UUID) -> set[str]:
    """Return the tables that still hold rows of a tenant."""
    return {
        table
        for table in await tenant_tables(connection)
        if await connection.fetchval(
            f"SELECT count(*) FROM {table} WHERE tenant_id = $1",  # noqa: S608
            UUID(str(tenant_id)),
        )
    }


async def fill(connection: asyncpg.Connection, tenant_id: UUID, user_id: UUID) -> None:
    """Insert a row of one tenant into every table; foreign keys are not checked."""
    await connection.execute("SET session_replication_role = replica")
    for table in await tenant_tables(connection):
        checks = " ".join(row[0] for row in await connection.fetch(_CHECKS, table))
        values = {}
        for name, type_ in await connection.fetch(_COLUMNS, table):
            if name == "tenant_id":
                values[name] = f"'{tenant_id}'"
            elif name in _OF_USER:
                values[name] = f"'{user_id}'"
            else:
                values[name] = _value(name, type_, checks)
        await connection.execute(
            f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(values.values())})"  # noqa: S608
        )
    await connection.execute("SET session_replication_role = DEFAULT")


def _value(name: str, type_: str, checks: str) -> str:
    if type_ in _VALUES:
        return _VALUES[type_]
    if type_ == "uuid":
        return f"'{uuid4()}'"
    if type_ == "text":
        allowed = re.search(rf"\({name} = ANY \(ARRAY\['([^']*)'", checks)
        return f"'{allowed[1] if allowed else uuid4().hex}'"
    if type_ == "bytea":
        return f"'\\x{uuid4().hex}'"
    if type_.endswith("[]"):
        return f"'{{}}'::{type_}"
    if size := re.fullmatch(r"vector\((\d+)\)", type_):
        return f"array_fill(0, ARRAY[{size[1]}])::vector"
    raise AssertionError(f"no value for {name} {type_}")
