"""One gateway for a whole module of security tests, and households of four roles to attack."""

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from sqlalchemy import text

from planes.shared.domain import Role, TenantContext, new_id
from services.embedded.postgres import OWNER, SERVICE_ROLES, Postgres
from services.embedded.schema import owner_connection
from services.gateway.app import create_app
from services.gateway.auth.assembly import Identity
from services.gateway.settings import GatewaySettings
from tests.integration.gateway.auth.mailbox import open_mailbox
from tests.integration.gateway.conftest import NOBODY, PASSWORD, served, until
from tests.integration.gateway.plane import TOKEN_SECRET, FakePlane

_SNAPSHOT = """
SELECT table_name FROM information_schema.columns
WHERE table_schema = 'public' AND column_name = 'tenant_id' ORDER BY table_name
"""
_OWNED = """
WITH tenant AS (INSERT INTO tenants (id, name, plan) VALUES ($1, 'Acme', 'enterprise')),
person AS (
    INSERT INTO users (id, email, email_key, password_hash, display_name)
    VALUES ($2, $3, $3, $4, 'Somebody')
)
INSERT INTO memberships (tenant_id, user_id, role) VALUES ($1, $2, $5)
"""


def some_address() -> str:
    """Return an address that no throttle knows yet."""
    return str(IPv4Address(secrets.randbits(32)))


@dataclass(frozen=True)
class Member:
    """Somebody in a tenant."""

    user_id: UUID
    tenant_id: UUID
    role: Role
    email: str


@dataclass
class Household:
    """A tenant with one member of each role, and the ids of the things that it owns, by kind."""

    tenant_id: UUID
    members: dict[Role, Member]
    things: dict[str, str] = field(default_factory=dict)


@dataclass
class World:
    """A running gateway, and its database as the owner of all tables sees it."""

    url: str
    app: FastAPI
    database: asyncpg.Pool
    plane: FakePlane
    password_hash: str

    async def household(self) -> Household:
        """Make a tenant with an owner, an admin, a member and a viewer."""
        tenant_id = new_id()
        await self.database.execute(
            "INSERT INTO tenants (id, name, plan) VALUES ($1, 'Acme', 'enterprise')", tenant_id
        )
        return Household(tenant_id, {r: await self._join(tenant_id, r) for r in Role})

    async def owner(self) -> Member:
        """Make a tenant of which nobody is a member but its owner: in one statement, for many."""
        owner = Member(new_id(), new_id(), Role.OWNER, f"{uuid4().hex}@example.com")
        values = (owner.tenant_id, owner.user_id, owner.email, self.password_hash, owner.role)
        await self.database.execute(_OWNED, *values)
        return owner

    async def _join(self, tenant_id: UUID, role: Role) -> Member:
        member = Member(new_id(), tenant_id, role, f"{uuid4().hex}@example.com")
        await self.database.execute(
            "INSERT INTO users (id, email, email_key, password_hash, display_name)"
            " VALUES ($1, $2, $2, $3, 'Somebody')",
            member.user_id,
            member.email,
            self.password_hash,
        )
        await self.database.execute(
            "INSERT INTO memberships (tenant_id, user_id, role) VALUES ($1, $2, $3)",
            tenant_id,
            member.user_id,
            role,
        )
        return member

    async def token(self, member: Member) -> str:
        """Open a session and return its access token."""
        identity: Identity = self.app.state.identity
        context = TenantContext(tenant_id=member.tenant_id, user_id=member.user_id)
        version = await self.database.fetchval(
            "SELECT version FROM users WHERE id = $1", member.user_id
        )
        return (await identity.sessions.open(context, "test", version=version)).access_token

    def client(self, token: str | None = None) -> httpx.AsyncClient:
        """Return a client with these credentials, or with none."""
        headers = {"x-forwarded-for": some_address()}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=20)

    async def snapshot(self, tenant_id: UUID) -> dict[str, str]:
        """Return a fingerprint of every table's rows of one tenant, once all has settled."""
        await until(self._is_settled)
        tables = [row["table_name"] for row in await self.database.fetch(_SNAPSHOT)]
        found = {
            table: await self.database.fetchval(
                f"SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), ''))"  # noqa: S608
                f" FROM {table} t WHERE tenant_id = $1",
                tenant_id,
            )
            for table in tables
        }
        found["tenants"] = await self.database.fetchval(
            "SELECT t::text FROM tenants t WHERE id = $1", tenant_id
        )
        found["users"] = await self.database.fetchval(
            "SELECT string_agg(u::text, '|' ORDER BY u.id) FROM users u"
            " JOIN memberships m ON m.user_id = u.id WHERE m.tenant_id = $1",
            tenant_id,
        )
        return found

    async def _is_settled(self) -> bool:
        waiting: int = await self.database.fetchval(
            "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM reservations)"
            " + (SELECT count(*) FROM mail_outbox)"
        )
        return waiting == 0


@pytest.fixture(scope="module")
def module_database_urls(postgres: Postgres) -> Iterator[dict[str, str]]:
    """URLs of a migrated database that a module's tests share."""
    name = f"test_{uuid4().hex}"
    with owner_connection(postgres.url("postgres")) as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE migrated STRATEGY file_copy"))
    urls = {r.removeprefix("polyplane_"): postgres.url(name, role=r) for r in SERVICE_ROLES}
    yield {"admin": postgres.url(name, role=OWNER), **urls}
    with owner_connection(postgres.url("postgres")) as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@asynccontextmanager
async def running_world(urls: dict[str, str], redis_url: str, folder: Path) -> AsyncIterator[World]:
    """Yield a gateway over real stores, with limits so wide that no test meets them."""
    database = await asyncpg.create_pool(urls["admin"], min_size=1, max_size=2)
    await _widen_limits(database)
    plane = FakePlane()
    async with served(plane.app()) as plane_url, open_mailbox() as mailbox:
        settings = GatewaySettings(
            database_url=urls["gateway"],
            redis_url=redis_url,
            objects_dir=folder / "objects",
            serving_token_secret=TOKEN_SECRET,
            refresh_secret="r" * 32,
            keys_dir=folder / "keys",
            serving_url=plane_url,
            dagster_url=NOBODY,
            registrations_per_minute=1_000_000,
            trusted_proxies="127.0.0.1",
            outbound_networks="127.0.0.0/8",
            smtp_host="127.0.0.1",
            smtp_port=mailbox.port,
            smtp_tls="none",
            mail_from="Polyplane <noreply@example.com>",
            public_url="https://chat.example.com",
        )
        app = create_app(settings)
        async with served(app) as url:
            identity: Identity = app.state.identity
            yield World(url, app, database, plane, await identity.passwords.hash(PASSWORD))
    await database.close()


async def _widen_limits(database: asyncpg.Pool) -> None:
    rows = await database.fetch(
        "SELECT column_name FROM information_schema.columns"
        " WHERE table_name = 'plans' AND column_name LIKE '%per_minute'"
    )
    wide = ", ".join(f"{row['column_name']} = 1000000" for row in rows)
    await database.execute(f"UPDATE plans SET {wide}")  # noqa: S608 (the schema's own names)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    module_database_urls: dict[str, str],
    redis_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[World]:
    """A gateway that a module's tests share."""
    folder = tmp_path_factory.mktemp("gateway")
    async with running_world(module_database_urls, redis_url, folder) as world:
        yield world
