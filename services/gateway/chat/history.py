"""The messages of a conversation: those in the chat log and those still on their way to it."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import attrgetter
from uuid import UUID

import structlog

from planes.shared.domain import ChatMessage, TenantContext
from planes.shared.errors import Unavailable
from planes.shared.ports import ChatLog
from planes.shared.stores.chat_rows import message_of
from planes.shared.stores.postgres import Database
from planes.shared.together import Together
from planes.shared.wire import ChatTurn
from services.gateway.chat import repository
from services.gateway.chat.recent import RecentTurns

LEAST_SUMMED_UP = 10  # messages that the plane tells a model word by word
_MOST_SUMMED_UP = 40
_PAUSE_S = 5.0  # after a failure no question waits for the log
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and its newest answer; None: it has none."""

    question: ChatMessage
    answer: ChatMessage | None


@dataclass(frozen=True, slots=True)
class Summary:
    """What the messages up to `seq` told; 0 and empty: nobody has summed them up."""

    text: str
    seq: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a question stands: its number, and the conversation's newest answer, if known."""

    seq: int
    last_answer: UUID | None


@dataclass(frozen=True, slots=True)
class Remembered:
    """What goes with a question: the last messages, and what those up to `summary_seq` told.

    `is_partial`: the chat log did not answer, and some of the messages are not there.
    """

    turns: tuple[ChatTurn, ...]
    summary: str = ""
    summary_seq: int = 0
    is_partial: bool = False


