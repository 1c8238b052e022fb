"""Measure the chat log beside the bare driver, on one server, in one run.

    CQL_HOSTS=127.0.0.1:9042 CQL_REPLICATION='{"datacenter1": 1}' \
        python -m tests.evaluation.chat_log_speed

It makes a keyspace of its own and drops it. Rounds alternate, so that what else the machine does
meets both; the bare driver does the least that stores and reads the same rows: prepared statements
for one row or page each, LOCAL_QUORUM, callbacks, as many at once, no asyncio, and rows instead of
messages. The log runs as in a gateway, on uvloop; what is there before a round is frozen for the
garbage collector, as there. Without CQL_HOSTS it starts a Cassandra as the tests do.
"""

import asyncio
import gc
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from statistics import quantiles
from uuid import UUID, uuid4

import orjson
import uvloop
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args

from planes.shared.domain import ChatMessage, new_id
from planes.shared.ports import ChatLog
from planes.shared.stores.chat_log_settings import (
    ChatLogSettings,
    cql_options,
    open_chat_log,
)
from planes.shared.stores.chat_rows import payload_of
from planes.shared.stores.cql_cluster import READ, WRITE, connected
from planes.shared.stores.postgres import Database
from services.embedded.ports import free_port
from services.embedded.temporary import temporary_postgres
from tests.servers import cassandra
from tests.servers.cql_fixtures import cql_settings, drop, migrate_when_ready

_CONVERSATIONS, _MESSAGES = 25, 80  # that are read
_TALKING, _TURNS = 250, 1  # a round writes a question and an answer of each, so many times
_PAGE, _PAGES = 50, 300
_AT_ONCE = 64
_ROUNDS, _UNCOUNTED = 40, 3
_TENANT = uuid4()
_INSERT = (
    "INSERT INTO {}.chat_messages (tenant_id, conversation_id, bucket, seq, id, payload) "
    "VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?"
)
_READ = (
    "SELECT seq, id, payload FROM {}.chat_messages "
    "WHERE tenant_id = ? AND conversation_id = ? AND bucket = ? AND seq > ? LIMIT ?"
)


