"""Deadlines: for other processes, and for all that one task does."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

_MAX_EXTENSIONS = 10
_end: ContextVar[tuple["asyncio.Task[object] | None", float]] = ContextVar(
    "end", default=(None, math.inf)
)


@asynccontextmanager
async def answer_within(seconds: float) -> AsyncIterator[None]:
    """Give another process so much time to answer; time in which our loop stood still is added.

    Under a burst of requests the loop may come back to a socket seconds later, and finds the answer
    and the end of the deadline there together. Then the other process was not late: we were.

    Raises:
        TimeoutError: No answer in time.
    """
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None

    def wait_until(due: float, extensions: int) -> None:
        nonlocal timer
        timer = loop.call_at(due, look, due, extensions)

    def look(due: float, extensions: int) -> None:
        late = loop.time() - due
        if late < seconds / 10 or extensions == _MAX_EXTENSIONS:
            limit.reschedule(loop.time())
        else:
            wait_until(loop.time() + min(late, seconds), extensions + 1)

    async with asyncio.timeout(None) as limit:
        wait_until(loop.time() + seconds, 0)
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()


class Deadline:
    """A deadline for another process that is put off again and again: one timer for all of it.

    Time in which our loop stood still is added, as `answer_within` does.
    """

    def __init__(self, missed: Callable[[], None]) -> None:
        """Store what is called when it passes; `set` begins."""
        self._missed = missed
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._seconds = self._end = 0.0
        self._extensions = 0

    def set(self, seconds: float) -> None:
        """Let it pass so many seconds from now."""
        self._seconds, self._extensions = seconds, 0
        self._end = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self._end:
            self._look_at(self._end)

    def clear(self) -> None:
        """Let it pass no more."""
        self._end = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._look, when)

    def _look(self, due: float) -> None:
        self._timer = None
        now = self._loop.time()
        late = now - due
        if self._end > due:  # it was put off
            self._look_at(self._end)
        elif late < self._seconds / 10 or self._extensions == _MAX_EXTENSIONS:
            self._missed()
        else:
            self._extensions += 1
            self._end = now + min(late, self._seconds)
            self._look_at(self._end)


@contextmanager
def task_within(seconds: float) -> Iterator[None]:
    """Let `seconds_left` count down in this task.

    Tasks that it starts are not bound: what must be finished goes on after its caller's deadline.
    """
    end = asyncio.get_running_loop().time() + seconds
    token = _end.set((asyncio.current_task(), end))
    try:
        yield
    finally:
        _end.reset(token)


def seconds_left() -> float:
    """Return how long this task may still take; infinite unless it runs `task_within`."""
    task, end = _end.get()
    if task is None or task is not asyncio.current_task():
        return math.inf
    return end - asyncio.get_running_loop().time()
