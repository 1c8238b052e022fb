"""Deadlines for other processes that do not run out while this one is busy."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_MAX_EXTENSIONS = 10


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
