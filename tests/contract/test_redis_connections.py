"""What every command to Redis does when its task is cancelled, at any moment: it ends."""

import asyncio
from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from planes.shared.stores.redis_caches import cache_client
from services.gateway.limits.scripts import redis_client


@pytest.mark.parametrize("client_of", [redis_client, cache_client])
async def test_a_deadline_that_falls_into_a_command_ends_it(
    redis_url: str, client_of: Callable[[str], Redis]
) -> None:
    async def outlive(seconds: float) -> bool:
        async with asyncio.timeout(seconds) as limit:
            while not limit.expired():
                await client.get("nothing")
        return True

    async with client_of(redis_url) as client:
        await client.ping()
        for number in range(200):
            with pytest.raises(TimeoutError):
                await outlive(0.0005 + number * 0.00002)
