"""What every command to Redis does when its task is cancelled, at any moment: it ends."""

import asyncio

import pytest

from planes.shared.stores.redis_clients import redis_client


async def test_a_deadline_that_falls_into_a_command_ends_it(redis_url: str) -> None:
    async def outlive(seconds: float) -> bool:
        async with asyncio.timeout(seconds) as limit:
            while not limit.expired():
                await client.get("nothing")
        return True

    async with redis_client(redis_url) as client:
        await client.ping()
        for number in range(200):
            with pytest.raises(TimeoutError):
                await outlive(0.0005 + number * 0.00002)
