"""What the gateway adds to the first text of a stream, and what an open stream costs in memory.

One gateway process on the measured cores over the ladder's mock upstream, in turns with the bare
loop. The upstream writes the time at which it sends an answer's first text into that text; all
processes read the same clock. 64 streams begin at one instant (`first_text`), and evenly over the
time that one lasts (`spread`). Streams are held open by an answer that goes on after `HOLD_S`.
"""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil

from tests.benchmarks.gateway.beside import DATABASE_VARIABLE
from tests.benchmarks.gateway.books import open_books
from tests.benchmarks.gateway.ladder import QUESTION, tenant_of
from tests.benchmarks.gateway.upstream import HELD_DELTAS, HOLD_S, PACE_S, SENT_AT
from tests.benchmarks.gateway.world import Asker, askers, served, world
from tests.benchmarks.records import Conditions, Measurement

_PRODUCT = "services.gateway"
_BARE = "tests.benchmarks.gateway.bare"
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
    with world(conditions.cores) as running, ExitStack() as stack:
        url, process = stack.enter_context(served(running, _PRODUCT, _LIMITS))
        people = askers(url, people=_PEOPLE, conversations=_CONVERSATIONS)
        open_books(running.owner_url, [tenant_of(person) for person in people])
        extra = {DATABASE_VARIABLE: running.owner_url}
        bare_url, bare_process = stack.enter_context(served(running, _BARE, extra))
        ways = {
            f"{server}{way}": (_asks(address, people, _DELTAS), spread_s)
            for server, address in (("", url), ("bare.", bare_url))
            for way, spread_s in (("first_text", 0.0), ("spread", _DELTAS * PACE_S))
        }
        added: dict[str, list[list[float]]] = {name: [] for name in ways}
        for asks, spread_s in ways.values():  # warm
            asyncio.run(_first_texts(asks, spread_s))
        for _ in range(conditions.rounds):
            for name, (asks, spread_s) in ways.items():
                added[name].append(asyncio.run(_first_texts(asks, spread_s)))
        memory_kb = asyncio.run(_memory_kb(_asks(url, people, HELD_DELTAS), process))
        bare_asks = _asks(bare_url, people, HELD_DELTAS)
        bare_kb = asyncio.run(_memory_kb(bare_asks, bare_process))
    for percentile, share in (("p50", 0.5), ("p99", 0.99)):
        for name, rounds in added.items():
            samples = tuple(sorted(some)[int(share * (len(some) - 1))] for some in rounds)
            is_bare = name.startswith("bare.")
            beside = () if is_bare else (f"streams.bare.{name}.{percentile}",)
            goal = _P99_GOAL_MS if percentile == "p99" and not is_bare else None
            figure = f"streams.{name}.{percentile}"
            yield Measurement(figure, "ms", samples, "lower", beside, goal)
    unit, beside = "KB/stream", ("streams.bare.memory",)
    yield Measurement("streams.memory", unit, (memory_kb,), "lower", beside, _MEMORY_GOAL_KB)
    yield Measurement("streams.bare.memory", unit, (bare_kb,), "lower")


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


async def _first_texts(asks: Sequence[Ask], spread_s: float) -> list[float]:
    """Read streams to their ends, so many at a time; return the milliseconds added to each.

    The first of them begin within `spread_s`, at even intervals.
    """
    waiting, added_ms = iter(asks[: _STREAMS * _TURNS]), list[float]()

    async def read(number: int) -> None:
        await asyncio.sleep(number / _STREAMS * spread_s)
        for ask in waiting:
            reader, writer = await _begun(ask)
            text = await reader.readuntil(b"event: delta")
            while not (sent := SENT_AT.search(text)):
                text += await _more(reader)
            added_ms.append((time.monotonic_ns() - int(sent[1])) / 1e6)
            await reader.read()
            writer.close()

    await asyncio.gather(*map(read, range(_STREAMS)))
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
