"""How many answers a replica writes at a time, and how they end when it stops."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import TypeVar

from planes.shared.errors import Unavailable

T = TypeVar("T")


class Admission:
    """Refuses answers above a limit, and all once the replica stops."""

    def __init__(self, max_answers: int) -> None:
        """Store the most answers at a time."""
        self.max_answers = max_answers
        self._waits: set[asyncio.Timeout] = set()
        self._ends_at: float | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self.answers = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place for an answer, from before its first event to its end.

        Raises:
            Unavailable: All are taken, or the replica stops.
        """
        if self._ends_at is not None:
            raise Unavailable("This part of the platform is stopping. Try again in a moment.")
        if self.answers >= self.max_answers:
            raise Unavailable("Too many questions are being answered. Try again in a moment.")
        self.answers += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.answers -= 1
            if self.answers == 0:
                self._idle.set()

    async def until_stopped(self, progress: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """Yield what `progress` yields; closing one closes the other.

        Raises:
            Unavailable: The replica stops, and its last moment has come.
        """
        async with aclosing(progress):
            while True:
                try:
                    item = await self._next(progress)
                except StopAsyncIteration:
                    return
                yield item

    async def drain(self, within_s: float) -> None:
        """Admit no more; return once no answer is left: what lasts longer ends with an error."""
        self._ends_at = asyncio.get_running_loop().time() + within_s
        for wait in self._waits:
            wait.reschedule(self._ends_at)
        await self._idle.wait()

    async def _next(self, progress: AsyncGenerator[T, None]) -> T:
        wait = asyncio.timeout_at(self._ends_at)
        try:
            async with wait:
                self._waits.add(wait)
                return await anext(progress)
        except TimeoutError as error:
            if not wait.expired():
                raise
            raise Unavailable("The platform was stopped. Ask again in a moment.") from error
        finally:
            self._waits.discard(wait)
