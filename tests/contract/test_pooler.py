"""PostgreSQL by way of PgBouncer in transaction mode, with fewer connections than users."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from planes.shared.errors import Unavailable
from planes.shared.stores.postgres import Database
from services.embedded.ports import free_port
from services.embedded.postgres import SERVICE_ROLES, Postgres
from tests.integration.gateway.auth.conftest import bearer, gateway
from tests.integration.gateway.auth.test_limits import allow
from tests.servers import debian, pgbouncer
from tests.servers.matrix import ran
from tests.servers.pgbouncer import PgBouncer
from tests.servers.redis import wait_for

pytestmark = pytest.mark.contract("database", "pooled", "pgbouncer")

_PASSWORD = "test-password"


@pytest.fixture(scope="module")
def pooler(
    server_folder: Path, postgres: Postgres, request: pytest.FixtureRequest
) -> Iterator[PgBouncer]:
    if reason := pgbouncer.missing():
        pytest.skip(reason)
    debian.unpack("pgbouncer")
    port = free_port()
    server = PgBouncer(
        server_folder / "pgbouncer",
        port,
        urlsplit(postgres.url("postgres")).port or 0,
        logins=[(role, _PASSWORD) for role in SERVICE_ROLES],
        server_connections=2,
    )

    def listens() -> bool:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True

    server.start()
    wait_for(listens)
    ran(request.config, "pgbouncer", server.version())
    yield server
    server.end()


@pytest.fixture
async def database(pooler: PgBouncer, database_urls: dict[str, str]) -> AsyncIterator[Database]:
    """Ten connections to the pooler, which has two."""
    database = Database(pooler.before(database_urls["gateway"]), service="pooled")
    await database.open()
    yield database
    await database.close()


async def test_each_transaction_sees_its_own_tenant_and_leaves_none_behind(
    database: Database,
) -> None:
    async def look(number: int) -> None:
        tenant_id = uuid4()
        for _ in range(5):
            async with database.tenant(tenant_id) as connection:
                for _ in range(3):
                    seen = await connection.fetchval("SELECT current_setting('app.tenant_id')")
                    assert seen == str(tenant_id)
            async with database.platform() as connection:
                left = await connection.fetchval(
                    f"SELECT current_setting('app.tenant_id', true) || '' AS left_{number % 7}"
                )
                assert not left

    await asyncio.gather(*(look(number) for number in range(30)))


async def test_limits_hold_in_a_transaction_and_not_after_it(database: Database) -> None:
    async with database.tenant(uuid4()) as connection:
        for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
            assert await connection.fetchval("SELECT current_setting($1)", name) not in ("0", "")
    async with database.platform() as connection:
        assert await connection.fetchval("SELECT current_setting('statement_timeout')") == "0"
        name = await connection.fetchval("SELECT current_setting('application_name')")
        assert name == "pooled"
        assert await connection.fetchval("SELECT current_setting('timezone')") == "UTC"


async def test_values_of_every_kind_arrive(database: Database) -> None:
    async with database.platform() as connection:
        row = await connection.fetchrow(
            "SELECT $1::jsonb AS object, $2::uuid[] AS ids, $3::numeric AS price",
            {"a": [1, None]},
            [identifier := uuid4()],
            3,
        )
    assert row is not None
    assert (row["object"], row["ids"], row["price"]) == ({"a": [1, None]}, [identifier], 3)


async def test_errors_are_those_of_the_database(database: Database) -> None:
    for _ in range(6):
        with pytest.raises(asyncpg.UndefinedTableError):
            async with database.platform() as connection:
                await connection.execute("SELECT * FROM nothing")
        async with database.platform() as connection:
            assert await connection.fetchval("SELECT 1") == 1


async def test_the_gateway_works_and_counts_exactly(
    pooler: PgBouncer, database_urls: dict[str, str], redis_url: str, tmp_path: Path
) -> None:
    admin = Database(database_urls["admin"], service="test")
    await admin.open()
    await allow(admin, requests=10, questions=5)
    await admin.close()
    url = pooler.before(database_urls["gateway"])
    async with gateway(url, redis_url, tmp_path) as client:
        accounts = await asyncio.gather(*(client.register(f"pooled{n}") for n in range(6)))
        for account in accounts:
            answers = await asyncio.gather(
                *(client.get("/auth/me", headers=bearer(account)) for _ in range(15))
            )
            assert sorted(a.status_code for a in answers) == [200] * 10 + [429] * 5
            refreshed = await client.refresh(account["refresh_token"])
            assert refreshed.status_code == 200


async def test_a_pooler_that_is_away_is_a_database_that_is_away(
    database_urls: dict[str, str], pooler: PgBouncer
) -> None:
    url = pooler.before(database_urls["gateway"])
    away = Database(
        url.replace(str(urlsplit(url).port), str(free_port())), service="pooled", deadline_s=2
    )
    with pytest.raises(Unavailable):
        await away.open()


def test_other_kinds_of_poolers_are_refused() -> None:
    with pytest.raises(ValueError, match="transaction"):
        Database("postgresql://a@b/c?pooler=statement", service="test")
