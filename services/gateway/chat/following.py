"""A client that came back: it reads an answer's events from the buffer, wherever it is written."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

from planes.shared.errors import Gone, PlatformError, Unavailable
from planes.shared.wire import encode_event
from services.gateway.chat.reading import HEARTBEAT, READER_S
from services.gateway.chat.stream_buffer import SentEvent, StreamBuffer
from services.gateway.limits.scripts import RedisUnavailable
from services.gateway.problems import problem_document

_LOOK_S = 0.1
_SEEN_S = 2.0  # between signs that somebody reads
_ASKS_AFTER_S = 3.0  # of silence: whether anybody still writes
_RETRIES_S = 5.0
_FORGOTTEN = (
    "The events after this one are kept no longer. The whole answer stands in its conversation "
    "when it has ended."
)
_ABANDONED = (
    "The gateway that wrote the answer is gone. What it had stored a moment before stands in its "
    "conversation within a minute."
)


class Follower:
    """Reads one answer from after an event on, each event once, up to the last."""

    def __init__(self, buffer: StreamBuffer, key: str, after: int, *, grace_s: float) -> None:
        """Store where the events are, the last that the client has seen, and the grace."""
        self._buffer = buffer
        self._key = key
        self._cursor = after
        self._grace_s = grace_s
        self._problem: PlatformError | None = None
        self._woken = asyncio.Event()
        self._is_doubted = False
        self._heard_at = self._moved_at = time.monotonic()

    def abort(self, problem: PlatformError) -> None:
        """End with an `error` event."""
        self._problem = self._problem or problem
        self._woken.set()

    async def see(self) -> None:
        """Keep the answer from ending for want of readers."""
        with contextlib.suppress(RedisUnavailable):
            await self._buffer.see(self._key, self._grace_s)

    async def events(
        self, is_written: Callable[[], Awaitable[bool]], *, heartbeat_s: float
    ) -> AsyncGenerator[bytes]:
        """Yield what follows, `done` or `error` last, and a comment in every silence.

        The `error` of a follower has the id of the event before it: to come again loses nothing.
        """
        told_at = asked_at = time.monotonic()
        keeping = asyncio.create_task(self._keep())
        try:
            while True:
                for event in await self._news():
                    told_at = asked_at = self._moved_at = time.monotonic()
                    yield event.raw
                    if event.is_last:
                        return
                now = time.monotonic()
                if now - told_at >= heartbeat_s:
                    told_at = now
                    yield HEARTBEAT
                if now - asked_at >= _ASKS_AFTER_S:
                    asked_at = now
                    if (last := await self._end_of_silence(is_written)) is not None:
                        yield last.raw
                        return
                self._moved_at = now
                await self._pause()
        except PlatformError as error:
            yield encode_event("error", problem_document(error), event_id=self._cursor)
        finally:
            keeping.cancel()

    async def _keep(self) -> None:
        """Keep the answer from ending, also while a slow client takes what it was told."""
        while self._grace_s:
            if time.monotonic() - self._moved_at < READER_S:
                await self.see()
            await asyncio.sleep(min(_SEEN_S, self._grace_s / 4))

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_S):
                await self._woken.wait()

    async def _news(self) -> list[SentEvent]:
        """Return the events after the cursor, and move it.

        Raises:
            Gone: Some between them are not kept any more.
            PlatformError: The follower was aborted.
            Unavailable: Redis has not answered for a while.
        """
        if self._problem is not None:
            raise self._problem
        try:
            batches = await self._buffer.after(self._key, self._cursor)
        except RedisUnavailable:
            if time.monotonic() - self._heard_at > _RETRIES_S:
                raise
            return []
        self._heard_at = time.monotonic()
        news: list[SentEvent] = []
        for batch in batches:
            if batch.previous > self._cursor:
                if news:
                    break  # told first; the next look finds the gap
                raise Gone(_FORGOTTEN)
            news += [event for event in batch.events if event.id > self._cursor]
            self._cursor = max(self._cursor, batch.events[-1].id)
        return news

    async def _end_of_silence(self, is_written: Callable[[], Awaitable[bool]]) -> SentEvent | None:
        """Return the last event where the client claims to have seen more; None: it goes on.

        Raises:
            Unavailable: Nobody writes the answer any more.
        """
        was_written = await is_written()
        try:
            last = await self._buffer.last(self._key)
        except RedisUnavailable:
            return None
        if last is not None and last.is_last and last.id <= self._cursor:
            return last
        if not was_written and (last is None or last.id <= self._cursor):
            if self._is_doubted:
                raise Unavailable(_ABANDONED)
            self._is_doubted = True  # its end may be on its way to the buffer
        return None
