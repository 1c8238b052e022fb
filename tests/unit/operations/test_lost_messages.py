"""What a chat log lacks, and what it may lack because messages expire."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from io import BytesIO
from uuid import UUID

import pytest

from planes.shared.domain import ChatMessage, new_id
from planes.shared.errors import Conflict
from services.operations.backup_messages import write_messages
from services.operations.lacks import Lacks
from services.operations.work_lists import Conversation

_TENANT, _CONVERSATION = new_id(), new_id()
_NOW = datetime.now(UTC)


class _Log:
    """A chat log that holds what it is given."""

    def __init__(self, messages: Sequence[ChatMessage]) -> None:
        self._messages = messages

    async def page(self, *_: UUID, after_seq: int, limit: int) -> list[ChatMessage]:
        return [each for each in self._messages if each.seq > after_seq][:limit]

    async def find(self, *_: UUID, seq: int, message_id: UUID) -> ChatMessage | None:
        del seq
        return next((each for each in self._messages if each.id == message_id), None)


def _message(seq: int, days: int) -> ChatMessage:
    """Return a message so many days old, with an id of that time."""
    made_at = _NOW - timedelta(days=days)
    bits = new_id().int & ((1 << 80) - 1)
    message_id = UUID(int=round(made_at.timestamp() * 1000) << 80 | bits)
    role = "user" if seq % 2 else "assistant"
    return ChatMessage(message_id, _TENANT, _CONVERSATION, seq, role, "text", made_at)


async def _lack(ages: list[int], left: list[int], kept_for: timedelta | None) -> bool:
    """Tell whether a conversation of messages so old lacks some, where the log has those left."""
    messages = [_message(seq, days) for seq, days in enumerate(ages, start=1)]
    conversation = Conversation(
        _TENANT,
        _CONVERSATION,
        messages[0].created_at,
        len(messages),
        {each.id: each.seq for each in messages if each.role == "assistant"},
        {},
    )
    log, lacks = _Log([each for each in messages if each.seq in left]), Lacks()
    await write_messages(log, [conversation], BytesIO(), kept_for=kept_for, lacks=lacks)
    try:
        lacks.refuse()
    except Conflict:
        return True
    return False


@pytest.mark.parametrize(
    ("ages", "left", "is_lost"),
    [
        ([40, 40, 20, 20], [1, 2, 3, 4], False),
        ([40, 40, 20, 20], [3, 4], False),
        ([40, 20, 20, 20], [2, 4], True),
        ([40, 40, 20, 20], [3], True),
        ([40, 40, 20, 20], [], True),
        ([40, 40, 40, 40], [], False),
        ([20, 20], [], True),
    ],
)
async def test_only_what_may_have_expired_may_lack(
    ages: list[int], left: list[int], is_lost: bool
) -> None:
    assert await _lack(ages, left, timedelta(days=30)) is is_lost
    assert await _lack(ages, left, None) is (len(left) < len(ages))


def test_of_very_much_that_lacks_fifty_are_named() -> None:
    lacks = Lacks()
    for _ in range(60):
        lacks.note(_TENANT, "document", "is gone")
    with pytest.raises(Conflict, match="and 10 more") as refused:
        lacks.refuse()
    assert refused.value.detail.count("is gone") == 50
