"""The buffer's end of an answer under way: events go to Redis in batches, within bounds."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator

from services.gateway.chat.stream_buffer import Batch, SentEvent, StreamBuffer
from services.gateway.limits.scripts import RedisUnavailable

MAX_BYTES = 1024 * 1024  # of one answer
_MAX_BYTES_OF_ALL = 64 * 1024 * 1024  # of the answers under way in one process
_KEPT_S = 300.0
_KEPT_WHEN_SCARCE_S = 30.0  # who was sent the end seldom comes back
_BETWEEN_BATCHES_S = 0.05
_RETRY_S = 0.5
_FIRST_S = 0.1
_END_S = 1.5


class StreamBounds:
    """Shares a process's part of Redis among its answers."""

    def __init__(self) -> None:
        """Begin without an answer."""
        self._open = 0

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Count one more answer."""
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    @property
    def answer_bytes(self) -> int:
        """How much of one answer is kept."""
        return min(MAX_BYTES, _MAX_BYTES_OF_ALL // max(1, self._open))


class StreamWriter:
    """Keeps what one answer sends; it never makes the answer wait, or fail."""

    def __init__(
        self, buffer: StreamBuffer, key: str, bounds: StreamBounds, *, grace_s: float
    ) -> None:
        """Store where events go, and how long the answer outlives its readers."""
        self._buffer = buffer
        self._key = key
        self._bounds = bounds
        self._grace_s = grace_s
        self._waiting: deque[SentEvent] = deque()
        self._waiting_bytes = 0
        self._stored: deque[tuple[int, int]] = deque()  # (id of the last event, bytes)
        self._stored_bytes = 0
        self._previous = 0
        self._woken = asyncio.Event()
        self._due = asyncio.Event()
        self._ended = False
        self._first: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None
        self.is_read = True

    def put(self, event: SentEvent) -> None:
        """Keep an event."""
        self._waiting.append(event)
        self._waiting_bytes += len(event.raw)
        while self._waiting_bytes > self._bounds.answer_bytes and len(self._waiting) > 1:
            dropped = self._waiting.popleft()
            self._waiting_bytes -= len(dropped.raw)
            self._previous = dropped.id
        if event.is_last:
            self._ended = True
            self._due.set()
        self._woken.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def has_begun(self) -> bool:
        """Wait a moment for the first events to be stored; False: they are not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_S):
                return await asyncio.shield(self._first)
        return False

    async def abandoned(self) -> None:
        """Return when the grace is over and nobody reads the answer, on any gateway."""
        left_s = self._grace_s
        while left_s > 0:
            await asyncio.sleep(left_s)
            try:
                left_s = await self._buffer.seen_s(self._key)
            except RedisUnavailable:  # then nobody can read it elsewhere
                return

    async def close(self) -> None:
        """Wait until the last event is stored, for a moment."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_END_S)
            self._task.cancel()

    async def _run(self) -> None:
        """Store the first events and the last at once, and those between at the next moment."""
        with self._bounds.taken():
            is_stored = await self._store()
            while self._waiting or not self._ended:
                if is_stored:
                    await self._woken.wait()
                    if not self._ended:
                        await self._pause(self._to_next_batch_s())
                else:
                    await self._pause(_RETRY_S)
                is_stored = await self._store()

    async def _store(self) -> bool:
        """Store what waits; False: it still waits."""
        self._woken.clear()
        events = tuple(self._waiting)
        size = sum(len(event.raw) for event in events)
        try:
            await self._buffer.append(
                self._key,
                Batch(self._previous, events),
                oldest=self._oldest(events[0].id, size),
                lifetime_s=self._lifetime_s,
            )
        except RedisUnavailable:
            self._tell(has_begun=False)
            return False
        self._tell(has_begun=True)
        while self._waiting and self._waiting[0].id <= events[-1].id:
            self._waiting_bytes -= len(self._waiting.popleft().raw)
        self._previous = max(self._previous, events[-1].id)
        self._stored.append((events[-1].id, size))
        self._stored_bytes += size
        return True

    def _to_next_batch_s(self) -> float:
        """The answers of a process store at the same moments, so that their batches go together."""
        return _BETWEEN_BATCHES_S - asyncio.get_running_loop().time() % _BETWEEN_BATCHES_S

    def _oldest(self, first: int, size: int) -> int:
        """Forget old batches until the new one has room, and return the oldest that stays."""
        while self._stored and self._stored_bytes + size > self._bounds.answer_bytes:
            self._stored_bytes -= self._stored.popleft()[1]
        return self._stored[0][0] if self._stored else first

    @property
    def _lifetime_s(self) -> float:
        is_seldom_wanted = self._ended and self.is_read
        return _KEPT_WHEN_SCARCE_S if is_seldom_wanted and self._buffer.is_scarce else _KEPT_S

    async def _pause(self, seconds: float) -> None:
        """Wait until then or until the last event; after that, shortly before the next try."""
        if self._ended:
            await asyncio.sleep(min(seconds, _BETWEEN_BATCHES_S))
            return
        self._due.clear()
        timer = asyncio.get_running_loop().call_later(seconds, self._due.set)
        await self._due.wait()
        timer.cancel()

    def _tell(self, *, has_begun: bool) -> None:
        if not self._first.done():
            self._first.set_result(has_begun)
