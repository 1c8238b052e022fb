"""What the serving plane keeps of tenants in Redis for a while, and its removal.

An entry is a key `cache:{tenant}:{kind}:{digest}` that ends by itself. A tenant with entries has
two keys more: `cache:{tenant}:index`, its entries by the time at which they end, and, once
something was removed, `cache:{tenant}:floor`, the corpus version below which nothing is kept.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from uuid import UUID

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, WatchError

from planes.shared.errors import Unavailable
from planes.shared.stores.redis_connections import cancellable
from planes.shared.stores.redis_memory import RedisMemory

_WAIT_S = 2.0
_FLOOR_S = 24 * 3600  # longer than any answer takes
_KEYS_AT_ONCE = 500
_MOST_SHARE = 0.4  # of `maxmemory`: streams of answers, and after them sessions, have the rest


def cache_client(url: str, *, max_connections: int = 32) -> Redis:
    """Return a client that connects at its first call, with a deadline on every wait.

    Args:
        url: `redis://user:password@host:port/database`; the user needs `cache:*` alone.
        max_connections: Upper bound of its pool; more callers wait for a free one.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=_WAIT_S,
        socket_timeout=_WAIT_S,
        socket_connect_timeout=_WAIT_S,
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )
    return Redis.from_pool(cancellable(pool))


class CachesUnavailable(Unavailable):
    """The Redis of the caches does not answer, or cannot write."""


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """Something that was made of a tenant's corpus as it was in `corpus_version`, or later."""

    tenant_id: UUID
    corpus_version: int
    kind: str
    digest: str
    value: bytes

    @property
    def key(self) -> str:
        """Its name in Redis."""
        return entry_key(self.tenant_id, self.kind, self.digest)


def entry_key(tenant_id: UUID, kind: str, digest: str) -> str:
    """Return the name of an entry in Redis."""
    return f"cache:{tenant_id}:{kind}:{digest}"


def is_entry(key: bytes) -> bool:
    """Tell whether a key of Redis is an entry, and not what is noted beside entries."""
    return key.startswith(b"cache:") and not key.endswith((b":index", b":floor"))


class RedisCaches:
    """The entries of all tenants. Every method raises `CachesUnavailable` without an answer."""

    def __init__(self, redis: Redis) -> None:
        """Store the client."""
        self._redis = redis
        self._memory = RedisMemory(redis)

    async def get(self, key: str) -> bytes | None:
        """Return an entry's value, None where there is none."""
        with _translated():
            value = await self._redis.get(key)
        return value if isinstance(value, bytes) else None

    async def put(self, entry: CacheEntry, *, ttl_s: int) -> bool:
        """Keep an entry for `ttl_s`; False where it is not.

        What it was made of may have been removed meanwhile, or too much of Redis is used: others
        share it who cannot do without.
        """
        with _translated():
            has_room = await self._memory.used_share() <= _MOST_SHARE
            return has_room and await self._put(entry, ttl_s)

    async def _put(self, entry: CacheEntry, ttl_s: int) -> bool:
        index, floor, now = _index(entry.tenant_id), _floor(entry.tenant_id), time.time()
        async with self._redis.pipeline(transaction=True) as pipe:
            await pipe.watch(floor)
            if await _version(pipe, floor) > entry.corpus_version:
                return False
            left_ms = int(await pipe.pttl(index))  # entries of other settings may end later
            pipe.multi()  # type: ignore[no-untyped-call]
            pipe.set(entry.key, entry.value, ex=ttl_s)
            pipe.zremrangebyscore(index, "-inf", now)
            pipe.zadd(index, {entry.key: now + ttl_s})
            pipe.pexpire(index, max(1000 * ttl_s, left_ms))
            try:
                await pipe.execute()
            except WatchError:
                return False
        return True

    async def seal(self, tenant_id: UUID, corpus_version: int) -> list[str]:
        """Keep nothing of an older corpus from now on, and return the entries that are there."""
        with _translated():
            while True:
                with suppress(WatchError):  # sealed by another at the same time
                    return await self._seal(tenant_id, corpus_version)

    async def _seal(self, tenant_id: UUID, corpus_version: int) -> list[str]:
        floor = _floor(tenant_id)
        async with self._redis.pipeline(transaction=True) as pipe:
            await pipe.watch(floor)
            newest = max(await _version(pipe, floor), corpus_version)
            pipe.multi()  # type: ignore[no-untyped-call]
            pipe.set(floor, newest, ex=_FLOOR_S)
            pipe.zrangebyscore(_index(tenant_id), time.time(), "+inf")
            _, keys = await pipe.execute()
        return [key.decode() for key in keys]

    async def remove(self, tenant_id: UUID, keys: Sequence[str]) -> int:
        """Remove entries of a tenant and return how many there were; repeating removes nothing."""
        removed = 0
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[start : start + _KEYS_AT_ONCE]
            with _translated():
                async with self._redis.pipeline(transaction=True) as pipe:
                    pipe.unlink(*some)
                    pipe.zrem(_index(tenant_id), *some)
                    removed += (await pipe.execute())[0]
        return removed

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise CachesUnavailable("The caches do not answer.") from error


def _index(tenant_id: UUID) -> str:
    return f"cache:{tenant_id}:index"


def _floor(tenant_id: UUID) -> str:
    return f"cache:{tenant_id}:floor"


async def _version(pipe: Pipeline, key: str) -> int:
    """Read a watched key at once: until `multi` a pipeline does not wait."""
    return int(await pipe.get(key) or 0)
