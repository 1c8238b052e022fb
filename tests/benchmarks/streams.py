"""What the gateway adds to the first text of a stream, and what an open stream costs in memory.

One gateway process on the measured cores over the ladder's mock upstream. The upstream writes the
time at which it sends an answer's first text into that text; both processes read the same clock.
Streams are held open by an answer that goes on after `HOLD_S`.
"""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil

from tests.benchmarks.gateway.ladder import QUESTION
from tests.benchmarks.gateway.upstream import HELD_DELTAS, HOLD_S, SENT_AT
from tests.benchmarks.gateway.world import Asker, askers, served, world
from tests.benchmarks.records import Conditions, Measurement

_PRODUCT = "services.gateway"
_PEOPLE, _CONVERSATIONS = 16, 128
_STREAMS, _TURNS, _DELTAS = 64, 8, 50
_OPEN, _AT_ONCE = 2000, 16
_RETRY_S = 1.0
_P99_GOAL_MS, _MEMORY_GOAL_KB = 8.0, 60.0
_LIMITS = {"GATEWAY_MAX_ANSWERS": str(2 * _OPEN)}


class StreamBroken(Exception):
    """A stream has ended too early."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A streamed question, as bytes on a connection."""

    host: str
    port: int
    data: bytes


def measure(conditions: Conditions) -> Iterator[Measurement]:
    """Measure the first texts of 64 streams at a time, then 2,000 open streams once.

    Raises:
        StreamBroken: A stream has ended too early.
    """
    with world(conditions.cores) as running, served(running, _PRODUCT, _LIMITS) as (url, process):
        people = askers(url, people=_PEOPLE, conversations=_CONVERSATIONS)
        flowing, held = _asks(url, people, _DELTAS), _asks(url, people, HELD_DELTAS)
        asyncio.run(_first_texts(flowing))  # warm
        added = [asyncio.run(_first_texts(flowing)) for _ in range(conditions.rounds)]
        memory_kb = asyncio.run(_memory_kb(held, process))
    for name, share, goal in (("p50", 0.5, None), ("p99", 0.99, _P99_GOAL_MS)):
        samples = tuple(sorted(some)[int(share * (len(some) - 1))] for some in added)
        yield Measurement(f"streams.first_text.{name}", "ms", samples, "lower", goal=goal)
    yield Measurement("streams.memory", "KB/stream", (memory_kb,), "lower", goal=_MEMORY_GOAL_KB)


def _asks(url: str, people: Sequence[Asker], deltas: int) -> list[Ask]:
    """Return a question in each conversation."""
    place = urlsplit(url)
    found = []
    for person in people:
        for conversation in person.conversations:
            asked = {"conversation_id": conversation, "message": QUESTION, "mode": "open"}
            body = json.dumps({**asked, "max_tokens": deltas, "stream": True}).encode()
            head = (
                f"POST /chat HTTP/1.1\r\nhost: {place.netloc}\r\nconnection: close\r\n"
                f"authorization: Bearer {person.token}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\n\r\n"
            )
            found.append(Ask(place.hostname or "", place.port or 0, head.encode() + body))
    return found


async def _first_texts(asks: Sequence[Ask]) -> list[float]:
    """Read streams to their ends, so many at a time; return the milliseconds added to each."""
    waiting, added_ms = iter(asks[: _STREAMS * _TURNS]), list[float]()

    async def read() -> None:
        for ask in waiting:
            reader, writer = await _begun(ask)
            text = await reader.readuntil(b"event: delta")
            while not (sent := SENT_AT.search(text)):
                text += await _more(reader)
            added_ms.append((time.monotonic_ns() - int(sent[1])) / 1e6)
            await reader.read()
            writer.close()

    await asyncio.gather(*(read() for _ in range(_STREAMS)))
    return added_ms


async def _memory_kb(asks: Sequence[Ask], process: psutil.Process) -> float:
    """Open many streams and return what one of them, before its text, adds to the resident memory.

    Raises:
        StreamBroken: The last was opened when the first had gone on.
    """
    room, before, began = asyncio.Semaphore(_AT_ONCE), process.memory_info().rss, time.monotonic()
    async with AsyncExitStack() as stack:

        async def open_one(ask: Ask) -> None:
            async with room:
                reader, writer = await _begun(ask)
                stack.callback(writer.close)
                await reader.readuntil(b"event: meta")

        await asyncio.gather(*(open_one(ask) for ask in asks[:_OPEN]))
        grown: int = process.memory_info().rss - before
        if time.monotonic() - began > HOLD_S:
            raise StreamBroken(f"opening {_OPEN} took longer than they are held open")
        return grown / _OPEN / 1e3


async def _begun(ask: Ask) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask until the gateway is not too busy, and read the first line of its answer."""
    while True:
        reader, writer = await asyncio.open_connection(ask.host, ask.port)
        writer.write(ask.data)
        line = await reader.readline()
        if b" 200 " in line:
            return reader, writer
        writer.close()
        if b" 503 " not in line:
            raise StreamBroken(line.decode())
        await asyncio.sleep(_RETRY_S)


async def _more(reader: asyncio.StreamReader) -> bytes:
    data = await reader.read(1 << 16)
    if not data:
        raise StreamBroken("it ended without a text")
    return data
