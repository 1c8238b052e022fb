"""Open streams end when their session does, on whichever gateway they run."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis as RedisClient

from services.gateway.app import create_app
from services.gateway.settings import GatewaySettings
from tests.integration.gateway.auth.test_limits import RunningRedis, own_redis, redis  # noqa: F401
from tests.integration.gateway.conftest import NOBODY, PASSWORD, Gateway, Person, served, until
from tests.integration.gateway.plane import TOKEN_SECRET, FakePlane
from tests.integration.gateway.test_chat import events_of

pytestmark = pytest.mark.integration


@dataclass
class Pair:
    """Two gateways over the same stores, and a person who is signed in."""

    here: Gateway
    there: Gateway
    person: Person

    @asynccontextmanager
    async def elsewhere(self, credential: str = "") -> AsyncIterator[httpx.AsyncClient]:
        """The other gateway, by the person's token or another credential."""
        token = self.person.http.headers["authorization"]
        headers = {"authorization": f"Bearer {credential}" if credential else token}
        async with httpx.AsyncClient(base_url=self.there.url, headers=headers) as http:
            yield http


@pytest.fixture
async def pair(
    plane: FakePlane,
    database_urls: dict[str, str],
    redis: RunningRedis,  # noqa: F811 (the fixture)
    tmp_path: Path,
) -> AsyncIterator[Pair]:
    plane.hold = asyncio.Event()  # it never comes: answers stay open after three words
    async with served(plane.app()) as plane_url:
        values: dict[str, object] = {
            "database_url": database_urls["gateway"],
            "redis_url": redis.server.url(),
            "objects_dir": tmp_path / "objects",
            "serving_token_secret": TOKEN_SECRET,
            "refresh_secret": "r" * 32,
            "keys_dir": tmp_path / "keys",
            "serving_url": plane_url,
            "dagster_url": NOBODY,
            "registrations_per_minute": 1000,
        }
        apps = [create_app(GatewaySettings(**values)) for _ in range(2)]
        async with served(apps[0]) as here, served(apps[1]) as there:
            gateways = [
                Gateway(url, tmp_path, app) for url, app in zip((here, there), apps, strict=True)
            ]
            person = await gateways[0].register()
            yield Pair(*gateways, person)
            await person.http.aclose()


@pytest.fixture
async def owner(database_urls: dict[str, str]) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_urls["admin"])
    yield connection
    await connection.close()


