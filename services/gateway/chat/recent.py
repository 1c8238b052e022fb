"""The last messages of conversations that go on in this process: they are not read again."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from planes.shared.wire import ChatTurn

_MOST_MESSAGES = 20  # of a conversation
_MOST_CHARACTERS = 12_000_000
_LIFETIME_S = 600.0
_TURN_CHARACTERS = 500  # what an object costs besides its text


@dataclass(frozen=True, slots=True)
class _Known:
    """The messages numbered `first` to `last`, without those that have no words."""

    first: int
    last: int
    last_answer: UUID | None
    turns: tuple[ChatTurn, ...]
    expires_at: float
    characters: int = 0


class RecentTurns:
    """What this process has told or read of conversations, for ten minutes and in bounded memory.

    What other processes add is noticed by its number, and an answer that they replace by the id of
    the newest one: both come with each reservation. Only a conversation's last answer can be
    replaced.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing."""
        self._clock = clock
        self._known: OrderedDict[UUID, _Known] = OrderedDict()
        self._characters = 0

    def before(
        self, conversation_id: UUID, *, seq: int, limit: int, last_answer: UUID | None
    ) -> tuple[ChatTurn, ...] | None:
        """Return the last `limit` messages before the one numbered `seq`; None: not all are known.

        Args:
            conversation_id: Of which conversation; who asks has found that it is the caller's.
            seq: Of the question.
            limit: How many messages.
            last_answer: The conversation's newest answer.
        """
        self.forget_expired()
        known = self._known.get(conversation_id)
        if known is None:
            return None
        if (known.last, known.last_answer) != (seq - 1, last_answer):
            self.forget(conversation_id)
            return None
        first = max(1, seq - limit)
        if known.first > first:
            return None
        return tuple(turn for turn in known.turns if turn.seq >= first)

    def keep(
        self,
        conversation_id: UUID,
        turns: tuple[ChatTurn, ...],
        *,
        numbers: tuple[int, int],
        last_answer: UUID | None,
    ) -> None:
        """Know the messages from the first to the last number; `turns` has their words."""
        self.forget(conversation_id)
        first = max(numbers[0], numbers[1] - _MOST_MESSAGES + 1)
        turns = tuple(turn for turn in turns if turn.seq >= first)
        now = self._clock()
        characters = sum(_TURN_CHARACTERS + len(turn.content) for turn in turns)
        known = _Known(first, numbers[1], last_answer, turns, now + _LIFETIME_S, characters)
        self._known[conversation_id] = known
        self._characters += known.characters
        while self._characters > _MOST_CHARACTERS:
            self.forget(next(iter(self._known)))

    def add(
        self, conversation_id: UUID, *, seq: int, question: str, answer: str, answer_id: UUID
    ) -> None:
        """Know a question numbered `seq` with its stored answer, if what is before it is known."""
        known = self._known.get(conversation_id)
        if known is None or known.last != seq - 1:
            self.forget(conversation_id)
            if seq != 1:
                return
            known = _Known(1, 0, None, (), 0.0)
        new = (_turn("user", question, seq), _turn("assistant", answer, seq + 1))
        turns = known.turns + tuple(turn for turn in new if turn.content)
        numbers = known.first, seq + 1
        self.keep(conversation_id, turns, numbers=numbers, last_answer=answer_id)

    def forget(self, conversation_id: UUID) -> None:
        """Know nothing of a conversation any more."""
        known = self._known.pop(conversation_id, None)
        if known is not None:
            self._characters -= known.characters

    def forget_expired(self) -> None:
        """Know nothing any more of conversations that nobody has gone on with for ten minutes."""
        now = self._clock()
        while self._known and next(iter(self._known.values())).expires_at < now:
            self.forget(next(iter(self._known)))


def _turn(role: Literal["user", "assistant"], content: str, seq: int) -> ChatTurn:
    return ChatTurn(role=role, content=content, seq=seq)
