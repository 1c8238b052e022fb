"""Frames of an answer on their way out."""

import asyncio
from collections.abc import AsyncGenerator

_MOST = 256  # frames that wait for a slow reader; then the answer waits too


async def grouped(first: bytes, frames: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield the first frame and then others as they come, those that come together as one.

    Each is a pass through the layers of HTTP here, in the proxy and in the gateway, which costs as
    much as making it. Closing the iterator closes `frames`; what they raise is raised after what
    came before.
    """
    waiting: asyncio.Queue[bytes] = asyncio.Queue(_MOST)

    async def read() -> None:
        async for frame in frames:
            await waiting.put(frame)

    def wake(_: object) -> None:
        if waiting.empty():
            waiting.put_nowait(b"")

    reading = asyncio.create_task(read())
    reading.add_done_callback(wake)
    try:
        yield first
        while not (reading.done() and waiting.empty()):
            some = [await waiting.get()]
            while not waiting.empty():
                some.append(waiting.get_nowait())
            if group := b"".join(some):
                yield group
        await reading
    finally:
        reading.cancel()
        await asyncio.wait([reading])
        await frames.aclose()  # of which nothing may have been read yet
