"""How many requests a plan lets through, and what happens without Redis."""

import asyncio
import os
import signal
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from planes.shared.stores.postgres import Database
from services.embedded.redis import Redis
from tests.conftest import free_port
from tests.integration.gateway.auth.conftest import Client, bearer, eventually, gateway

pytestmark = pytest.mark.integration


async def allow(admin_database: Database, *, requests: int, questions: int) -> None:
    async with admin_database.platform() as connection:
        await connection.execute(
            "UPDATE plans SET requests_per_minute = $1, chat_requests_per_minute = $2",
            requests,
            questions,
        )


async def test_parallel_requests_get_through_exactly_as_often_as_the_plan_says(
    client: Client, admin_database: Database
) -> None:
    await allow(admin_database, requests=7, questions=3)
    account, other = await client.register("ada"), await client.register("bob")
    answers = await asyncio.gather(
        *(client.get("/auth/me", headers=bearer(account)) for _ in range(40))
    )
    assert sorted(a.status_code for a in answers) == [200] * 7 + [429] * 33
    answers = await asyncio.gather(
        *(client.post("/question", headers=bearer(account)) for _ in range(10))
    )
    assert sorted(a.status_code for a in answers) == [200] * 3 + [429] * 7
    assert (await client.get("/auth/me", headers=bearer(other))).status_code == 200


async def test_every_answer_says_how_much_is_left_and_a_refusal_when_to_return(
    client: Client, admin_database: Database
) -> None:
    await allow(admin_database, requests=2, questions=1)
    account = await client.register()
    first, second, third = [await client.get("/auth/me", headers=bearer(account)) for _ in range(3)]
    assert [a.headers["ratelimit"] for a in (first, second, third)] == [
        '"requests";r=1;t=30',
        '"requests";r=0;t=60',
        '"requests";r=0;t=60',
    ]
    assert third.headers["ratelimit-policy"] == '"requests";q=2;w=60'
    assert third.status_code == 429
    assert third.headers["retry-after"] == "30"
    streamed = await client.post("/question", headers=bearer(account))
    assert streamed.headers["ratelimit"] == '"chat";r=0;t=60'


@pytest.fixture
def own_redis(server_folder: Path) -> Redis:
    """A Redis that a test may stop."""
    server = Redis(
        server_folder / "redis-of-limits",
        port=free_port(),
        password="test-password",
        serving_password="test-password",
    )
    server.prepare()
    return server


class RunningRedis:
    """Starts and stops a Redis."""

    def __init__(self, server: Redis) -> None:
        self.server = server
        self._process: Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self.server.command(),
            cwd=self.server.folder,
            env={**os.environ, **self.server.environment()},
            stdout=DEVNULL,
        )
        await eventually(self.server.is_ready)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def stop(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.terminate()
            await process.wait()


@pytest.fixture
async def redis(own_redis: Redis) -> AsyncIterator[RunningRedis]:
    running = RunningRedis(own_redis)
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def beside_redis(
    redis: RunningRedis, database_urls: dict[str, str], tmp_path: Path
) -> AsyncIterator[Client]:
    async with gateway(database_urls["gateway"], redis.server.url(), tmp_path) as client:
        yield client


async def test_without_redis_sessions_go_on_within_limits_and_sign_ins_are_refused(
    redis: RunningRedis, beside_redis: Client, admin_database: Database
) -> None:
    client = beside_redis
    await allow(admin_database, requests=20, questions=3)
    account, leaver = await client.register("ada"), await client.register("bob")
    for tokens in (account, leaver):
        assert (await client.get("/auth/me", headers=bearer(tokens))).status_code == 200
    await redis.stop()

    assert (await client.get("/auth/me", headers=bearer(account))).status_code == 200
    answers = await asyncio.gather(
        *(client.post("/question", headers=bearer(account)) for _ in range(10))
    )
    assert sorted(a.status_code for a in answers) == [200] * 3 + [429] * 7
    sign_in = await client.login()
    assert sign_in.status_code == 503
    assert "retry-after" in sign_in.headers
    body = {"email": "eve@example.com", "password": "nine ravens over the chimney"}
    assert (await client.post("/auth/register", json=body)).status_code == 503
    assert (await client.refresh(account["refresh_token"])).status_code == 200

    assert (await client.post("/auth/logout", headers=bearer(leaver))).status_code == 204
    assert (await client.get("/auth/me", headers=bearer(leaver))).status_code == 401


async def test_a_sign_out_during_an_outage_of_redis_holds_when_redis_is_back(
    redis: RunningRedis, beside_redis: Client
) -> None:
    client = beside_redis
    stayer, leaver = await client.register("ada"), await client.register("bob")
    for tokens in (stayer, leaver):
        assert (await client.get("/auth/me", headers=bearer(tokens))).status_code == 200
    await redis.stop()
    assert (await client.post("/auth/logout", headers=bearer(leaver))).status_code == 204
    await redis.start()

    async def may_sign_in() -> bool:
        return (await client.login("ada")).status_code == 200

    await eventually(may_sign_in)
    assert (await client.get("/auth/me", headers=bearer(stayer))).status_code == 200
    assert (await client.get("/auth/me", headers=bearer(leaver))).status_code == 401


async def test_a_redis_that_hangs_costs_a_second_once_and_not_each_request(
    redis: RunningRedis, beside_redis: Client
) -> None:
    account = await beside_redis.register()
    redis.signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        answers = [await beside_redis.get("/auth/me", headers=bearer(account)) for _ in range(5)]
        assert {answer.status_code for answer in answers} == {200}
        assert time.monotonic() - started < 3
    finally:
        redis.signal(signal.SIGCONT)

    async def may_sign_in() -> bool:
        return (await beside_redis.login()).status_code == 200

    await eventually(may_sign_in)
