"""What answers have sent, kept in Redis for a while: any gateway can go on from there."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

import structlog
from redis.asyncio import Redis

from planes.shared.deadlines import answer_within
from planes.shared.domain import TenantContext
from planes.shared.stores.redis_clients import REDIS_ERRORS
from planes.shared.stores.redis_memory import RedisMemory
from planes.shared.together import Together
from services.gateway.limits.scripts import RedisUnavailable

_DEADLINE_S = 1.0
_PAUSE_S = 1.0
_BATCHES_AT_ONCE = 64
_SCARCE_SHARE = 0.5  # of `maxmemory`
_MOST_SHARE = 0.75
_LAST = b"$"  # ends the name of a stream's last event
_NO_ANSWER = "The buffer of streams does not answer. Try again in a moment."
_log = structlog.get_logger(__name__)


class SentEvent(NamedTuple):
    """One server-sent event as it was sent; ids rise within an answer."""

    id: int
    raw: bytes
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that were stored together; `previous` is the id of the one before them, or 0."""

    previous: int
    events: tuple[SentEvent, ...]


class _Append(NamedTuple):
    """A batch that is to be stored under a key."""

    key: str
    batch: Batch
    oldest: int
    lifetime_s: float


def stream_key(context: TenantContext, answer_id: UUID) -> str:
    """Return the key of an answer's events; somebody else's answer is another key."""
    return f"stream:{context.tenant_id}:{context.user_id}:{answer_id}"


class StreamBuffer:
    """Redis streams, one for each answer: an entry holds a batch of events.

    An entry's id is that of its last event, and of the event before its first. So a reader asks for
    what came after its own last event, and sees where something is missing.
    After a failure calls fail at once for a second, as those of the limits do. Streams can be done
    without: the last quarter of Redis is left to sessions and limits, which cannot.
    """

    def __init__(self, redis: Redis) -> None:
        """Store the client."""
        self._redis = redis
        self._memory = RedisMemory(redis)
        self._used_share = 0.0
        self._paused_until = 0.0
        self._appends = Together[_Append, None](self._append_all)

    @property
    def is_scarce(self) -> bool:
        """Whether so much of Redis is used that nothing should stay for long."""
        return self._used_share > _SCARCE_SHARE

    async def append(self, key: str, batch: Batch, *, oldest: int, lifetime_s: float) -> None:
        """Store a batch, and forget those that end before the event `oldest`.

        Storing a batch again changes nothing. Batches that wait go together.

        Raises:
            RedisUnavailable: Redis is too full, or it is not known whether the batch was stored.
        """
        await self._appends.do(_Append(key, batch, oldest, lifetime_s))

    async def after(self, key: str, event_id: int) -> list[Batch]:
        """Return the oldest batches that hold events after this one, at most 64.

        Raises:
            RedisUnavailable: Redis does not answer.
        """
        entries = await self._ask(
            lambda: self._redis.xrange(key, min=f"{event_id + 1}-0", count=_BATCHES_AT_ONCE)
        )
        return [_batch(entry) for entry in entries or []]

    async def last(self, key: str) -> SentEvent | None:
        """Return the newest event that is stored; None: there is none, or no more.

        Raises:
            RedisUnavailable: Redis does not answer.
        """
        entries = await self._ask(lambda: self._redis.xrevrange(key, count=1))
        return _batch(entries[0]).events[-1] if entries else None

    async def forget(self, key: str) -> None:
        """Remove a stream; one that is not there changes nothing.

        Raises:
            RedisUnavailable: Redis does not answer.
        """
        await self._ask(lambda: self._redis.unlink(key))

    async def see(self, key: str, seconds: float) -> None:
        """Note that somebody reads the stream, or will come back within `seconds`.

        Raises:
            RedisUnavailable: Redis does not answer.
        """
        await self._ask(lambda: self._redis.set(f"{key}:seen", 1, px=round(seconds * 1000)))

    async def seen_s(self, key: str) -> float:
        """Return how long the last such note still counts, in seconds; not positive: no more.

        Raises:
            RedisUnavailable: Redis does not answer.
        """
        left_ms: int = await self._ask(lambda: self._redis.pttl(f"{key}:seen"))
        return left_ms / 1000

    async def _append_all(self, appends: Sequence["_Append"]) -> Sequence[RedisUnavailable | None]:
        await self._require_room()
        pipeline = self._redis.pipeline(transaction=False)
        for key, batch, oldest, lifetime_s in appends:
            fields: dict[Any, Any] = {_name(event): event.raw for event in batch.events}
            pipeline.xadd(
                key,
                fields,
                id=f"{batch.events[-1].id}-{batch.previous}",
                minid=f"{oldest}-0",
                approximate=False,
            )
            pipeline.pexpire(key, round(lifetime_s * 1000))
        results = await self._ask(lambda: pipeline.execute(raise_on_error=False))
        return [self._failure_in(pair) for pair in zip(results[::2], results[1::2], strict=True)]

    def _failure_in(self, results: Sequence[object]) -> RedisUnavailable | None:
        for result in results:
            if isinstance(result, Exception) and "equal or smaller" not in str(result):
                self._fail(result)
                return RedisUnavailable(_NO_ANSWER)
        return None

    async def _require_room(self) -> None:
        was_full = self._used_share > _MOST_SHARE
        self._used_share = await self._ask(self._memory.used_share)
        is_full = self._used_share > _MOST_SHARE
        if was_full and not is_full:
            _log.info("redis has room again: streams are buffered")
        if is_full:
            if not was_full:
                _log.warning("redis is nearly full: streams are not buffered")
            raise RedisUnavailable(_NO_ANSWER)

    async def _ask(self, call: Callable[[], Awaitable[Any] | Any]) -> Any:
        now = time.monotonic()
        if now < self._paused_until:
            raise RedisUnavailable(_NO_ANSWER)
        if self._paused_until:
            self._paused_until = now + _PAUSE_S  # one call tries again for all
        try:
            async with answer_within(_DEADLINE_S):
                answer = await call()
        except REDIS_ERRORS as error:
            self._fail(error)
            raise RedisUnavailable(_NO_ANSWER) from error
        self._paused_until = 0.0
        return answer

    def _fail(self, error: Exception) -> None:
        self._paused_until = time.monotonic() + _PAUSE_S
        _log.warning("streams are not buffered", error=str(error))


def _name(event: SentEvent) -> bytes:
    return b"%d%s" % (event.id, _LAST if event.is_last else b"")


def _batch(entry: tuple[bytes, dict[bytes, bytes]]) -> Batch:
    entry_id, fields = entry
    return Batch(
        previous=int(entry_id.partition(b"-")[2]),
        events=tuple(
            SentEvent(int(name.removesuffix(_LAST)), raw, name.endswith(_LAST))
            for name, raw in fields.items()
        ),
    )
