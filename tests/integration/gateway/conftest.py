"""A gateway over real stores, and a serving plane that the test scripts; both speak real HTTP."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from planes.shared.deadlines import answer_within
from planes.shared.stores.redis_clients import redis_client
from services.gateway import app as gateway_app
from services.gateway import maintenance
from services.gateway.app import create_app
from services.gateway.settings import GatewaySettings
from tests.integration.gateway.plane import TOKEN_SECRET, FakePlane

NOBODY = "http://127.0.0.1:9"  # the discard port: nobody listens
PASSWORD = "seven herons near a quiet lake"


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """Serve an application on a free port of loopback and yield its address."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, proxy_headers=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        assert not task.done(), task.exception()
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


async def until(condition: Callable[[], Awaitable[object]], *, seconds: float = 15) -> None:
    """Wait until a condition of a server holds; time in which the machine stood still is added."""
    async with answer_within(seconds):
        while not await condition():
            await asyncio.sleep(0.05)


@dataclass
class Person:
    """Somebody who is signed in."""

    http: httpx.AsyncClient
    user_id: str
    tenant_id: str


async def signed_up(url: str) -> Person:
    """Sign somebody new up at the gateway at `url`."""
    http = httpx.AsyncClient(base_url=url, timeout=None)  # noqa: S113 - pytest ends what hangs
    email = f"{uuid4().hex}@example.com"
    answer = await http.post("/auth/register", json={"email": email, "password": PASSWORD})
    if answer.status_code != 201:
        await http.aclose()
        pytest.fail(answer.text)
    body = answer.json()
    http.headers["authorization"] = f"Bearer {body['access_token']}"
    return Person(http, body["user"]["id"], body["tenant"]["id"])


async def emptied(redis_url: str) -> None:
    """Forget everything that Redis holds."""
    redis = redis_client(redis_url)
    await redis.flushdb()
    await redis.aclose()


@dataclass
class Gateway:
    """A running gateway."""

    url: str
    objects_dir: Path
    app: FastAPI

    async def register(self) -> Person:
        """Sign up somebody new, with a tenant of their own."""
        return await signed_up(self.url)


@pytest.fixture
async def plane() -> FakePlane:
    """The plane's script."""
    return FakePlane()


@pytest.fixture
def overrides() -> dict[str, object]:
    """Settings that a test module wants to be different."""
    return {}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a gateway that is made later do every second what it does more seldom."""

    def every(seconds: float, *work: Any) -> Coroutine[None, None, None]:
        return maintenance.every(min(seconds, 1), *work)

    monkeypatch.setattr(gateway_app, "every", every)


@pytest.fixture
async def gateway(
    plane: FakePlane,
    database_urls: dict[str, str],
    redis_url: str,
    tmp_path: Path,
    overrides: dict[str, object],
) -> AsyncIterator[Gateway]:
    """A gateway on a fresh database and an empty Redis: no test uses up another's limits."""
    await emptied(redis_url)
    async with served(plane.app()) as plane_url:
        values: dict[str, object] = {
            "database_url": database_urls["gateway"],
            "redis_url": redis_url,
            "objects_dir": tmp_path / "objects",
            "serving_token_secret": TOKEN_SECRET,
            "refresh_secret": "r" * 32,
            "keys_dir": tmp_path / "keys",
            "serving_url": plane_url,
            "dagster_url": NOBODY,
            "registrations_per_minute": 1000,
        }
        app = create_app(GatewaySettings(**values | overrides))
        async with served(app) as url:
            yield Gateway(url, tmp_path / "objects", app)


@pytest.fixture
async def person(gateway: Gateway) -> AsyncIterator[Person]:
    """Somebody who is signed in."""
    person = await gateway.register()
    yield person
    await person.http.aclose()


@pytest.fixture
async def stranger(gateway: Gateway) -> AsyncIterator[Person]:
    """Somebody of another tenant."""
    person = await gateway.register()
    yield person
    await person.http.aclose()
