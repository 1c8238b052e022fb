"""What the serving plane keeps of tenants in Redis for a while, and its removal.

An entry is a key `cache:{TENANT}:KIND:DIGEST` that ends by itself. A tenant with entries has two
keys more: `cache:{TENANT}:index`, its entries by the time at which they end, and, once something
was removed, `cache:{TENANT}:floor`, the corpus version below which nothing is kept. The braces are
part of the names: they keep what is of one tenant on one node of a cluster.

Planes of before the braces may still run beside this one, or their entries live on. So what is
removed is removed under both names; nothing is looked for or kept under the old ones.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from uuid import UUID

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import WatchError

from planes.shared.errors import Unavailable
from planes.shared.stores.redis_clients import REDIS_ERRORS, is_cluster, node_of
from planes.shared.stores.redis_memory import RedisMemory

_FLOOR_S = 24 * 3600  # longer than any answer takes
_KEYS_AT_ONCE = 500
_MOST_SHARE = 0.4  # of `maxmemory`: streams of answers, and after them sessions, have the rest


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
    return f"cache:{{{tenant_id}}}:{kind}:{digest}"


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
        names, now = _Names.of(entry.tenant_id), time.time()
        index, floor = names.index, names.floor
        node = await node_of(self._redis, floor)
        async with node.pipeline(transaction=True) as pipe:
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
            return [
                key
                for names in (_Names.of(tenant_id), *self._old_names(tenant_id))
                for key in await self._seal(names, corpus_version)
            ]

    def _old_names(self, tenant_id: UUID) -> "list[_Names]":
        """Return those without braces; in a cluster nothing ever had them."""
        return [] if is_cluster(self._redis) else [_Names.without_braces(tenant_id)]

    async def _seal(self, names: "_Names", corpus_version: int) -> list[str]:
        while True:
            with suppress(WatchError):  # sealed by another at the same time
                return await self._try_to_seal(names, corpus_version)

    async def _try_to_seal(self, names: "_Names", corpus_version: int) -> list[str]:
        floor = names.floor
        node = await node_of(self._redis, floor)
        async with node.pipeline(transaction=True) as pipe:
            await pipe.watch(floor)
            newest = max(await _version(pipe, floor), corpus_version)
            pipe.multi()  # type: ignore[no-untyped-call]
            pipe.set(floor, newest, ex=_FLOOR_S)
            pipe.zrangebyscore(names.index, time.time(), "+inf")
            _, keys = await pipe.execute()
        return [key.decode() for key in keys]

    async def remove(self, tenant_id: UUID, keys: Sequence[str]) -> int:
        """Remove entries of a tenant and return how many there were; repeating removes nothing."""
        removed = 0
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[start : start + _KEYS_AT_ONCE]
            with _translated():
                node = await node_of(self._redis, _Names.of(tenant_id).index)
                async with node.pipeline(transaction=True) as pipe:
                    pipe.unlink(*some)
                    for names in (_Names.of(tenant_id), *self._old_names(tenant_id)):
                        pipe.zrem(names.index, *some)
                    count, *_ = await pipe.execute()
            removed += int(count)
        return removed

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except REDIS_ERRORS as error:
        raise CachesUnavailable("The caches do not answer.") from error


@dataclass(frozen=True, slots=True)
class _Names:
    """What stands beside a tenant's entries."""

    index: str
    floor: str

    @classmethod
    def of(cls, tenant_id: UUID) -> "_Names":
        return cls(f"cache:{{{tenant_id}}}:index", f"cache:{{{tenant_id}}}:floor")

    @classmethod
    def without_braces(cls, tenant_id: UUID) -> "_Names":
        return cls(f"cache:{tenant_id}:index", f"cache:{tenant_id}:floor")


async def _version(pipe: Pipeline, key: str) -> int:
    """Read a watched key at once: until `multi` a pipeline does not wait."""
    return int(await pipe.get(key) or 0)
