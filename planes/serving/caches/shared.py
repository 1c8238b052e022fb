"""Entries that all replicas share, in Redis. Without Redis nothing is found and nothing kept."""

import time
from uuid import UUID

import structlog

from planes.serving.caches.bounded import BoundedCache
from planes.shared.deadlines import answer_within
from planes.shared.stores.redis_caches import (
    CacheEntry,
    CachesUnavailable,
    RedisCaches,
    entry_key,
)

_DEADLINE_S = 1.0
_PAUSE_S = 5.0
_MAX_VALUE_BYTES = 256 * 1024
_log = structlog.get_logger(__name__)


class SharedCache:
    """Entries of every tenant; no method raises, because an answer needs none of them.

    After a failure Redis is left alone for five seconds; one line is logged when it goes and one
    when it is back.
    """

    def __init__(self, redis: RedisCaches | None, *, ttl_s: int, max_bytes: int) -> None:
        """Store the parts.

        Args:
            redis: None keeps nothing.
            ttl_s: Seconds that an entry lives.
            max_bytes: Of all that this replica keeps there; more drops its oldest.
        """
        self._redis = redis
        self._ttl_s = ttl_s
        self._own: BoundedCache[str, UUID] = BoundedCache(max_bytes=max_bytes)
        self._paused_until = 0.0
        self._is_down = False

    @property
    def is_on(self) -> bool:
        """Whether there is a Redis to ask, be it down."""
        return self._redis is not None

    async def get(self, tenant_id: UUID, kind: str, digest: str) -> bytes | None:
        """Return what was kept, None for nothing."""
        if self._redis is None or self._is_paused():
            return None
        try:
            async with answer_within(_DEADLINE_S):
                value = await self._redis.get(entry_key(tenant_id, kind, digest))
        except (CachesUnavailable, TimeoutError) as error:
            self._pause(error)
            return None
        self._resume()
        return value

    async def put(self, entry: CacheEntry) -> None:
        """Keep an entry, unless it is very large or what it was made of is being removed."""
        if self._redis is None or len(entry.value) > _MAX_VALUE_BYTES or self._is_paused():
            return
        try:
            async with answer_within(_DEADLINE_S):
                if await self._redis.put(entry, ttl_s=self._ttl_s):
                    await self._make_room(self._redis, entry)
        except (CachesUnavailable, TimeoutError) as error:
            self._pause(error)
            return
        self._resume()

    async def close(self) -> None:
        """Close the connections."""
        if self._redis is not None:
            await self._redis.close()

    async def _make_room(self, redis: RedisCaches, entry: CacheEntry) -> None:
        for key, tenant_id in self._own.put(entry.key, entry.tenant_id, len(entry.value)):
            await redis.remove(tenant_id, [key])

    def _is_paused(self) -> bool:
        """Whether not to ask; after the pause one call asks for all."""
        now = time.monotonic()
        if now < self._paused_until:
            return True
        if self._is_down:
            self._paused_until = now + _PAUSE_S
        return False

    def _pause(self, error: Exception) -> None:
        self._paused_until = time.monotonic() + _PAUSE_S
        if not self._is_down:
            self._is_down = True
            cause = error.__cause__ if isinstance(error, CachesUnavailable) else error
            _log.warning("caches do not answer: going on without", error=repr(cause))

    def _resume(self) -> None:
        if self._is_down:
            self._is_down, self._paused_until = False, 0.0
            _log.info("caches answer again")
