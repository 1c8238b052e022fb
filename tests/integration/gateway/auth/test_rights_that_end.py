"""What is opened while the right to it ends: refused, or ended with the rest."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from tests.integration.gateway.conftest import PASSWORD, Person, until
from tests.integration.gateway.tenants.conftest import Join, email_of, join

pytestmark = pytest.mark.integration
__all__ = ["join"]


@pytest.fixture
async def admin(database_urls: dict[str, str]) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_urls["admin"])
    yield connection
    await connection.close()


def waits_for(connection: asyncpg.Connection) -> Callable[[], Awaitable[bool]]:
    """Return whether somebody waits for a lock of this connection."""

    async def is_waited_for() -> bool:
        query = (
            "SELECT EXISTS (SELECT FROM pg_stat_activity"
            " WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid)))"
        )
        return bool(await connection.fetchval(query))

    return is_waited_for


async def log_in(person: Person, email: str) -> httpx.Response:
    return await person.http.post("/auth/login", json={"email": email, "password": PASSWORD})


async def switch_tenant(person: Person, email: str) -> httpx.Response:
    del email
    return await person.http.post("/auth/switch", json={"tenant_id": person.tenant_id})


async def make_key(person: Person, email: str) -> httpx.Response:
    del email
    return await person.http.post("/auth/api-keys", json={"name": "k", "scopes": ["search"]})


@pytest.mark.parametrize("opens", [log_in, switch_tenant, make_key])
async def test_nothing_opens_while_the_password_is_replaced(
    opens: Callable[[Person, str], Awaitable[httpx.Response]],
    person: Person,
    admin: asyncpg.Connection,
) -> None:
    email = await email_of(person)
    async with admin.transaction():  # what every replacement does first
        await admin.execute(
            "UPDATE users SET version = version + 1 WHERE id = $1", UUID(person.user_id)
        )
        opening = asyncio.create_task(opens(person, email))
        await until(waits_for(admin))
    answer = await opening
    assert answer.status_code == 401, answer.text
    assert (await log_in(person, email)).status_code == 200


@pytest.mark.parametrize("ends", ["removal", "deletion"])
async def test_a_session_that_is_being_opened_ends_with_the_membership(
    ends: str, person: Person, admin: asyncpg.Connection, join: Join
) -> None:
    member = await join(person, "member")
    user_id, tenant_id, session_id = UUID(member.user_id), UUID(person.tenant_id), uuid4()
    async with admin.transaction():  # what opening a session does
        await admin.execute("SELECT FROM users WHERE id = $1 FOR SHARE", user_id)
        await admin.execute(
            "UPDATE memberships SET last_used_at = now() WHERE user_id = $1 AND tenant_id = $2",
            user_id,
            tenant_id,
        )
        await admin.execute(
            "INSERT INTO sessions (id, tenant_id, user_id) VALUES ($1, $2, $3)",
            session_id,
            tenant_id,
            user_id,
        )
        path = f"/tenant/members/{user_id}" if ends == "removal" else "/tenant"
        ending = asyncio.create_task(person.http.delete(path))
        await until(waits_for(admin))
    assert (await ending).is_success
    assert await admin.fetchval("SELECT ended_at FROM sessions WHERE id = $1", session_id)
