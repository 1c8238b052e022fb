"""The embedded servers, started for real."""

import traceback

import asyncpg
import pytest
import redis.asyncio
from sqlalchemy import text

from planes.shared.settings import SettingsWrong
from services.embedded.given_servers import GivenServers
from services.embedded.postgres import Postgres
from services.embedded.redis import Redis
from services.embedded.schema import LoginNotAllowed, allow_login, bootstrap, owner_connection

pytestmark = pytest.mark.integration


async def test_every_role_logs_in_to_a_migrated_database(database_urls: dict[str, str]) -> None:
    for role in ("admin", "gateway", "serving", "data"):
        connection = await asyncpg.connect(database_urls[role])
        assert await connection.fetchval("SELECT version_num FROM alembic_version")
        await connection.close()


async def test_words_are_folded_by_unicode_rules(postgres_server: str) -> None:
    connection = await asyncpg.connect(postgres_server)
    assert await connection.fetchval("SELECT lower('ÄÖÜ')") == "äöü"
    assert await connection.fetchval("SELECT to_tsvector('simple', 'ÉCOLE')::text") == "'école':1"
    await connection.close()


async def test_a_wrong_password_is_refused(postgres: Postgres) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres.url("postgres", password="wrong"))


def test_bootstrap_can_be_repeated(postgres: Postgres) -> None:
    passwords = dict.fromkeys(
        ("polyplane_gateway", "polyplane_serving", "polyplane_data", "polyplane_dagster"),
        "test-password",
    )
    bootstrap(postgres.url, passwords)
    bootstrap(postgres.url, passwords)


def test_a_server_that_is_given_by_its_address_is_migrated(postgres: Postgres) -> None:
    roles = ("gateway", "serving", "data", "dagster")
    names = [f"POLYPLANE_{role.upper()}_PASSWORD" for role in roles]
    passwords = dict.fromkeys(names, "test-password")
    environment = {"DATABASE_OWNER_URL": postgres.url("postgres"), **passwords}
    servers = GivenServers.of(environment, {})
    bootstrap(servers.owner_url, servers.passwords())
    for role in roles:
        database = "dagster" if role == "dagster" else "polyplane"
        url = postgres.url(database, role=f"polyplane_{role}", password="test-password")
        with owner_connection(url) as connection:
            assert connection.execute(text("SELECT current_database()")).scalar() == database


def test_a_given_server_without_the_roles_passwords_is_refused() -> None:
    address = "postgresql://owner:{}@db/".format("hidden")
    with pytest.raises(SettingsWrong, match="POLYPLANE_DATA_PASSWORD") as refused:
        GivenServers.of({"DATABASE_OWNER_URL": address}, {}).passwords()
    assert "hidden" not in str(refused.value)


def test_a_refused_password_is_not_in_the_error(postgres: Postgres) -> None:
    password = "-".join(("do", "not", "show"))  # so that this line is not the match
    with (
        owner_connection(postgres.url("postgres")) as connection,
        pytest.raises(LoginNotAllowed) as refused,
    ):
        allow_login(connection, "absent_role", password)
    shown = "".join(traceback.format_exception(refused.value))
    assert password not in shown


async def test_the_configuration_applies_without_a_file(postgres_server: str) -> None:
    connection = await asyncpg.connect(postgres_server)
    assert await connection.fetchval("SHOW max_connections") == "200"
    assert await connection.fetchval("SHOW log_line_prefix") == "%m [%p] %q%u@%d "
    assert await connection.fetchval("SHOW default_text_search_config") == "pg_catalog.simple"
    await connection.close()


@pytest.mark.parametrize("who", ["serving", "data"])
async def test_the_planes_reach_caches_alone(redis_server: Redis, who: str) -> None:
    url = redis_server.serving_url() if who == "serving" else redis_server.data_url()
    client = redis.asyncio.from_url(url)
    await client.set("cache:tenant:key", "value", ex=5)
    assert await client.get("cache:tenant:key") == b"value"
    forbidden = [
        client.get("session:key"),
        client.keys("cache:*"),
        client.flushdb(),
        client.config_get("requirepass"),
        client.eval("return 1", 0),
    ]
    for call in forbidden:
        with pytest.raises(redis.exceptions.NoPermissionError):
            await call
    await client.aclose()
