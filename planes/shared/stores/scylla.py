"""The chat log in ScyllaDB, or any other CQL server.

A conversation lies in partitions of 1,000 numbers each, so that one keeps below 10,000 rows even
where every question was answered nineteen times. Rows carry the time of their message: to write one
again changes nothing, and a deletion, which is dated an hour ahead, holds against a repeat that
comes late. No statement is a lightweight transaction.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeAlias
from uuid import UUID

import orjson
from asyncpg.pgproto.pgproto import UUID as BytesUUID  # noqa: N811

from planes.shared.domain import ChatMessage
from planes.shared.errors import Unavailable
from planes.shared.stores.chat_rows import message_from, payload_of
from planes.shared.stores.cql_session import CqlSession, Query
from planes.shared.stores.recently_seen import RecentlySeen

_Bucket: TypeAlias = tuple[UUID, UUID, int]
_Row: TypeAlias = tuple[UUID, UUID, int, int, UUID, str, int, int]

BUCKET_SEQS = 1000
_KNOWN_BUCKETS = 50_000
_WRITES_AT_ONCE = 64
_ROWS = 500  # of a conversation that is read as a whole
_NOTHING: tuple[object, ...] = (None, [])  # members that a message has without being told
_BATCH_ROWS, _BATCH_LENGTH = 20, 50_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AHEAD = timedelta(hours=1)  # further than the clocks of gateways lie apart
_REMOVAL_DEADLINES = 5  # to count a partition's rows reads all of it, and deletions are skipped

_INSERT = Query(
    "INSERT INTO {keyspace}.chat_messages "
    "(tenant_id, conversation_id, bucket, seq, id, payload) VALUES (?, ?, ?, ?, ?, ?) "
    "USING TIMESTAMP ? AND TTL ?"
)
_NOTE_BUCKET = Query(
    "INSERT INTO {keyspace}.chat_buckets (tenant_id, conversation_id, bucket) "
    "VALUES (?, ?, ?) USING TIMESTAMP ?"
)
_BUCKETS = Query(
    "SELECT bucket FROM {keyspace}.chat_buckets "
    "WHERE tenant_id = ? AND conversation_id = ? AND bucket > ?",
    is_read=True,
)
_CONVERSATIONS = Query(
    "SELECT DISTINCT tenant_id, conversation_id FROM {keyspace}.chat_buckets", is_read=True
)
_PAGE = Query(
    "SELECT seq, uuidasblob(id), payload FROM {keyspace}.chat_messages "
    "WHERE tenant_id = ? AND conversation_id = ? AND bucket = ? AND seq > ?",
    is_read=True,
)
_FIND = Query(
    "SELECT seq, uuidasblob(id), payload FROM {keyspace}.chat_messages "
    "WHERE tenant_id = ? AND conversation_id = ? AND bucket = ? AND seq = ? AND id = ?",
    is_read=True,
)
_COUNT = Query(
    "SELECT count(*) FROM {keyspace}.chat_messages "
    "WHERE tenant_id = ? AND conversation_id = ? AND bucket = ?",
    is_read=True,
)
_REMOVE = Query(
    "DELETE FROM {keyspace}.chat_messages USING TIMESTAMP ? "
    "WHERE tenant_id = ? AND conversation_id = ? AND bucket = ?"
)
_FORGET_BUCKETS = Query(
    "DELETE FROM {keyspace}.chat_buckets USING TIMESTAMP ? "
    "WHERE tenant_id = ? AND conversation_id = ?"
)
_SOME_BUCKETS = Query(
    "SELECT tenant_id FROM {keyspace}.chat_buckets PER PARTITION LIMIT 1 LIMIT 2", is_read=True
)
_NOBODY = UUID(int=0)
QUERIES = (
    _INSERT, _NOTE_BUCKET, _BUCKETS, _CONVERSATIONS, _PAGE, _FIND, _COUNT, _REMOVE, _FORGET_BUCKETS,
    _SOME_BUCKETS,
)  # fmt: skip


class ScyllaChatLog:
    """Messages by (tenant, conversation, bucket); which buckets there are stands beside them."""

    def __init__(
        self, session: CqlSession, keeps_for: Callable[[UUID], Awaitable[timedelta | None]]
    ) -> None:
        """Store the session, and what tells how long a tenant's messages are kept; None: always."""
        self._session = session
        self._keeps_for = keeps_for
        self._noted = RecentlySeen[_Bucket](_KNOWN_BUCKETS)

    async def check(self) -> None:
        """Write a row of nobody's, the same each time, and read it, of as many nodes as messages.

        A user that may only read, or a disk that is full, is seen before messages pile up.
        """
        await self._session.execute(_NOTE_BUCKET, (_NOBODY, _NOBODY, 0, _microseconds(_EPOCH)))
        await self._buckets((_NOBODY, _NOBODY), after=-1)

    async def append(self, messages: Sequence[ChatMessage]) -> None:
        """Write messages of one tenant; they are durable on return.

        Raises:
            Unavailable: The cluster does not answer in time; some may have been written.
        """
        keeps_for = await self._keeps_for(messages[0].tenant_id)
        now = datetime.now(UTC)
        left = [(message, _seconds_left(message, keeps_for, now)) for message in messages]
        rows: dict[_Bucket, list[_Row]] = {}
        times: dict[_Bucket, datetime] = {}
        for message, ttl_s in left:
            if ttl_s is not None:
                bucket = _bucket_of(message)
                rows.setdefault(bucket, []).append(_row(message, ttl_s))
                times[bucket] = message.created_at
        unknown = [bucket for bucket in rows if bucket not in self._noted]
        notes = [partial(self._note, bucket, times[bucket]) for bucket in unknown]
        writes = [
            partial(self._session.write, _INSERT, batch)
            for of_bucket in rows.values()
            for batch in _batches(of_bucket)
        ]
        await _work_off([*notes, *writes])

    async def page(
        self, tenant_id: UUID, conversation_id: UUID, *, after_seq: int, limit: int
    ) -> list[ChatMessage]:
        """Return up to `limit` messages with `seq > after_seq`, oldest first.

        Of several with the same `seq`, which are answers to one question, only the newest.
        """
        conversation = (tenant_id, conversation_id)
        first = (after_seq + 1) // BUCKET_SEQS
        found = await self._page_of((*conversation, first), after_seq, limit)
        if len(found) < limit:
            for bucket in await self._buckets(conversation, after=first):
                found += await self._page_of((*conversation, bucket), after_seq, limit - len(found))
                if len(found) == limit:
                    break
        return found

    async def find(
        self, tenant_id: UUID, conversation_id: UUID, *, seq: int, message_id: UUID
    ) -> ChatMessage | None:
        """Return one message by its whole key; None: there is none."""
        key = (tenant_id, conversation_id, seq // BUCKET_SEQS)
        result = await self._session.execute(_FIND, (*key, seq, message_id))
        found = _messages((tenant_id, conversation_id), result.current_rows)
        return found[0] if found else None

    async def messages(
        self, tenant_id: UUID, conversation_id: UUID
    ) -> AsyncGenerator[list[ChatMessage], None]:
        """Yield all messages of a conversation, bucket by bucket."""
        conversation = (tenant_id, conversation_id)
        for bucket in await self._buckets(conversation, after=-1):
            state: bytes | None = None
            while True:
                result = await self._session.execute(
                    _PAGE, (*conversation, bucket, -1), rows=_ROWS, paging_state=state
                )
                if result.current_rows:
                    yield _messages(conversation, result.current_rows)
                state = result.paging_state
                if state is None:
                    break

    async def conversations(self) -> AsyncGenerator[list[tuple[UUID, UUID]], None]:
        """Yield every conversation of which a bucket is noted, of all tenants of the keyspace."""
        state: bytes | None = None
        while True:
            result = await self._session.execute(
                _CONVERSATIONS, (), rows=_ROWS, paging_state=state, deadlines=_REMOVAL_DEADLINES
            )
            yield [(row[0], row[1]) for row in result.current_rows if row[0] != _NOBODY]
            state = result.paging_state
            if state is None:
                return

    async def announce(self, messages: Sequence[ChatMessage]) -> None:
        """Note the buckets of messages, so that a deletion reaches what comes after it."""
        times = {_bucket_of(message): message.created_at for message in messages}
        unknown = [bucket for bucket in times if bucket not in self._noted]
        await _work_off([partial(self._note, bucket, times[bucket]) for bucket in unknown])

    async def adopt(self, messages: Sequence[ChatMessage]) -> None:
        """Write messages; a deletion, which is dated ahead, holds against them."""
        await self.append(messages)

    async def is_empty(self) -> bool:
        """Return whether no conversation has a bucket; that of `check` is nobody's."""
        result = await self._session.execute(_SOME_BUCKETS, (), deadlines=_REMOVAL_DEADLINES)
        return all(row[0] == _NOBODY for row in result.current_rows)

    async def remove_conversation(self, tenant_id: UUID, conversation_id: UUID) -> int:
        """Remove every message of a conversation and return how many there were.

        Its buckets are forgotten last, so that what fails on the way can be repeated.
        """
        conversation = (tenant_id, conversation_id)
        timestamp = _microseconds(datetime.now(UTC) + _AHEAD)
        count = 0
        buckets = await self._buckets(conversation, after=-1)
        for bucket in buckets:
            key = (*conversation, bucket)
            counted = await self._session.execute(_COUNT, key, deadlines=_REMOVAL_DEADLINES)
            await self._session.execute(_REMOVE, (timestamp, *key))
            count += counted.current_rows[0][0]
        if buckets:
            await self._session.execute(_FORGET_BUCKETS, (timestamp, *conversation))
        return count

    async def _note(self, bucket: _Bucket, time: datetime) -> None:
        await self._session.execute(_NOTE_BUCKET, (*bucket, _microseconds(time)))
        self._noted.add(bucket)

    async def _buckets(self, conversation: tuple[UUID, UUID], *, after: int) -> list[int]:
        result = await self._session.execute(_BUCKETS, (*conversation, after))
        return [row[0] for row in result.current_rows]

    async def _page_of(self, key: _Bucket, after_seq: int, limit: int) -> list[ChatMessage]:
        """Read one bucket's rows, of each number the first: the newest."""
        newest: dict[int, Any] = {}
        state: bytes | None = None
        while True:
            result = await self._session.execute(
                _PAGE, (*key, after_seq), rows=limit, paging_state=state
            )
            for row in result.current_rows:
                newest.setdefault(row[0], row)
            state = result.paging_state
            if len(newest) >= limit or state is None:
                return _messages(key[:2], list(newest.values())[:limit])


def _bucket_of(message: ChatMessage) -> _Bucket:
    return message.tenant_id, message.conversation_id, message.seq // BUCKET_SEQS


def _row(message: ChatMessage, ttl_s: int) -> _Row:
    told = {name: value for name, value in payload_of(message).items() if value not in _NOTHING}
    payload = orjson.dumps(told).decode()
    time = _microseconds(message.created_at)
    return *_bucket_of(message), message.seq, message.id, payload, time, ttl_s


def _batches(rows: Sequence[_Row]) -> Iterator[list[_Row]]:
    """Cut rows of one partition into what a server likes to take at once."""
    batch: list[_Row] = []
    length = 0
    for row in rows:
        if batch and (len(batch) == _BATCH_ROWS or length + len(row[5]) > _BATCH_LENGTH):
            yield batch
            batch, length = [], 0
        batch.append(row)
        length += len(row[5])
    if batch:
        yield batch


def _messages(
    conversation: tuple[UUID, UUID], rows: Sequence[tuple[int, bytes, str]]
) -> list[ChatMessage]:
    """Return the messages of rows; ids come as bytes, since the driver takes ten times as long."""
    return [
        message_from(conversation, seq, BytesUUID(message_id), orjson.loads(payload))
        for seq, message_id, payload in rows
    ]


def _seconds_left(message: ChatMessage, keeps_for: timedelta | None, now: datetime) -> int | None:
    """Return how long a message is still kept, 0 for always; None: no longer."""
    if keeps_for is None:
        return 0
    left = round((message.created_at + keeps_for - now).total_seconds())
    return left if left > 0 else None


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


async def _work_off(writes: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Run what is given, so many at once; after a failure nothing more is begun."""
    failures: list[Unavailable] = []
    left = iter(writes)

    async def work() -> None:
        for write in left:
            try:
                await write()
            except Unavailable as error:
                failures.append(error)
            if failures:
                return

    await asyncio.gather(*(work() for _ in writes[:_WRITES_AT_ONCE]))
    if failures:
        raise failures[0]
