"""Revocations as Redis publishes them: quick, and lost where the connection is."""

import asyncio
import random
import time
from collections.abc import AsyncIterator

import structlog
from redis.asyncio import Redis

from planes.shared.stores.redis_clients import REDIS_ERRORS, SILENCE_S, heard, subscribed
from services.gateway.limits.revocations import REVOCATIONS, Revocation

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
        return time.monotonic() - self._heard_at < SILENCE_S

    async def revocations(self) -> AsyncIterator[Revocation | None]:
        """Yield each revocation, and None where some may have been missed."""
        pause_s = 0.0
        while True:
            try:
                async with subscribed(self._redis, REVOCATIONS) as channel:
                    async for message in heard(channel):
                        self._heard_at, pause_s = time.monotonic(), 0.0
                        if message["type"] == "subscribe":
                            yield None
                        elif message["type"] == "message":
                            yield _decoded(message["data"])
            except REDIS_ERRORS as error:
                _log.warning("revocations are not heard", error=str(error))
            self._heard_at = float("-inf")
            yield None
            pause_s = min(2 * pause_s + 0.1, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 (jitter)


def _decoded(data: bytes) -> Revocation | None:
    try:
        return Revocation.decoded(data)
    except ValueError:
        _log.warning("a revocation that cannot be read")
        return None
