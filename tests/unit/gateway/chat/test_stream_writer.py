"""When the events of answers are stored."""

import asyncio
from itertools import pairwise
from typing import cast

from services.gateway.chat.stream_buffer import Batch, SentEvent, StreamBuffer
from services.gateway.chat.stream_writer import StreamBounds, StreamWriter

_ANSWERS = 10
_SAME_MOMENT_S = 0.003


class _Times:
    """A buffer that notes when it is asked to store what."""

    is_scarce = False

    def __init__(self) -> None:
        self.stored: list[tuple[float, int]] = []

    async def append(self, _key: str, batch: Batch, **_: float) -> None:
        now = asyncio.get_running_loop().time()
        self.stored += [(now, event.id) for event in batch.events]


def event(number: int, *, is_last: bool = False) -> SentEvent:
    return SentEvent(number, b"event %d" % number, is_last)


async def test_slow_answers_store_at_the_same_moments() -> None:
    times = _Times()
    bounds, buffer = StreamBounds(), cast("StreamBuffer", times)
    writers = [StreamWriter(buffer, str(n), bounds, grace_s=0) for n in range(_ANSWERS)]
    for writer in writers:
        writer.put(event(1))
        assert await writer.has_begun()
    for writer in writers:
        await asyncio.sleep(0.005)  # each asks at another moment
        writer.put(event(2))
    await asyncio.sleep(0.1)
    moments = sorted(at for at, number in times.stored if number == 2)
    assert len(moments) == _ANSWERS
    apart = [after - at for at, after in pairwise(moments)]
    assert sum(each > _SAME_MOMENT_S for each in apart) <= 2
    for writer in writers:
        writer.put(event(3, is_last=True))
        await writer.close()
    assert sum(number == 3 for _, number in times.stored) == _ANSWERS
