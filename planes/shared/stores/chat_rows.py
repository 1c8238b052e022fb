"""Messages as rows: a key and a payload, the same in the outbox and in every chat log."""

from collections.abc import Mapping
from dataclasses import fields, make_dataclass
from datetime import datetime
from typing import Any, Protocol, cast
from uuid import UUID

from planes.shared.domain import ChatMessage

_Draft: Any = make_dataclass("_Draft", [each.name for each in fields(ChatMessage)], slots=True)


class Row(Protocol):
    """Has the members `id`, `tenant_id`, `conversation_id`, `seq` and `payload`."""

    def __getitem__(self, name: str, /) -> Any:
        """Return a member."""
        ...


def payload_of(message: ChatMessage) -> dict[str, object]:
    """Return the part of a message that is not its key, as JSON."""
    return {
        "role": message.role,
        "content": message.content,
        "created_at": message.created_at.isoformat(),
        "citations": message.citations,
        "usage": message.usage,
        "model": message.model,
        "mode": message.mode,
        "finish_reason": message.finish_reason,
        "grounded": message.grounded,
        "unsupported": message.unsupported,
        **({"tool_calls": message.tool_calls} if message.tool_calls else {}),
    }


def message_of(row: Row) -> ChatMessage:
    """Return the message of a row that has its key and its `payload`, here or in the outbox."""
    conversation = row["tenant_id"], row["conversation_id"]
    return message_from(conversation, row["seq"], row["id"], row["payload"])


def message_from(
    conversation: tuple[UUID, UUID], seq: int, message_id: UUID, payload: Mapping[str, Any]
) -> ChatMessage:
    """Return a message of (tenant, conversation).

    Pages hold many, and a frozen dataclass sets each member by a look-up of its name: a draft that
    is not frozen yet takes half the time.
    """
    tenant_id, conversation_id = conversation
    get = payload.get
    message = _Draft(
        message_id,
        tenant_id,
        conversation_id,
        seq,
        payload["role"],
        payload["content"],
        datetime.fromisoformat(payload["created_at"]),
        get("citations") or [],
        get("usage"),
        get("model"),
        get("mode"),
        get("finish_reason"),
        get("grounded"),
        get("unsupported") or [],
        get("tool_calls") or [],
    )
    message.__class__ = ChatMessage  # of the same slots
    return cast(ChatMessage, message)
