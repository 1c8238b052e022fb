"""The identity part of the gateway on real servers, driven by HTTP."""

import asyncio
import ipaddress
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.responses import StreamingResponse
from redis.asyncio import Redis

from planes.shared.stores.postgres import Database
from planes.shared.stores.redis_address import RedisLogin
from planes.shared.stores.redis_clients import redis_client
from services.gateway import problems
from services.gateway.auth.api_key_routes import router as api_keys
from services.gateway.auth.assembly import IdentityOptions, assemble
from services.gateway.auth.dependencies import Asker, TenantAdmin
from services.gateway.auth.routes import router, well_known
from services.gateway.limits.headers import RateHeadersMiddleware
from tests.integration.gateway.conftest import emptied

SECRET = "a secret of the tests, of 32 bytes and more"

questions = APIRouter()


@questions.post("/question")
async def question(account: Asker) -> StreamingResponse:
    async def events() -> AsyncIterator[bytes]:
        yield str(account.context.user_id).encode()

    return StreamingResponse(events())


@questions.get("/administration")
async def administration(account: TenantAdmin) -> str:
    return account.role


class Client(httpx.AsyncClient):
    """The gateway's HTTP interface, from an address that no other test uses."""

    app: FastAPI
    redis: Redis

    async def register(self, name: str = "ada", **fields: str) -> dict:
        body = {"email": f"{name}@example.com", "password": PASSWORD, **fields}
        answer = await self.post("/auth/register", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def login(self, name: str = "ada", password: str = "") -> httpx.Response:
        body = {"email": f"{name}@example.com", "password": password or PASSWORD}
        return await self.post("/auth/login", json=body)

    async def refresh(self, token: str) -> httpx.Response:
        return await self.post("/auth/refresh", json={"refresh_token": token})


PASSWORD = "seven lamps beneath the harbour"


def bearer(tokens: dict) -> dict[str, str]:
    return {"authorization": f"Bearer {tokens['access_token']}"}


async def eventually(is_true: Callable[[], Awaitable[bool]], *, within_s: int = 10) -> None:
    """Wait for a condition, and no longer than `within_s`."""
    for _ in range(10 * within_s):
        if await is_true():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it did not come true")


@asynccontextmanager
async def gateway(
    database_url: str, redis_url: str, folder: Path, login: RedisLogin | None = None
) -> AsyncIterator[Client]:
    database = Database(database_url, service="test")
    redis = redis_client(redis_url, login)
    identity = assemble(database, redis, IdentityOptions(folder / "keys", SECRET))
    app = FastAPI()
    problems.install(app)
    for part in (router, well_known, api_keys, questions):
        app.include_router(part)
    app.add_middleware(RateHeadersMiddleware)
    app.state.identity = identity
    await database.open()
    identity.open()
    address = str(ipaddress.IPv4Address(secrets.randbits(32)))
    transport = httpx.ASGITransport(app, client=(address, 1))
    try:
        async with Client(transport=transport, base_url="http://gateway") as client:
            client.app, client.redis = app, redis
            yield client
    finally:
        await identity.finish()
        identity.close()
        await redis.aclose()
        await database.close()


@pytest.fixture
async def client(
    database_urls: dict[str, str], redis_url: str, tmp_path: Path
) -> AsyncIterator[Client]:
    await emptied(redis_url)  # failures of other tests would count for this one's accounts
    async with gateway(database_urls["gateway"], redis_url, tmp_path) as client:
        yield client


@pytest.fixture
async def admin_database(database_urls: dict[str, str]) -> AsyncIterator[Database]:
    """The database as its owner sees it."""
    database = Database(database_urls["admin"], service="test")
    await database.open()
    yield database
    await database.close()
