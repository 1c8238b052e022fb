"""How full Redis is: what can be done without must not take the last of it.

A full Redis (`maxmemory-policy noeviction`) refuses writes, and with them sign-ins and limits.
"""

import time

from redis.asyncio import Redis

_LOOK_S = 1.0


class RedisMemory:
    """Looks when it is asked, at most once a second."""

    def __init__(self, redis: Redis) -> None:
        """Store the client; its user needs the command INFO."""
        self._redis = redis
        self._share = 0.0
        self._look_at = 0.0

    async def used_share(self) -> float:
        """Return how much of `maxmemory` is used, 0 to 1; 0 where there is no bound.

        Raises:
            RedisError, OSError: Redis does not answer, or does not let its user look.
        """
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_S
            told = await self._redis.info("memory")
            bound = int(told["maxmemory"])
            self._share = int(told["used_memory"]) / bound if bound else 0.0
        return self._share
