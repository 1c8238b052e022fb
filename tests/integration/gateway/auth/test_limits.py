"""How many requests a plan lets through, and what happens without Redis."""

import asyncio
import os
import signal
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis as RedisClient

from planes.shared.stores.postgres import Database
from planes.shared.stores.redis_clients import redis_client
from services.embedded.ports import free_port
from services.embedded.redis import Redis
from services.gateway.limits.gate import SessionGate, SessionKey, Standing
from services.gateway.limits.rates import EndpointClass, PlanLimits, Rates
from services.gateway.limits.scripts import RedisScripts
from services.gateway.limits.versions import Version
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
        *(client.post("/question", headers=bearer(account)) for _ in range(10))
    )
    assert sorted(a.status_code for a in answers) == [200] * 3 + [429] * 7
    answers = await asyncio.gather(
        *(client.get("/auth/me", headers=bearer(account)) for _ in range(40))
    )
    assert sorted(a.status_code for a in answers) == [200] * 4 + [429] * 36
    assert (await client.get("/auth/me", headers=bearer(other))).status_code == 200


@pytest.fixture
async def second(
    database_urls: dict[str, str], redis_url: str, tmp_path: Path
) -> AsyncIterator[Client]:
    """Another gateway over the same stores and keys."""
    async with gateway(database_urls["gateway"], redis_url, tmp_path) as second:
        yield second


async def test_two_gateways_let_exactly_the_plans_number_of_parallel_requests_through(
    client: Client, second: Client, admin_database: Database
) -> None:
    await allow(admin_database, requests=10, questions=5)
    account, other = await client.register("ada"), await client.register("bob")
    answers = await asyncio.gather(
        *(each.get("/auth/me", headers=bearer(account)) for each in [client, second] * 25)
    )
    assert sorted(a.status_code for a in answers) == [200] * 10 + [429] * 40
    answers = await asyncio.gather(
        *(each.post("/question", headers=bearer(other)) for each in [client, second] * 13)
    )
    assert sorted(a.status_code for a in answers) == [200] * 5 + [429] * 21
    left = await second.get("/auth/me", headers=bearer(other))
    assert left.headers["ratelimit"].startswith('"requests";r=4;'), "a refused question costs none"


async def test_tenth_failure_slows_an_account_down_on_every_gateway_and_locks_nobody_out(
    client: Client, second: Client, redis_url: str
) -> None:
    await client.register()
    for each in [client, second] * 4:
        assert (await each.login(password="wrong")).status_code == 401
    answers = await asyncio.gather(*(each.login(password="wrong") for each in [client, second] * 5))
    assert sorted(a.status_code for a in answers) == [401] * 2 + [429] * 8
    waits = {int(a.headers["retry-after"]) for a in answers if a.status_code == 429}
    assert waits == {1}
    async with redis_client(redis_url) as redis:  # the wait is over
        async for key in redis.scan_iter("attempts:*"):
            await redis.hdel(key, "last")
    assert (await client.login()).status_code == 200
    assert (await second.login()).status_code == 200


async def test_tenth_failure_slows_an_address_down_whatever_the_account(
    client: Client, second: Client
) -> None:
    await client.register()
    answers = await asyncio.gather(*(client.login(f"nobody{number}") for number in range(15)))
    assert sorted(a.status_code for a in answers) == [401] * 10 + [429] * 5
    assert (await second.login()).status_code == 200, "another address"


async def keys_of(user_id: str, redis_url: str) -> list[bytes]:
    async with redis_client(redis_url) as redis:
        return [key async for key in redis.scan_iter(f"*{{{user_id}}}*")]


async def drop(redis_url: str, *keys: bytes) -> None:
    async with redis_client(redis_url) as redis:
        await redis.delete(*keys)


async def test_no_key_that_redis_drops_lifts_a_limit(
    client: Client, admin_database: Database, redis_url: str
) -> None:
    await allow(admin_database, requests=6, questions=2)
    account = await client.register()
    statuses = []
    for _ in range(9):
        statuses.append((await client.get("/auth/me", headers=bearer(account))).status_code)
        await drop(redis_url, *await keys_of(account["user"]["id"], redis_url))
    assert statuses == [200] * 6 + [429] * 3


