"""How full Redis is, and what it does when it is full.

A full Redis (`maxmemory-policy noeviction`) refuses writes, and with them sign-ins and limits: what
can be done without must not take the last of it. Any other policy would forget failed sign-ins and
what other processes have counted, which lifts limits.
"""

import math
import time
from collections.abc import Mapping
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from planes.shared.stores.redis_clients import info_of_masters

_LOOK_S = 1.0
_log = structlog.get_logger(__name__)


class RedisUnfit(RuntimeError):
    """Redis cannot keep sessions and limits; the message says what to set."""


class RedisMemory:
    """Looks when it is asked, at most once a second."""

    def __init__(self, redis: Redis) -> None:
        """Store the client; where its user may not run INFO, Redis counts as empty."""
        self._redis = redis
        self._share = 0.0
        self._look_at = 0.0

    async def used_share(self) -> float:
        """Return how much of `maxmemory` is used, 0 to 1; 0 where there is no bound.

        In a cluster the fullest node counts.

        Raises:
            One of `REDIS_ERRORS`: Redis does not answer.
        """
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_S
            self._share = await self._look()
        return self._share

    async def _look(self) -> float:
        try:
            told = await info_of_masters(self._redis, "memory")
        except NoPermissionError:
            self._look_at = math.inf
            _log.warning("how full Redis is cannot be seen: let this user run INFO (ACL +info)")
            return 0.0
        return max(_used_share(each) for each in told)


def _used_share(memory: Mapping[str, Any]) -> float:
    bound = int(memory["maxmemory"])
    return int(memory["used_memory"]) / bound if bound else 0.0


async def require_no_eviction(redis: Redis) -> None:
    """Pass where no server drops keys when it is full.

    Raises:
        RedisUnfit: One does, or does not let this user see it.
        One of `REDIS_ERRORS`: A server does not answer.
    """
    try:
        told = await info_of_masters(redis, "memory")
    except NoPermissionError as error:
        raise RedisUnfit(
            "This user of Redis may not run INFO, by which sessions and limits are kept exact: "
            "ACL SETUSER its name +info."
        ) from error
    for memory in told:
        policy = memory["maxmemory_policy"]
        if int(memory["maxmemory"]) and policy != "noeviction":
            raise RedisUnfit(
                f"Redis has `maxmemory-policy {policy}`, by which it drops limits when it is "
                "full: set it to `noeviction`."
            )
