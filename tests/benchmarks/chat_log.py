"""Durable rows of the chat log in PostgreSQL, beside the bare driver.

- `append`: four tenants at once write 500 messages each, as when they come from a log elsewhere.
  The bare loop sends the same rows, made before, by two connections: one `INSERT … SELECT FROM
  unnest` for all rows that wait, without row-level security, port and encoding.
- `drain`: 20,000 messages of 64 tenants wait in the outbox of the same database, and the gateway
  moves them. The bare statement moves the same rows out of a table that only has a primary key.
- `one`: a single message waits there; from the call until it is durable in the log. The bare driver
  inserts one row.
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
from services.gateway.maintenance import ChatLogDrain
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
Given = TypeVar("Given")
"""What is written, or how many rows."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How many write at once, how many messages each time, and how often each does in a round."""

    writers: int
    messages: int
    writes: int


_APPEND = Shape(4, 500, 8)
_ROWS_GOAL, _P99_GOAL_MS = 75_000.0, 3.0
_TENANTS, _WAITING = 64, 20_000
_ONES = 300
_WAIT = """
INSERT INTO {} (id, tenant_id, conversation_id, seq, payload)
SELECT id, tenant_id, conversation_id, seq, payload
FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::int[], $5::uuid[], $6::jsonb[])
    AS waiting(tenant_id, conversation_id, bucket, seq, id, payload)
"""
_BARE_OUTBOX = """
CREATE TABLE bare_outbox (
    id uuid PRIMARY KEY, tenant_id uuid NOT NULL, conversation_id uuid NOT NULL,
    seq integer NOT NULL, payload jsonb NOT NULL
)
"""
_BARE_MOVE = """
WITH moved AS (
    DELETE FROM bare_outbox WHERE id IN (SELECT id FROM bare_outbox LIMIT 5000) RETURNING *
)
INSERT INTO chat_messages (tenant_id, conversation_id, bucket, seq, id, payload)
SELECT tenant_id, conversation_id, seq / 10000, seq, id, payload FROM moved
"""


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