class ChatHistory:
    """Reads conversations."""

    def __init__(
        self,
        database: Database,
        chat_log: ChatLog,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Store both places where messages are, and a clock of seconds."""
        self._database = database
        self._chat_log = chat_log
        self._clock = clock
        self._paused_until = float("-inf")
        self.recent = RecentTurns(clock)
        self._pending_of = Together[tuple[TenantContext, UUID, int], list[ChatMessage]](
            self._all_pending
        )

    async def forget_expired(self) -> None:
        """Keep nothing in memory of conversations that have rested; to be called now and then."""
        self.recent.forget_expired()

    async def page(
        self, context: TenantContext, conversation_id: UUID, *, after_seq: int, limit: int
    ) -> list[ChatMessage]:
        """Return up to `limit` messages with `seq > after_seq`, oldest first.

        Of several answers to one question only the newest is told. The outbox is read before the
        log: a message that moves in between is seen twice, never missed. While the log is away,
        conversations whose messages wait in the outbox can be read.

        Raises:
            Unavailable: The log does not answer, and messages are missing without it.
        """
        pending = await self._pending(context, conversation_id, after_seq)
        try:
            logged = await self._logged(context, conversation_id, (after_seq, limit))
        except Unavailable:
            if not await self._are_all(context, conversation_id, pending, (after_seq, limit)):
                raise
            logged = []
        return _newest(logged, pending)[:limit]

    async def _pending(
        self, context: TenantContext, conversation_id: UUID, after_seq: int
    ) -> list[ChatMessage]:
        return await self._pending_of.do((context, conversation_id, after_seq))

    async def _all_pending(
        self, wanted: Sequence[tuple[TenantContext, UUID, int]]
    ) -> list[list[ChatMessage]]:
        async with self._database.platform() as connection:
            return await repository.pending_messages(connection, wanted)

    async def _logged(
        self, context: TenantContext, conversation_id: UUID, asked: tuple[int, int]
    ) -> list[ChatMessage]:
        """Ask the log, and note whether it answers."""
        after_seq, limit = asked
        try:
            logged = await self._chat_log.page(
                context.tenant_id, conversation_id, after_seq=after_seq, limit=limit
            )
        except Unavailable:
            self._paused_until = self._clock() + _PAUSE_S
            raise
        self._paused_until = float("-inf")
        return logged

    async def _are_all(
        self,
        context: TenantContext,
        conversation_id: UUID,
        pending: list[ChatMessage],
        asked: tuple[int, int],
    ) -> bool:
        """Tell whether these are all messages of a page, which begins after `asked[0]`."""
        async with self._database.tenant(context.tenant_id) as connection:
            kept = await repository.find_conversation(connection, context, conversation_id)
        after_seq, limit = asked
        last = min(after_seq + limit, kept["message_count"])
        return {message.seq for message in pending} >= set(range(after_seq + 1, last + 1))

    async def find(
        self, context: TenantContext, conversation_id: UUID, *, seq: int, message_id: UUID
    ) -> ChatMessage | None:
        """Return one answer, also one that another has replaced; None: it is gone."""
        async with self._database.tenant(context.tenant_id) as connection:
            row = await repository.pending_message(connection, context, message_id)
        if row is not None:
            return message_of(row)
        return await self._chat_log.find(
            context.tenant_id, conversation_id, seq=seq, message_id=message_id
        )

    async def before(
        self,
        context: TenantContext,
        conversation_id: UUID,
        place: Place,
        *,
        limit: int,
        summary: Summary | None = None,
    ) -> Remembered:
        """Return what a generator is told of the messages before a question.

        That is the last `limit` of them, and with a summary also all before those that it does not
        tell yet. A conversation that began long before its first summary is read from its last 40.
        """
        seq, last_answer = place.seq, place.last_answer
        if summary is not None and seq - 1 > LEAST_SUMMED_UP:
            limit = max(limit, min(seq - 1 - summary.seq, _MOST_SUMMED_UP))
        else:
            summary = None
        recent = self.recent.before(conversation_id, seq=seq, limit=limit, last_answer=last_answer)
        if recent is not None:
            told = Remembered(recent)
        else:
            told = await self.turns_before(context, conversation_id, seq=seq, limit=limit)
            if not told.is_partial:
                numbers = max(1, seq - limit), seq - 1
                self.recent.keep(
                    conversation_id, told.turns, numbers=numbers, last_answer=last_answer
                )
        if summary is None:
            return told
        return replace(told, summary=summary.text, summary_seq=summary.seq)

    async def turns_before(
        self, context: TenantContext, conversation_id: UUID, *, seq: int, limit: int
    ) -> Remembered:
        """Return the last `limit` messages before the one numbered `seq`, oldest first.

        While the log is away these are the messages that wait in the outbox, so that a question
        can be answered. For seconds after a failure the log is not asked.
        """
        if seq <= 1 or limit == 0:
            return Remembered(())
        first = max(1, seq - limit)
        pending = await self._pending(context, conversation_id, first - 1)
        logged, is_partial = [], False
        try:
            logged = await self._before(context, conversation_id, (first, seq))
        except Unavailable:
            is_partial = not {message.seq for message in pending} >= set(range(first, seq))
            if is_partial:
                _log.warning("answered without older messages", conversation_id=conversation_id)
        turns = (
            ChatTurn(
                role="assistant" if m.role == "assistant" else "user", content=m.content, seq=m.seq
            )
            for m in _newest(logged, pending)
            if m.seq < seq and m.content  # a program's calls of tools may have no words
        )
        return Remembered(tuple(turns), is_partial=is_partial)

    async def _before(
        self, context: TenantContext, conversation_id: UUID, numbers: tuple[int, int]
    ) -> list[ChatMessage]:
        """Ask the log for the messages of these numbers, the last one excluded.

        Raises:
            Unavailable: It does not answer, or did not a moment ago.
        """
        first, end = numbers
        if self._clock() < self._paused_until:
            raise Unavailable("The chat log did not answer a moment ago.")
        return await self._logged(context, conversation_id, (first - 1, end - first))


def _newest(*places: Iterable[ChatMessage]) -> list[ChatMessage]:
    """Return the messages in order, of several with the same number the newest."""
    found = sorted(chain(*places), key=attrgetter("id"))
    newest = {message.seq: message for message in found}
    return [newest[seq] for seq in sorted(newest)]
