"""The second wall: the database itself shows a service one tenant, whatever the service asks."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest

from services.embedded.postgres import SERVICE_ROLES
from tests.integration.gateway.tenants.rows import fill, tenant_tables

pytestmark = pytest.mark.integration

# Tables without a tenant, each for a reason: a new table belongs to a tenant, or is named here.
PLATFORM_TABLES = {
    "alembic_version",
    "chat_log_place",  # of the messages of all tenants
    "generations",  # of the index, for all tenants
    "mail_outbox",  # to people, who may belong to several tenants or none
    "plan_terms",  # of plans
    "plans",
    "prices",
    "refresh_tokens",  # of people; read by their hash
    "removal_holds",  # of backups, for all tenants
    "tenants",  # under row-level security by its id
    "user_identities",  # of people, at OpenID providers
    "user_tokens",  # of people; read by their hash
    "users",
}


@pytest.fixture
async def admin(database_urls: dict[str, str]) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_urls["admin"])
    yield connection
    await connection.close()


@pytest.fixture
async def two_tenants(admin: asyncpg.Connection) -> tuple[UUID, UUID]:
    """Two tenants with a row in every table."""
    tenants = uuid4(), uuid4()
    for tenant_id in tenants:
        await admin.execute("INSERT INTO tenants (id, name) VALUES ($1, 'x')", tenant_id)
        await fill(admin, tenant_id, uuid4())
    return tenants


async def test_every_table_belongs_to_tenants_or_is_known_not_to(
    admin: asyncpg.Connection,
) -> None:
    rows = await admin.fetch(
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'm', 'f')"
        " AND relnamespace = 'public'::regnamespace"
    )
    assert {row["relname"] for row in rows} - set(await tenant_tables(admin)) == PLATFORM_TABLES


async def test_every_table_of_tenants_is_under_row_level_security(
    admin: asyncpg.Connection,
) -> None:
    rows = await admin.fetch(
        "SELECT c.relname, c.relrowsecurity, array_agg(p.polname::text) AS policies,"
        " bool_or(pg_get_expr(p.polqual, p.polrelid) LIKE '%current_tenant()%') AS is_scoped"
        " FROM pg_class c LEFT JOIN pg_policy p ON p.polrelid = c.oid"
        " WHERE c.relname = ANY ($1) GROUP BY 1, 2",
        [*await tenant_tables(admin), "tenants"],
    )
    open_tables = [
        row["relname"]
        for row in rows
        if not row["relrowsecurity"] or "own_tenant" not in row["policies"] or not row["is_scoped"]
    ]
    assert open_tables == []


async def test_only_the_definer_has_a_policy_that_shows_everything(
    admin: asyncpg.Connection,
) -> None:
    rows = await admin.fetch(
        "SELECT polrelid::regclass::text AS name, polroles::regrole[]::text[] AS roles"
        " FROM pg_policy WHERE pg_get_expr(polqual, polrelid) NOT LIKE '%current_%()%'"
    )
    assert {tuple(row["roles"]) for row in rows} == {("polyplane_definer",)}


async def test_the_services_own_nothing_and_cannot_pass_the_wall(
    admin: asyncpg.Connection,
) -> None:
    for role in SERVICE_ROLES:
        powers = await admin.fetchrow(
            "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles"
            " WHERE rolname = $1",
            role,
        )
        assert not any(powers.values()), role
        owned = await admin.fetchval(
            "SELECT (SELECT count(*) FROM pg_class WHERE relowner = $1::regrole)"
            " + (SELECT count(*) FROM pg_proc WHERE proowner = $1::regrole)"
            " + (SELECT count(*) FROM pg_auth_members WHERE member = $1::regrole)",
            role,
        )
        assert owned == 0, role
    assert not await admin.fetchval(
        "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'polyplane_definer'"
    )


async def test_functions_that_work_across_tenants_belong_to_the_definer_and_fix_their_path(
    admin: asyncpg.Connection,
) -> None:
    rows = await admin.fetch(
        "SELECT proname, proowner::regrole::text AS owner, proconfig,"
        " has_function_privilege('public', oid, 'EXECUTE') AS is_public FROM pg_proc"
        " WHERE prosecdef AND pronamespace = 'public'::regnamespace"
    )
    wrong = [
        row["proname"]
        for row in rows
        if row["owner"] != "polyplane_definer"
        or row["is_public"]
        or "search_path=public, pg_temp" not in (row["proconfig"] or [])
    ]
    assert rows
    assert wrong == []


@pytest.mark.parametrize("service", ["gateway", "data", "serving"])
async def test_a_service_sees_the_rows_of_its_tenant_and_no_others(
    service: str,
    database_urls: dict[str, str],
    admin: asyncpg.Connection,
    two_tenants: tuple[UUID, UUID],
) -> None:
    ours, _ = two_tenants
    connection = await asyncpg.connect(database_urls[service])
    seen = 0
    try:
        for table in await tenant_tables(admin):
            may = await connection.fetchval("SELECT has_table_privilege($1, 'SELECT')", table)
            if not may:
                continue
            for tenant_id, expected in ((str(ours), [ours]), ("", [])):
                await connection.execute("SELECT set_config('app.tenant_id', $1, false)", tenant_id)
                rows = await connection.fetch(f"SELECT tenant_id FROM {table}")  # noqa: S608
                assert [row["tenant_id"] for row in rows] == expected, table
            seen += 1
    finally:
        await connection.close()
    assert seen >= 4


async def test_the_gateway_cannot_write_into_another_tenant(
    database_urls: dict[str, str], admin: asyncpg.Connection, two_tenants: tuple[UUID, UUID]
) -> None:
    ours, theirs = two_tenants
    connection = await asyncpg.connect(database_urls["gateway"])
    try:
        await connection.execute("SELECT set_config('app.tenant_id', $1, false)", str(ours))
        for table in await tenant_tables(admin):
            if await connection.fetchval("SELECT has_table_privilege($1, 'DELETE')", table):
                query = f"DELETE FROM {table} WHERE tenant_id = $1"  # noqa: S608
                assert await connection.execute(query, theirs) == "DELETE 0", table
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(
                "INSERT INTO uploads (version_id, tenant_id, document_id, expires_at)"
                " VALUES ($1, $2, $1, now())",
                uuid4(),
                theirs,
            )
    finally:
        await connection.close()
