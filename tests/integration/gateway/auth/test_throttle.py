"""Guessing is slow from everywhere, and keeps nobody out who has signed in before."""

import ipaddress
import re
import secrets
from collections.abc import Awaitable, Callable

import httpx
import pytest

from planes.shared.stores.redis_clients import redis_client
from tests.integration.gateway.auth.conftest import PASSWORD, Client

pytestmark = pytest.mark.integration

SignIn = Callable[..., Awaitable[httpx.Response]]


def some_address() -> str:
    return str(ipaddress.IPv4Address(secrets.randbits(32)))


@pytest.fixture
def sign_in(client: Client) -> SignIn:
    """Signs in from an address; by default with a wrong password."""

    async def sign_in(address: str, name: str = "ada", password: str = "") -> httpx.Response:
        transport = httpx.ASGITransport(client.app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
            body = {"email": f"{name}@example.com", "password": password or "wrong"}
            return await http.post("/auth/login", json=body)

    return sign_in


async def attack(sign_in: SignIn, redis_url: str, name: str = "ada", failures: int = 16) -> None:
    """Let so many attempts fail, each from an address of its own and as soon as it may."""
    for _ in range(failures):
        refused = await sign_in(some_address(), name)
        if refused.status_code == 429:
            await pass_time(redis_url)
            refused = await sign_in(some_address(), name)
        assert refused.status_code == 401


async def pass_time(redis_url: str) -> None:
    """Let every wait be over, and no failure be forgotten."""
    async with redis_client(redis_url) as redis:
        async for key in redis.scan_iter("attempts:*"):
            await redis.hdel(key, "last")


async def test_who_signed_in_from_an_address_before_is_not_held_up_by_failures_from_elsewhere(
    client: Client, sign_in: SignIn, redis_url: str
) -> None:
    await client.register()
    home = some_address()
    assert (await sign_in(home, password=PASSWORD)).status_code == 200
    await attack(sign_in, redis_url)
    assert (await sign_in(some_address(), password=PASSWORD)).status_code == 429
    assert (await sign_in(home)).status_code == 401, "a slip of the finger"
    assert (await sign_in(home, password=PASSWORD)).status_code == 200


async def test_an_address_that_is_known_has_a_throttle_of_its_own(
    client: Client, sign_in: SignIn
) -> None:
    await client.register()
    home = some_address()
    assert (await sign_in(home, password=PASSWORD)).status_code == 200
    answers = [(await sign_in(home)).status_code for _ in range(12)]
    assert answers == [401] * 10 + [429] * 2
    elsewhere = await sign_in(some_address(), password=PASSWORD)
    assert elsewhere.status_code == 429, "its failures count for the account, too"


async def test_the_first_attempts_of_an_address_wait_five_seconds_at_most(
    client: Client, sign_in: SignIn, redis_url: str
) -> None:
    await client.register()
    await attack(sign_in, redis_url)
    fresh, worn = some_address(), some_address()
    for number in range(4):
        assert (await sign_in(worn, name=f"nobody{number}")).status_code == 401
    waits = [
        int((await sign_in(address, password=PASSWORD)).headers["retry-after"])
        for address in (fresh, worn)
    ]
    assert waits[0] <= 5
    assert 30 < waits[1] <= 60
    await pass_time(redis_url)
    assert (await sign_in(fresh, password=PASSWORD)).status_code == 200


async def test_an_account_that_does_not_exist_is_throttled_as_one_that_does(
    client: Client, sign_in: SignIn, redis_url: str
) -> None:
    await client.register()

    async def seen(name: str) -> list[tuple[int, str, bool]]:
        address, answers = some_address(), []
        for number in range(14):
            await attack(sign_in, redis_url, name, failures=1)
            answer = await sign_in(address if number % 2 else some_address(), name)
            detail = re.sub(r"[0-9]+", "n", answer.json()["detail"])
            answers.append((answer.status_code, detail, "retry-after" in answer.headers))
        return answers

    assert await seen("ada") == await seen("nobody")


async def test_only_the_last_few_addresses_of_an_account_are_known_and_none_in_clear(
    client: Client, sign_in: SignIn, redis_url: str
) -> None:
    await client.register()
    homes = [some_address() for _ in range(7)]
    for home in homes:
        assert (await sign_in(home, password=PASSWORD)).status_code == 200
    await attack(sign_in, redis_url)
    statuses = [(await sign_in(home)).status_code for home in homes]
    assert statuses.count(401) >= 5
    assert statuses[0] == 429, "long ago"
    async with redis_client(redis_url) as redis:
        found = [key async for key in redis.scan_iter("familiar:*")]
        known = [each for key in found for each in await redis.zrange(key, 0, -1)]
        lives_s = [await redis.ttl(key) for key in found]
    assert all(0 < each <= 30 * 24 * 3600 for each in lives_s)
    text = b" ".join([*found, *known]).decode()
    assert not any(word in text for word in (*homes, "ada@"))