async def test_no_key_that_redis_drops_revives_a_session_or_ends_one(
    client: Client, admin_database: Database, redis_url: str
) -> None:
    stays, leaves = await client.register(), (await client.login()).json()
    user_id = stays["user"]["id"]
    for tokens in (stays, leaves):
        assert (await client.get("/auth/me", headers=bearer(tokens))).status_code == 200
    assert (await client.post("/auth/logout", headers=bearer(leaves))).status_code == 204

    async def hold() -> None:
        for tokens, status in ((leaves, 401), (stays, 200)):
            assert (await client.get("/auth/me", headers=bearer(tokens))).status_code == status

    keys = await keys_of(user_id, redis_url)
    assert len(keys) == 5, "two versions, two sessions, one limit"
    for key in keys:
        await drop(redis_url, key)
        await hold()
    await drop(redis_url, *keys)
    await hold()
    async with admin_database.platform() as connection:
        await connection.execute("UPDATE memberships SET role = 'viewer'")
        version = await connection.fetchval("UPDATE users SET version = 2 RETURNING version")
    await client.app.state.identity.sessions.revoked(UUID(user_id), [], version=version)
    for key in await keys_of(user_id, redis_url):
        await drop(redis_url, key)
        assert (await client.get("/auth/me", headers=bearer(stays))).status_code == 401