class OpenStream:
    """A question being answered; the plane has said three words and waits."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._said = asyncio.Event()
        self._events: list[tuple[int, str, dict[str, Any]]] = []
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        body = {"message": "How long?", "stream": True}
        async with self._http.stream("POST", "/chat", json=body) as response:
            assert response.status_code == 200, await response.aread()
            async for event in events_of(response):
                self._events.append(event)
                if len(self._events) == 7:  # meta, and three times delta and usage
                    self._said.set()

    async def is_under_way(self) -> None:
        waiting = asyncio.create_task(self._said.wait())
        await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED, timeout=15)
        assert not self._task.done(), self._events
        assert self._said.is_set()

    async def last_event(self) -> tuple[str, int]:
        async with asyncio.timeout(10):
            await self._task
        _, name, data = self._events[-1]
        return name, data.get("status", 200)

    @property
    def is_open(self) -> bool:
        return not self._task.done()


async def check_ended_and_billed_once(stream: OpenStream, owner: asyncpg.Connection) -> None:
    assert await stream.last_event() == ("error", 401)
    rows = await owner.fetch("SELECT prompt_tokens, completion_tokens FROM ledger")
    assert [tuple(row) for row in rows] == [(40, 3)], "what was produced, once"
    assert await owner.fetchval("SELECT count(*) FROM reservations") == 0


async def test_signing_out_ends_an_open_stream_on_another_gateway(
    pair: Pair, owner: asyncpg.Connection
) -> None:
    stream = OpenStream(pair.person.http)
    await stream.is_under_way()
    async with pair.elsewhere() as http:
        assert (await http.post("/auth/logout")).status_code == 204
    await check_ended_and_billed_once(stream, owner)
    assert (await pair.person.http.get("/auth/me")).status_code == 401


async def test_other_peoples_streams_and_other_sessions_go_on(
    pair: Pair, plane: FakePlane, owner: asyncpg.Connection
) -> None:
    other = await pair.here.register()
    email = await owner.fetchval("SELECT email FROM users WHERE id = $1", UUID(pair.person.user_id))
    async with pair.elsewhere() as http:
        again = await http.post("/auth/login", json={"email": email, "password": PASSWORD})
        mine = OpenStream(pair.person.http)
        others = OpenStream(other.http)
        await mine.is_under_way()
        await others.is_under_way()
        second = {"authorization": f"Bearer {again.json()['access_token']}"}
        assert (await http.post("/auth/logout", headers=second)).status_code == 204
    assert plane.hold is not None
    plane.hold.set()
    assert await mine.last_event() == ("done", 200)
    assert await others.last_event() == ("done", 200)
    await other.http.aclose()


async def test_a_whole_answer_under_way_ends_with_401(
    pair: Pair, plane: FakePlane, owner: asyncpg.Connection
) -> None:
    asking = asyncio.create_task(pair.person.http.post("/chat", json={"message": "How long?"}))

    async def is_asked() -> bool:
        return bool(plane.asked)

    await until(is_asked)
    async with pair.elsewhere() as http:
        assert (await http.post("/auth/logout")).status_code == 204
    assert (await asking).status_code == 401
    assert await owner.fetchval("SELECT count(*) FROM reservations") == 0


async def _disable(pair: Pair, owner: asyncpg.Connection) -> None:
    user_id = UUID(pair.person.user_id)
    version = await owner.fetchval(
        "UPDATE users SET disabled_at = now(), version = version + 1 WHERE id = $1"
        " RETURNING version",
        user_id,
    )
    ended = await owner.fetch(
        "UPDATE sessions SET ended_at = now() WHERE user_id = $1 RETURNING id", user_id
    )
    sessions = pair.there.app.state.identity.sessions
    await sessions.revoked(user_id, [row["id"] for row in ended], version=version)


async def _demote(pair: Pair, owner: asyncpg.Connection) -> None:
    user_id = UUID(pair.person.user_id)
    await owner.execute("UPDATE memberships SET role = 'viewer' WHERE user_id = $1", user_id)
    version = await owner.fetchval(
        "UPDATE users SET version = version + 1 WHERE id = $1 RETURNING version", user_id
    )
    await pair.there.app.state.identity.sessions.revoked(user_id, [], version=version)


async def _change_password(pair: Pair, _: asyncpg.Connection) -> None:
    body = {"current_password": PASSWORD, "new_password": "nine ravens over the chimney"}
    async with pair.elsewhere() as http:
        assert (await http.post("/auth/password", json=body)).status_code == 204


@pytest.mark.parametrize("revoke", [_disable, _demote, _change_password])
async def test_whatever_voids_the_token_ends_the_stream(
    revoke: Callable[[Pair, asyncpg.Connection], Awaitable[None]],
    pair: Pair,
    owner: asyncpg.Connection,
) -> None:
    stream = OpenStream(pair.person.http)
    await stream.is_under_way()
    await revoke(pair, owner)
    await check_ended_and_billed_once(stream, owner)


async def test_a_stream_of_an_api_key_ends_with_the_key_and_outlives_a_new_password(
    pair: Pair, owner: asyncpg.Connection
) -> None:
    made = await pair.person.http.post("/auth/api-keys", json={"name": "bot", "scopes": ["chat"]})
    assert made.status_code == 201, made.text
    headers = {"authorization": f"Bearer {made.json()['key']}"}
    async with httpx.AsyncClient(base_url=pair.here.url, headers=headers) as bot:
        stream = OpenStream(bot)
        await stream.is_under_way()
        email = await owner.fetchval("SELECT email FROM users")
        await _change_password(pair, owner)
        async with pair.elsewhere() as http:
            body = {"email": email, "password": "nine ravens over the chimney"}
            token = (await http.post("/auth/login", json=body)).json()["access_token"]
            assert stream.is_open
            ended = await http.delete(
                f"/auth/api-keys/{made.json()['id']}", headers={"authorization": f"Bearer {token}"}
            )
            assert ended.status_code == 204
        await check_ended_and_billed_once(stream, owner)
        assert (await bot.get("/auth/me")).status_code == 401


async def test_with_redis_gone_a_sign_out_still_ends_the_stream_and_so_it_does_after_its_return(
    pair: Pair,
    redis: RunningRedis,  # noqa: F811
    owner: asyncpg.Connection,
) -> None:
    stream = OpenStream(pair.person.http)
    await stream.is_under_way()
    await redis.stop()
    async with pair.elsewhere() as http:
        assert (await http.post("/auth/logout")).status_code == 204
    await check_ended_and_billed_once(stream, owner)
    await redis.start()
    other = await _eventually_registered(pair)
    second = OpenStream(other.http)
    await second.is_under_way()
    assert (await other.http.post("/auth/logout")).status_code == 204
    assert await second.last_event() == ("error", 401)
    await other.http.aclose()


async def _eventually_registered(pair: Pair) -> Person:
    http = httpx.AsyncClient(base_url=pair.here.url, timeout=20)
    body = {"email": "grace@example.com", "password": PASSWORD}
    answer = await http.post("/auth/register", json=body)
    deadline = time.monotonic() + 15
    while answer.status_code == 503:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
        answer = await http.post("/auth/register", json=body)
    assert answer.status_code == 201, answer.text
    http.headers["authorization"] = f"Bearer {answer.json()['access_token']}"
    return Person(http, answer.json()["user"]["id"], answer.json()["tenant"]["id"])


async def test_a_revocation_that_is_published_while_the_connection_is_cut_is_not_lost(
    pair: Pair,
    redis: RunningRedis,  # noqa: F811
    owner: asyncpg.Connection,
) -> None:
    stream = OpenStream(pair.person.http)
    await stream.is_under_way()
    async with RedisClient.from_url(redis.server.url()) as client, pair.elsewhere() as http:
        # Redis refuses new subscriptions while it has no room for clients
        await client.config_set("maxclients", 1)
        await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        assert (await http.post("/auth/logout")).status_code in {204, 503}
        await check_ended_and_billed_once(stream, owner)
        await client.config_set("maxclients", 1000)
