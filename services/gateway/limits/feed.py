"""Revocations as Redis publishes them: quick, and lost where the connection is."""

import asyncio
import random
import time
from collections.abc import AsyncIterator

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from services.gateway.limits.revocations import REVOCATIONS, Revocation

_BEAT_S = 0.25  # between signs of life
_SILENCE_S = 1.0  # after which the subscription counts as dead
_LONGEST_PAUSE_S = 2.0
_log = structlog.get_logger(__name__)


class RevocationFeed:
    """One subscription, on a connection of its own, renewed for ever."""

    def __init__(self, redis: Redis) -> None:
        """Store the client."""
        self._redis = redis
        self._heard_at = float("-inf")

    @property
    def is_alive(self) -> bool:
        """Whether nothing is missed now."""
        return time.monotonic() - self._heard_at < _SILENCE_S

    async def revocations(self) -> AsyncIterator[Revocation | None]:
        """Yield each revocation, and None where some may have been missed."""
        pause_s = 0.0
        while True:
            try:
                async with self._redis.pubsub() as channel:
                    await channel.subscribe(REVOCATIONS)
                    async for each in self._heard(channel):
                        pause_s = 0.0
                        yield each
            except (RedisError, OSError) as error:
                _log.warning("revocations are not heard", error=str(error))
            self._heard_at = float("-inf")
            yield None
            pause_s = min(2 * pause_s + 0.1, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 (jitter)

    async def _heard(self, channel: PubSub) -> AsyncIterator[Revocation | None]:
        """Yield what one connection brings; the driver may renew it, and subscribes anew then.

        Raises:
            RedisError: It broke, or nothing came in time, not even an answer to a ping.
        """
        heard_at = time.monotonic()
        while True:
            message = await channel.get_message(timeout=_BEAT_S)
            if message is None:
                if time.monotonic() - heard_at > _SILENCE_S:
                    raise RedisConnectionError("no sign of life")
                await channel.ping()
                continue
            self._heard_at = heard_at = time.monotonic()
            if message["type"] == "subscribe":
                yield None
            elif message["type"] == "message":
                yield _decoded(message["data"])


def _decoded(data: bytes) -> Revocation | None:
    try:
        return Revocation.decoded(data)
    except ValueError:
        _log.warning("a revocation that cannot be read")
        return None