class Bare:
    """The driver alone."""

    def __init__(self, session: Session, keyspace: str) -> None:
        """Prepare both statements."""
        self._session = session
        self._insert = session.prepare(_INSERT.format(keyspace))
        self._read = session.prepare(_READ.format(keyspace))

    def write(self, messages: list[ChatMessage]) -> None:
        """Write rows as the log does."""
        rows = [
            (
                *(each.tenant_id, each.conversation_id, each.seq // 1000, each.seq, each.id),
                orjson.dumps(payload_of(each)).decode(),
                *(round(each.created_at.timestamp() * 1e6), 0),
            )
            for each in messages
        ]
        execute_concurrent_with_args(
            self._session, self._insert, rows, concurrency=_AT_ONCE, execution_profile=WRITE
        )

    def read(self, conversations: list[UUID]) -> None:
        """Read first pages."""
        execute_concurrent_with_args(
            self._session,
            self._read,
            [(_TENANT, each, 0, 0, _PAGE) for each in conversations],
            concurrency=_AT_ONCE,
            execution_profile=READ,
        )


async def _measure(settings: ChatLogSettings) -> None:
    options = cql_options(settings)
    cluster = options.cluster()
    bare = Bare(connected(cluster, options.local_dc), options.keyspace)
    try:
        async with _database() as database, open_chat_log(settings, database) as log:
            await _compare(log, bare)
    finally:
        cluster.shutdown()


@asynccontextmanager
async def _database() -> AsyncIterator[Database]:
    """Yield a database of its own, in which the log looks up where messages are."""
    async with temporary_postgres() as urls:
        database = Database(urls["polyplane_gateway"], service="evaluation")
        await database.open()
        try:
            yield database
        finally:
            await database.close()


async def _compare(log: ChatLog, bare: Bare) -> None:
    conversations = [uuid4() for _ in range(_CONVERSATIONS)]
    await log.append(_messages(conversations, 1, _MESSAGES))
    asked = [conversations[place % _CONVERSATIONS] for place in range(_PAGES)]

    talking = [uuid4() for _ in range(_TALKING)]
    seqs = count(1, 2)

    async def ours_write() -> None:
        for _ in range(_TURNS):
            await log.append(_messages(talking, next(seqs), 2))

    async def bare_write() -> None:
        for _ in range(_TURNS):
            await asyncio.to_thread(bare.write, _messages(talking, next(seqs), 2))

    async def ours_read() -> None:
        await _at_once([lambda each=each: _page(log, each) for each in asked])

    async def bare_read() -> None:
        await asyncio.to_thread(bare.read, asked)

    for name, number, ours, theirs in (
        ("writes of a message, 500 at once", 2 * _TALKING * _TURNS, ours_write, bare_write),
        (f"reads of {_PAGE} messages", _PAGES, ours_read, bare_read),
    ):
        await _print(name, number, ours, theirs)


async def _print(
    name: str,
    number: int,
    ours: Callable[[], Awaitable[None]],
    theirs: Callable[[], Awaitable[None]],
) -> None:
    """Print medians and quartiles of rounds that alternate, in turns with the other one first.

    A ratio is that of neighbouring rounds, which met the same other work. Processor time is this
    process's own, without the server's.
    """
    sides = [("ours", ours), ("bare", theirs)]
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    costs: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(_UNCOUNTED + _ROUNDS):
        for who, work in sides:
            gc.collect()
            gc.freeze()
            started, processor_s = time.perf_counter(), time.process_time()
            await work()
            rates[who].append(number / (time.perf_counter() - started))
            costs[who].append((time.process_time() - processor_s) / number * 1e6)
        sides.reverse()
    sys.stdout.write(
        f"{name}: {_spread(rates['ours'], 0)}/s through the log, {_spread(rates['bare'], 0)}/s by "
        f"the bare driver, ratio {_spread(_ratios(rates['ours'], rates['bare']), 2)}; processor "
        f"time {_spread(costs['ours'], 0)} and {_spread(costs['bare'], 0)} microseconds, "
        f"ratio {_spread(_ratios(costs['bare'], costs['ours']), 2)}\n"
    )


def _ratios(ours: list[float], theirs: list[float]) -> list[float]:
    return [our / their for our, their in zip(ours, theirs, strict=True)]


def _spread(values: list[float], digits: int) -> str:
    """Return the median, with both quartiles, of the rounds that count."""
    first, middle, third = quantiles(values[_UNCOUNTED:], n=4)
    return f"{middle:,.{digits}f} ({first:,.{digits}f} to {third:,.{digits}f})"


async def _page(log: ChatLog, conversation_id: UUID) -> None:
    page = await log.page(_TENANT, conversation_id, after_seq=0, limit=_PAGE)
    if len(page) != _PAGE:
        raise RuntimeError("a page is short")


async def _at_once(calls: list[Callable[[], Awaitable[None]]]) -> None:
    left = iter(calls)

    async def work() -> None:
        for call in left:
            await call()

    await asyncio.gather(*(work() for _ in range(_AT_ONCE)))


def _messages(conversations: list[UUID], first: int, number: int) -> list[ChatMessage]:
    """Return so many messages of each conversation, numbered from `first`."""
    now = datetime.now(UTC)
    return [
        ChatMessage(
            id=new_id(),
            tenant_id=_TENANT,
            conversation_id=conversation_id,
            seq=seq,
            role="assistant",
            content="The warranty lasts two years from the day of delivery [1]. " * 5,
            created_at=now,
        )
        for conversation_id in conversations
        for seq in range(first, first + number)
    ]


@contextmanager
def _cluster() -> Iterator[dict[str, object]]:
    """Yield settings of the cluster that the environment names, else of one of our own."""
    if os.environ.get("CQL_HOSTS"):
        yield ChatLogSettings.read().model_dump()
        return
    cassandra.fetch()
    with tempfile.TemporaryDirectory(prefix="polyplane-evaluation-") as folder:
        server = cassandra.CassandraServer(
            Path(folder) / "cassandra", port=free_port(), storage_port=free_port()
        )
        server.make_certificate()
        server.start()
        try:
            server.wait_until_open()
            yield {
                "cql_hosts": server.address,
                "cql_username": cassandra.USERNAME,
                "cql_password": cassandra.PASSWORD,
                "cql_replication": {"datacenter1": 1},
            }
        finally:
            server.end()


def main() -> None:
    """Measure, and print how busy the machine was."""
    with _cluster() as values:
        name = f"speed_{uuid4().hex[:16]}"
        settings = cql_settings(values, cql_keyspace=name, cql_deadline_s=15)
        migrate_when_ready(settings)
        try:
            uvloop.run(_measure(settings))
        finally:
            drop(settings)
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    sys.stdout.write(f"{os.cpu_count()} cores, load averages {load}\n")


if __name__ == "__main__":
    main()
