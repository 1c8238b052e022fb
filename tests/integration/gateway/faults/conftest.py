"""A gateway process behind proxies, over servers of its own that a test may break."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest
from sqlalchemy import text

from planes.shared.stores import migrations
from services.embedded.accounts import identity, unprivileged_account
from services.embedded.ports import free_port
from services.embedded.postgres import SERVICE_ROLES, Postgres
from services.embedded.redis import Redis
from services.embedded.schema import allow_login, owner_connection
from tests.integration.gateway.conftest import until
from tests.integration.gateway.plane import TOKEN_SECRET
from tests.servers.processes import OwnServer
from tests.servers.slow_proxy import SlowProxy
from tests.servers.traffic import Visitor, register

_PASSWORD = "test-password"
_BOUNDLESS = """
UPDATE plans SET messages_per_month = NULL, tokens_per_month = NULL, documents = NULL,
    storage_bytes = NULL, requests_per_minute = 100000, chat_requests_per_minute = 100000,
    upload_requests_per_minute = 100000
"""


@dataclass
class Part:
    """A server that the gateway needs, and the proxy through which it reaches it."""

    server: OwnServer
    is_ready: Callable[[], Awaitable[bool]]
    proxy: SlowProxy

    async def restart(self) -> None:
        """Start it again after its end."""
        self.server.start()
        await until(self.is_ready, seconds=30)


@dataclass
class Rig:
    """Everything that a fault test touches."""

    url: str
    postgres: Part
    redis: Part
    plane: Part
    dagster: SlowProxy
    gateway: OwnServer
    log: Path
    admin_database_url: str

    async def visitor(self) -> Visitor:
        """Sign up somebody; every plan here allows everything."""
        return await register(self.url)

    async def sql(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Run a statement as the owner of the schema, past the proxy."""
        connection = await asyncpg.connect(self.admin_database_url)
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            await connection.close()


@dataclass(frozen=True, slots=True)
class _OwnPostgres:
    settings: Postgres
    server: OwnServer
    port: int


@dataclass(frozen=True, slots=True)
class _OwnRedis:
    settings: Redis
    server: OwnServer
    port: int


@pytest.fixture(scope="module")
def own_postgres(server_folder: Path) -> Iterator[_OwnPostgres]:
    """A PostgreSQL that only these tests use, with a migrated template."""
    port = free_port()
    settings = Postgres(server_folder / "faults-postgres", port=port, owner_password=_PASSWORD)
    settings.prepare()
    server = OwnServer(
        settings.command(),
        folder=settings.folder,
        log=server_folder / "faults-postgres.log",
        environment=settings.environment(),
        account=identity(unprivileged_account()),
    )
    server.start()
    try:
        asyncio.run(until(settings.is_ready, seconds=30))
        with owner_connection(settings.url("postgres")) as connection:
            connection.execute(text("CREATE DATABASE migrated"))
        migrations.upgrade(settings.url("migrated"))
        with owner_connection(settings.url("migrated")) as connection:
            for role in SERVICE_ROLES:
                allow_login(connection, role, _PASSWORD)
        yield _OwnPostgres(settings, server, port)
    finally:
        server.end(signal.SIGINT)


@pytest.fixture(scope="module")
def own_redis(server_folder: Path) -> Iterator[_OwnRedis]:
    """A Redis that only these tests use."""
    port = free_port()
    settings = Redis(
        server_folder / "faults-redis",
        port=port,
        password=_PASSWORD,
        serving_password=_PASSWORD,
        data_password=_PASSWORD,
    )
    settings.prepare()
    server = OwnServer(
        settings.command(),
        folder=settings.folder,
        log=server_folder / "faults-redis.log",
        environment={**os.environ, **settings.environment()},
    )
    server.start()
    try:
        asyncio.run(until(settings.is_ready, seconds=30))
        yield _OwnRedis(settings, server, port)
    finally:
        server.end()


@pytest.fixture
def database(own_postgres: _OwnPostgres) -> str:
    """The name of a fresh migrated database."""
    name = f"faults_{uuid4().hex}"
    with owner_connection(own_postgres.settings.url("postgres")) as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE migrated STRATEGY file_copy"))
    with owner_connection(own_postgres.settings.url(name)) as connection:
        connection.execute(text(_BOUNDLESS))
    return name


@pytest.fixture
async def rig(
    own_postgres: _OwnPostgres, own_redis: _OwnRedis, database: str, tmp_path: Path
) -> AsyncIterator[Rig]:
    """A gateway, with short deadlines for tokens."""
    async with AsyncExitStack() as stack:

        async def part(
            server: OwnServer, is_ready: Callable[[], Awaitable[bool]], port: int
        ) -> Part:
            proxy = SlowProxy(port)
            await proxy.open()
            stack.push_async_callback(proxy.close)
            return Part(server, is_ready, proxy)

        postgres = await part(
            own_postgres.server, own_postgres.settings.is_ready, own_postgres.port
        )
        redis = await part(own_redis.server, own_redis.settings.is_ready, own_redis.port)
        plane_port = free_port()
        plane = await part(
            _plane(plane_port, tmp_path), _answers(plane_port, "/v1/health"), plane_port
        )
        stack.callback(plane.server.kill)
        await plane.restart()
        dagster = SlowProxy(free_port())
        await dagster.open()
        stack.push_async_callback(dagster.close)
        port, log = free_port(), tmp_path / "gateway.log"
        url = own_postgres.settings.url(database, role="polyplane_gateway")
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "DATABASE_URL": url.replace(f":{own_postgres.port}/", f":{postgres.proxy.port}/"),
            "REDIS_URL": own_redis.settings.url().replace(
                f":{own_redis.port}/", f":{redis.proxy.port}/"
            ),
            "OBJECTS_DIR": str(tmp_path / "objects"),
            "SERVING_TOKEN_SECRET": TOKEN_SECRET,
            "GATEWAY_REFRESH_SECRET": "r" * 32,
            "GATEWAY_KEYS_DIR": str(tmp_path / "keys"),
            "GATEWAY_PORT": str(port),
            "GATEWAY_ADMIN_PORT": str(free_port()),
            "GATEWAY_DRAIN_S": "0.1",
            "GATEWAY_SERVING_URL": f"http://127.0.0.1:{plane.proxy.port}",
            "GATEWAY_DAGSTER_URL": f"http://127.0.0.1:{dagster.port}",
            "GATEWAY_REGISTRATIONS_PER_MINUTE": "1000",
            "GATEWAY_ANSWER_FIRST_TOKEN_S": "4",
            "GATEWAY_ANSWER_IDLE_S": "3",
        }
        gateway = OwnServer(
            [sys.executable, "-m", "services.gateway"],
            folder=Path.cwd(),
            log=log,
            environment=environment,
        )
        stack.callback(gateway.kill)
        gateway.start()
        await until(_answers(port, "/health/ready"), seconds=60)
        yield Rig(
            f"http://127.0.0.1:{port}",
            postgres,
            redis,
            plane,
            dagster,
            gateway,
            log,
            own_postgres.settings.url(database),
        )


def _plane(port: int, folder: Path) -> OwnServer:
    return OwnServer(
        [sys.executable, "-m", "tests.servers.plane", str(port)],
        folder=Path.cwd(),
        log=folder / "plane.log",
        environment=dict(os.environ),
    )


def _answers(port: int, path: str) -> Callable[[], Awaitable[bool]]:
    async def answers() -> bool:
        try:
            async with httpx.AsyncClient(timeout=2, trust_env=False) as http:
                return (await http.get(f"http://127.0.0.1:{port}{path}")).is_success
        except httpx.TransportError:
            return False

    return answers
