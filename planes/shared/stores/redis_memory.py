"""How full Redis is: what can be done without must not take the last of it.

A full Redis (`maxmemory-policy noeviction`) refuses writes, and with them sign-ins and limits.
"""

import math
import time

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

_LOOK_S = 1.0
_log = structlog.get_logger(__name__)


class RedisMemory:
    """Looks when it is asked, at most once a second."""

    def __init__(self, redis: Redis) -> None:
        """Store the client; where its user may not run INFO, Redis counts as empty."""
        self._redis = redis
        self._share = 0.0
        self._look_at = 0.0

    async def used_share(self) -> float:
        """Return how much of `maxmemory` is used, 0 to 1; 0 where there is no bound.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_S
            self._share = await self._look()
        return self._share

    async def _look(self) -> float:
        try:
            told = await self._redis.info("memory")
        except NoPermissionError:
            self._look_at = math.inf
            _log.warning("how full Redis is cannot be seen: let this user run INFO (ACL +info)")
            return 0.0
        bound = int(told["maxmemory"])
        return int(told["used_memory"]) / bound if bound else 0.0
