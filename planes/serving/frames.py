"""Frames of an answer on their way out."""

import asyncio
from collections.abc import AsyncGenerator

from anyio import CancelScope
from fastapi.responses import StreamingResponse
from starlette.types import Send

_MAX_WAITING = 256  # frames for a slow reader; then the answer waits too


class Frames(StreamingResponse):
    """Frames as a response, with what comes together sent together."""

    def __init__(self, first: bytes, frames: AsyncGenerator[bytes, None]) -> None:
        """Store the first frame and those after it."""
        self._groups = grouped(first, frames)
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(self._groups, media_type="text/event-stream", headers=headers)

    async def stream_response(self, send: Send) -> None:
        """Send all; the work stops where the reader leaves, be it in the midst of a send."""
        try:
            await super().stream_response(send)
        finally:
            with CancelScope(shield=True):
                await self._groups.aclose()


async def grouped(first: bytes, frames: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield the first frame and then others as they come, those that come together as one.

    Each is a pass through the layers of HTTP here, in the proxy and in the gateway, which costs as
    much as making it. Closing the iterator closes `frames`; what they raise is raised after what
    came before.
    """
    waiting: asyncio.Queue[bytes] = asyncio.Queue(_MAX_WAITING)

    async def read() -> None:
        async for frame in frames:
            await waiting.put(frame)

    def wake(_: object) -> None:
        if waiting.empty():  # then somebody may wait for a frame that does not come
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
