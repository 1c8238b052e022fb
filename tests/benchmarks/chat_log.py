"""Durable rows of the chat log in PostgreSQL, beside the bare driver.

Two shapes: `drain` is what the outbox is emptied by, four tenants' messages at once, 500 of each;
`writers` are 64 tenants who write one message each. The bare loop sends the same rows, made before,
by two connections: one `INSERT … SELECT FROM unnest` for all rows that wait, without row-level
security, port and encoding.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar
from uuid import UUID, uuid4

import asyncpg
import orjson
import uvloop

from planes.shared.domain import ChatMessage, new_id
from planes.shared.stores.chat_rows import payload_of
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chat_log import BUCKET_ROWS, PostgresChatLog
from tests.benchmarks.cpu import tree_cpu_s
from tests.benchmarks.pinning import pin
from tests.benchmarks.records import Conditions, Measurement, in_turns
from tests.evaluation.own_database import own_database

_CONNECTIONS = 10  # the gateway's
_BARE_CONNECTIONS = 2  # more only make the commits smaller
_CONTENT = "The warranty lasts two years from the day of delivery [1]. " * 5
_INSERT = """
INSERT INTO chat_messages (tenant_id, conversation_id, bucket, seq, id, payload)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::int[], $5::uuid[], $6::jsonb[])
ON CONFLICT DO NOTHING
"""
Row = tuple[UUID, UUID, int, int, UUID, str]
Written = TypeVar("Written")
"""A message, or its row."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How many write at once, how many messages each time, and how often each does in a round."""

    writers: int
    messages: int
    writes: int


_SHAPES = {"drain": Shape(4, 500, 8), "writers": Shape(64, 1, 60)}
_GOALS = {"drain": (75_000.0, None), "writers": (None, 3.0)}  # rows a second; p99 in ms


class Bare:
    """The driver alone: whoever writes while a commit is under way shares the next."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        """Store the pool; nothing waits."""
        self._pool = pool
        self._waiting: list[Row] = []
        self._written: asyncio.Future[None] | None = None
        self._free = asyncio.Semaphore(_BARE_CONNECTIONS)

    async def write(self, rows: Sequence[Row]) -> None:
        """Write rows; they are durable on return."""
        self._waiting += rows
        if self._written is None:
            self._written = asyncio.ensure_future(self._flush())
        await asyncio.shield(self._written)

    async def _flush(self) -> None:
        async with self._free, self._pool.acquire() as connection:
            rows, self._waiting, self._written = self._waiting, [], None
            await connection.execute(_INSERT, *map(list, zip(*rows, strict=True)))


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of writes took; the processor time is the writer's and the database's."""

    rows_per_s: float
    p99_ms: float
    cpu_us: float


def measure(conditions: Conditions) -> Iterator[Measurement]:
    """Measure both shapes, the log and the driver in turns; the database has the other cores."""
    pin(0, conditions.cores.load)  # what is started now stays there
    with own_database(durable=True) as urls:
        pin(0, conditions.cores.measured)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            stack = AsyncExitStack()
            log, bare = runner.run(_open(stack, urls))
            for name, shape in _SHAPES.items():
                works = {
                    "log": partial(_run, runner, shape, log.append, list),
                    "bare": partial(_run, runner, shape, bare.write, _rows),
                }
                yield from _measurements(name, in_turns(conditions.rounds, works))
            runner.run(stack.aclose())


async def _open(stack: AsyncExitStack, urls: dict[str, str]) -> tuple[PostgresChatLog, Bare]:
    database = Database(urls["gateway"], service="benchmark", max_connections=_CONNECTIONS)
    await database.open()
    stack.push_async_callback(database.close)
    pool = await stack.enter_async_context(asyncpg.create_pool(urls["admin"]))
    return PostgresChatLog(database), Bare(pool)


def _run(
    runner: asyncio.Runner,
    shape: Shape,
    write: Callable[[list[Written]], Awaitable[None]],
    made: Callable[[list[ChatMessage]], list[Written]],
) -> Round:
    """Have all writers write; what they write is made before."""
    batches = [
        [made(_messages(tenant, shape.messages)) for _ in range(shape.writes)]
        for tenant in (uuid4() for _ in range(shape.writers))
    ]
    taken_s: list[float] = []

    async def one(own: list[list[Written]]) -> None:
        for batch in own:
            started = time.perf_counter()
            await write(batch)
            taken_s.append(time.perf_counter() - started)

    async def everyone() -> float:
        started = time.perf_counter()
        await asyncio.gather(*map(one, batches))
        return time.perf_counter() - started

    rows = shape.writers * shape.messages * shape.writes
    before = sum(tree_cpu_s(os.getpid()).values())  # the database is a child
    seconds = runner.run(everyone())
    cpu_s = sum(tree_cpu_s(os.getpid()).values()) - before
    return Round(
        rows / seconds, 1e3 * sorted(taken_s)[int(0.99 * len(taken_s))], 1e6 * cpu_s / rows
    )


def _messages(tenant_id: UUID, number: int) -> list[ChatMessage]:
    conversation_id, now = uuid4(), datetime.now(UTC)
    return [
        ChatMessage(
            id=new_id(),
            tenant_id=tenant_id,
            conversation_id=conversation_id,
            seq=seq,
            role="assistant",
            content=_CONTENT,
            created_at=now,
        )
        for seq in range(1, number + 1)
    ]


def _rows(messages: Sequence[ChatMessage]) -> list[Row]:
    payloads = (orjson.dumps(payload_of(each)).decode() for each in messages)
    return [
        (each.tenant_id, each.conversation_id, each.seq // BUCKET_ROWS, each.seq, each.id, payload)
        for each, payload in zip(messages, payloads, strict=True)
    ]


def _measurements(shape: str, rounds: dict[str, tuple[Round, ...]]) -> Iterator[Measurement]:
    rate_goal, p99_goal = _GOALS[shape]
    for who, name, goals in (
        ("log", f"chat_log.{shape}", (rate_goal, p99_goal)),
        ("bare", f"chat_log.{shape}.bare", (None, None)),
    ):
        beside = f"chat_log.{shape}.bare" if who == "log" else ""
        rates = tuple(each.rows_per_s for each in rounds[who])
        p99s = tuple(each.p99_ms for each in rounds[who])
        cpus = tuple(each.cpu_us for each in rounds[who])
        yield _measurement(f"{name}.rate", "rows/s", rates, beside, goals[0])
        yield _measurement(f"{name}.p99", "ms", p99s, beside, goals[1])
        yield _measurement(f"{name}.cpu", "µs/row", cpus, beside, None)


def _measurement(
    name: str, unit: str, samples: tuple[float, ...], beside: str, goal: float | None
) -> Measurement:
    figure = name.rpartition(".")[2]
    others = (f"{beside}.{figure}",) if beside else ()
    return Measurement(name, unit, samples, "higher" if figure == "rate" else "lower", others, goal)
