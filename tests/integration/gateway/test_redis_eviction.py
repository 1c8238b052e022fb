"""A Redis that drops keys when it is full would lift limits: gateways do without it."""

from collections.abc import AsyncIterator

import httpx
import pytest
from redis.asyncio import Redis

from planes.shared.stores.redis_clients import redis_client
from planes.shared.stores.redis_memory import RedisUnfit
from services.gateway.app import create_app
from services.gateway.settings import GatewaySettings
from tests.integration.gateway.conftest import Gateway

pytestmark = pytest.mark.integration


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """The gateway's Redis, as it was before when the test is over."""
    client = redis_client(redis_url)
    before = await client.config_get("maxmemory*")
    yield client
    for name in ("maxmemory", "maxmemory-policy"):
        await client.config_set(name, before[name])
    await client.aclose()


async def readiness(gateway: Gateway) -> httpx.Response:
    """Return what the gateway says of its parts."""
    async with httpx.AsyncClient() as http:
        return await http.get(f"{gateway.url}/health/ready")


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "volatile-ttl"])
async def test_a_gateway_does_not_start_on_it_and_says_what_to_set(
    gateway: Gateway, redis: Redis, policy: str
) -> None:
    await redis.config_set("maxmemory", "64mb")
    await redis.config_set("maxmemory-policy", policy)
    app = create_app(GatewaySettings.model_validate(gateway.app.state.settings.model_dump()))
    with pytest.raises(RedisUnfit, match=f"{policy}.*noeviction"):
        async with app.router.lifespan_context(app):
            pass
    ready = (await readiness(gateway)).json()
    assert ready["parts"]["redis"]["status"] == "unavailable"


async def test_without_a_bound_nothing_is_dropped_whatever_the_policy(
    gateway: Gateway, redis: Redis
) -> None:
    await redis.config_set("maxmemory", 0)
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    ready = (await readiness(gateway)).json()
    assert ready["parts"]["redis"]["status"] == "ok"
