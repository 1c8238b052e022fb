"""The client that asked, as its answer sees it: a bounded queue of events."""

import asyncio
from collections.abc import AsyncIterator

HEARTBEAT = b":\n\n"
READER_S = 30.0
_QUEUED_EVENTS = 256


class Awaiting:
    """A client that waits for the whole answer: no event is kept for it."""

    def __init__(self) -> None:
        """Begin to wait."""
        self.has_left = False
        self._ended = asyncio.Event()

    async def put(self, event: bytes) -> bool:
        """Pass over an event."""
        del event
        return True

    def end(self, last: bytes | None = None) -> None:
        """Wait no longer."""
        del last
        self._ended.set()

    def leave(self) -> None:
        """The client has gone."""
        self.has_left = True
        self._ended.set()

    async def ended(self) -> None:
        """Return when the answer has ended, or nobody waits for it any more."""
        await self._ended.wait()


class Reader:
    """Takes events as fast as its client reads them."""

    def __init__(self) -> None:
        """Begin with nothing to read."""
        self.has_left = False
        self._first: bytes | None = None
        self._events: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(_QUEUED_EVENTS)

    async def put(self, event: bytes) -> bool:
        """Hand over an event; False when the client has read nothing for half a minute."""
        if self.has_left:
            return True
        if self._room.locked():
            try:
                async with asyncio.timeout(READER_S):
                    await self._room.acquire()
            except TimeoutError:
                return False
        else:
            await self._room.acquire()  # at once: a timer for each event would cost more
        self._events.put_nowait(event)
        return True

    def end(self, last: bytes | None = None) -> None:
        """Hand over the last event, if there is one; what follows is not read."""
        if last is not None:
            self._events.put_nowait(last)
        self._events.put_nowait(None)

    def leave(self) -> None:
        """The client has gone: nothing waits for it any more."""
        if not self.has_left:
            self.has_left = True
            self._room.release()
            self.end()

    async def has_begun(self) -> bool:
        """Wait for the first event; False: there is none."""
        self._first = await self._next()
        return self._first is not None

    async def events(self, heartbeat_s: float | None) -> AsyncIterator[bytes]:
        """Yield the events, once, and a comment in every silence of `heartbeat_s`."""
        if self._first is not None:
            yield self._first
        while True:
            if self._events.empty():
                try:
                    async with asyncio.timeout(heartbeat_s):
                        event = await self._next()
                except TimeoutError:
                    yield HEARTBEAT
                    continue
            else:
                event = await self._next()
            if event is None:
                return
            yield event

    async def _next(self) -> bytes | None:
        """Wait for the next event; None after the last."""
        event = await self._events.get()
        self._room.release()
        return event