@dataclass
class Model:
    """The generic cell rate algorithm in plain arithmetic, in microseconds."""

    limits: dict[str, int]
    due: dict[str, int] = field(default_factory=dict)

    def take(self, policies: list[str], now: int) -> list[tuple[int, int, int]]:
        """Return remaining, reset and wait of each policy."""
        interval = {name: 60_000_000 // self.limits[name] for name in policies}
        burst = {name: interval[name] * self.limits[name] for name in policies}
        due = {name: max(self.due.get(name, 0), now) for name in policies}
        waits = {name: max(0, due[name] + interval[name] - burst[name] - now) for name in policies}
        if not any(waits.values()):
            due = {name: due[name] + interval[name] for name in policies}
            self.due |= due
        return [
            (
                max(0, burst[name] - (due[name] - now)) // interval[name],
                due[name] - now,
                waits[name],
            )
            for name in policies
        ]


class Clockwork:
    """One user of the gate, for whom time passes as a test says: what is due moves back."""

    def __init__(self, redis: RedisClient, limits: PlanLimits) -> None:
        self._redis = redis
        self._gate = SessionGate(RedisScripts(redis), token_lifetime_s=600)
        self._limits = limits
        self._key = SessionKey(uuid4(), uuid4(), uuid4(), Version(1, 1))
        self.model = Model({each: limits.of(each) for each in EndpointClass})

    async def begin(self) -> None:
        history = (await self._gate.check(self._key, EndpointClass.REQUESTS)).history
        await self._gate.remember(self._key, self._limits, history=history)

    async def pass_time(self, us: int) -> None:
        for policy in list(self.model.due):
            due = self.model.due[policy] - us
            self.model.due[policy] = due
            await self._redis.set(self._name(policy), due)

    async def take(self, endpoint: EndpointClass) -> tuple[Rates, int]:
        """Return the answer, and the server's time at which it was given."""
        verdict = await self._gate.check(self._key, endpoint)
        assert verdict.rates is not None
        assert verdict.rates.is_admitted is (verdict.standing is Standing.ADMITTED)
        used = max(verdict.rates.each, key=lambda rate: rate.reset_s)  # still ahead of now
        stored = await self._redis.get(self._name(used.policy))
        return verdict.rates, int(stored) - round(used.reset_s * 1e6)

    def _name(self, policy: str) -> str:
        return f"rate:{{{self._key.user_id}}}:{policy}"


LIMIT = st.integers(1, 40)
CALLS = st.lists(
    st.tuples(
        st.sampled_from(EndpointClass), st.sampled_from([0, 0, 0, 1, 10**6, 7 * 10**6, 10**8])
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=40, deadline=None)
@given(limits=st.builds(PlanLimits, LIMIT, LIMIT, LIMIT, LIMIT), calls=CALLS)
def test_rates_are_those_of_the_algorithm(
    redis_url: str, limits: PlanLimits, calls: list[tuple[EndpointClass, int]]
) -> None:
    async def play() -> None:
        async with redis_client(redis_url) as redis:
            gate = Clockwork(redis, limits)
            await gate.begin()
            for endpoint, gap_us in calls:
                await gate.pass_time(gap_us)
                rates, now = await gate.take(endpoint)
                policies = [str(policy) for policy in endpoint.policies]
                expected = gate.model.take(policies, now)
                found = [
                    (rate.remaining, round(rate.reset_s * 1e6), round(rate.retry_after_s * 1e6))
                    for rate in rates.each
                ]
                assert found == expected
                assert rates.headers() == {
                    "ratelimit-policy": ", ".join(
                        f'"{name}";q={gate.model.limits[name]};w=60' for name in policies
                    ),
                    "ratelimit": ", ".join(
                        f'"{name}";r={remaining};t={-(-reset // 1_000_000)}'
                        for name, (remaining, reset, _) in zip(policies, expected, strict=True)
                    ),
                }

    asyncio.run(play())


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
    assert third.json()["violated-policies"] == ["requests"]
    refused = await client.post("/question", headers=bearer(account))
    assert refused.headers["ratelimit"] == '"requests";r=0;t=60, "chat";r=1;t=0'
    assert refused.headers["ratelimit-policy"] == '"requests";q=2;w=60, "chat";q=1;w=60'
    assert refused.headers["retry-after"] == "30"


@pytest.fixture
def own_redis(server_folder: Path) -> Redis:
    """A Redis that a test may stop."""
    server = Redis(
        server_folder / "redis-of-limits",
        port=free_port(),
        password="test-password",
        serving_password="test-password",
        data_password="test-password",
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


async def test_losing_redis_gives_nobody_a_fresh_minute(
    redis: RunningRedis, beside_redis: Client, admin_database: Database
) -> None:
    await allow(admin_database, requests=5, questions=3)
    account = await beside_redis.register()
    for _ in range(3):
        assert (await beside_redis.get("/auth/me", headers=bearer(account))).status_code == 200
    await redis.stop()
    answers = [await beside_redis.get("/auth/me", headers=bearer(account)) for _ in range(4)]
    assert [a.status_code for a in answers] == [200, 200, 429, 429]


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-random"])
async def test_a_redis_without_memory_lifts_no_limit_and_revives_nobody(
    policy: str, redis: RunningRedis, beside_redis: Client, admin_database: Database
) -> None:
    client = beside_redis
    await allow(admin_database, requests=6, questions=2)
    stays, leaves = await client.register(), (await client.login()).json()
    stranger = await client.register("eve")
    for tokens in (leaves, stranger):
        assert (await client.get("/auth/me", headers=bearer(tokens))).status_code == 200
    async with redis_client(redis.server.url()) as commands:
        await commands.config_set("maxmemory-policy", policy)
        await commands.config_set("maxmemory", 1)
        assert (await client.post("/auth/logout", headers=bearer(leaves))).status_code == 204
        assert (await client.get("/auth/me", headers=bearer(leaves))).status_code == 401
        answers = [await client.get("/auth/me", headers=bearer(stays)) for _ in range(7)]
        assert [a.status_code for a in answers] == [200] * 4 + [429] * 3, "two were used before"
        assert (await client.get("/auth/me", headers=bearer(stranger))).status_code == 200
        await commands.config_set("maxmemory", 0)

    async def is_back() -> bool:
        return (await client.login()).status_code == 200

    await eventually(is_back)
    assert (await client.get("/auth/me", headers=bearer(leaves))).status_code == 401


async def test_one_address_may_refresh_so_often_even_without_redis(
    redis: RunningRedis, beside_redis: Client
) -> None:
    async def numbers() -> list[str]:
        answers = [await beside_redis.refresh("invented") for _ in range(3)]
        assert {answer.status_code for answer in answers} == {401}
        return [answer.headers["ratelimit"].split(";")[1] for answer in answers]

    assert await numbers() == ["r=1199", "r=1198", "r=1197"]
    await redis.stop()
    assert await numbers() == ["r=1199", "r=1198", "r=1197"]


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


async def test_a_token_of_an_old_version_is_read_from_postgresql_once(
    client: Client, admin_database: Database
) -> None:
    account = await client.register()
    user_id, tenant_id = (UUID(account[each]["id"]) for each in ("user", "tenant"))
    async with admin_database.platform() as connection:
        await connection.execute("UPDATE users SET version = version + 1")
    assert (await client.get("/auth/me", headers=bearer(account))).status_code == 401
    gate: SessionGate = client.app.state.identity.gate
    verdict = await gate.check(
        SessionKey(user_id, tenant_id, uuid4(), Version(1)), EndpointClass.REQUESTS
    )
    assert verdict.standing is Standing.OUTDATED


@pytest.mark.parametrize("limit", [0, -1, 1_000_001])
async def test_a_plan_cannot_have_a_limit_that_cannot_be_kept(
    admin_database: Database, limit: int
) -> None:
    for kind in ("", "chat_", "upload_", "search_"):
        async with admin_database.platform() as connection:
            with pytest.raises(asyncpg.CheckViolationError):
                await connection.execute(
                    f"UPDATE plans SET {kind}requests_per_minute = {limit}"  # noqa: S608
                )
