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
    """Takes events as fast as its client reads them, all together that wait."""

    def __init__(self) -> None:
        """Begin with nothing to read."""
        self.has_left = False
        self._is_ended = False
        self._waiting: list[bytes] = []
        self._count = 0
        self._loop = asyncio.get_running_loop()
        self._told_at = self._loop.time()
        self._news: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._beats: asyncio.Task[None] | None = None

    async def put(self, events: bytes, count: int) -> bool:
        """Hand over so many events; False when the client has read nothing for half a minute."""
        if self._count >= _QUEUED_EVENTS and not self.has_left:
            self._room = self._loop.create_future()
            try:
                async with asyncio.timeout(READER_S):
                    await self._room
            except TimeoutError:
                return False
            except asyncio.CancelledError:  # the answer ends: these go before its last event
                self._waiting.append(events)
                raise
            finally:
                self._room = None
        if not self.has_left:
            self._waiting.append(events)
            self._count += count
            _tell(self._news)
        return True

    def end(self, last: bytes | None = None) -> None:
        """Hand over the last event, if there is one; what follows is not read."""
        if last is not None and not self._is_ended:
            self._waiting.append(last)
        self._is_ended = True
        if self._beats is not None:
            self._beats.cancel()
        _tell(self._news)

    def leave(self) -> None:
        """The client has gone: nothing waits for it any more."""
        if not self.has_left:
            self.has_left = True
            _tell(self._room)
            self.end()

    async def has_begun(self) -> bool:
        """Wait for the first event; False: there is none."""
        while not self._waiting and not self._is_ended:
            await self._more()
        return bool(self._waiting)

    async def events(self, heartbeat_s: float | None) -> AsyncIterator[bytes]:
        """Yield the events, once, those together that have come together.

        In every silence of `heartbeat_s` there is a comment.
        """
        self._told_at = self._loop.time()
        if heartbeat_s is not None and not self._is_ended:
            self._beats = asyncio.create_task(self._beat(heartbeat_s))
        while True:
            if self._waiting:
                events = b"".join(self._waiting)
                self._waiting.clear()
                self._count = 0
                _tell(self._room)
                yield events
                self._told_at = self._loop.time()
            elif self._is_ended:
                return
            else:
                await self._more()

    async def _beat(self, seconds: float) -> None:
        """Break silences, until cancelled; one task costs less than a timer for every event."""
        while True:
            silent_s = self._loop.time() - self._told_at
            if silent_s >= seconds and not self._waiting:
                self._waiting.append(HEARTBEAT)
                _tell(self._news)
                silent_s = 0.0
            await asyncio.sleep(max(seconds - silent_s, seconds / 10))

    async def _more(self) -> None:
        self._news = self._loop.create_future()
        try:
            await self._news
        finally:
            self._news = None


def _tell(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
