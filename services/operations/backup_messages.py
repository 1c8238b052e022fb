"""Messages as lines of JSON, read from any chat log and written to any other."""

from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice
from operator import attrgetter
from typing import BinaryIO
from uuid import UUID

import orjson

from planes.shared.domain import ChatMessage
from planes.shared.errors import Conflict
from planes.shared.ports import ChatLog
from planes.shared.stores.chat_rows import message_from, payload_of
from services.operations.lacks import Lacks
from services.operations.work_lists import Conversation

_PAGE = 500
_CLOCKS = timedelta(hours=1)  # further than the clocks of gateways lie apart
_TOLD = 5


async def write_messages(
    log: ChatLog,
    conversations: Iterable[Conversation],
    output: BinaryIO,
    *,
    kept_for: timedelta | None,
    lacks: Lacks,
) -> int:
    """Write the messages that conversations had at the snapshot, and return how many.

    Those that were in the outbox then may be missing: they stand in the table of that name.

    Args:
        log: The one that is read.
        conversations: Of one tenant.
        output: Gets a line for each message.
        kept_for: How long the log keeps messages at least; None: for good.
        lacks: Told which conversations lack messages that cannot have expired.

    Raises:
        Unavailable: The log does not answer.
    """
    count = 0
    for conversation in conversations:
        tally = _Tally(conversation, kept_for)
        async for message in _messages(log, conversation):
            output.write(_line(message))
            tally.add(message)
        count += tally.count
        if lost := tally.lost():
            told = ", ".join(map(str, lost[:_TOLD])) + (", ..." if len(lost) > _TOLD else "")
            lacks.note(
                conversation.tenant_id,
                f"conversation {conversation.conversation_id}",
                f"the chat log lacks {len(lost)} of {conversation.message_count} messages: {told}",
            )
    return count


class _Tally:
    """Which messages of a conversation were found, and which should have been."""

    def __init__(self, conversation: Conversation, kept_for: timedelta | None) -> None:
        self.count = 0
        self._conversation = conversation
        self._border = None if kept_for is None else datetime.now(UTC) - kept_for + _CLOCKS
        self._ids = set(conversation.waiting)
        self._numbers = set(conversation.waiting.values())
        self._first_kept = conversation.message_count + 1

    def add(self, message: ChatMessage) -> None:
        self.count += 1
        self._ids.add(message.id)
        self._numbers.add(message.seq)
        if self._border is not None and message.created_at >= self._border:
            self._first_kept = min(self._first_kept, message.seq)

    def lost(self) -> list[int]:
        """Return the numbers of messages that are nowhere and cannot have expired."""
        answers = self._conversation.answers.items()
        numbers = set(range(1, self._conversation.message_count + 1)) - self._numbers
        lost = {seq for seq in numbers if not self._may_have_expired(seq)}
        lost |= {
            seq
            for answer, seq in answers
            if answer not in self._ids and not self._may_have_expired(seq, _made_at(answer))
        }
        return sorted(lost)

    def _may_have_expired(self, seq: int, made_at: datetime | None = None) -> bool:
        """Tell whether a message may be older than the log keeps; then so are all before it."""
        if self._border is None or seq > self._first_kept:
            return False
        return (made_at or self._conversation.created_at) < self._border


def _made_at(message_id: UUID) -> datetime:
    """Return when an id was made, by its first 48 bits (RFC 9562, version 7)."""
    return datetime.fromtimestamp((message_id.int >> 80) / 1000, UTC)


async def restore_messages(log: ChatLog, tenant_id: UUID, lines: Iterable[bytes]) -> int:
    """Write messages to a log, and return how many; to repeat it changes nothing.

    Raises:
        Unavailable: The log does not answer.
    """
    count = 0
    messages = _parsed(tenant_id, lines)
    while batch := list(islice(messages, _PAGE)):
        await log.append(batch)
        count += len(batch)
    return count


async def compare_messages(
    log: ChatLog, tenant_id: UUID, lines: Iterable[bytes], *, kept_for: timedelta | None
) -> None:
    """Make sure that a log holds the same messages.

    Args:
        log: It was empty before the restore.
        tenant_id: Whose messages.
        lines: Those of the backup, conversation by conversation.
        kept_for: How long the log keeps messages at least; None: for good.

    Raises:
        Conflict: It does not.
        Unavailable: The log does not answer.
    """
    expires = None if kept_for is None else datetime.now(UTC) - kept_for
    by_conversation = groupby(_parsed(tenant_id, lines), attrgetter("conversation_id"))
    for conversation_id, group in by_conversation:
        wanted = {message.id: message for message in group}
        found = {
            message.id: message
            async for message in _everything(log, tenant_id, conversation_id, wanted.values())
        }
        if expires is not None:
            late = (each for each in wanted.values() if each.created_at < expires)
            found = {each.id: each for each in late} | found
        if found != wanted:
            raise Conflict(
                f"The chat log holds other messages of conversation {conversation_id} than the "
                "backup. What was deleted in a CQL keyspace cannot be restored there: use a new "
                "one."
            )


async def _messages(log: ChatLog, conversation: Conversation) -> AsyncIterator[ChatMessage]:
    """Yield the messages that a conversation had, the newest of each number first."""
    ids = conversation.tenant_id, conversation.conversation_id
    older = dict(conversation.answers)
    async for message in _pages(log, *ids):
        if conversation.had(message):
            older.pop(message.id, None)
            yield message
    for message_id, seq in older.items():
        answer = await log.find(*ids, seq=seq, message_id=message_id)
        if answer is not None:
            yield answer


async def _everything(
    log: ChatLog, tenant_id: UUID, conversation_id: UUID, wanted: Iterable[ChatMessage]
) -> AsyncIterator[ChatMessage]:
    left = {message.id: message.seq for message in wanted}
    async for message in _pages(log, tenant_id, conversation_id):
        left.pop(message.id, None)
        yield message
    for message_id, seq in left.items():
        other = await log.find(tenant_id, conversation_id, seq=seq, message_id=message_id)
        if other is not None:
            yield other


async def _pages(
    log: ChatLog, tenant_id: UUID, conversation_id: UUID
) -> AsyncIterator[ChatMessage]:
    after = 0
    while page := await log.page(tenant_id, conversation_id, after_seq=after, limit=_PAGE):
        for message in page:
            yield message
        after = page[-1].seq


def _line(message: ChatMessage) -> bytes:
    row = {
        "conversation_id": str(message.conversation_id),
        "seq": message.seq,
        "id": str(message.id),
        "payload": payload_of(message),
    }
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def _parsed(tenant_id: UUID, lines: Iterable[bytes]) -> Iterator[ChatMessage]:
    for line in lines:
        row = orjson.loads(line)
        conversation = tenant_id, UUID(row["conversation_id"])
        yield message_from(conversation, row["seq"], UUID(row["id"]), row["payload"])