class Outbox:
    """Messages that wait, and who moves them to the log."""

    def __init__(self, drain: ChatLogDrain, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        """Store both; the tenants are made by `open`."""
        self._drain = drain
        self._pool = pool
        self._tenants = [uuid4() for _ in range(_TENANTS)]

    async def open(self) -> None:
        """Make the tenants, and the table that the bare statement empties."""
        await self._pool.executemany(
            "INSERT INTO tenants (id, name) VALUES ($1, 'Benchmark')",
            [(tenant,) for tenant in self._tenants],
        )
        await self._pool.execute(_BARE_OUTBOX)

    async def fill(self, table: str, number: int) -> None:
        """Have so many messages wait, of all tenants alike."""
        each = -(-number // _TENANTS)
        rows = [row for tenant in self._tenants for row in _rows(_messages(tenant, each))][:number]
        await self._pool.execute(_WAIT.format(table), *map(list, zip(*rows, strict=True)))

    async def drain(self, number: int) -> None:
        """Have the gateway move all that wait."""
        if (moved := await self._drain.drain()) != number:
            raise RuntimeError(f"{number} messages waited, and {moved} were moved.")

    async def move(self, number: int) -> None:
        """Move all that wait by the bare statement."""
        moved = 0
        async with self._pool.acquire() as connection:
            while moved < number:
                moved += int((await connection.execute(_BARE_MOVE)).split()[-1])


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of writes took; the processor time is the writer's and the database's."""

    rows_per_s: float
    p99_ms: float
    cpu_us: float


@dataclass(frozen=True, slots=True)
class Served:
    """What is measured."""

    log: PostgresChatLog
    bare: Bare
    outbox: Outbox


def measure(conditions: Conditions) -> Iterator[Measurement]:
    """Measure product and driver in turns; the database has the other cores."""
    pin(0, conditions.cores.load)  # what is started now stays there
    with own_database(durable=True) as urls:
        pin(0, conditions.cores.measured)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            stack = AsyncExitStack()
            served = runner.run(_open(stack, urls))
            yield from _appended(runner, served, conditions.rounds)
            yield from _drained(runner, served.outbox, conditions.rounds)
            yield from _one_by_one(runner, served, conditions.rounds)
            runner.run(stack.aclose())


async def _open(stack: AsyncExitStack, urls: dict[str, str]) -> Served:
    database = Database(urls["gateway"], service="benchmark", max_connections=_CONNECTIONS)
    await database.open()
    stack.push_async_callback(database.close)
    pool = await stack.enter_async_context(asyncpg.create_pool(urls["admin"]))
    await pool.execute("UPDATE chat_log_place SET live = 'postgres'")
    log = PostgresChatLog(database)
    outbox = Outbox(ChatLogDrain(database, log), pool)
    await outbox.open()
    return Served(log, Bare(pool), outbox)


def _appended(runner: asyncio.Runner, served: Served, rounds: int) -> Iterator[Measurement]:
    works = {
        "": partial(_run, runner, _APPEND, served.log.append, list),
        ".bare": partial(_run, runner, _APPEND, served.bare.write, _rows),
    }
    for who, found in in_turns(rounds, works).items():
        name = f"chat_log.append{who}"
        yield _figure(f"{name}.rate", "rows/s", [each.rows_per_s for each in found], _ROWS_GOAL)
        yield _figure(f"{name}.p99", "ms", [each.p99_ms for each in found])
        yield _figure(f"{name}.cpu", "µs/row", [each.cpu_us for each in found])


def _drained(runner: asyncio.Runner, outbox: Outbox, rounds: int) -> Iterator[Measurement]:
    ways = {"": ("outbox", outbox.drain), ".bare": ("bare_outbox", outbox.move)}

    def all_at_once(table: str, move: Callable[[int], Awaitable[None]]) -> tuple[float, float]:
        runner.run(outbox.fill(table, _WAITING))
        before = _cpu_s()
        seconds = runner.run(_timed(move, _WAITING))
        return _WAITING / seconds, 1e6 * (_cpu_s() - before) / _WAITING

    works = {who: partial(all_at_once, *way) for who, way in ways.items()}
    for who, found in in_turns(rounds, works).items():
        name = f"chat_log.drain{who}"
        yield _figure(f"{name}.rate", "rows/s", [rate for rate, _ in found], _ROWS_GOAL)
        yield _figure(f"{name}.cpu", "µs/row", [cpu_us for _, cpu_us in found])


def _one_by_one(runner: asyncio.Runner, served: Served, rounds: int) -> Iterator[Measurement]:
    def drain() -> float:
        runner.run(served.outbox.fill("outbox", 1))
        return runner.run(_timed(served.outbox.drain, 1))

    def insert() -> float:
        return runner.run(_timed(served.bare.write, _rows(_messages(uuid4(), 1))))

    def p99_ms(once: Callable[[], float]) -> float:
        return 1e3 * sorted(once() for _ in range(_ONES))[int(0.99 * _ONES)]

    works = {"": partial(p99_ms, drain), ".bare": partial(p99_ms, insert)}
    for who, p99s in in_turns(rounds, works).items():
        yield _figure(f"chat_log.one{who}.p99", "ms", p99s, _P99_GOAL_MS)


async def _timed(write: Callable[[Given], Awaitable[None]], given: Given) -> float:
    started = time.perf_counter()
    await write(given)
    return time.perf_counter() - started


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
    before = _cpu_s()
    seconds = runner.run(everyone())
    cpu_s = _cpu_s() - before
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
            role="user",  # an assistant's needs a row of its conversation
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


def _cpu_s() -> float:
    return sum(tree_cpu_s(os.getpid()).values())  # the database is a child


def _figure(
    name: str, unit: str, samples: Sequence[float], goal: float | None = None
) -> Measurement:
    """Return the product's figure, which has a goal and the driver beside it, or the driver's."""
    shape, figure = name.rsplit(".", 1)
    is_bare = shape.endswith(".bare")
    return Measurement(
        name,
        unit,
        tuple(samples),
        "higher" if figure == "rate" else "lower",
        () if is_bare else (f"{shape}.bare.{figure}",),
        None if is_bare else goal,
    )
